"""Downloads as other people's tools and habits make them, through ``collect``."""

import json

import pytest

from grading.__main__ import main
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

    def collected(files: dict[str, bytes], class_list: str | None = CLASS):
        (tmp_path / "d.zip").write_bytes(zipped(files))
        (tmp_path / "c.csv").write_text(class_list or "")
        known = ["--class-list", str(tmp_path / "c.csv")] if class_list else []
        code = main(["collect", CHAPTER, str(tmp_path / "d.zip"), *known, "--course",
                     str(tmp_path)])
        got = {path.parts[-3]: json.loads(path.read_bytes())["metadata"]["who"]
               for path in (tmp_path / "submitted").glob("*/*/*.ipynb")}
        assert code == (0 if got else 2)
        return got, capsys.readouterr().out

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


def test_an_empty_folder_is_nothing_handed_in(collect):
    got, printed = collect({"jdoe/": b"", "bs/a.ipynb": notebook("B")})
    assert got == {"bs": "B"} and "jdoe: nothing handed in" in printed
