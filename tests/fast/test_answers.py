import json

import nbformat
import pytest

from lib import CourseError
from lib.answers import load_answers


def notebook(path, *cells):
    """Write a notebook of (source, is a solution cell) pairs."""
    nb = nbformat.v4.new_notebook()
    for i, (source, solution) in enumerate(cells):
        cell = nbformat.v4.new_code_cell(source)
        if solution:
            cell.metadata["nbgrader"] = {"solution": True, "grade_id": f"ex{i}"}
        nb.cells.append(cell)
    nbformat.write(nb, path)
    return path


def test_only_imports_and_solution_cells_run(tmp_path):
    path = notebook(
        tmp_path / "a.ipynb", ("%matplotlib inline\nimport math\nraise SystemExit", False),
        ("import google.colab", False), ("this is ! not python", False),
        ("def f(x):\n    return math.floor(x)", True), ("f = None", False))
    assert load_answers(path, ["f"])["f"](2.5) == 2


def test_magics_inside_a_solution_cell_do_not_break_it(tmp_path):
    path = notebook(tmp_path / "a.ipynb", ("%%time\n!ls\ndef f():\n    return 10 % 3", True))
    assert load_answers(path, ["f"])["f"]() == 1


def test_a_solution_cell_is_read_as_jupyter_reads_it(tmp_path):
    path = notebook(
        tmp_path / "a.ipynb", ("%time import math", False),
        ("from __future__ import annotations\n    ", True),
        ("    def f(x: Missing):\n        return math.floor(x)", True),
        (">>> import asyncio\n>>> await asyncio.sleep(0)\n>>> files = !ls\n>>> first = files[0]\n"
         ">>> def g(x):\n...     return 7 %2 + f(x)", True))
    assert load_answers(path, ["g"])["g"](2.5) == 3


def test_a_later_solution_cell_sees_an_earlier_one(tmp_path):
    path = notebook(tmp_path / "a.ipynb", ("def f():\n    return 1", True),
                    ("def g():\n    return f() + 1", True))
    assert load_answers(path, ["g"])["g"]() == 2


def test_cells_without_ids_are_read_without_a_word(tmp_path, recwarn):
    """As Colab writes them."""
    path = notebook(tmp_path / "a.ipynb", ("def f():\n    return 1", True))
    content = json.loads(path.read_text())
    del content["cells"][0]["id"]
    path.write_text(json.dumps(content))
    assert load_answers(path, ["f"])["f"]() == 1 and not recwarn.list


def test_an_error_names_file_and_cell(tmp_path):
    path = notebook(tmp_path / "a.ipynb", ("def f():\n    return 1", True), ("f(", True))
    with pytest.raises(CourseError, match=r"a\.ipynb, cell ex1, line 1: SyntaxError"):
        load_answers(path, ["f"])
