"""The zips that are handed out: the student's holds no answer and runs on its own."""

import os
import re
import subprocess
import sys
import zipfile

import nbformat
import pytest

from grading import ROOT, chapters
from grading import bundle as bundles
from grading.__main__ import main
from grading.release import source_notebook, whole_answers
from grading.walkthrough import Client


def unpacked(audience, folder):
    with zipfile.ZipFile(bundles.bundle(audience, folder / "bundle.zip")) as zipped:
        zipped.extractall(folder)
    return folder / bundles.FOLDER


@pytest.fixture(scope="module", autouse=True)
def looked_at_once():
    """Each bundle asks whether a notebook is stale, ten seconds long; nothing changes here."""
    found = bundles.problems()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundles, "problems", lambda: [*found])
        yield


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """The unpacked student's bundle."""
    return unpacked("student", tmp_path_factory.mktemp("bundle"))


def test_the_students_bundle_holds_no_answer(student):
    files = [path for path in student.rglob("*") if path.is_file()]
    assert {path.name for path in student.iterdir()} == {
        "notebooks", "lib", "setup.sh", "pyproject.toml", "environment.yml", "README.md", "LICENSE",
        "docs"}
    assert "Instructors" not in (student / "README.md").read_text()
    assert len(list((student / "notebooks").glob("0*.ipynb"))) == len(chapters())
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace")
        for chapter in chapters():
            assert not whole_answers(text, chapter), path
        assert "HIDDEN TESTS" not in text and "BEGIN SOLUTION" not in text, path


def test_the_students_readme_begins_with_what_to_do_and_leads_nowhere_else(student):
    text = (student / "README.md").read_text()
    assert re.search(r"^## (.+)$", text, re.MULTILINE)[1] == "What to do"
    assert text.count("\n## ") == 2 and "-m grading" not in text and "setup.sh demo" not in text
    assert "| [1. Sentiment]" in text and "What the course is" in text
    for page in (student / "README.md", *(student / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_students_bundle_runs_on_its_own(student):
    """Installed and trained from there, with nothing of the rest of the course in reach."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    answers = student / "mine.py"
    answers.write_text("from lib.scoring import get_sentiment_scores\n"
                       "def sentiment_reward(completions, **kwargs):\n"
                       "    return get_sentiment_scores(completions)\n")
    code = ("import sys, lib; assert lib.__file__.startswith(sys.argv[1]), lib.__file__; "
            "from lib.__main__ import main; sys.exit(main(sys.argv[2:]))")
    run = subprocess.run(
        [sys.executable, "-c", code, str(student), "train", "sentiment", "--max-steps", "1",
         "--batch-size", "8", "--accumulation", "1", "--answers", str(answers)],
        cwd=student, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "1 steps" in run.stdout, run.stderr
    for command, said in ((["demo"], "student's"), (["test"], "student's")):
        run = subprocess.run(["bash", "setup.sh", *command], cwd=student, capture_output=True,
                             text=True)
        assert run.returncode == 2 and run.stderr.count("\n") == 1 and said in run.stderr
    notebook = nbformat.read(student / "notebooks" / "01_sentiment.ipynb", as_version=4)
    notebook.cells = notebook.cells[:8]  # up to the first exercise
    Client(notebook, resources={"metadata": {"path": str(student)}}).execute()


def test_setuptools_finds_the_packages_of_both_bundles(student):
    from setuptools import find_packages

    include = ["lib", "lib.*", "grading", "grading.*"]
    assert set(find_packages(str(student), include=include)) == {
        "lib", "lib.checks", "lib.tasks", "lib.tiny"}
    assert {"grading", "grading.faults"} <= set(find_packages(str(ROOT), include=include))


def test_the_instructors_bundle_is_the_course_and_repeats(tmp_path):
    course = unpacked("instructor", tmp_path)
    files = {path.relative_to(course) for path in course.rglob("*") if path.is_file()}
    assert files == set(bundles.course_files())
    assert {str(path) for path in files} >= {"solutions/01_sentiment.py", "tests/conftest.py",
                                             "grading/sandbox/isolation.py", ".ci/run"}
    with zipfile.ZipFile(tmp_path / "bundle.zip") as zipped:
        mode = zipped.getinfo(f"{bundles.FOLDER}/.ci/run").external_attr >> 16
    assert mode & 0o111, "what can be run stays so"
    first = (tmp_path / "bundle.zip").read_bytes()
    assert bundles.bundle("instructor", tmp_path / "again.zip").read_bytes() == first


def test_without_git_what_is_made_here_stays_out(tmp_path, monkeypatch):
    course = unpacked("instructor", tmp_path)
    for made in (".venv/bin/python", "runs/a/b.json", "course/gradebook.db", "build/x", "site/y",
                 "lib/__pycache__/a.pyc"):
        (course / made).parent.mkdir(parents=True, exist_ok=True)
        (course / made).write_text("made")
    tracked = set(bundles.course_files())
    monkeypatch.setattr(bundles, "ROOT", course)
    assert set(bundles.course_files()) == tracked


def test_an_answer_that_slipped_into_lib_is_told(tmp_path, monkeypatch, capsys):
    cell = next(c for c in source_notebook("01_sentiment").cells if c.id == "ex3b")
    slipped = tmp_path / "lib" / "slipped.py"
    slipped.parent.mkdir()
    slipped.write_text("def f(ref_logps, kl_coef):\n" + cell.source.split("SOLUTION\n")[1])
    monkeypatch.setattr(bundles, "ROOT", tmp_path)
    monkeypatch.setattr(bundles, "problems", list)
    assert main(["bundle", "student", "--out", str(tmp_path / "s.zip")]) == 2
    err = capsys.readouterr().err
    assert "slipped.py holds an answer of 01_sentiment" in err and err.count("\n") == 1
    assert not (tmp_path / "s.zip").exists()
