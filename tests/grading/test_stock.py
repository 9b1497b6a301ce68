"""Solved notebooks mangled at random: the same points from nbgrader's own autograde and from ours.

Left out is where ours gives more on purpose: definitions below an error, lost ids, moved answers.
Two notebooks of one chapter here; ``STOCK_NOTEBOOKS=20`` in the environment takes so many of each
chapter, a quarter of a minute each, and half a minute more in chapter 6 for its training.
"""

import ast
import contextlib
import json
import os
import random
import re

import jupytext
import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI

from grading import chapters
from grading.autograde import autograde
from grading.release import config, source_notebook
from tests.grading.corpus import generate, hand_in

FULL = int(os.environ.get("STOCK_NOTEBOOKS", "0"))
BATCH = 5
CASES = [(chapter, range(first, min(first + BATCH, FULL))) for chapter in chapters()
         for first in range(0, FULL, BATCH)] or [("04_reasoning", range(2))]

SCRATCH = [
    "print('hello')", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
    "%matplotlib inline\n!ls", "files = !ls\nfiles[0]", "%time total = sum(range(10))",
    "%%time\ntotal = 0\nfor i in range(3):\n    total += i",
    "import asyncio\nawait asyncio.sleep(0)",
    "from __future__ import annotations", "x = 1\nx?", "    y = 2\n    y", ">>> y = 2\n>>> y",
    "%%writefile notes_of_mine.py\nvalue = 3",
    "try:\n    import einops\nexcept ImportError:\n    pass",
    "class Box:\n    def __init__(self, x):\n        self.x = x", "%%capture\nprint('quiet')",
    "%%html\n<b>mine</b>", "%%bash\necho hi", "!nvidia-smi", "_ = torch.manual_seed(7)",
    "1 / 0", "this was a note", "assert False, 'look here again'", "In [3]: z = 5\n   ...: z",
    "from google.colab import drive\ndrive.mount('/content/drive')",
    "with open('mine.txt', 'w') as file:\n    file.write('1')", "# %%\nx = 3  # TODO", ""]
WRONG = ["return None", "raise ValueError('not yet')", "return []", "while False: pass", "...",
         "return 1 / 0", "print('later')", "return object()", "raise NotImplementedError"]


def answers(notebook) -> list[nbformat.NotebookNode]:
    return [c for c in notebook.cells if c.cell_type == "code"
            and c.metadata.get("nbgrader", {}).get("solution")]


def texts(notebook) -> list[nbformat.NotebookNode]:
    return [c for c in notebook.cells
            if c.cell_type == "markdown" and not c.metadata.get("nbgrader")]


def _below(notebook, cell, source):
    notebook.cells.insert(notebook.cells.index(cell) + 1, nbformat.v4.new_code_cell(source))


def formatted(source: str) -> str:
    """As a formatter leaves it that drops comments; what it cannot read stays."""
    with contextlib.suppress(SyntaxError):
        return ast.unparse(ast.parse(source))
    return source


# ---- what a student does; each takes the notebook and dice ----

def scratch(notebook, dice):
    notebook.cells.insert(dice.randrange(5, len(notebook.cells)),
                          nbformat.v4.new_code_cell(dice.choice(SCRATCH)))


def answer_below(notebook, dice):
    """The answer below a cell that keeps the exercise's id and a comment."""
    answer = dice.choice(answers(notebook))
    _below(notebook, answer, answer.source)
    answer.source = "# see below"


def cut(notebook, dice):
    """A cell cut in two at the cursor, mostly in the middle of a function."""
    answer = dice.choice(answers(notebook))
    lines = answer.source.splitlines(keepends=True)
    at = dice.randrange(1, len(lines)) if len(lines) > 1 else 1
    _below(notebook, answer, "".join(lines[at:]))
    answer.source = "".join(lines[:at])


def cut_group(notebook, dice):
    """A cell of several functions cut between two of them; the upper part is a new cell."""
    for answer in dice.sample(answers(notebook), len(answers(notebook))):
        starts = [m.start() for m in re.finditer(r"^def ", answer.source, re.MULTILINE)][1:]
        if starts:
            at = dice.choice(starts)
            notebook.cells.insert(notebook.cells.index(answer),
                                  nbformat.v4.new_code_cell(answer.source[:at]))
            answer.source = answer.source[at:]
            return


def merge(notebook, dice):
    """An answer in the cell of the one before, its own cell left empty."""
    found = answers(notebook)
    i = dice.randrange(1, len(found))
    if found[i].source and found[i - 1].source and not found[i].source.startswith(("%", " ", ">")):
        found[i - 1].source += "\n\n\n" + found[i].source
        found[i].source = ""


def move_text(notebook, dice):
    """A text cell moved, which says nothing to the kernel."""
    moved = dice.choice(texts(notebook))
    notebook.cells.remove(moved)
    notebook.cells.insert(dice.randrange(len(notebook.cells)), moved)


def move_answer(notebook, dice):
    """An answer moved up, to just below the imports or another answer."""
    found = answers(notebook)
    moved = dice.choice(found[1:])
    where = dice.choice(found[:found.index(moved)])
    notebook.cells.remove(moved)
    notebook.cells.insert(notebook.cells.index(where) + dice.randrange(2), moved)


def raw_text(notebook, dice):
    dice.choice(texts(notebook)).cell_type = "raw"


def text_as_code(notebook, dice):
    """What JupyterLab makes of a text with the key Y, which then is no Python."""
    text = dice.choice(texts(notebook))
    at = notebook.cells.index(text)
    notebook.cells[at] = nbformat.v4.new_code_cell(text.source, metadata=text.metadata, id=text.id)


def answer_as_text(notebook, dice):
    """The key M upon an answer, by mistake."""
    answer = dice.choice(answers(notebook))
    answer.cell_type = dice.choice(["markdown", "raw"])
    answer.pop("outputs", None)
    answer.pop("execution_count", None)


def dress(notebook, dice):
    """An answer's cell in another dress that Jupyter takes."""
    answer = dice.choice(answers(notebook))
    lines, names = answer.source.splitlines(), re.findall(r"^def (\w+)", answer.source, re.M)
    stops = answer.source.endswith("1 / 0")  # what is defined below that, ours alone counts
    if not names or stops or answer.source.startswith(("%", " ", ">")):
        return
    name = names[-1]
    answer.source = dice.choice([
        lambda: "%%time\n" + answer.source,
        lambda: "%%capture seen\n" + answer.source,
        lambda: "\n".join("    " + line for line in lines),
        lambda: "\n".join((">>> ", "... ")[i > 0] + line for i, line in enumerate(lines)),
        lambda: "%time seconds = 1\n" + answer.source + "\nprint(seconds)",
        lambda: "import asyncio\nawait asyncio.sleep(0)\n" + answer.source,
        lambda: "files = !ls\nfirst = files[0]\n" + answer.source,
        lambda: "from __future__ import annotations\n" + answer.source,
        lambda: answer.source + "\n\n\nprint('done');",
        lambda: answer.source + f"\n{name}?",
        lambda: answer.source + f"\n?{name}\n{name}??",
        lambda: answer.source + "\n1 / 0",
        lambda: "import math\nimport random as dice\n" + answer.source,
        lambda: "#@title Mine { display-mode: \"form\" }\n" + answer.source.replace("    ", "\t"),
        lambda: formatted(answer.source),
        lambda: answer.source + f"\n\nkept = {name}\n\ndef {name}(*args, **kwargs):\n"
        "    global calls\n    calls += 1\n    return kept(*args, **kwargs)\n\ncalls = 0",
        lambda: answer.source + f"\n\nimport functools\n{name} = functools.partial({name})",
        lambda: answer.source.replace(f"def {name}", f"def my_{name}")
        + f"\n{name} = my_{name}"])()


def again(notebook, dice):
    """An answer's cell copied to below its test, where something else was tried."""
    answer = dice.choice(answers(notebook))
    at = notebook.cells.index(answer) + 3
    notebook.cells.insert(at, nbformat.v4.new_code_cell(
        answer.source.replace("return", "return None and", 1)))


def spoil(notebook, dice):
    """A wrong answer, so that there are points to lose."""
    answer = dice.choice(answers(notebook))
    if "def " in answer.source and not answer.source.startswith((" ", "%", ">")):
        head, _, body = answer.source.partition("    ### BEGIN SOLUTION")
        if body:
            answer.source = head + "    " + dice.choice(WRONG) + "\n"


def misspell(notebook, dice):
    answer = dice.choice(answers(notebook))
    answer.source = re.sub(r"^(def \w+)", r"\1s", answer.source, count=1, flags=re.MULTILINE)


def typo(notebook, dice):
    answer = dice.choice(answers(notebook))
    answer.source = answer.source.replace(dice.choice([")", ":", "return", "    "]), "", 1)


# ---- what saves it; each takes the notebook as plain data, and dice ----

def _cells(data, metadata=None, keep_id=True, source=list):
    for c in data["cells"]:
        text = "".join(c["source"])
        c["source"] = text if source is str else text.splitlines(keepends=True)
        c["metadata"] |= metadata(c) if metadata else {}
        if not keep_id:
            c.pop("id", None)


def jupyterlab(data, dice):
    for c in data["cells"]:
        c["metadata"] |= {"tags": ["mine"], "editable": True, "slideshow": {"slide_type": ""}}
        if c["cell_type"] == "code":
            c["execution_count"] = dice.randrange(99)
            c["outputs"] = [nbformat.v4.new_output("stream", name="stdout", text="x\n" * 9)]


def vscode(data, dice):
    _cells(data, lambda c: {"vscode": {"languageId": "python"}}, keep_id=False)
    data["nbformat_minor"] = 2
    data["metadata"] = {"language_info": {"name": "python", "version": "3.12.3"},
                        "kernelspec": {"display_name": ".venv (3.12.3)", "name": "python3",
                                       "language": "python"}, "orig_nbformat": 4}


def colab(data, dice):
    _cells(data, lambda c: {"id": f"{dice.getrandbits(48):x}", "outputId": "a-b"}, keep_id=False)
    data["nbformat_minor"] = 0
    data["metadata"] |= {"colab": {"provenance": [], "toc_visible": True}, "accelerator": "GPU"}


def kaggle(data, dice):
    _cells(data, lambda c: {"_uuid": "d62", "_cell_guid": "b1", "trusted": True, "execution": {
        "iopub.status.busy": "2026-11-20T10:00:00Z"}}, keep_id=False, source=str)
    data["nbformat_minor"] = 4
    data["metadata"]["kaggle"] = {"accelerator": "none", "dataSources": []}


def dataspell(data, dice):
    _cells(data, lambda c: {"collapsed": False, "ExecuteTime": {"start_time": "2026"}, "pycharm": {
        "name": "#%%\n", "is_executing": True}}, source=str)


def deepnote(data, dice):
    _cells(data, lambda c: {"cell_id": f"{dice.getrandbits(64):x}", "deepnote_cell_type":
                            c["cell_type"]}, keep_id=False)
    data["nbformat_minor"] = 0
    data["metadata"] = {"deepnote": {}, "deepnote_notebook_id": "x"}


def _through_text(form):
    def save(data, dice):
        notebook = nbformat.reads(json.dumps(data), as_version=4)
        back = jupytext.reads(jupytext.writes(notebook, form), form)
        data.clear()
        data.update(json.loads(nbformat.writes(back)))
    save.__name__ = f"through {form}"
    return save


def windows(data, dice):
    for c in data["cells"]:
        c["source"] = "".join(c["source"]).replace("\n", "\r\n")


def huge(data, dice):
    for c in data["cells"]:
        if c["cell_type"] == "code" and dice.random() < 0.3:
            c["outputs"] = [nbformat.v4.new_output("stream", text="[0.1, {}, " * 10_000)]


def stripped(data, dice):
    """All metadata that nbgrader does not need is lost."""
    data["metadata"] = {}
    for c in data["cells"]:
        c["metadata"] = {k: v for k, v in c["metadata"].items() if k == "nbgrader"}


STUDENT = [scratch, scratch, scratch, answer_below, cut, cut_group, merge, move_text, move_answer,
           raw_text, text_as_code, answer_as_text, dress, dress, dress, dress, again, spoil,
           misspell, typo]
EDITORS = [jupyterlab, vscode, colab, kaggle, dataspell, deepnote, windows, huge, stripped,
           *map(_through_text, ("py:percent", "md", "Rmd"))]


def mangled(chapter: str, seed: int) -> bytes:
    dice, notebook = random.Random(f"{chapter} {seed}"), source_notebook(chapter)
    for mangle in dice.choices(STUDENT, k=7):
        mangle(notebook, dice)
    data = json.loads(nbformat.writes(notebook))
    for save in dice.choices(EDITORS, k=2):
        save(data, dice)
    if data["nbformat_minor"] < 5:  # where nbgrader itself fails at an answer that is no code
        for c in data["cells"]:
            if c["metadata"].get("nbgrader", {}).get("grade_id", "").startswith("ex"):
                c |= {"cell_type": "code", "outputs": [], "execution_count": None}
    return json.dumps(data).encode()


def points(course, chapter: str, student: str) -> dict[str, float]:
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "grpo") as book:
        entry = book.find_submission_notebook(chapter, chapter, student)
        return {grade.name: grade.auto_score for grade in entry.grades
                if grade.name.startswith("test_")}


@pytest.mark.parametrize("chapter, seeds", CASES,
                         ids=[f"{chapter}-{seeds[0]}" for chapter, seeds in CASES])
def test_mangled_notebooks_have_the_same_points_as_from_stock(tmp_path, chapter, seeds):
    names = {f"s{seed}": mangled(chapter, seed) for seed in seeds}
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
