"""Lateness: what a platform says of it, and a penalty that follows due date, flag and score."""

import csv
import io
import zipfile
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from nbgrader.api import Gradebook

from grading import late
from grading.__main__ import main
from grading.owners import claim
from lib import CourseError
from tests.grading.corpus import CHAPTER, as_bytes, generate, solved

DUE = datetime(2026, 12, 1, 23, 59, tzinfo=UTC)
NONE = SimpleNamespace(late_submission_penalty=lambda *_: None)


@pytest.mark.parametrize("name, stamp", [
    (f"doejane_1_9_{CHAPTER}.ipynb", None), (f"Jane Doe - {CHAPTER}.ipynb", None),
    (f"Jane Doe_1_assignsubmission_file_{CHAPTER}.ipynb", None), ("jdoe.ipynb", None),
    (f"doejane_LATE_1_9_{CHAPTER}.ipynb", "2026-12-01 23:59:01 UTC\n"),
    (f"hw_jdoe_attempt_2026-12-03-10-00-00_{CHAPTER}.ipynb", datetime(2026, 12, 3, 10)),
    (f"1-2 - J D - Dec 3, 2026 1000 AM - {CHAPTER}.ipynb", datetime(2026, 12, 3, 10))])
def test_only_what_a_platform_says_is_evidence(tmp_path, name, stamp):
    path = tmp_path / "timestamp.txt"
    path.write_text("of an earlier collect, or put there by a student")
    late.note(path, claim(name, True), DUE)
    if isinstance(stamp, datetime):  # a platform's local time is taken for this machine's
        stamp = stamp.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC\n")
    assert (path.read_text() if path.exists() else None) == stamp


@pytest.mark.parametrize("score, seconds, percent, lost", [
    (60, 0, 10, 0), (60, -5, 10, 0), (60, 1, 10, 6), (60, 86400, 10, 6), (60, 86401, 10, 12),
    (80, 86401, 10, 16), (60, 10**9, 10, 60), (60, 1, 0, 0), (0, 1, 50, 0)])
def test_a_day_begun_costs_its_percent_and_never_more_than_the_score(score, seconds, percent, lost):
    assert late.penalty(NONE, "jane", score, seconds, percent) == pytest.approx(lost)


def test_the_flag_is_remembered_and_taken_back(tmp_path):
    assert late.percent(tmp_path, "a") == 0
    assert late.percent(tmp_path, "a", 10) == late.percent(tmp_path, "a") == 10
    assert late.percent(tmp_path, "b") == 0
    assert late.percent(tmp_path, "a", 0) == late.percent(tmp_path, "a") == 0
    for wrong in (-1, 101, float("nan")):
        with pytest.raises(CourseError, match="from 0 to 100"):
            late.percent(tmp_path, "a", wrong)


def scores(course, capsys) -> dict[str, str]:
    capsys.readouterr()
    assert main(["export", CHAPTER, "--course", str(course)]) == 0
    return {row["student"]: row["score"]
            for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}


def test_the_penalty_follows_due_date_flag_and_score(tmp_path, capsys):
    """One grading; all that changes later is derived again, by export alone too."""
    generate(tmp_path, CHAPTER)
    download = tmp_path / "d.zip"
    with zipfile.ZipFile(download, "w") as archive:
        for name in (f"doejane_123_9_{CHAPTER}.ipynb", f"smithbob_LATE_77_9_{CHAPTER}.ipynb",
                     f"hw_two_attempt_2026-12-03-12-00-00_{CHAPTER}.ipynb"):
            archive.writestr(zipfile.ZipInfo(name, (2026, 12, 5, 9, 0, 0)), as_bytes(solved()))
    course = ["--course", str(tmp_path)]

    def collect(due):
        assert main(["collect", CHAPTER, str(download), *course, "--due", due]) == 0

    def grade(*flag):
        assert main(["autograde", CHAPTER, *course, "--workers", "1", *flag]) == 0

    collect("2026-12-01T23:59+00:00")
    assert "smithbob: late, says the platform, but not by how much" in capsys.readouterr().out
    grade()
    assert scores(tmp_path, capsys) == {"doejane": "60", "smithbob": "60", "hw_two": "60"}
    grade("--late-percent", "10")
    assert scores(tmp_path, capsys) == {"doejane": "60", "smithbob": "54", "hw_two": "48"}
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}", "grpo") as book:
        for student in ("doejane", "smithbob", "hw_two"):
            entry = book.find_submission_notebook(CHAPTER, CHAPTER, student)
            assert entry.late_submission_penalty is None, "derived, not stored"
            for grade_ in entry.grades:
                if grade_.name.startswith("q"):
                    grade_.manual_score = 5
        book.db.commit()
    assert scores(tmp_path, capsys) == {"doejane": "80", "smithbob": "72", "hw_two": "64"}
    collect("2026-12-10T23:59+00:00")
    assert scores(tmp_path, capsys) == {"doejane": "80", "smithbob": "72", "hw_two": "80"}
    grade()
    assert scores(tmp_path, capsys)["smithbob"] == "72", "the flag is remembered"
