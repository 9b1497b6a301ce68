"""A JupyterHub class: nbgrader's own exchange hands out, takes in and gives back."""

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import contextmanager
from functools import partial

import pytest

from grading.__main__ import main
from tests.grading.corpus import CHAPTER, as_bytes, generate, solved
from tests.servers import serving


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


@contextmanager
def students_server(tmp_path):
    """The server behind a student's JupyterLab; gives a function that does what a button does."""
    places = {"Exchange.root": tmp_path / "exchange", "Exchange.cache": tmp_path / "cache",
              "CourseDirectory.course_id": "grpo"}
    (tmp_path / "home" / "nbgrader_config.py").write_text("c = get_config()\n" + "".join(
        f"c.{name} = {str(value)!r}\n" for name, value in places.items()))
    with serving("jupyter_server", tmp_path / "student", tmp_path / "server.log",
                 "--ServerApp.disable_check_xsrf=True") as address:
        yield partial(pressed, f"{address}/assignments")


def pressed(address: str, button: str, **what: str):
    """What the server answers to a button; without one, the list that the page shows."""
    if not button:
        return json.load(urllib.request.urlopen(f"{address}?{urllib.parse.urlencode(what)}"))
    return json.load(urllib.request.urlopen(urllib.request.Request(
        f"{address}/{button}", json.dumps(what).encode(), {"Content-Type": "application/json"})))


def test_the_buttons_of_jupyterlab_fetch_and_submit(tmp_path, nbgrader, capsys):
    course, desk = tmp_path / "course", tmp_path / "student"
    course.mkdir()
    generate(course, CHAPTER)
    nbgrader(course, "release_assignment", CHAPTER)
    which = {"course_id": "grpo", "assignment_id": CHAPTER}
    with students_server(tmp_path) as press:
        [shown] = press("", course_id="grpo")["value"]
        assert (shown["assignment_id"], shown["status"]) == (CHAPTER, "released")
        assert press("fetch", **which)["success"]
        (desk / CHAPTER / f"{CHAPTER}.ipynb").write_bytes(as_bytes(solved()))
        assert press("submit", **which)["success"]
    nbgrader(course, "collect", CHAPTER)
    assert main(["autograde", CHAPTER, "--course", str(course), "--workers", "1"]) == 0
    assert "60 of 60" in capsys.readouterr().out
