"""A JupyterHub class: nbgrader's own exchange hands out, takes in and gives back."""

import subprocess
import sys

import pytest

from grading.__main__ import main
from tests.grading.corpus import CHAPTER, as_bytes, generate, solved


@pytest.fixture
def nbgrader(tmp_path, monkeypatch):
    """A call of nbgrader's command line, with an exchange that everybody can write to."""
    for name in ("exchange", "cache", "home", "student"):
        (tmp_path / name).mkdir()
    (tmp_path / "exchange").chmod(0o777)
    for name in ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))

    def call(where, *command):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *command, "--course", "grpo",
             f"--Exchange.root={tmp_path / 'exchange'}", f"--Exchange.cache={tmp_path / 'cache'}"],
            cwd=where, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    return call


def test_the_whole_way_through_the_exchange(tmp_path, nbgrader, capsys):
    course, desk = tmp_path / "course", tmp_path / "student"
    course.mkdir()
    generate(course, CHAPTER)
    here = ["--course", str(course)]
    nbgrader(course, "release_assignment", CHAPTER)
    nbgrader(desk, "fetch_assignment", CHAPTER)
    fetched = desk / CHAPTER / f"{CHAPTER}.ipynb"
    assert fetched.exists() and "BEGIN HIDDEN" not in fetched.read_text()
    fetched.write_bytes(as_bytes(solved()))
    nbgrader(desk, "submit", CHAPTER)
    nbgrader(course, "collect", CHAPTER)
    assert main(["autograde", CHAPTER, *here, "--workers", "1"]) == 0
    assert "60 of 60" in capsys.readouterr().out
    assert main(["feedback", CHAPTER, *here]) == 0
    nbgrader(course, "release_feedback", CHAPTER)
    nbgrader(desk, "fetch_feedback", CHAPTER)
    [page] = desk.glob(f"{CHAPTER}/feedback/**/*.html")
    assert "60 of 80 points" in page.read_text()
    capsys.readouterr()
    assert main(["export", CHAPTER, *here]) == 0
    assert ",60,80," in capsys.readouterr().out
