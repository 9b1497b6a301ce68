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
                    ("lena", "Lena", "Weiß", "l_w@x.org", ""))]


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


@pytest.mark.parametrize("path, who", [
    ("HW 1/Doe, Jane(jdoe)/Submission attachment(s)/a.ipynb", "jdoe"),
    ("HW 1/Doe,(jdoe)/Submission attachment(s)/a.ipynb", "jdoe"),
    ("HW 1/Doe, Jane(jdoe)_Submission attachment(s)_bs_attempt_2026-11-20-10-00-00_a.ipynb",
     "jdoe"), ("HW 1/Doe, Jane(jdoe)_submissionText.html", "jdoe")])
def test_sakai(path, who):
    """zipSubmissions in https://github.com/sakaiproject/sakai/tree/master/assignment, with folders
    and without.
    """
    assert owners(path) == [who]


@pytest.mark.parametrize("path, who", [
    ("29341-148371 - Jane Doe- Oct 8, 2026 1030 AM - a.ipynb", "jdoe"),
    ("123456-54321 - N0123456 - Bob Smith- Oct 8, 2026 930 AM - a.ipynb", "bs"),
    ("123456-54321 - N0123456 - Bob Smith - Oct 8, 2026 9:30 AM/Jane Doe.ipynb", "bs")])
def test_brightspace(path, who):
    """https://github.com/cgmb/d2lmf/blob/master/d2lmf/d2lmf.py: number, name, time with a colon."""
    assert owners(path) == [who]
    assert claim(path.split("/")[0], True).when.hour in (9, 10)


@pytest.mark.parametrize("path, who", [
    ("Team 12/Doe_Jane_jdoe_4711/a.ipynb", "jdoe"), ("Munoz_Jose_jm@x.org_4713/a.ipynb", "jm"),
    ("______ _______bs_4713/a.ipynb", "bs"), ("Weis_Lena_l_w@x.org_4713/a.ipynb", "lena"),
    ("Abgaben/Team 7/Smith_Bob_bs_1/Doe_Jane_jdoe_4711/a.ipynb", "bs")])
def test_ilias(path, who):
    """downloadAllAssignmentFiles in https://github.com/ILIAS-eLearning/ILIAS,
    Modules/Exercise/classes/class.ilExSubmission.php: last and first name, login, number, and "_"
    for what is not ASCII.
    """
    assert owners(path) == [who]


@pytest.mark.parametrize("path, who", [
    ("doejane_123_text.html", "jdoe"), ("doejane_LATE_123_link.html", "jdoe"),
    ("anon_AbC12_9_a.ipynb", None), ("LATE_anon_AbC12_9_jdoe.ipynb", None),
    ("anon_AbC12_text.html", None)])
def test_canvas(path, who):
    """https://github.com/instructure/canvas-lms/blob/master/lib/content_zipper.rb"""
    assert owners(path) == [who]
    assert claim(path, True).kind == "canvas" and claim(path, True).blind == (who is None)


@pytest.mark.parametrize("path, who", [
    ("Jane Doe_501_assignsubmission_file/sub/a.ipynb", "jdoe"),
    ("Jane Doe_501_assignsubmission_file_bs_1_assignsubmission_file_a.ipynb", "jdoe"),
    ("Jane Doe_501_assignsubmission_onlinetext/onlinetext.html", "jdoe"),
    ("Team A_12_assignsubmission_file/bs.ipynb", None),
    ("Default group_assignsubmission_file/bs.ipynb", None),
    ("Participant_502_assignsubmission_file_bs.ipynb", None)])
def test_moodle(path, who):
    """https://github.com/moodle/moodle/blob/main/mod/assign/classes/downloader.php"""
    assert owners(path) == [who]


def test_blackboard_numbers_are_not_canvass():
    """https://github.com/kwurst/bb-file-cleanup: assignment, login, "attempt", time, file."""
    paths = [f"HW_1_{login}_attempt_2026-11-20-10-00-00_a.ipynb" for login in (123, 77)]
    assert owners(*paths, roster=False) == ["HW_1_123", "HW_1_77"]
    assert owners(*paths) == [None, None]


@pytest.mark.parametrize("path, who", [
    ("Copy of Jane Doe - a.ipynb", "jdoe"), ("Jane Doe - Copy of Bob Smith.ipynb", "jdoe"),
    ("Kopie von jdoe.ipynb", "jdoe"), ("jdoe/Copy of bs.ipynb", "jdoe")])
def test_copies_that_drive_makes(path, who):
    assert owners(path) == [who]


@pytest.mark.parametrize("first, second", [
    ("Jane Doe [4711]/bs.ipynb", "Bob Smith [4712]/a.ipynb"),
    ("4711 Jane/bs/a.ipynb", "4712 Bob/jdoe/a.ipynb"),
    ("x1/Bob Smith - a.ipynb", "x2/a.ipynb"), ("HW/x1/bs.ipynb", "HW/x2/b.ipynb")])
def test_folders_of_no_known_form_are_nobodys(first, second):
    """What a student wrote within them is no evidence."""
    assert owners(first, second) == [None, None]


def test_sections_are_no_students():
    assert owners("a/jdoe.ipynb", "a/bs.ipynb", "b/jm.ipynb") == ["jdoe", "bs", "jm"]


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
    "lw@x.org - a.ipynb", "bobsmith@x.org/a.ipynb",  # alike but for a mark: other people's
    "doejane_999_9_a.ipynb", "Anna-Lena Weiß_5_assignsubmission_file_/a.ipynb",
    "Participant_502_assignsubmission_file/Jane Doe - a.ipynb"])
def test_nobody_known_is_nobody(path):
    """Also a namesake whose number on Canvas is another, and half of a double name."""
    assert owners(path) == [None]


def test_an_unknown_folder_beside_a_students_is_nobodys():
    assert owners("bs/a.ipynb", "zed/jdoe/a.ipynb", "doejane_123_9_a.ipynb") == [
        "bs", None, "jdoe"]


@pytest.mark.parametrize("nobodys, beside", [
    ("Zed Zulu - hw.zip/jdoe/a.ipynb", ["Bob Smith - a.ipynb"]),
    ("Zed Zulu - hw.zip/Jane Doe - a.ipynb", ["Bob Smith - a.ipynb", "Jane Doe - a.ipynb"]),
    ("zed/jdoe.ipynb", ["bs.ipynb"]), ("zed/jdoe.ipynb", ["smithbob_77_9_a.ipynb"]),
    ("zed/jdoe.ipynb", ["Bob Smith_5_assignsubmission_file_/a.ipynb"]),
    ("S2/zed/jdoe/a.ipynb", ["S1/bs/a.ipynb", "S1/jm/a.ipynb"]),
    ("S2/zed/hw.zip/Jane Doe - a.ipynb", ["S1/bs/a.ipynb", "S1/jm/a.ipynb"])])
def test_beside_students_an_unknown_folder_is_nobodys(nobodys, beside):
    """Whoever is named in it, and whatever the others of its level are, folders or files."""
    whose = owners(nobodys, *beside)
    assert whose[0] is None and whose[1:] == owners(*beside) and None not in whose[1:]


@pytest.mark.parametrize("paths", [
    ["S1/bs/a.ipynb", "S1/jm/a.ipynb", "S2/jdoe/a.ipynb"],
    ["a/bs.ipynb", "a/jm.ipynb", "jdoe.ipynb"],
    ["hw/S1/bs.ipynb", "hw/S1/jm.ipynb", "hw/S2/jdoe.ipynb", "hw/S2/lena.ipynb"]])
def test_beside_students_a_section_is_none(paths):
    assert None not in owners(*paths)


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
    (HEAD + "jm,\"José\",\"Muñoz\",jm@x.org,88").encode(), ("sep=,\r\n" + HEAD + JOSE).encode(),
    (HEAD.strip() + ",,\n" + JOSE.strip() + ",,\n").encode()])
def test_class_lists_as_programs_write_them(tmp_path, data):
    (tmp_path / "c.csv").write_bytes(data)
    assert read_class_list(tmp_path / "c.csv") == [ROWS[2]]


@pytest.mark.parametrize("text, lost", [
    ("Student,ID,SIS User ID,SIS Login ID,Section,HW (12)\n,,,,,Manual Posting\n"
     '    Points Possible,,,,,60\n"Muñoz, José",88,s1,jm,A,\n"Student, Test",9,,4f3a,A,\n',
     {"email"}),
    ("First name,Last name,ID number,Institution,Email address,Course total\n"
     "José,Muñoz,jm,,jm@x.org,-\n", {"lms_user_id"}),
    ("First name,Surname,Username,Email address\nJosé,Muñoz,jm,jm@x.org\n", {"lms_user_id"})])
def test_tables_that_platforms_export(tmp_path, text, lost):
    (tmp_path / "c.csv").write_text(text)
    assert read_class_list(tmp_path / "c.csv") == [ROWS[2] | dict.fromkeys(lost, "")]


@pytest.mark.parametrize("text", [
    "Identifier,Full name,Email address\nParticipant 501,Jane Doe,jane@x.org\n", "id,id\na,b\n",
    "Kennung;Vorname;Nachname\njm;a;b\n", "PK\x03\x04", "\n", "id\n",
    "Student,ID,SIS Login ID\nPoints Possible,,\n"])
def test_a_table_that_is_no_class_list(tmp_path, text):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(CourseError, match="no column id, or two, or no row"):
        read_class_list(tmp_path / "c.csv")


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
