"""Downloads as other people's tools and habits make them, through ``collect``."""

import json
import tracemalloc

import nbformat
import pytest

from grading import NOTEBOOKS, handed_in
from grading.__main__ import main
from lib import CourseError
from tests.grading.corpus import CHAPTER, as_bytes, generate, released
from tests.grading.test_download import zipped

CLASS = """\
id,first_name,last_name,email,lms_user_id
jdoe,Jane,Doe,jane@x.org,123
bs,Bob,Smith,bob.smith@x.org,77
ob,Sinéad,O'Brien,ob@x.org,90
ar,محمد,الأحمد,ar@x.org,92
hi,रामी,शर्मा,hi@x.org,93
w1,Wei,Zhang,w1@x.org,94
w2,Wei,Zhang,w2@x.org,95
zo,Zoë 🚀,50% Off,zo@x.org,96
"""


def notebook(who: str, **metadata) -> bytes:
    made = released()
    made.metadata.update(who=who, **metadata)
    return as_bytes(made)


@pytest.fixture
def collect(tmp_path, capsys):
    """Collects files, name -> bytes; gives whose each notebook became, and what was printed."""
    generate(tmp_path, CHAPTER)

    def collected(files: dict[str, bytes], class_list: str | None = CLASS,
                  days: dict[str, int] | None = None):
        (tmp_path / "d.zip").write_bytes(zipped(files, days))
        (tmp_path / "c.csv").write_text(class_list or "")
        known = ["--class-list", str(tmp_path / "c.csv")] if class_list else []
        code = main(["collect", CHAPTER, str(tmp_path / "d.zip"), *known, "--course",
                     str(tmp_path)])
        got = {path.parts[-3]: json.loads(path.read_bytes())["metadata"]["who"]
               for path in (tmp_path / "submitted").glob("*/*/*.ipynb")}
        assert code == (0 if got else 2)
        return got, "".join(capsys.readouterr())

    return collected


@pytest.mark.parametrize("name, student", [
    ("Jane Doe - Copy of 01_sentiment.ipynb", "jdoe"), ("bs/01_sentiment - Jane.ipynb", "bs"),
    ("bs/01_sentiment-DESKTOP-1ABC.ipynb", "bs"), ("Sinéad O’Brien - a.ipynb", "ob"),
    ("Sinéad OBrien_5_assignsubmission_file/a.ipynb", "ob"),
    ("Zoë 🚀 50% Off_7_assignsubmission_file/a%20b.ipynb", "zo"), ("zoë50off_96_1_a.ipynb", "zo"),
    ("\u200fمحمد الأحمد\u200f - a.ipynb", "ar"), ("रामी शर्मा - a.ipynb", "hi"),
    ("Doe, Jane/Untitled0.ipynb", "jdoe"), ("JANE DOE /01_sentiment.ipynb", "jdoe"),
    ("zhangwei_95_2_a.ipynb", "w2"), ("w1@x.org/a.ipynb", "w1"),
    ("smithbob_77_9_hw.zip/jdoe/01_sentiment.ipynb", "bs")])
def test_the_right_student_gets_it(collect, name, student):
    outer, zip_, inner = name.partition(".zip/")
    mine = notebook("this")
    got, _ = collect({outer + ".zip": zipped({inner: mine})} if zip_ else {name: mine})
    assert got == {student: "this"}


@pytest.mark.parametrize("name, said", [
    ("Wei Zhang - a.ipynb", "'Wei Zhang' fits no single student"),
    ("Wei Zhang_501_assignsubmission_file/a.ipynb", "'Wei Zhang' fits no single student"),
    ("01_sentiment - Jane Doe.ipynb", "'01_sentiment' fits no single student"),
    ("\u202eenaJ - a.ipynb", "fits no single student"),
    ("anon_AbC12_9_a.ipynb", "identities in Canvas"),
    ("Participant_9_assignsubmission_file/a.ipynb", "identities in Moodle"),
    ("/".join(["a"] * 3000 + ["x.ipynb"]), "'x' fits no single student"),
    ("jdoe/hw.rar", "jdoe: handed in hw.rar, no notebook"),
    ("doejane_123_text.html", "jdoe: handed in doejane_123_text.html, no notebook"),
    ("jdoe/01_sentiment.md", "handed in 01_sentiment.md"), ("jdoe/hw.zip", "handed in hw.zip")])
def test_what_is_nobodys_or_no_notebook_is_told_in_one_line(collect, name, said):
    got, printed = collect({name: notebook("this") if name.endswith("ipynb") else b"PK"})
    assert not got
    [line] = [line for line in printed.splitlines() if said in line]
    assert "\u202e" not in line, "a name must not turn the direction of the line"


@pytest.mark.parametrize("name, blind", [
    ("anon_AbC12_9_a.ipynb", True), ("Participant_9_assignsubmission_file_a.ipynb", True),
    ("Copy of 01_sentiment.ipynb", False), ("01_sentiment (1).ipynb", False)])
def test_without_a_class_list_no_student_is_made_of_what_names_none(collect, name, blind):
    got, printed = collect({name: notebook("this")}, None)
    assert not got and ("identities" if blind else "names no student") in printed


def test_a_group_on_canvas_is_told(collect):
    """Canvas writes the group's name and the number of one of its members."""
    got, printed = collect({"teama_123_9_a.ipynb": notebook("A"), "smithbob_77_9_a.ipynb":
                            notebook("B")})
    assert got == {"jdoe": "A", "bs": "B"}
    assert [line.split(":")[0] for line in printed.splitlines() if "'teama'" in line] == ["jdoe"]


def test_a_tutors_feedback_is_no_submission(collect):
    assert collect({f"HW/Doe, Jane(jdoe)/{kind} {of}(s)/{CHAPTER}.ipynb": notebook(kind)
                    for kind, of in (("Submission", "attachment"), ("Feedback", "Attachment"))}
                   )[0] == {"jdoe": "Submission"}


@pytest.mark.parametrize("more", [
    {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": "x" * 20 * 2**20}}},
    {"colab": {"provenance": [], "gpuType": "T4"}, "accelerator": "GPU"},
    {"jupytext": {"formats": "ipynb,py:percent"}}, {"vscode": {"interpreter": {"hash": "a"}}},
    {"deepnote_notebook_id": "a", "deepnote": {}}, {"kaggle": {"accelerator": "none"}}])
def test_what_editors_add_is_no_matter(collect, more):
    assert collect({"jdoe/Untitled0.ipynb": notebook("this", **more)})[0] == {"jdoe": "this"}


def test_the_last_upload_counts_and_a_later_one_in_another_format_is_told(collect):
    files = {f"doejane_123_{order}_a{copy}.ipynb": notebook(str(order))
             for order, copy in ((9, ""), (12, "-2"), (11, "-1"))}
    got, printed = collect(files | {"doejane_LATE_123_13_a-3.pdf": b"%PDF"})
    assert got == {"jdoe": "12"} and "a-3.pdf" in printed and printed.count("gives way") == 2


BRIGHTSPACE = "1-2 - Jane Doe - Nov {}, 2026 1005 AM/{}.ipynb"


@pytest.mark.parametrize("first, last", [
    (f"hw_jdoe_attempt_2026-11-20-10-00-00_{CHAPTER}.ipynb",
     "hw_jdoe_attempt_2026-11-25-10-00-00_x.ipynb"),
    (f"doejane_123_9_{CHAPTER}.ipynb", "doejane_123_15_final.ipynb"),
    (BRIGHTSPACE.format(20, CHAPTER), BRIGHTSPACE.format(25, "Untitled")),
    (f"Jane Doe_5_assignsubmission_file_/{CHAPTER}.ipynb",
     "Jane Doe_5_assignsubmission_file_/final.ipynb"),
    (f"jdoe/{CHAPTER} (7).ipynb", "jdoe/mine.ipynb"), ("jdoe/b.ipynb", f"jdoe/{CHAPTER}.ipynb")])
def test_the_later_one_counts_whatever_its_name(collect, first, last):
    got, printed = collect({first: notebook("first"), last: notebook("last")}, days={last: 25})
    assert got == {"jdoe": "last"} and printed.count("gives way") == 1


SCRATCH = as_bytes(nbformat.v4.new_notebook(metadata={"who": "scratch"}, cells=[
    nbformat.v4.new_code_cell("print(1)")]))


@pytest.mark.parametrize("other", ["Untitled.ipynb", f"{CHAPTER}.ipynb", f"{CHAPTER} (9).ipynb"])
def test_the_one_with_the_assignments_cells_counts_before_a_later_one(collect, other):
    got, printed = collect({"jdoe/mine.ipynb": notebook("mine"), f"jdoe/{other}": SCRATCH},
                           days={f"jdoe/{other}": 25})
    assert got == {"jdoe": "mine"} and f"jdoe/{other} gives way" in printed


def test_another_chapters_notebook_is_named_and_gives_way(collect):
    other = (NOTEBOOKS / "02_grpo.ipynb").read_bytes()
    got, printed = collect({"jdoe/a.ipynb": notebook("J"), "jdoe/b.ipynb": other,
                            f"bs/{CHAPTER}.ipynb": other}, days={"jdoe/b.ipynb": 25})
    assert got == {"jdoe": "J"} and f"this is 02_grpo, not {CHAPTER}; not collected" in printed


def test_two_owners_for_one_student_are_both_named_and_neither_is_taken(collect):
    got, printed = collect({"Jane Doe - a.ipynb": notebook("1"), "jdoe/a.ipynb": notebook("2"),
                            "Bob Smith - a.ipynb": notebook("B")})
    assert got == {"bs": "B"} and "'Jane Doe - a.ipynb' and 'jdoe' would both go" in printed


def test_attempts_compete_inside_one_owner_only(collect):
    got, _ = collect({"doejane_123_9_a.ipynb": notebook("J 9"), "smithbob_77_8_a.ipynb":
                      notebook("B 8"), "doejane_123_7_a-9.ipynb": notebook("J 7")})
    assert got == {"jdoe": "J 9", "bs": "B 8"}


def test_each_file_of_a_mixed_download_has_a_layout_of_its_own(collect):
    assert collect({"doejane_123_9_a.ipynb": notebook("J"), "ob@x.org - a.ipynb": notebook("O"),
                    "Bob Smith_5_assignsubmission_file_/a.ipynb": notebook("B"),
                    "41-42 - Zoë 🚀 50% Off - Nov 20, 2026 1005 AM/a.ipynb": notebook("Z")})[0] == {
                        "jdoe": "J", "bs": "B", "ob": "O", "zo": "Z"}


def test_a_clock_that_a_student_packed_is_not_believed(collect, tmp_path):
    for folder in ("jdoe", "Bob Smith_5_assignsubmission_file_", "w1/sub"):
        collect({f"{folder}/a.ipynb": notebook("x"), f"{folder}/timestamp.txt": b"2020-01-01",
                 f"{folder}/submission_secret.txt": b"x"})
    told = {path.name for path in (tmp_path / "submitted").glob("*/*/*")}
    assert not {path for path in (tmp_path / "submitted").rglob("timestamp.txt")
                if "2020" in path.read_text()} and "submission_secret.txt" not in told


def test_of_two_of_the_same_time_the_one_with_the_assignments_name(collect):
    assert collect({"jdoe/zz.ipynb": notebook("zz"), f"jdoe/{CHAPTER}.ipynb": notebook("named")}
                   )[0] == {"jdoe": "named"}


@pytest.mark.parametrize("day", [10, 20, 25, 0])
def test_an_answer_comes_before_a_notebook_as_it_was_handed_out(collect, day):
    blank, answered = released(), released()
    blank.metadata["who"], answered.metadata["who"] = "blank", "answered"
    next(c for c in answered.cells if c.id == "ex1").source = "def sentiment_reward(): return 1"
    named = f"jdoe/{CHAPTER}.ipynb"
    assert collect({named: as_bytes(blank), "jdoe/mine.ipynb": as_bytes(answered)},
                   days={named: day})[0] == {"jdoe": "answered"}


def test_what_was_collected_is_replaced_by_nothing_older_and_by_nothing_without_a_word(collect):
    for day, who, wins, said in ((25, "new", "new", ""), (20, "old", "new", "is older than"),
                                 (0, "undated", "undated", "has no date; it took the place"),
                                 (0, "undated", "undated", "")):
        got, printed = collect({"jdoe/a.ipynb": notebook(who), "bs/a.ipynb": notebook("B")},
                               days={"jdoe/a.ipynb": day})
        assert got["jdoe"] == wins and said in printed
        assert ("older" in printed or "no date" in printed) == bool(said)


def test_a_zip_that_holds_gigabytes_is_looked_at_in_part(collect, tmp_path):
    """A notebook of 30 MB of blanks takes 30 kB in a zip; all of them at once took the memory."""
    large = b" " * 30 * 2**20
    bomb = zipped({f"{i:03}.ipynb": large + notebook(str(i)) for i in range(7)})
    one = b'{"metadata": {"who": "B"}, "cells": [{"cell_type": "code", "source": "x"}]}'
    many = zipped({f"{i:03}.ipynb": one for i in range(300)})
    tracemalloc.start()
    got, printed = collect({"jdoe.zip": bomb, "bs.zip": many, "ob/a.ipynb": notebook("O")})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got["ob"] == "O" and got["jdoe"] == "6" and peak < 300 * 2**20
    assert printed.count("of this student; 200 files or 128 MiB are looked at") == 2


def test_an_empty_folder_is_nothing_handed_in(collect):
    got, printed = collect({"jdoe/": b"", "bs/a.ipynb": notebook("B")})
    assert got == {"bs": "B"} and "jdoe: nothing handed in" in printed


def gradescope(*people: tuple[str, str, str], more: str = "") -> str:
    """The table of an export, one hand-in for each (name, number, address)."""
    return "---\n" + "".join(
        f"submission_{100 + n}:\n  :submitters:\n  - :name: {name}\n    :sid: '{sid}'\n"
        f"    :email: {email}\n  :created_at: 2026-11-2{n} 10:00:00.000000000 Z\n"
        for n, (name, sid, email) in enumerate(people)) + more


@pytest.mark.parametrize("person, student", [
    (("J. Doe", "jdoe", "none@x.org"), "jdoe"), (("J. Doe", "", "jane@x.org"), "jdoe"),
    (("Jane Doe", "4711", "none@x.org"), "jdoe"), (("Jane Doe", "bs", "jane@x.org"), "bs"),
    (("Jane Doe", "", "bob.smith@x.org"), "bs")])
def test_gradescopes_table_says_whose_a_folder_is(collect, tmp_path, person, student):
    """Its number, then its address, then its name; never what stands in the folder."""
    got, _ = collect({"assignment_7_export/submission_metadata.yml": gradescope(person),
                      "assignment_7_export/submission_100/ob.ipynb": notebook("this")})
    assert got == {student: "this"}
    assert (tmp_path / "submitted" / student / CHAPTER / "timestamp.txt").read_text() == \
        "2026-11-20 10:00:00 UTC\n"


def test_gradescope_without_a_class_list(collect):
    two = gradescope(("Jane Doe", "1", "a@x.org"), ("Bob Smith", "2", "b@x.org"))
    assert collect({"submission_metadata.yml": two, "submission_100/a.ipynb": notebook("J"),
                    "submission_101/a.ipynb": notebook("B")}, None)[0] == {
                        "jane_doe": "J", "bob_smith": "B"}


PAIR = "\nsubmission_200:\n  :submitters:\n" + "".join(
    f"  - :name: {name}\n    :sid: {sid}\n    :email: x\n"
    for name, sid in (("Jane Doe", "jdoe"), ("Bob Smith", "bs")))


@pytest.mark.parametrize("table, where, said", [
    (gradescope(more=PAIR), "submission_200/jdoe.ipynb", "'Jane Doe and Bob Smith' fits no single"),
    (gradescope(("X", "", "")), "submission_100/jdoe.ipynb", "'X' fits no single student"),
    ("- [1", "submission_100/jdoe.ipynb", "no table as Gradescope writes it"),
    ("a: 1", "submission_100/jdoe.ipynb", "no table as Gradescope writes it")])
def test_what_gradescopes_table_does_not_say_is_not_guessed(collect, table, where, said):
    got, printed = collect({"submission_metadata.yml": table, where: notebook("this")})
    assert not got and said in printed


def test_a_students_own_table_says_nothing(collect):
    """Only the one that stands above all files is Gradescope's."""
    lie = gradescope(("Jane Doe", "jdoe", "jane@x.org"))
    got, _ = collect({"bs/submission_metadata.yml": lie, "bs/submission_100/a.ipynb": notebook("B"),
                      "w1/a.ipynb": notebook("W")})
    assert got == {"bs": "B", "w1": "W"}


@pytest.mark.parametrize("late", ["Late Submission", "Verspaetete Abgabe", "Verspätete Abgabe"])
def test_ilias_says_what_is_late_before_a_files_name(collect, tmp_path, late):
    """copySubmissionFilesToDir in https://github.com/ILIAS-eLearning/ILIAS, components/ILIAS/
    Exercise, in the language of who downloads.
    """
    got, printed = collect({
        f"Doe_Jane_jdoe_4711/{late} - {CHAPTER}.ipynb": notebook("J"),
        f"Doe_Jane_jdoe_4711/{late} - helper.py": b"x = 1",
        f"Smith_Bob_bs_4712/{CHAPTER}.ipynb": notebook("B"),
        f"Wei Zhang_5_assignsubmission_file/{late} - w1.ipynb": notebook("its student's own word")})
    assert got == {"jdoe": "J", "bs": "B"}
    assert "jdoe: late, says the platform" in printed and printed.count("late, says") == 1
    assert (tmp_path / "submitted" / "jdoe" / CHAPTER / "helper.py").read_bytes() == b"x = 1"


@pytest.mark.parametrize("above", ["", "HW1/", "HW1/Submitted files/", "a/b/c/"])
def test_folders_in_a_folder_are_students_without_a_class_list_too(collect, above):
    """Teams: a folder a student, below which one for each attempt."""
    got, _ = collect({f"{above}{who}/Version {n}/a.ipynb": notebook(f"{who} {n}")
                      for who, last in (("Jane Doe", 11), ("Bob Smith", 2))
                      for n in range(1, last + 1)}, None)
    assert got == {"jane_doe": "Jane Doe 11", "bob_smith": "Bob Smith 2"}


def test_one_folder_without_a_class_list_is_told_for_what_it_is_taken(collect):
    got, printed = collect({"HW/a_Jane.ipynb": notebook("J"), "HW/b_Bob.ipynb": notebook("B")},
                           None)
    assert list(got) == ["hw"] and "hw: all files were taken for one student's" in printed
    _, printed = collect({f"{who}/a.ipynb": notebook(who) for who in ("jdoe", "bs")}, None)
    assert "were taken" not in printed


@pytest.mark.parametrize("page, beside", [
    ("index.html", "1-2 - Jane Doe - Nov 20, 2026 1005 AM/a.ipynb"),
    ("grades.csv", "Doe, Jane(jdoe)/Submission attachment(s)/a.ipynb"),
    ("status.xlsx", "Doe_Jane_jdoe_4711/a.ipynb")])
def test_a_platforms_own_pages_are_no_students(collect, page, beside):
    got, printed = collect({page: b"<p>", beside: notebook("J")}, None)
    assert list(got.values()) == ["J"] and f"{page}: is no notebook, and nobody's" in printed


@pytest.mark.parametrize("name", ["01_sentiment (1) - Jane Doe.ipynb",
                                  "01_sentiment - Jane Doe.ipynb", "01_sentiment-2 - J.ipynb"])
def test_a_name_behind_the_notebooks_own_is_not_taken_for_a_student(collect, name):
    """As Google Forms names what is uploaded; in Classroom the student stands before it."""
    for class_list in (CLASS, None):
        assert not collect({name: notebook("J")}, class_list)[0]


def test_what_came_through_the_exchange_keeps_its_times(tmp_path, capsys):
    """A renamed notebook is named by autograde; collect then takes it, and leaves the clock."""
    generate(tmp_path, CHAPTER)
    folder = tmp_path / "submitted" / "jdoe" / CHAPTER
    folder.mkdir(parents=True)
    (folder / "my homework (2).ipynb").write_bytes(notebook("jane"))
    for name in handed_in.EXCHANGE:
        (folder / name).write_text("2026-11-27 10:00:00 UTC")
    with pytest.raises(CourseError, match=r"but 'my homework \(2\).ipynb'; `grading collect`"):
        handed_in.read_bytes(folder / f"{CHAPTER}.ipynb")
    (tmp_path / "c.csv").write_text(CLASS)
    assert main(["collect", CHAPTER, str(tmp_path / "submitted"), "--class-list",
                 str(tmp_path / "c.csv"), "--due", "2026-11-26T00:00", "--course",
                 str(tmp_path)]) == 0
    said = "".join(capsys.readouterr())
    assert "timestamp" not in said and "does not say" not in said
    assert (folder / f"{CHAPTER}.ipynb").read_bytes() == notebook("jane")
    assert (folder / "timestamp.txt").read_text() == "2026-11-27 10:00:00 UTC"
    with pytest.raises(CourseError, match=f"no file {CHAPTER}.ipynb$"):
        handed_in.read_bytes(tmp_path / "submitted" / "bs" / CHAPTER / f"{CHAPTER}.ipynb")
