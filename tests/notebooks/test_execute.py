"""Every solution chapter runs top to bottom; every student notebook stops where it should."""

import nbformat
import pytest
from nbclient import NotebookClient

from grading import NOTEBOOKS, chapters
from grading.autograde import unsolved
from grading.release import source_notebook


def execute(notebook, folder, **kwargs):
    NotebookClient(notebook, timeout=900, kernel_name="python3",
                   resources={"metadata": {"path": str(folder)}}, **kwargs).execute()
    return notebook


def outputs(notebook):
    return [(cell, output) for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("chapter", chapters())
def test_the_solution_runs_and_every_picture_has_alternative_text(chapter, tmp_path):
    notebook = execute(source_notebook(chapter), tmp_path)
    pictures = [o for _, o in outputs(notebook) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 6
    assert all(o.metadata.get("image/png", {}).get("alt") for o in pictures)
    for cell, output in outputs(notebook):
        text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        assert output.output_type != "error"
        assert "<Figure" not in text and "Warning" not in text, f"{cell.id}: {text[:200]}"
    nbformat.write(notebook, tmp_path / f"{chapter}.ipynb")


@pytest.mark.parametrize("chapter", chapters())
def test_the_student_notebook_raises_its_own_unsolved_exercises_and_nothing_else(
        chapter, tmp_path):
    notebook = execute(nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4), tmp_path,
                       allow_errors=True)
    errors = [(cell.id, o.ename, o.evalue) for cell, o in outputs(notebook)
              if o.output_type == "error"]
    assert all(name == "NotImplementedError" and text.startswith("Exercise ")
               and f"notebooks/{chapter}.ipynb" in text for _, name, text in errors), errors
    exercises = [cell.source.splitlines()[0].removeprefix("# ") for cell in notebook.cells
                 if cell.metadata.get("nbgrader", {}).get("solution") and cell.cell_type == "code"]
    assert unsolved(notebook) == exercises
    tests = [cell.id for cell in notebook.cells if cell.cell_type == "code"
             and cell.metadata.get("nbgrader", {}).get("grade")]
    assert set(tests) <= {cell_id for cell_id, _, _ in errors}
    assert not (tmp_path / "runs").exists(), "nothing may train with unsolved exercises"
