"""The fault bank: does each hidden test catch what it should, and nothing else?

    python -m grading faults [CHAPTER]

``NN_chapter.py`` holds variants of the chapter's graded functions as percent-format cells.
A title "ex4 fault: ratio inverted" must lose the points of Exercise 4, "ex4 right: in a loop"
must keep them. A variant takes the place of the reference, the rest stays as in the solution.
"""

import contextlib
import io
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jupytext

from grading.release import source_notebook
from lib.answers import solution_cells


@dataclass(frozen=True)
class Variant:
    """One other way, wrong or right, of writing the functions of one exercise."""

    exercise: str  # grade_id of the solution cell
    kind: str  # "fault" or "right"
    name: str
    source: str


@dataclass(frozen=True)
class Verdict:
    """What the hidden test and the visible check say of a variant; None where it passes."""

    variant: Variant
    test: str | None
    check: str | None

    @property
    def as_it_should_be(self) -> bool:
        return (self.test is None) == (self.variant.kind == "right")


def banks() -> list[str]:
    """The chapters that have a bank."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[0-9][0-9]_*.py"))


def variants(chapter: str) -> list[Variant]:
    """The variants of a chapter's bank, in file order."""
    cells = jupytext.read(Path(__file__).parent / f"{chapter}.py").cells
    found = []
    for cell in cells:
        if cell.cell_type == "code" and cell.source.strip():
            exercise, kind, name = re.fullmatch(
                r"(\w+) (fault|right): (.+)", cell.metadata["title"]).groups()
            found.append(Variant(exercise, kind, name, cell.source))
    return found


@cache
def _pieces(chapter: str) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """({where: source} of imports and reference answers, {exercise: (hidden test, check)})."""
    notebook = source_notebook(chapter)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    by_id = {cell.id: cell.source for cell in code}
    tests = {cell.id: (by_id[f"test_{cell.id}"], code[i + 1].source)
             for i, cell in enumerate(code) if f"test_{cell.id}" in by_id}
    answers = solution_cells(notebook)
    imports = "\n".join(source for where, source in answers if where == "imports")
    return {"imports": imports, **{w: s for w, s in answers if w != "imports"}}, tests


def reference(chapter: str) -> dict:
    """A fresh namespace with the imports and the reference answers of a chapter."""
    namespace: dict = {"__name__": "reference"}
    for where, source in _pieces(chapter)[0].items():
        exec(compile(source, where, "exec"), namespace)
    return namespace


def substitute(chapter: str, variant: Variant) -> dict:
    """The reference namespace with a variant in its place.

    A variant defines the function anew, or calls ``replace(old, new)`` to edit the reference.
    """
    source = unedited = _pieces(chapter)[0][f"cell {variant.exercise}"]

    def replace(old: str, new: str) -> None:
        nonlocal source
        assert old in source, f"{variant.name}: the reference has no {old!r}"
        source = source.replace(old, new)

    namespace = reference(chapter) | {"replace": replace}
    exec(compile(variant.source, variant.name, "exec"), namespace)
    if source != unedited:
        exec(compile(source, variant.name, "exec"), namespace)
    return namespace


def _complaint(source: str, namespace: dict) -> str | None:
    """What running source raises, in one line; None if nothing."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, "test", "exec"), namespace)
    except Exception as error:
        text = str(error).strip().splitlines()
        return text[0] if text else type(error).__name__
    return None


def judge(chapter: str) -> list[Verdict]:
    """Run hidden test and visible check of every variant of a chapter. It is our own code."""
    tests = _pieces(chapter)[1]
    return [Verdict(variant, *(_complaint(source, substitute(chapter, variant))
                               for source in tests[variant.exercise]))
            for variant in variants(chapter)]


def table(verdicts: list[Verdict]) -> str:
    """Markdown: variant -> what the hidden test says -> what the visible check says."""
    lines = ["| exercise | variant | hidden test | visible check |", "|---|---|---|---|"]
    for v in verdicts:
        mark = "" if v.as_it_should_be else "**WRONG** "
        lines.append(f"| {v.variant.exercise} | {v.variant.kind}: {v.variant.name} "
                     f"| {mark}{v.test or 'keeps the points'} | {v.check or 'passes'} |")
    return "\n".join(lines)
