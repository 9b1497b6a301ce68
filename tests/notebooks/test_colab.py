"""The Colab page and the set-up cell, with a stand-in for Colab's own module."""

import os
import subprocess
import zipfile

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from grading import chapters
from grading.release import source_notebook, write_source
from grading.walkthrough import Client
from lib import CourseError, colab, export
from lib.__main__ import main
from lib.files import read_json
from lib.runs import FINAL
from tests.training.test_resume import killed

STAND_IN = {
    "google/colab/__init__.py": "from google.colab import drive, files\n",
    "google/colab/drive.py": "from pathlib import Path\n"
    "def mount(folder):\n    Path(folder, 'MyDrive').mkdir(exist_ok=True)\n    print('mounted')\n",
    "google/colab/files.py": "def download(path):\n    print('downloaded', path)\n",
    "sitecustomize.py": "import google.colab\n"}  # there from the start, as on Colab


@pytest.fixture
def session(tmp_path):
    """A function that runs a notebook's cells as on Colab; its home is the folder content/."""
    for name, text in STAND_IN.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    published = tmp_path / "published"
    published.mkdir()
    (published / "setup.sh").write_text("echo set up in $PWD\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "course"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command],
                       cwd=published, check=True)
    content = tmp_path / "content"
    content.mkdir()

    def run(notebook, **changes):
        for cell in notebook.cells:
            for old, new in {"/content": str(content), **changes,
                             "https://github.com/a/b": str(published)}.items():
                if cell.cell_type == "code":
                    cell.source = cell.source.replace(old, new)
        Client(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute(
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")})
        return "\n".join(o.get("text", "") + o.get("data", {}).get("text/plain", "")
                         for cell in notebook.cells for o in cell.get("outputs", []))

    run.content = content
    return run


def test_the_page_trains_into_drive_and_downloads(session, public):
    page = source_notebook("colab")
    drive = session.content / "drive"
    source = write_source(session.content, "03_persona")
    saved = drive / "MyDrive" / "Colab Notebooks" / source.name
    saved.parent.mkdir(parents=True)
    source.rename(saved)
    page.cells.insert(4, nbformat.v4.new_code_cell(
        "from pathlib import Path\ncolab.DRIVE = Path('/content/drive')"))
    text = session(page, **{"MAX_STEPS = None": "MAX_STEPS = 1",
                            "# colab.keep_alive()": "colab.keep_alive()"})
    assert f"set up in {session.content / 'grpo-course'}" in text and "Restart" not in text
    assert "mounted" in text and f"answers: {saved}" in text
    [run] = (drive / "MyDrive" / "grpo-course").glob("persona_*/")
    assert (run / FINAL).exists() and f"downloaded {run.with_suffix('.zip')}" in text
    assert any("application/javascript" in output.get("data", {})
               for cell in page.cells for output in cell.get("outputs", []))
    assert export.from_zip(run.with_suffix(".zip"), session.content / "back").is_dir()


@pytest.fixture
def public(monkeypatch):
    monkeypatch.setattr("grading.release.repository", lambda: "a/b")


def test_every_notebook_begins_with_its_badge_and_the_set_up_cell(session, public):
    for name in (*chapters(), "colab"):
        badge, setup = source_notebook(name).cells[1:3]
        assert f"/notebooks/{name}.ipynb)" in badge.source and "[Open in Colab]" in badge.source
        assert setup.source == source_notebook("colab").cells[2].source
    text = session(nbformat.v4.new_notebook(cells=[
        nbformat.from_dict(setup | {"id": name}) for name in ("first", "again")]))
    assert text.count("set up in") == 2 and "fatal" not in text, "the second finds the course"


def test_a_course_that_is_not_published_comes_from_the_zip_that_was_handed_out(session):
    """And no link leads to somebody else's copy, which holds the answers."""
    for name in (*chapters(), "colab"):
        notebook = source_notebook(name)
        assert not any("github.com" in cell.source
                       for cell in (*notebook.cells[1:3], notebook.cells[-1]))
    setup = notebook.cells[2]
    with pytest.raises(CellExecutionError, match="no grpo-student"):
        session(nbformat.v4.new_notebook(cells=[nbformat.from_dict(setup)]))
    with zipfile.ZipFile(session.content / "grpo-student.zip", "w") as zipped:
        zipped.writestr("grpo-course/setup.sh", "echo set up in $PWD\n")
    again = [nbformat.from_dict(setup | {"id": name}) for name in ("first", "again")]
    assert session(nbformat.v4.new_notebook(cells=again)).count("set up in") == 2


def test_the_set_up_cell_does_nothing_elsewhere(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[source_notebook("colab").cells[2]])
    Client(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert not notebook.cells[0].outputs and not list(tmp_path.iterdir())


def test_a_run_that_was_cut_short_goes_on_with_its_own_settings(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.training.test_resume.command", lambda run_dir, notebook: [
        "train", "persona", "--max-steps", "4", "--save-steps", "1", "--batch-size", "8",
        "--accumulation", "1", "--answers", str(notebook), "--output-dir", str(run_dir)])
    notebook = write_source(tmp_path, "03_persona")
    cut = tmp_path / "persona_5ep_few0.3"
    killed(cut, notebook, after=2, delay=0)
    assert colab.last_unfinished(tmp_path, "persona") == cut
    assert colab.last_unfinished(tmp_path, "sentiment") is None
    from grading.faults import reference

    answers = reference("03_persona")
    assert colab.train_or_resume("persona", answers, tmp_path, seed=9) == cut
    assert read_json(cut / "training_config.json")["settings"]["seed"] == 42
    assert read_json(cut / "reward_history.json")[-1]["step"] == 4
    assert colab.last_unfinished(tmp_path, "persona") is None
    settings = {"max_steps": 1, "batch_size": 8, "accumulation": 1}
    other = colab.train_or_resume("persona", answers, tmp_path, **settings)
    assert other.name == "persona_5ep_few0.3_2", "a finished run is not touched"


@pytest.mark.parametrize("gib, model, batch", [
    (0, "tiny", None), (5, "tiny", None), (8, "gpt2", 4), (15, "gpt2", 8), (22, "gpt2", 16),
    (40, "gpt2", 32), (80, "gpt2", 32)])
def test_settings_follow_the_memory(gib, model, batch):
    chosen = colab.settings("sentiment", gib)
    assert chosen["model"] == model and chosen.get("batch_size") == batch
    assert batch is None or chosen["batch_size"] * chosen["accumulation"] == colab.COMPLETIONS


def test_elsewhere_it_says_so(capsys):
    with pytest.raises(CourseError, match="on Colab only"):
        colab.keep_alive()
    assert str(colab.storage()) == "runs" and "this machine only" in capsys.readouterr().err
    assert main(["preflight"]) == 0


def test_a_package_that_changed_under_the_session_is_told(monkeypatch):
    assert colab.stale() == []
    monkeypatch.setattr("matplotlib.__version__", "3.0.0")
    assert colab.stale() == ["matplotlib"]
