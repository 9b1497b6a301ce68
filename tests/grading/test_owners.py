"""Whose a file is, by the names that platforms write; a student's own words never decide."""

import codecs

import pytest

from grading.class_list import key, read_class_list
from grading.download import File
from grading.owners import Roster, claim, owned
from lib import CourseError

ROWS = [dict(zip(("id", "first_name", "last_name", "email", "lms_user_id"), row, strict=True))
        for row in (("jdoe", "Jane", "Doe", "jane@x.org", "123"),
                    ("bs", "Bob", "Smith", "bob.smith@x.org", "77"),
                    ("jm", "José", "Muñoz", "jm@x.org", "88"),
                    ("lena", "Lena", "Weiß", "lw@x.org", ""))]


def owners(*paths: str, roster=True) -> list[str | None]:
    """The owner of each path, as a student's id, or its label without a class list."""
    known = Roster(ROWS) if roster else None
    found = {item.file.path: known.student(item.claim) if known else item.claim.label
             for item in owned([File(tuple(p.split("/")), None, bytes) for p in paths], known)}
    return [found[path] for path in paths]


@pytest.mark.parametrize("path, who", [
    ("doejane_123_9_a.ipynb", "jdoe"), ("doejane_LATE_123_9_a.ipynb", "jdoe"),
    ("whatever_77_9_hw.zip/a.ipynb", "bs"), ("section/munozjose_88_1_a.ipynb", "jm"),
    ("Jane Doe_77_assignsubmission_file_/a.ipynb", "jdoe"),  # Moodle's 77 is nobody's on Canvas
    ("Bob Smith_123_assignsubmission_file_a.ipynb", "bs"),
    ("Bob Smith_123_assignsubmission_onlinetext_/onlinetext.html", "bs"),
    ("Team A-Jane Doe_5_assignsubmission_file/a.ipynb", "jdoe"),
    ("hw1_jdoe_attempt_2026-11-20-10-00-00_a.ipynb", "jdoe"),
    ("41-42 - Jane Doe - Nov 20, 2026 1005 AM/a.ipynb", "jdoe"),
    ("41-42 - Jane Doe - Nov 20, 2026 905 PM - a.ipynb", "jdoe"),
    ("Doe_Jane_jdoe_4711/a.ipynb", "jdoe"), ("Jane Doe - a (1).ipynb", "jdoe"),
    ("hw/jdoe/01/a.ipynb", "jdoe"), ("JDOE/a.ipynb", "jdoe"),
    ("Jose\u0301 Mun\u0303oz - a.ipynb", "jm"), ("ＪＡＮＥ DOE - a.ipynb", "jdoe"),
    ("LENA WEISS - a.ipynb", "lena"), ("bob.smith@x.org/a.ipynb", "bs")])
def test_names_of_platforms(path, who):
    assert owners(path) == [who]


@pytest.mark.parametrize("path, not_whose", [
    ("Bob Smith_5_assignsubmission_file_/Jane Doe - a.ipynb", "jdoe"),
    ("smithbob_77_9_hw.zip/jdoe/a.ipynb", "jdoe"),
    ("smithbob_77_9_hw.zip/Jane Doe_1_assignsubmission_file_/a.ipynb", "jdoe"),
    ("smithbob_77_9_jdoe_attempt_2026-11-20-10-00-00_a.ipynb", "jdoe"),
    ("smithbob_77_9_x 1-Jane Doe_5_assignsubmission_file_a.ipynb", "jdoe"),
    ("Bob Smith - hw_jdoe_attempt_2026-11-20-10-00-00.ipynb", "jdoe"),
    ("Bob Smith - x 1-Jane Doe_5_assignsubmission_file_.ipynb", "jdoe"),
    ("Bob Smith - doejane_123_9_a.ipynb", "jdoe"),
    ("41-42 - Bob Smith - Nov 20, 2026 1005 AM/41-43 - Jane Doe - Nov 20, 2026 1005 AM/a.ipynb",
     "jdoe"), ("bs/jdoe/a.ipynb", "jdoe")])
def test_what_a_student_wrote_hands_nothing_to_another(path, not_whose):
    assert owners(path) == ["bs"] and not_whose != "bs"


@pytest.mark.parametrize("path", [
    "Zed Nobody_5_assignsubmission_file_/jdoe/a.ipynb", "nobodyzed_999_9_hw.zip/jdoe/a.ipynb",
    "doejane_999_9_a.ipynb", "Anna-Lena Weiß_5_assignsubmission_file_/a.ipynb",
    "Participant_502_assignsubmission_file/Jane Doe - a.ipynb"])
def test_nobody_known_is_nobody(path):
    """Also a namesake whose number on Canvas is another, and half of a double name."""
    assert owners(path) == [None]


def test_an_unknown_folder_beside_a_students_is_nobodys():
    assert owners("bs/a.ipynb", "zed/jdoe/a.ipynb", "doejane_123_9_a.ipynb") == [
        "bs", None, "jdoe"]


@pytest.mark.parametrize("paths, who", [
    (["jdoe/a.ipynb"], ["jdoe"]), (["hw/jdoe/a.ipynb", "hw/bs/a.ipynb"], ["jdoe", "bs"]),
    (["jdoe/01/a.ipynb", "bs/a.ipynb"], ["jdoe", "bs"]), (["jdoe/01/a.ipynb"], ["jdoe"]),
    (["a/doejane_1_9_x.ipynb", "b/smithbob_2_9_x.ipynb"], ["doejane", "smithbob"]),
    (["jdoe.ipynb", "bs (1).ipynb"], ["jdoe", "bs"])])
def test_without_a_class_list(paths, who):
    assert owners(*paths, roster=False) == who


def test_two_names_that_look_alike_are_one_and_others_are_not():
    assert key("Jose\u0301 ＭUN\u0303OZ") == key("josé muñoz") != key("jose munoz")
    assert key("रामी") != key("रम"), "the marks of a script are part of a name"


def test_times_and_attempts_that_a_platform_says():
    said = claim("hw_jdoe_attempt_2026-11-20-22-05-00_a.ipynb", True)
    assert (said.when.hour, said.when.minute) == (22, 5)
    assert claim("41-42 - J D - Nov 20, 2026 1005 PM", False).when == said.when
    assert claim("doejane_LATE_1_9_a-1.ipynb", True).late
    assert claim("jdoe", False).when is None


HEAD = "id,first_name,last_name,email,lms_user_id\n"
JOSE = "jm,José,Muñoz,jm@x.org,88\n"


@pytest.mark.parametrize("data", [
    (HEAD + JOSE).encode(), (HEAD + JOSE).encode("utf-8-sig"), (HEAD + JOSE).encode("cp1252"),
    codecs.BOM_UTF16_LE + (HEAD + JOSE).encode("utf-16-le"),
    (HEAD + JOSE).replace(",", ";").encode(), (HEAD + JOSE).replace(",", "\t").encode(),
    (HEAD + JOSE).replace(",", ", ").encode(), (HEAD + JOSE + ",,,,\n\n , ,,,\n").encode(),
    (HEAD.upper() + JOSE).encode(), (HEAD + JOSE).replace("\n", "\r\n").encode(),
    (HEAD + "jm,\"José\",\"Muñoz\",jm@x.org,88").encode()])
def test_class_lists_as_programs_write_them(tmp_path, data):
    (tmp_path / "c.csv").write_bytes(data)
    assert read_class_list(tmp_path / "c.csv") == [ROWS[2]]


@pytest.mark.parametrize("rows, row", [
    ("jm,a,b,c,1\njm,d,e,f,2\n", "row 3: the id jm is there twice, first in row 2"),
    ("jm,a,b,c,1\nJM,d,e,f,2\n", "row 3: the id JM is there twice"),
    ("jm,a,b,c,1\nbs,d,e,f,1\n", "row 3: the lms_user_id 1 is there twice"),
    ("jm,a,b,c,1\n\n,d,e,f,2\n", "row 4: '' is no id"), ("../x,a,b,c,1\n", "row 2: '../x'"),
    ("jm,Muñoz, Jr,b,c,1\n", "row 2: more fields")])
def test_a_class_list_that_cannot_be_right_names_the_row(tmp_path, rows, row):
    (tmp_path / "c.csv").write_text(HEAD + rows)
    with pytest.raises(CourseError) as error:
        read_class_list(tmp_path / "c.csv")
    assert row in str(error.value)
