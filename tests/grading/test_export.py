"""The table of grades: whom it holds, what it leaves empty, and a gradebook in trouble."""

import csv
import io
import re
import shutil
import sqlite3

import pytest

from grading.__main__ import main
from grading.autograde import autograde
from grading.export import _cell
from grading.gradebook import open_gradebook
from lib import CourseError
from tests.grading.corpus import CHAPTER, as_bytes, generate, hand_in, solved


@pytest.mark.parametrize("text", [
    "=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "  =1", "\u200b=1", "＝1+1", "＋1", "－1",
    "＠x", "Doe;=1+1", "Doe,=1", "Doe, -1", "Doe;  ＝1", '"=1', "Doe|@x", "\ufeff=1", "(=1"])
def test_no_cell_is_a_formula_to_any_spreadsheet(text):
    """Whatever ends a cell in that country; judged by cutting the text at each of them."""
    for part in re.split(r"[;,|\t\r\n]", _cell(text)):
        first = re.sub(r"^[^\w'=+@＝＋－＠-]+", "", part)[:1]
        assert first not in tuple("=+-@＝＋－＠"), _cell(text)


@pytest.mark.parametrize("text", ["Doe, Jane", "Müller-Schmidt, Anna", "jane@x.org", "李明", "a=b"])
def test_an_ordinary_name_stays_as_it_is(text):
    assert _cell(text) == text


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    course = tmp_path_factory.mktemp("graded")
    generate(course, CHAPTER)
    hand_in(course, {"right": as_bytes(solved()), "cut": as_bytes(solved())[:500]})
    with open_gradebook(course) as book:
        book.add_student("absent")
    autograde(course, CHAPTER)
    return course


def table(course, capsys, form="plain") -> list[dict]:
    assert main(["export", CHAPTER, "--course", str(course), "--format", form]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_what_is_not_graded_is_empty_and_says_why(graded, capsys):
    rows = {row["student"]: row for row in table(graded, capsys)}
    assert rows["right"]["score"] == "60" and not rows["right"]["remark"]
    assert rows["cut"]["score"] == "" and "cut off" in rows["cut"]["remark"]
    assert rows["absent"]["score"] == "" and rows["absent"]["remark"] == "nothing handed in"
    for form, column in (("canvas", CHAPTER), ("moodle", f"Assignment: {CHAPTER}")):
        assert sorted(row[column] for row in table(graded, capsys, form)) == ["", "", "60"]


def test_points_by_hand_count_where_nothing_else_could_be_graded(graded, tmp_path, capsys):
    shutil.copytree(graded, tmp_path / "c")
    with open_gradebook(tmp_path / "c") as book:
        entry = book.find_submission_notebook(CHAPTER, CHAPTER, "cut")
        next(g for g in entry.grades if g.name == "q1").manual_score = 3
        book.db.commit()
    assert {"cut": "3"}.items() <= {r["student"]: r["score"]
                                    for r in table(tmp_path / "c", capsys)}.items()


@pytest.mark.parametrize("lock, verbs", [
    ("BEGIN EXCLUSIVE", ("autograde", "export", "feedback")), ("BEGIN IMMEDIATE", ("autograde",))])
def test_a_locked_gradebook_is_one_line(graded, tmp_path, capsys, lock, verbs):
    shutil.copytree(graded, tmp_path / "c")
    other = sqlite3.connect(tmp_path / "c" / "gradebook.db", isolation_level=None)
    other.execute(lock)
    for verb in verbs:
        more = ["--regrade", "--student", "right"] if verb == "autograde" else []
        assert main([verb, CHAPTER, "--course", str(tmp_path / "c"), *more]) == 2
        assert capsys.readouterr().err.splitlines()[-1].endswith(
            "gradebook.db is in use by another program; close it and try again")
    other.close()


@pytest.mark.parametrize("damage, said", [
    ("ALTER TABLE student DROP COLUMN lms_user_id", "nbgrader db upgrade"),
    ("ALTER TABLE grade DROP COLUMN manual_score", "nbgrader db upgrade"),
    (b"version https://git-lfs\n", "no gradebook")])
def test_a_gradebook_that_is_none_or_another_versions(graded, tmp_path, damage, said):
    shutil.copytree(graded, tmp_path / "c")
    path = tmp_path / "c" / "gradebook.db"
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    else:
        with sqlite3.connect(path) as database:
            database.execute(damage)
    with pytest.raises(CourseError, match=said), open_gradebook(tmp_path / "c") as book:
        assert [notebook.score for entry in book.assignment_submissions(CHAPTER)
                for notebook in entry.notebooks] and book.students


def test_a_copy_of_the_source_notebook_does_not_stop_the_export(graded, tmp_path, capsys):
    shutil.copytree(graded, tmp_path / "c")
    with open_gradebook(tmp_path / "c") as book:  # as a release of the copy notes it
        book.update_or_create_notebook(f"{CHAPTER}-Copy1", CHAPTER)
    assert {row["student"]: row["score"] for row in table(tmp_path / "c", capsys)}["right"] == "60"


def test_a_strict_run_does_not_keep_what_a_weaker_one_found(tmp_path, monkeypatch):
    generate(tmp_path, CHAPTER)
    folder = tmp_path / "submitted" / "jane" / CHAPTER
    folder.mkdir(parents=True)
    (folder / f"{CHAPTER}.ipynb").write_bytes(as_bytes(solved()))
    levels = []

    def counted(assignment, data, level):
        levels.append(level)
        from grading.grade import Outcome

        return Outcome(status=dict.fromkeys(assignment.tests, "passed"))

    monkeypatch.setattr("grading.grade.grade", counted)
    for level in ("process", "process", "strict", "strict", "process"):
        autograde(tmp_path, CHAPTER, isolation=level)
    assert levels == ["process", "strict"]
