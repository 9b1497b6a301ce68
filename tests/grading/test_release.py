import shutil

import nbformat
import pytest

from grading import NOTEBOOKS, chapters
from grading.release import leaks, problems, secrets, source_notebook


def test_committed_notebooks_are_fresh_and_hold_no_answer():
    assert problems() == []


@pytest.mark.parametrize("chapter", chapters())
def test_metadata_is_what_nbgrader_needs(chapter):
    cells = source_notebook(chapter).cells
    marked = [cell.metadata["nbgrader"] for cell in cells if "nbgrader" in cell.metadata]
    ids = [m["grade_id"] for m in marked]
    assert len(set(ids)) == len(ids) and len({cell.id for cell in cells}) == len(cells)
    assert all("points" in m for m in marked if m["grade"])
    solutions = {m["grade_id"] for m in marked if m["solution"] and not m["grade"]}
    assert solutions and {f"test_{name}" for name in solutions} <= set(ids)
    for cell in cells:
        if cell.metadata.get("nbgrader", {}).get("grade") and cell.cell_type == "code":
            assert "### BEGIN HIDDEN TESTS" in cell.source


def test_secrets_are_the_solution_and_hidden_test_lines():
    found = secrets("01_sentiment")
    assert "return [kl_coef * sum(row) / len(row) for row in ref_logps]" in found
    assert any(line.startswith("_star = get_star_probs") for line in found)
    assert not any("def forward_kl_bonus" in line for line in found)


@pytest.mark.parametrize("spoil, message", [
    (lambda nb: nb.cells[3].update(
        source="x = [kl_coef * sum(row) / len(row) for row in ref_logps]\n"
               "return [kl_coef * sum(row) / len(row) for row in ref_logps]"),
     "holds a line of a solution"),
    (lambda nb: nb.cells[1].update(
        outputs=[nbformat.v4.new_output("stream", text="_star = get_star_probs(_texts)")]),
     "carries output"),
    (lambda nb: nb.cells[0].update(source="edited by hand"), "is stale"),
])
def test_a_spoilt_release_is_told(tmp_path, spoil, message):
    folder = shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    path = folder / "01_sentiment.ipynb"
    notebook = nbformat.read(path, as_version=4)
    spoil(notebook)
    nbformat.write(notebook, path)
    assert any(message in problem for problem in problems(folder))


def test_a_leak_into_any_other_released_file_is_told(tmp_path):
    folder = shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    (folder / "notes.md").write_text("try torch.expm1(log_ratio) - log_ratio ... no:\n"
                                     "log_ratio = ref_logps - policy_logps\n")
    assert leaks((folder / "notes.md").read_text(), "01_sentiment")
    assert any("notes.md" in problem for problem in problems(folder))
