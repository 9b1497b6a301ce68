"""The table of grades: whom it holds, what it leaves empty, and a gradebook in trouble."""

import csv
import io
import json
import re
import shutil
import sqlite3
from functools import partial

import pytest

from grading.__main__ import main
from grading.autograde import autograde, report
from grading.export import _cell
from grading.feedback import feedback
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


def test_feedback_of_what_is_not_graded_names_no_points(graded):
    pages = {page.parent.parent.name: page for page in feedback(graded, CHAPTER)}
    text, noted = pages["cut"].read_text(), json.loads(
        pages["cut"].with_suffix(".json").read_text())
    assert "nothing could be graded" in text and "cut off" in text and "of 80" not in text
    assert noted["score"] is None and noted["exercises"] == []


def test_an_exercise_left_as_it_was_is_told_once(graded, tmp_path, capsys):
    course = tmp_path / "course"
    shutil.copytree(graded, course)
    released = course / "release" / CHAPTER / f"{CHAPTER}.ipynb"
    hand_in(course, {"blank": released.read_bytes()})
    told = report(autograde(course, CHAPTER, ["blank"]))
    assert "by hand" not in told and "not solved: Exercise 1" in told
    [page] = feedback(course, CHAPTER, ["blank"])
    remarks = [row["remark"] for row in json.loads(page.with_suffix(".json").read_text())[
        "exercises"]]
    assert set(remarks) == {"not solved yet", "No response."}  # exercises, and questions


def test_points_by_hand_count_where_nothing_else_could_be_graded(graded, tmp_path, capsys):
    shutil.copytree(graded, tmp_path / "c")
    with open_gradebook(tmp_path / "c") as book:
        entry = book.find_submission_notebook(CHAPTER, CHAPTER, "cut")
        next(g for g in entry.grades if g.name == "q1").manual_score = 3
        book.db.commit()
    assert {"cut": "3"}.items() <= {r["student"]: r["score"]
                                    for r in table(tmp_path / "c", capsys)}.items()


def with_class_list(tmp_path, *ids: str) -> list[str]:
    """A download and a class list, as arguments of collect."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "right.ipynb").write_bytes(as_bytes(solved()))
    (tmp_path / "c.csv").write_text("id,first_name\n" + "".join(f"{i},A\n" for i in ids))
    return [str(tmp_path / "d"), "--class-list", str(tmp_path / "c.csv")]


READS = ("export", "feedback")
WRITES = ("collect", "autograde")


@pytest.mark.parametrize("lock, refused", [
    (["BEGIN EXCLUSIVE"], READS + WRITES), (["BEGIN IMMEDIATE"], WRITES),
    (["BEGIN", "SELECT * FROM student"], WRITES)])
def test_a_locked_gradebook_is_one_line(graded, tmp_path, capsys, monkeypatch, lock, refused):
    # SQLite's own patience is five seconds a refusal.
    monkeypatch.setattr("sqlite3.dbapi2.connect", partial(sqlite3.connect, timeout=0.2))
    shutil.copytree(graded, tmp_path / "c")
    more = {"autograde": ["--regrade", "--student", "cut", "--workers", "1"],
            "collect": with_class_list(tmp_path, "right", "new")}
    other = sqlite3.connect(tmp_path / "c" / "gradebook.db", isolation_level=None)
    for statement in lock:
        other.execute(statement).fetchall()
    for verb in READS + WRITES:
        code = main([verb, CHAPTER, *more.get(verb, []), "--course", str(tmp_path / "c")])
        told = capsys.readouterr().err.splitlines()
        assert code == (2 if verb in refused else 0), verb
        if verb in refused:
            assert [line for line in told if "grade:" not in line] == [
                f"error: {tmp_path}/c/gradebook.db is in use by another program; close it and try "
                "again"], verb
    other.close()


def test_a_row_that_cannot_be_written_is_told_and_the_others_are(tmp_path, capsys):
    generate(tmp_path, CHAPTER)
    for student in ("ann", "bob", "cai"):
        (tmp_path / "submitted" / student / CHAPTER).mkdir(parents=True)
    with sqlite3.connect(tmp_path / "gradebook.db") as database:
        database.execute("CREATE TRIGGER t BEFORE INSERT ON student WHEN NEW.id = 'bob' "
                         "BEGIN SELECT RAISE(ABORT, 'a bad row'); END")
    course = ["--course", str(tmp_path)]
    assert main(["autograde", CHAPTER, "--workers", "1", *course]) == 2
    told = capsys.readouterr()
    assert "bob: not recorded: a bad row\n" in told.out
    assert told.err.splitlines()[-1] == \
        "error: graded, but not recorded: bob; run autograde again"
    assert "Traceback" not in told.err
    with open_gradebook(tmp_path) as book:
        assert {entry.student.id for entry in book.assignment_submissions(CHAPTER)} == {
            "ann", "cai"}
    assert main(["collect", CHAPTER, *with_class_list(tmp_path, "bob"), *course]) == 2
    assert capsys.readouterr().err.endswith("gradebook.db cannot be used: a bad row\n")


@pytest.mark.parametrize("verb", ["export", "collect"])
def test_an_empty_gradebook_is_told(graded, tmp_path, capsys, verb):
    shutil.copytree(graded, tmp_path / "c")
    (tmp_path / "c" / "gradebook.db").write_bytes(b"")
    more = with_class_list(tmp_path, "right") if verb == "collect" else []
    assert main([verb, CHAPTER, *more, "--course", str(tmp_path / "c")]) == 2
    assert f"run python -m grading release {CHAPTER}" in capsys.readouterr().err


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
