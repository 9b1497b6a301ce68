"""Each submission of the corpus, graded between two honest ones."""

import contextlib
import hashlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbgrader.api import Gradebook

from grading import autograde as autograde_module
from grading import grade as grade_module
from grading.__main__ import main
from grading.feedback import feedback
from grading.gradebook import Grader
from grading.release import leaks, source_notebook
from grading.sandbox import client
from lib import CourseError
from lib.tiny.corpus import make_reviews
from tests.grading.corpus import (
    BROKEN,
    BROKEN_FILES,
    CHAPTER,
    HOSTILE,
    HOSTILE_FILES,
    as_bytes,
    cell,
    generate,
    solved,
)

UNREADABLE = {
    "a deep file", "cells that are none", "twice the same key", "not text", "empty", "null",
    "a list", "a folder", "a link to the source", "a hard link to the source",
    "a folder that is a link", "an endless file", "a pipe", "a sparse giant"}


def place(course: Path, student: str, submission) -> None:
    path = course / "submitted" / student / CHAPTER / f"{CHAPTER}.ipynb"
    path.parent.mkdir(parents=True)
    if callable(submission):
        submission(path, course)
    else:
        path.write_bytes(submission)


def tree(*folders: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in folders for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
            and path.stat().st_size < 10**8 and "__pycache__" not in path.parts}


def descendants(pid: int) -> list[int]:
    """Every process that pid has started, and what these have started."""
    children = []
    with contextlib.suppress(OSError):  # it has just ended, or a thread of it
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            children += map(int, task.read_text().split())
    return children + [process for child in children for process in descendants(child)]


def left_running() -> list[int]:
    """What still runs below the forkserver, after a little patience."""
    for _ in range(50):
        found = descendants(grade_module.warm("strict").process.pid)
        if not found:
            return []
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A released course; cells and calls may take 1.5 seconds in what is graded here."""
    course = tmp_path_factory.mktemp("course")
    generate(course, CHAPTER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "CELL_SECONDS", 1.5)
        patch.setattr(client, "CALL_SECONDS", 1.5)
        patch.setattr(grade_module, "PASS_SECONDS", 15.0)
        yield course


@pytest.fixture
def grade(template, tmp_path, monkeypatch, capsys):
    """A function that grades named submissions in turn, between two honest ones.

    It returns what was Seen of each. No submission may leave a process behind.
    """
    left = []

    def grade_alone(*args):
        outcome = grade_one(*args)
        left.extend(left_running())
        return outcome

    grade_one = grade_module.grade
    monkeypatch.setattr(grade_module, "grade", grade_alone)

    def graded(submissions: dict) -> dict[str, Seen]:
        left.clear()  # halves of a batch that failed must not answer for the whole
        Path("/tmp/owned").unlink(missing_ok=True)
        course = Path(tempfile.mkdtemp(dir=tmp_path)) / "course"
        shutil.copytree(template, course)
        students = {f"b{i:02}": case for i, case in enumerate(submissions)}
        for honest in "ac":
            place(course, honest, as_bytes(solved()))
        for student, case in students.items():
            place(course, student, submissions[case])
        kept = [course / "source", course / "release", Path("lib"), Path("solutions"),
                Path("grading")]
        before = tree(*kept)
        code = main(["autograde", CHAPTER, "--course", str(course), "--workers", "1"])
        report, problems = capsys.readouterr()
        assert code == 0, report + problems
        feedback(course, CHAPTER)
        assert tree(*kept) == before, "files of the course are as they were"
        assert left == [], "no process outlives its submission"
        assert not Path("/tmp/owned").exists()
        assert Seen(course, "a", report).points == Seen(course, "c", report).points == 60, report
        return {case: Seen(course, student, report) for student, case in students.items()}
    return graded


class Seen:
    """What a run over a class left of one student's submission: points, line, pages."""

    def __init__(self, course: Path, student: str, report: str):
        self.report = report
        [self.line] = [row for row in report.splitlines() if row.startswith(f"{student}: ")]
        with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "grpo") as book:
            self.points = book.find_submission_notebook(CHAPTER, CHAPTER, student).score
        files = [p for kind in ("autograded", "feedback")
                 for p in (course / kind / student).rglob("*") if p.is_file()]
        assert len(files) == 3, "graded notebook, page, JSON"
        assert all(p.stat().st_size < 2 * 10**6 for p in files)
        self.shown = "\n".join(p.read_text(encoding="utf-8") for p in files)
        [self.page] = [p.read_text() for p in files if p.suffix == ".html"]
        [self.notebook] = [p for p in files if p.suffix == ".ipynb"]


def judge(grade, submissions: dict, check) -> None:
    """Grade some cases with one pair of honest neighbours; check(case, seen) each.

    Where a neighbour or a file of the course came to harm, halves of them are graded again, until
    the failure names its case.
    """
    try:
        seen = grade(submissions)
    except AssertionError as error:
        if len(submissions) == 1:
            raise AssertionError(f"case {next(iter(submissions))!r}: {error}") from error
        cases = list(submissions.items())
        for half in (cases[:len(cases) // 2], cases[len(cases) // 2:]):
            judge(grade, dict(half), check)
        raise  # it takes all of them together
    for case, one in seen.items():
        check(case, one)


def batches(cases: dict) -> list[dict]:
    """Ten cases at a time, by name."""
    names = list(cases)
    return [{name: cases[name] for name in names[i:i + 10]} for i in range(0, len(names), 10)]


HIDDEN_INPUTS = [review.text for review in make_reviews(24, seed=4242)]
for _seed in (7, 11, 13):
    _rng = random.Random(_seed)
    HIDDEN_INPUTS += [repr(_rng.random())[:12] for _ in range(40)]


@pytest.mark.parametrize("cases", batches(HOSTILE | HOSTILE_FILES), ids=lambda c: next(iter(c)))
def test_hostile(grade, cases):
    judge(grade, cases, loses_and_learns_nothing)


def loses_and_learns_nothing(case: str, seen: Seen) -> None:
    assert seen.points == 0, f"{case}: {seen.report}"
    if case in UNREADABLE:
        assert "points" not in seen.line, f"{case}: a reason beside the name"
    else:
        assert "0 of 60 points" in seen.line, case
    assert leaks(seen.shown, CHAPTER) == [], case
    assert [text for text in HIDDEN_INPUTS if text in seen.shown + seen.report] == [], case
    bad = r"<script|<[^>]*(onerror|javascript:|src=.?x)"
    assert not re.search(bad, seen.page), case
    if "script" in case or "control" in case:
        formgrader, _ = HTMLExporter(template_name="basic").from_filename(str(seen.notebook))
        assert not re.search(bad, formgrader), case


TOLD = {"metadata and ids lost": "had lost its metadata", "an answer twice": "was there 2 times",
        "an answer deleted": "its cell is missing", "an answer retyped": "had another type",
        "cells in reverse": "in another order", "a broken answer": "no valid Python",
        "a loop after an answer": "only its definitions count"}


def broken(case: str) -> bytes:
    """The notebook of an honest student to whom this accident has happened."""
    notebook = solved()
    if case in BROKEN_FILES:
        return BROKEN_FILES[case][0](notebook)
    BROKEN[case][0](notebook)
    return as_bytes(notebook)


@pytest.mark.parametrize("cases", batches(BROKEN | BROKEN_FILES), ids=lambda c: next(iter(c)))
def test_broken_but_honest(grade, cases):
    judge(grade, {case: broken(case) for case in cases}, keeps_its_points)


def keeps_its_points(case: str, seen: Seen) -> None:
    _, points = (BROKEN | BROKEN_FILES)[case]
    assert seen.points == points, f"{case}: {seen.report}"
    assert TOLD.get(case, "") in seen.page, f"{case}: the student is told what was repaired"


def test_a_rerun_grades_what_is_new_and_nothing_else(template, tmp_path, capsys):
    course = tmp_path / "course"
    shutil.copytree(template, course)
    place(course, "a", as_bytes(solved()))
    command = ["autograde", CHAPTER, "--course", str(course), "--workers", "1"]
    assert main(command) == 0
    graded = course / "autograded" / "a" / CHAPTER / f"{CHAPTER}.ipynb"
    first = graded.stat().st_mtime_ns
    place(course, "b", as_bytes(solved()))
    assert main(command) == 0
    assert graded.stat().st_mtime_ns == first and (course / "autograded" / "b").exists()
    assert capsys.readouterr().out.count("a: 60 of 60") == 2
    path = course / "submitted" / "a" / CHAPTER / f"{CHAPTER}.ipynb"
    path.write_bytes(HOSTILE["not a number"])  # handed in again
    assert main(command) == 0
    assert "a: 0 of 60" in capsys.readouterr().out
    before = graded.stat().st_mtime_ns
    assert main([*command, "--regrade"]) == 0
    assert graded.stat().st_mtime_ns > before


def test_odd_folders_and_times_do_not_end_the_run(template, tmp_path, capsys):
    course = tmp_path / "course"
    shutil.copytree(template, course)
    for student in ("a", "b\nc: 60 of 60", os.fsdecode(b"b\xff"), ".x", "d", "e"):
        place(course, student, as_bytes(solved()))
    for student, when in (("d", "9999-12-31 23:59:59 -2300"), ("e", "9" * 20)):
        (course / "submitted" / student / CHAPTER / "timestamp.txt").write_text(when)
    assert main(["autograde", CHAPTER, "--course", str(course), "--workers", "1"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:1] != " "]
    assert len(lines) == 6 and sum("60 of 60 points" in line for line in lines) == 3
    assert sum("no student's" in line for line in lines) == 3
    assert main(["feedback", CHAPTER, "--course", str(course)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def die(assignment, data, level):
    if data == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return grade_module.Outcome()


def test_a_submission_that_kills_its_worker_is_left_out(monkeypatch):
    """Twice and no more; its neighbours are not blamed."""
    work = iter([(i, b"kill" if i == 2 else b"") for i in range(5)])
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(autograde_module, "get_context", lambda kind: context)
    monkeypatch.setattr(grade_module, "grade", die)
    outcomes = dict(autograde_module.run_all(None, work, "strict", 2, None))
    assert len(outcomes) == 5 and "twice" in outcomes[2].problem
    assert all(outcomes[i].problem is None for i in (0, 1, 3, 4))


def refuse(assignment, data, level):
    raise CourseError("no jail on this machine")


def test_workers_without_a_jail_say_so(monkeypatch):
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(autograde_module, "get_context", lambda kind: context)
    monkeypatch.setattr(grade_module, "grade", refuse)
    with pytest.raises(CourseError, match="no jail"):
        list(autograde_module.run_all(None, iter([(1, b""), (2, b"")]), "strict", 2, None))


def test_gradients_cannot_be_claimed(tmp_path):
    """Chapter 2: the right values, and a backward pass that lies."""
    generate(tmp_path, "02_grpo")
    with Grader(tmp_path, "02_grpo") as grader:
        for edit, message in (
                ("chosen.detach() - logits.detach().logsumexp(-1)", "no gradient flows"),
                ("(chosen - logits.logsumexp(-1)).detach() + 0 * chosen", "the gradient")):
            notebook = source_notebook("02_grpo")
            target = cell(notebook, "ex2a")
            assert "chosen - logits.logsumexp(-1)" in target.source
            target.source = target.source.replace("chosen - logits.logsumexp(-1)", edit)
            outcome = grade_module.grade(grader.assignment, nbformat.writes(notebook).encode())
            assert not outcome.passed("test_ex2a") and outcome.passed("test_ex2b")
            assert message in outcome.remark("test_ex2a")


def test_a_lost_forkserver_is_replaced(template):
    with Grader(template, CHAPTER) as grader:
        os.kill(grade_module.warm("strict").process.pid, signal.SIGKILL)
        seen = iter([None])  # its death is not noticed at first
        grade_module._forkserver.process.poll = lambda: next(seen, -9)
        outcome = grade_module.grade(grader.assignment, as_bytes(solved()))
    assert outcome.status.keys() == grader.assignment.tests.keys()
    assert all(map(outcome.passed, outcome.status))


def test_a_forkserver_lost_among_hidden_tests_repeats_these_alone(template, monkeypatch):
    """What is told was made before the code had seen a hidden input, and is not made again."""
    passes, look, examine = [], grade_module._look, grade_module._examine

    def looking(*args):
        passes.append("V")
        return look(*args)

    def examining(*args):
        passes.append("H")
        if passes.count("H") == 1:
            lost = grade_module._forkserver
            lost.process.kill()
            lost.process.wait()
            lost.fork()
        return examine(*args)

    monkeypatch.setattr(grade_module, "_look", looking)
    monkeypatch.setattr(grade_module, "_examine", examining)
    with Grader(template, CHAPTER) as grader:
        outcome = grade_module.grade(grader.assignment, as_bytes(solved()))
    assert passes == ["V", "H", "H"]
    assert outcome.status.keys() == grader.assignment.tests.keys()
    assert all(map(outcome.passed, outcome.status))
