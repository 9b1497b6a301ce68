"""The fault bank: does each hidden test catch what it should, and nothing else?

    python -m grading faults [CHAPTER]

``NN_chapter.py`` holds variants of the chapter's graded functions as percent-format cells.
A title "ex4 fault: ratio inverted" must lose the points of Exercise 4, "ex4 right: in a loop"
must keep them. A variant takes the place of the reference, the rest stays as in the solution.

Mutants are made from each reference by small changes to its syntax tree. One that survives is a
hole in the test, unless a cell "ex4 equivalent: pattern of its name" says why it is no fault.
"""

import ast
import contextlib
import io
import re
from collections.abc import Callable, Iterator
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
    kind: str  # "fault", "right", "equivalent" or "mutant"
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
                r"(\w+) (fault|right|equivalent): (.+)", cell.metadata["title"]).groups()
            found.append(Variant(exercise, kind, name, cell.source))
    return found


@cache
def _pieces(chapter: str) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """({where: source} of imports and reference answers, {exercise: (hidden test, check)})."""
    notebook = source_notebook(chapter)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    by_id = {cell.id: cell.source for cell in code}
    tests = {cell.metadata["check"]: (by_id[f"test_{cell.metadata['check']}"], cell.source)
             for cell in code if "check" in cell.metadata}
    answers = solution_cells(notebook)
    imports = "\n".join(source for where, source in answers if where == "imports")
    return {"imports": imports, **{w: s for w, s in answers if w != "imports"}}, tests


def reference(chapter: str) -> dict:
    """A fresh namespace with the imports and the reference answers of a chapter."""
    namespace: dict = {"__name__": "reference"}
    for where, source in _pieces(chapter)[0].items():
        exec(compile(source, where, "exec"), namespace)
    return namespace


def written(chapter: str, variant: Variant) -> str:
    """The source of an exercise's cell with a variant in it.

    A variant defines the function anew, or calls ``replace(old, new)`` to edit the reference,
    or defines another function for the reference to use.
    """
    source = _pieces(chapter)[0][f"cell {variant.exercise}"]

    def replace(old: str, new: str) -> None:
        nonlocal source
        assert old in source, f"{variant.name}: the reference has no {old!r}"
        source = source.replace(old, new)

    exec(compile(variant.source, variant.name, "exec"), reference(chapter) | {"replace": replace})
    if "replace(" in variant.source and "def " not in variant.source:
        return source
    defined = set(re.findall(r"^def (\w+)", variant.source, re.MULTILINE))
    wanted = re.findall(r"^def (\w+)", source, re.MULTILINE)
    return variant.source if defined.issuperset(wanted) else f"{variant.source}\n\n{source}"


def substitute(chapter: str, variant: Variant) -> dict:
    """The reference namespace with a variant in its place."""
    namespace = reference(chapter)
    exec(compile(written(chapter, variant), variant.name, "exec"), namespace)
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
            for variant in variants(chapter) if variant.kind != "equivalent"]


SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
         ast.Pow: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
         ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
         ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And}


def mutations(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    """(what is done, a function that does it to such a node) for every change to one node."""
    def put(name: str, value) -> Callable[[ast.AST], None]:
        return lambda target: setattr(target, name, value)

    def negated(test: ast.expr) -> ast.expr:
        return ast.UnaryOp(ast.Not(), test)

    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
        yield SWAPS[type(node.op)].__name__, put("op", SWAPS[type(node.op)]())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield SWAPS[type(node.ops[0])].__name__, put(
            "ops", [SWAPS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.USub):
            yield "no minus", put("op", ast.UAdd())
        elif isinstance(node.op, ast.Not):
            yield "no not", put("operand", negated(node.operand))
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield str(not node.value), put("value", not node.value)
        elif isinstance(node.value, int | float):
            yield f"{node.value + 1:g}", put("value", node.value + 1)
            if node.value:
                yield "0", put("value", type(node.value)(0))
            if node.value and isinstance(node.value, float):  # by a little
                yield f"{node.value * 1.05:g}", put("value", node.value * 1.05)
            elif node.value > 1:
                yield f"{node.value - 1}", put("value", node.value - 1)
        elif isinstance(node.value, str):
            yield "other text", put("value", node.value + "#")
    elif isinstance(node, ast.IfExp):
        yield "exchanged", lambda n: (n.__dict__.update(body=n.orelse, orelse=n.body), None)[1]
    elif isinstance(node, ast.If):
        yield "negated", put("test", negated(node.test))
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield "no filter", put("ifs", [])
    elif isinstance(node, ast.Call):
        symmetric = ast.unparse(node.func) in ("min", "max", "torch.min", "torch.max")
        if len(node.args) > 1 and not symmetric:
            yield "arguments exchanged", put("args", [node.args[1], node.args[0], *node.args[2:]])
        if ast.unparse(node.func) == "round":
            yield "cut off", put("func", ast.Name("int"))
        for i, keyword in enumerate(node.keywords):
            yield f"no {keyword.arg}", put("keywords", node.keywords[:i] + node.keywords[i + 1:])
    if isinstance(getattr(node, "body", None), list):
        for i, statement in enumerate(node.body):
            if isinstance(statement, ast.Assign | ast.AugAssign | ast.Raise) or (
                    isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
                yield (f"no `{ast.unparse(statement)}`",
                       put("body", [*node.body[:i], ast.Pass(), *node.body[i + 1:]]))


def mutants(chapter: str) -> list[Variant]:
    """Every mutant of a chapter's reference answers; docstrings and signatures stay."""
    found = []
    for where, source in _pieces(chapter)[0].items():
        exercise = where.removeprefix("cell ")
        if where == "imports" or exercise not in _pieces(chapter)[1]:
            continue
        tree = ast.parse(source)
        kept = {id(n) for f in ast.walk(tree) for part in _not_mutated(f) for n in ast.walk(part)}
        for i, node in enumerate(ast.walk(tree)):
            if id(node) in kept:
                continue
            for what, _ in mutations(node):
                copy = ast.parse(source)
                twin = list(ast.walk(copy))[i]
                before = ast.unparse(node) if hasattr(node, "lineno") else "comprehension"
                dict(mutations(twin))[what](twin)
                found.append(Variant(exercise, "mutant", f"`{before.splitlines()[0]}` {what}",
                                     ast.unparse(ast.fix_missing_locations(copy))))
    return found


def _not_mutated(node: ast.AST) -> list[ast.AST]:
    """The parts of a node without a contract: signature, docstring, an exception's text."""
    if isinstance(node, ast.FunctionDef):
        return [node.args, *(e for e in node.body[:1] if isinstance(e, ast.Expr))]
    return [node] if isinstance(node, ast.Raise) else []


def survivors(chapter: str) -> tuple[int, dict[Variant, str | None]]:
    """How many mutants lose the points; those that keep them, with the reason if it is excused."""
    tests, made = _pieces(chapter)[1], mutants(chapter)
    kept = [m for m in made if _complaint(tests[m.exercise][0], substitute(chapter, m)) is None]
    excuses = [v for v in variants(chapter) if v.kind == "equivalent"]
    return len(made) - len(kept), {
        m: next((v.source.removeprefix("# ") for v in excuses
                 if v.exercise == m.exercise and re.fullmatch(v.name, m.name)), None)
        for m in kept}


def table(verdicts: list[Verdict]) -> str:
    """Markdown: variant -> what the hidden test says -> what the visible check says."""
    lines = ["| exercise | variant | hidden test | visible check |", "|---|---|---|---|"]
    for v in verdicts:
        mark = "" if v.as_it_should_be else "**WRONG** "
        lines.append(f"| {v.variant.exercise} | {v.variant.kind}: {v.variant.name} "
                     f"| {mark}{v.test or 'keeps the points'} | {v.check or 'passes'} |")
    return "\n".join(lines)
