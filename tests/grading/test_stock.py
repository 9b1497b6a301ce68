"""Solved notebooks mangled at random: the same points from nbgrader's own autograde and from ours.

Two notebooks of one chapter here; ``STOCK_NOTEBOOKS=20`` in the environment takes so many of each
of chapters 1 to 4, a quarter of a minute each.
"""

import json
import os
import random

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI

from grading.autograde import autograde
from grading.release import config, source_notebook
from tests.grading.corpus import generate, hand_in

FULL = int(os.environ.get("STOCK_NOTEBOOKS", "0"))
CASES = [("04_reasoning", 2)] if not FULL else [
    (chapter, FULL) for chapter in ("01_sentiment", "02_grpo", "03_persona", "04_reasoning")]

SCRATCH = [
    "print('hello')", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
    "%matplotlib inline\n!ls", "files = !ls\nfiles[0]", "%time total = sum(range(10))",
    "%%time\ntotal = 0\nfor i in range(3):\n    total += i",
    "import asyncio\nawait asyncio.sleep(0)",
    "from __future__ import annotations", "x = 1\nx?", "    y = 2\n    y", ">>> y = 2\n>>> y",
    "%%writefile notes_of_mine.py\nvalue = 3",
    "try:\n    import einops\nexcept ImportError:\n    pass",
    "class Box:\n    def __init__(self, x):\n        self.x = x", "%%capture\nprint('quiet')"]
WRONG = ["return None", "raise ValueError('not yet')", "return []", "while False: pass"]


def answers(notebook) -> list[nbformat.NotebookNode]:
    return [c for c in notebook.cells if c.cell_type == "code"
            and c.metadata.get("nbgrader", {}).get("solution")]


def texts(notebook) -> list[nbformat.NotebookNode]:
    return [c for c in notebook.cells
            if c.cell_type == "markdown" and not c.metadata.get("nbgrader")]


def _scratch(notebook, dice):
    notebook.cells.insert(dice.randrange(4, len(notebook.cells)),
                          nbformat.v4.new_code_cell(dice.choice(SCRATCH)))


def _split(notebook, dice):
    """The answer below a cell that keeps the exercise's id and a comment."""
    answer = dice.choice(answers(notebook))
    notebook.cells.insert(notebook.cells.index(answer) + 1,
                          nbformat.v4.new_code_cell(answer.source))
    answer.source = "# see below"


def _merge(notebook, dice):
    """An answer in the cell of the one before, its own cell left empty."""
    found = answers(notebook)
    i = dice.randrange(1, len(found))
    if found[i].source and found[i - 1].source:
        found[i - 1].source += "\n\n\n" + found[i].source
        found[i].source = ""


def _swap(notebook, dice):
    """A text cell moved, which says nothing to the kernel."""
    moved = dice.choice(texts(notebook))
    notebook.cells.remove(moved)
    notebook.cells.insert(dice.randrange(len(notebook.cells)), moved)


def _retype(notebook, dice):
    dice.choice(texts(notebook)).cell_type = "raw"


def _decorate(notebook, dice):
    for c in notebook.cells:
        c.metadata["colab"] = {"base_uri": "https://localhost"}
        c.metadata["tags"] = ["mine"]
        if c.cell_type == "code":
            c.execution_count = dice.randrange(99)
            c.outputs = [nbformat.v4.new_output("stream", name="stdout", text="x\n")]


def _dress(notebook, dice):
    """An answer's cell in another dress that Jupyter takes."""
    answer = dice.choice(answers(notebook))
    lines = answer.source.splitlines()
    answer.source = dice.choice([
        lambda: "%%time\n" + answer.source,
        lambda: "\n".join("    " + line for line in lines),
        lambda: "%time seconds = 1\n" + answer.source + "\nprint(seconds)",
        lambda: "import asyncio\nawait asyncio.sleep(0)\n" + answer.source,
        lambda: "files = !ls\nfirst = files[0]\n" + answer.source,
        lambda: "from __future__ import annotations\n" + answer.source,
        lambda: answer.source + "\n\n\nprint('done');"])() if answer.source else ""


def _spoil(notebook, dice):
    """A wrong answer, so that there are points to lose."""
    answer = dice.choice(answers(notebook))
    if "def " in answer.source and not answer.source.startswith((" ", "%")):
        head, _, body = answer.source.partition("    ### BEGIN SOLUTION")
        if body:
            answer.source = head + "    " + dice.choice(WRONG) + "\n"


MANGLES = [_scratch, _scratch, _scratch, _split, _merge, _swap, _retype, _decorate, _dress, _dress,
           _spoil]


def mangled(chapter: str, seed: int) -> bytes:
    dice, notebook = random.Random(seed), source_notebook(chapter)
    for mangle in dice.choices(MANGLES, k=8):
        mangle(notebook, dice)
    data = json.loads(nbformat.writes(notebook))
    for c in data["cells"]:  # as other editors save it
        text = "".join(c["source"])
        c["source"] = text if seed % 2 else text.splitlines(keepends=True)
        if seed % 3 == 0:
            c.pop("id", None)
    if seed % 3 == 0:
        data["nbformat_minor"] = 4
    return json.dumps(data).encode()


def points(course, chapter: str, student: str) -> dict[str, float]:
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "grpo") as book:
        entry = book.find_submission_notebook(chapter, chapter, student)
        return {grade.name: grade.auto_score for grade in entry.grades
                if grade.name.startswith("test_")}


@pytest.mark.parametrize("chapter, n", CASES)
def test_mangled_notebooks_have_the_same_points_as_from_stock(tmp_path, chapter, n):
    names = {f"s{seed}": mangled(chapter, seed) for seed in range(n)}
    for kind in ("ours", "stock"):
        course = tmp_path / kind
        course.mkdir()
        generate(course, chapter)
        hand_in(course, names, chapter)
    autograde(tmp_path / "ours", chapter)
    api, differ = NbGraderAPI(config=config(tmp_path / "stock")), {}
    for student in names:
        api.autograde(chapter, student)
        ours, stock = (points(tmp_path / kind, chapter, student) for kind in ("ours", "stock"))
        assert stock and None not in stock.values(), student
        differ |= {(student, test): (ours[test], stock[test])
                   for test in stock if ours[test] != stock[test]}
    assert not differ, "(ours, stock)"
