"""The class list, a CSV file as spreadsheets write it, and how names are compared."""

import codecs
import csv
import io
import re
import unicodedata
from pathlib import Path

from lib import CourseError

COLUMNS = ("id", "first_name", "last_name", "email", "lms_user_id")
# What platforms call them in the tables that they export: Canvas's gradebook, Moodle's grades.
CANVAS = {"sis_login_id": "id", "id": "lms_user_id", "student": "last, first"}
MOODLE = {"id_number": "id", "username": "id", "surname": "last_name", "email_address": "email"}
NOBODY = re.compile(r"points possible|student, test|test student", re.IGNORECASE)  # of Canvas


def fold(text: str) -> str:
    """Text that looks the same is the same: one form of accents and widths, no case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def key(text: str) -> str:
    """A name as it is compared: its letters, their marks, and digits."""
    return "".join(c for c in fold(text) if c.isalnum() or unicodedata.category(c)[0] == "M")


def read_class_list(path: Path) -> list[dict[str, str]]:
    """The rows of a class list, a CSV with a column id and any other of COLUMNS, or an export of
    Canvas's gradebook or Moodle's grades.

    Commas, semicolons or tabs; UTF-8, UTF-16 or Windows' own encoding. Raises CourseError, which
    names the row, for a row without an id, an id that is there twice, and what is no id.
    """
    try:
        text = _decoded(path.read_bytes())
    except OSError as error:
        raise CourseError(f"cannot read the class list {path}: {error.strerror}") from None
    text = re.sub(r"\Asep=.\r?\n", "", text)  # a line for Excel alone
    head = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [(reader.line_num, [re.sub(r"\s+", " ", field).strip() for field in row])
                for row in reader if any(field.strip() for field in row)]
    except csv.Error as error:
        raise CourseError(f"cannot read the class list {path}, row {reader.line_num}: {error}"
                          ) from None
    names = _columns(rows[0][1]) if rows else []
    rows = [(line, fields) for line, fields in rows if not _is_nobody(names, fields)]
    if names.count("id") != 1 or len(rows) < 2:
        raise CourseError(f"{path} has no column id, or two, or no row; its first line names the "
                          "columns, such as " + ",".join(COLUMNS))
    found, lines = [], {}
    for line, fields in rows[1:]:
        if any(fields[len(names):]):
            raise CourseError(f"{path}, row {line}: more fields than the first line names; put a "
                              f"field that holds {delimiter!r} into double quotes")
        said = dict(zip(names, fields, strict=False))
        if "last, first" in said:
            said["last_name"], _, said["first_name"] = said["last, first"].partition(", ")
        row = {name: said.get(name, "") for name in COLUMNS}
        if not re.fullmatch(r"\w[\w.@-]*", row["id"]):
            raise CourseError(f"{path}, row {line}: {row['id']!r} is no id; letters, digits and "
                              ". @ - _ only")
        for what in ("id", "lms_user_id"):
            if row[what]:
                first = lines.setdefault((what, fold(row[what])), line)
                if first != line:
                    raise CourseError(f"{path}, row {line}: the {what} {row[what]} is there twice, "
                                      f"first in row {first}; nothing was collected")
        found.append(row)
    return found


def _columns(head: list[str]) -> list[str]:
    """The names of the columns, as COLUMNS has them whatever platform wrote them."""
    names = [re.sub(r"\W+", "_", name.casefold()) for name in head]
    theirs = CANVAS if CANVAS.keys() <= set(names) else {} if "id" in names else MOODLE
    return [theirs.get(name, name) for name in names]


def _is_nobody(names: list[str], fields: list[str]) -> bool:
    """Whether a row of Canvas's gradebook is no student's; others are without name and number."""
    said = dict(zip(names, fields, strict=False))
    return "last, first" in said and (
        bool(NOBODY.fullmatch(said["last, first"]))
        or not (said["last, first"] or said.get("lms_user_id")))


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:  # Excel's plain CSV on Windows
        return data.decode("cp1252", "replace")
