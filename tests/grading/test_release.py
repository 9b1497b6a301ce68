import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from grading import NOTEBOOKS, ROOT, chapters
from grading.__main__ import main
from grading.release import generate, leaks, problems, secrets, source_notebook
from lib import CourseError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Chapter -> its student notebook, made now."""
    course = tmp_path_factory.mktemp("course")
    return {chapter: generate(course, chapter) for chapter in chapters()}


@pytest.fixture
def made_once(made, monkeypatch):
    """problems() compares with these; nbgrader would take ten seconds to make them each time."""
    monkeypatch.setattr("grading.release.generate", lambda course, chapter: made[chapter])


def test_committed_notebooks_are_fresh_and_hold_no_answer(made_once):
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
    (lambda nb: nb.cells[2].update(
        outputs=[nbformat.v4.new_output("stream", text="_star = get_star_probs(_texts)")]),
     "carries output"),
    (lambda nb: nb.cells[0].update(source="edited by hand"), "is stale"),
])
def test_a_spoilt_release_is_told(made_once, tmp_path, spoil, message):
    folder = shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    path = folder / "01_sentiment.ipynb"
    notebook = nbformat.read(path, as_version=4)
    spoil(notebook)
    nbformat.write(notebook, path)
    assert any(message in problem for problem in problems(folder))


def test_a_notebook_with_answers_is_not_overwritten(tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    monkeypatch.setattr("grading.release.NOTEBOOKS", folder)
    notebook = nbformat.read(folder / "01_sentiment.ipynb", as_version=4)
    [cell] = [cell for cell in notebook.cells if cell.id == "ex1"]
    cell.source = "def sentiment_reward(completions, **kwargs):\n    return [0.5]"
    nbformat.write(notebook, folder / "01_sentiment.ipynb")
    command = ["release", "--course", str(tmp_path / "course"), "01_sentiment"]
    assert main(command) == 2
    assert "01_sentiment.ipynb holds answers of your own" in capsys.readouterr().err
    assert nbformat.read(folder / "01_sentiment.ipynb", as_version=4) == notebook
    assert main([*command, "--overwrite"]) == 0 and main(command) == 0, "a stub is no answer"


def test_a_leak_into_any_other_released_file_is_told(made_once, tmp_path):
    folder = shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    (folder / "notes.md").write_text("try torch.expm1(log_ratio) - log_ratio ... no:\n"
                                     "log_ratio = ref_logps - policy_logps\n")
    assert leaks((folder / "notes.md").read_text(), "01_sentiment")
    assert any("notes.md" in problem for problem in problems(folder))


@pytest.mark.parametrize("chapter", chapters())
def test_lib_holds_no_answer(chapter):
    for path in (ROOT / "lib").rglob("*.py"):
        found = [line for line in leaks(path.read_text(), chapter) if len(line) > 30]
        assert found == [], path  # shorter ones, as `return prompts`, answer nothing


def test_it_works_without_an_activated_environment(tmp_path):
    """nbgrader starts `alembic` by name, which only an activated environment has on its path."""
    run = subprocess.run(
        [sys.executable, "-m", "grading", "release", "--course", str(tmp_path / "course"), "0_no"],
        cwd=ROOT, env={**os.environ, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert run.returncode == 2 and "no chapter '0_no'" in run.stderr
    run = subprocess.run(
        [sys.executable, "-c", "from pathlib import Path; from grading.release import generate; "
         f"generate(Path({str(tmp_path / 'course')!r}), '01_sentiment')"],
        cwd=ROOT, env={**os.environ, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_courses_own_configuration_stays(tmp_path):
    """An instructor writes the exchange's path into it."""
    generate(tmp_path, "05_off_policy")
    config = tmp_path / "nbgrader_config.py"
    config.write_text(config.read_text() + "c.Exchange.root = '/srv/x'\n")
    generate(tmp_path, "05_off_policy")
    assert config.read_text().endswith("c.Exchange.root = '/srv/x'\n")


def test_nbgraders_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("grading.release.source_notebook", _without_points)
    with pytest.raises(CourseError, match=r"nbgrader: .* 'test_ex1' does not have points"):
        generate(tmp_path, "01_sentiment")


def _without_points(chapter):
    notebook = source_notebook(chapter)
    del next(c for c in notebook.cells if c.id == "test_ex1").metadata["nbgrader"]["points"]
    return notebook
