"""A whole class: killed and run again, with any number of workers, on a cluster, out and in."""

import csv
import gc
import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI

from grading import grade
from grading.__main__ import main
from grading.autograde import autograde
from grading.gradebook import Grader
from grading.release import config
from tests.grading.corpus import (
    BROKEN,
    CHAPTER,
    HOSTILE,
    as_bytes,
    cell,
    generate,
    hand_in,
    solved,
    wrong,
)

STUDENTS = {}
for _i, (_name, _answer) in enumerate({
        "right": as_bytes(solved()), "wrong": as_bytes(wrong()), "none": b"{",
        "crash": HOSTILE["os._exit"], "claim": HOSTILE["another kernel"]}.items()):
    STUDENTS |= {f"{_name}{n}": _answer for n in range(2)}


def grades(course: Path) -> dict:
    """All that the gradebook holds of a course's submissions."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "grpo") as book:
        return {submission.student.id: {
            **{g.name: (g.auto_score, g.manual_score, bool(g.needs_manual_grade))
               for n in submission.notebooks for g in n.grades},
            **{f"comment {c.name}": c.auto_comment for n in submission.notebooks
               for c in n.comments},
            "late": [n.late_submission_penalty for n in submission.notebooks]}
            for submission in book.assignment_submissions(CHAPTER)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    course = tmp_path_factory.mktemp("undisturbed")
    generate(course, CHAPTER)
    hand_in(course, STUDENTS)
    autograde(course, CHAPTER)
    return grades(course)


def command(course: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "grading", "autograde", CHAPTER, "--course", str(course), *more]


@pytest.mark.parametrize("kill", [1, 2])
def test_killed_and_run_again(tmp_path, undisturbed, kill):
    """Killed at a random moment, worker processes and all, then started once more."""
    generate(tmp_path, CHAPTER)
    hand_in(tmp_path, STUDENTS)
    rng, done = random.Random(), 0
    process = subprocess.Popen(command(tmp_path, "--workers", str(kill)), start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wanted = rng.randint(1, len(STUDENTS) - 1)  # not while it still imports torch
    while done < wanted and process.poll() is None:
        done = len(list((tmp_path / "autograded").glob("*/*/*.ipynb")))
        time.sleep(0.01)
    time.sleep(rng.random() / 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert main(command(tmp_path, "--workers", "1")[3:]) == 0
    assert grades(tmp_path) == undisturbed, f"killed after {done} submissions"


def test_grades_do_not_depend_on_order_or_workers(tmp_path, undisturbed):
    generate(tmp_path, CHAPTER)
    hand_in(tmp_path, dict(reversed(STUDENTS.items())))
    assert main(command(tmp_path, "--workers", "2")[3:]) == 0
    assert grades(tmp_path) == undisturbed


def test_a_submission_leaves_nothing_in_memory(tmp_path):
    """So a large class takes no more of it than a small one."""
    generate(tmp_path, CHAPTER)
    with Grader(tmp_path, CHAPTER) as grader:
        assignment, objects = grader.assignment, []
    for _ in range(3):
        for student in ("right0", "crash0", "none0"):
            grade.grade(assignment, STUDENTS[student])
        gc.collect()
        objects.append(len(gc.get_objects()))
    assert objects[2] - objects[1] < 100, objects


def test_on_a_cluster_that_loses_a_worker(tmp_path, undisturbed):
    distributed = pytest.importorskip("distributed", reason="needs dask.distributed")
    generate(tmp_path, CHAPTER)
    hand_in(tmp_path, STUDENTS)
    with distributed.LocalCluster(2, threads_per_worker=1, processes=True,
                                  dashboard_address=None) as cluster:
        grading = subprocess.Popen(command(tmp_path, "--scheduler", cluster.scheduler_address),
                                   stdout=subprocess.DEVNULL)
        while len(list((tmp_path / "autograded").glob("*/*/*.ipynb"))) < 3:
            assert grading.poll() is None
            time.sleep(0.02)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        assert grading.wait(120) == 0
    assert grades(tmp_path) == undisturbed


def test_mistakes_are_one_line(tmp_path, capsys):
    generate(tmp_path, CHAPTER)
    hand_in(tmp_path, {"a": as_bytes(solved())})
    for more, message in ((["--workers", "0"], "at least 1"),
                          (["--scheduler", "tcp://127.0.0.1:9"], "no Dask scheduler"),
                          (["--student", "zed"], "no submission of zed"),
                          (["--isolation", "none"], "invalid choice")):
        assert main([*command(tmp_path)[3:], *more]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert message in error and error.startswith("error: ")


def test_nbgraders_own_autograde_gives_honest_submissions_the_same(tmp_path):
    """An instructor can leave us: the release and the gradebook are nbgrader's."""
    partly = solved()
    cell(partly, "ex2").source = "def exponential_shaping(scores, temperature):\n    return scores"
    cell(partly, "q1").source = "**Question 1.** It repeats itself."
    helper = solved()
    BROKEN["a helper in a cell of its own"][0](helper)
    honest = {"partly": as_bytes(partly), "helper": as_bytes(helper),
              "untouched": as_bytes(nbformat.read(f"notebooks/{CHAPTER}.ipynb", as_version=4))}
    both = []
    for which in ("ours", "stock"):
        course = tmp_path / which
        course.mkdir()
        generate(course, CHAPTER)
        hand_in(course, honest)
        if which == "ours":
            autograde(course, CHAPTER)
        else:
            api = NbGraderAPI(config=config(course))
            assert all(api.autograde(CHAPTER, student)["success"] for student in honest)
        both.append(grades(course))
    assert both[0] == both[1]


CLASS = """id,first_name,last_name,email,lms_user_id
jdoe,Jane,Doe,jane@x.org,123
bs,Bob,Smith,bob.smith@x.org,456
eve,Eve,=HYPERLINK,eve@x.org,789
"""


def test_collect_from_canvas_moodle_and_classroom(tmp_path, capsys):
    (tmp_path / "class.csv").write_text(CLASS)
    names = {
        "canvas": [f"doejane_LATE_123_9_{CHAPTER}.ipynb", f"doejane_123_10_{CHAPTER}-1.ipynb",
                   f"smithbob_456_11_{CHAPTER}.ipynb", f"nobody_000_12_{CHAPTER}.ipynb"],
        "moodle": [f"Jane Doe_77_assignsubmission_file/{CHAPTER}.ipynb",
                   f"Bob Smith_78_assignsubmission_file_/Jane Doe - {CHAPTER} (2).ipynb"],
        "classroom": [f"Jane Doe - {CHAPTER}.ipynb", f"Jane Doe - {CHAPTER} (1).ipynb",
                      f"Bob Smith - {CHAPTER}.ipynb"],
        "folders": [f"jdoe/{CHAPTER}/{CHAPTER}.ipynb", f"bs/{CHAPTER}.ipynb"]}
    for platform, files in names.items():
        course, download = tmp_path / platform, tmp_path / f"{platform}.zip"
        course.mkdir()
        generate(course, CHAPTER)
        with zipfile.ZipFile(download, "w") as archive:
            for i, name in enumerate(files):
                info = zipfile.ZipInfo(name, (2026, 11, 20, 10, i, 0))
                archive.writestr(info, json.dumps({"file": name}))
            archive.writestr("../../evil.ipynb", "{}")
            archive.writestr("__MACOSX/._x.ipynb", "{}")
        assert main(["collect", CHAPTER, str(download), "--course", str(course), "--class-list",
                     str(tmp_path / "class.csv"), "--due", "2026-11-20T12:00+00:00"]) == 0
        said = capsys.readouterr().out
        assert "2 collected" in said and "eve: nothing handed in" in said
        assert not (tmp_path / "evil.ipynb").exists()
        last = {"canvas": files[1], "classroom": files[1]}.get(platform, files[0])
        path = course / "submitted" / "jdoe" / CHAPTER / f"{CHAPTER}.ipynb"
        assert json.loads(path.read_text()) == {"file": last}
        assert not path.with_name("timestamp.txt").exists(), "a zip's time is no evidence"


def test_a_download_that_is_odd(tmp_path, capsys):
    """No date, damage, endless numbers, two people with one name: told, and the rest collected."""
    generate(tmp_path, CHAPTER)
    download = tmp_path / "odd.zip"
    with zipfile.ZipFile(download, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("Jane - a.ipynb", "李明 - hw.ipynb", "王芳 - hw.ipynb", "José - hw.ipynb",
                     "Jos - hw.ipynb", f"Max - {'9' * 5000}.ipynb", "bad - x.ipynb",
                     "J.D. - b.ipynb", "J D - b.ipynb"):
            archive.writestr(zipfile.ZipInfo(name), b"{}" * 500)
    data = bytearray(download.read_bytes())
    at = data.index(b"bad - x.ipynb") + 20
    data[at:at + 40] = b"\xff" * 40
    download.write_bytes(data)
    assert main(["collect", CHAPTER, str(download), "--course", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "6 collected" in said and "bad - x.ipynb: cannot be read" in said
    assert "'J.D. - b.ipynb' and 'J D - b.ipynb' would both go to j_d" in said
    there = {p.name for p in (tmp_path / "submitted").iterdir()}
    assert there == {"李明", "王芳", "josé", "jos", "jane", "max"}
    assert main(["collect", CHAPTER, str(tmp_path / "none.zip"), "--course", str(tmp_path)]) == 2
    (tmp_path / "class.csv").write_text("id,first_name\nzed,Zed\n")
    assert main(["collect", CHAPTER, str(download), "--course", str(tmp_path), "--class-list",
                 str(tmp_path / "class.csv")]) == 2
    said = capsys.readouterr()
    assert "'J.D.' fits no single student" in said.out and "nothing was collected" in said.err
    assert main(["collect", CHAPTER, str(download), "--due", "01-12-2026"]) == 2
    assert "write YYYY-MM-DDTHH:MM" in capsys.readouterr().err


def test_late_work_and_the_table_of_grades(tmp_path, capsys):
    (tmp_path / "class.csv").write_text(CLASS)
    generate(tmp_path, CHAPTER)
    download = tmp_path / "download"
    download.mkdir()
    for name in (f"doejane_LATE_123_9_{CHAPTER}.ipynb", f"smithbob_456_11_{CHAPTER}.ipynb"):
        (download / name).write_bytes(as_bytes(solved()))
        os.utime(download / name, (0, datetime(2026, 11, 20, tzinfo=UTC).timestamp()))
    course = ["--course", str(tmp_path)]
    assert main(["export", CHAPTER, *course]) == 2
    assert "no grades" in capsys.readouterr().err
    assert main(["collect", CHAPTER, str(download), *course, "--class-list",
                 str(tmp_path / "class.csv"), "--due", "2026-11-25T12:00"]) == 0
    assert main(["collect", CHAPTER, str(download), *course]) == 0, "both are remembered"
    assert {p.name for p in (tmp_path / "submitted").iterdir()} == {"jdoe", "bs"}
    capsys.readouterr()
    assert main(["autograde", CHAPTER, *course, "--workers", "1", "--late-percent", "10"]) == 0
    said = capsys.readouterr().out
    assert "jdoe: 60 - 6 late = 54 of 60 points; 20 more" in said
    assert "bs: 60 of 60 points; 20 more" in said
    assert main(["feedback", CHAPTER, *course]) == 0
    page = (tmp_path / "feedback" / "jdoe" / CHAPTER / f"{CHAPTER}.html").read_text()
    assert "jdoe: <strong>60 - 6 late = 54 of 80 points</strong>" in page
    capsys.readouterr()
    for form, columns in {"plain": {"student": "jdoe", "score": "54", "late_penalty": "6",
                                    "remark": "60 - 6 late = 54 of 80"},
                          "canvas": {"ID": "123", "Section": "", CHAPTER: "54",
                                     "Student": "Doe, Jane"},
                          "moodle": {"Email address": "jane@x.org"}}.items():
        assert main(["export", CHAPTER, *course, "--format", form]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        [jane] = [row for row in rows if "jdoe" in row.values() or "jane@x.org" in row.values()]
        assert jane | columns == jane and len(rows) == 3, "eve has a row too"


def test_no_jail_no_grades(tmp_path, capsys, monkeypatch):
    """A machine that refuses namespaces: one line with the way out, and nothing is run."""
    monkeypatch.setattr("grading.grade._forkserver", None)
    monkeypatch.setattr("grading.sandbox.client.ROOT", tmp_path / "elsewhere")
    generate(tmp_path, CHAPTER)
    hand_in(tmp_path, {"a": as_bytes(solved())})
    assert main(["autograde", CHAPTER, "--course", str(tmp_path), "--workers", "1"]) == 2
    assert "did not start" in capsys.readouterr().err
    assert not (tmp_path / "autograded").exists()


def _refused(empty: str, results) -> None:
    """In a process of its own: a jail where user namespaces are forbidden."""
    from grading.sandbox import isolation

    def forbidden(flags):
        import ctypes

        ctypes.set_errno(1)
        return -1

    isolation.libc = type("Libc", (), {"unshare": staticmethod(forbidden),
                                  "prctl": isolation.libc.prctl})()
    read, write = os.pipe()
    try:
        isolation.Jail("strict", empty).fork(lambda channel: None, write, read)
    except isolation.JailError as error:
        results.put(str(error))


def test_what_is_missing_is_named(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_refused, args=(str(tmp_path), results))
    process.start()
    assert "user namespaces: Operation not permitted" in results.get(timeout=60)
    process.join()
