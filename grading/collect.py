"""From a learning platform's download to nbgrader's folders, and back as a table of grades.

    python -m grading collect 01_sentiment FILE.zip --class-list class.csv --due 2026-12-01T23:59
    python -m grading export 01_sentiment --format canvas > grades.csv

Names that are understood: Canvas ``doejane_LATE_123_456_name-1.ipynb``, Moodle ``Jane
Doe_123_assignsubmission_file_/name.ipynb``, Google Classroom and others ``Jane Doe - name
(1).ipynb``, or a folder a student. Of several copies the last one counts.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path, PurePosixPath

from nbgrader.api import MissingEntry

from grading import submission
from grading.gradebook import open_gradebook
from lib import CourseError
from lib.files import atomic, write_text

CANVAS = re.compile(r"^(?P<name>[^_/]+)(?P<late>_LATE)?_(?P<lms>\d+)_\d+_.")
MOODLE = re.compile(r"^(?P<name>[^_/]+)_(?P<lms>\d+)_assignsubmission_file(?:_|$)")
DASHED = re.compile(r"^(?P<name>[^/]+?) - .")
COPY = re.compile(r"(?:-(\d{1,9})| ?\((\d{1,9})\))\.ipynb$")
COLUMNS = ("id", "first_name", "last_name", "email", "lms_user_id")


@dataclass(frozen=True)
class Found:
    """A notebook in a download. attempt: the platform's number of a copy, 0 for the first.

    read: gives its bytes; raises CourseError when it is too large or no ordinary file.
    """

    name: str
    lms: str | None
    late: bool
    attempt: int
    when: datetime
    path: str
    read: Callable[[], bytes]


def key(text: str) -> str:
    """A name as it is compared: letters and digits alone, lower case."""
    return re.sub(r"[\W_]+", "", text.lower())


def parse(path: PurePosixPath, flat: bool) -> dict:
    """Name, platform id and lateness from a file's path in a download.

    The platform names folders, and the files of a flat download; a file's name within a
    student's folder is the student's, who may have written another's name there.
    """
    for text in [path.name] if flat else list(reversed(path.parts[:-1])):
        for pattern in (MOODLE, CANVAS, DASHED) if flat else (MOODLE,):
            if match := pattern.match(text[:300]):
                return match.groupdict()
    owners = [part for part in path.parts[:-1] if part != path.stem]
    return {"name": path.stem if flat or not owners else owners[-1]}


def read_download(source: Path) -> list[Found]:
    """Every notebook of a folder or zip. Raises CourseError when it is neither."""
    if source.is_dir():
        files = [(path.relative_to(source).as_posix(), path.lstat().st_mtime,
                  partial(submission.read_bytes, path)) for path in sorted(source.rglob("*.ipynb"))]
    else:
        try:
            with zipfile.ZipFile(source) as archive:
                files = [(info.filename, _seconds(info), partial(_from_zip, source, info))
                         for info in archive.infolist() if info.filename.endswith(".ipynb")]
        except (OSError, ValueError, zipfile.BadZipFile):
            raise CourseError(f"{source} is neither a folder nor a zip file") from None
    kept = [(PurePosixPath(name), when, read) for name, when, read in files
            if not {"__MACOSX", ".ipynb_checkpoints", ".."} & set(name.split("/"))]
    flat = len({path.parent for path, _, _ in kept}) == 1 and not any(
        MOODLE.match(path.parent.name) for path, _, _ in kept)
    found = []
    for path, when, read in kept:
        known, copy = parse(path, flat), COPY.search(path.name)
        found.append(Found(known["name"], known.get("lms"), bool(known.get("late")),
                           int((copy[1] or copy[2] or 0) if copy else 0),
                           datetime.fromtimestamp(when, UTC), str(path), read))
    return found


def _seconds(info: zipfile.ZipInfo) -> float:
    try:
        return datetime(*info.date_time, tzinfo=UTC).timestamp()
    except ValueError:  # some tools write no date
        return 0.0


def _from_zip(source: Path, info: zipfile.ZipInfo) -> bytes:
    try:
        with zipfile.ZipFile(source) as archive, archive.open(info) as file:
            data = file.read(submission.FILE_LIMIT + 1)  # the header's size may be a lie
    except Exception as error:  # whatever a damaged or odd entry makes the library raise
        raise CourseError(f"cannot be read: {type(error).__name__}") from None
    if len(data) > submission.FILE_LIMIT:
        raise CourseError("too large")
    return data


def read_class_list(path: Path) -> list[dict[str, str]]:
    """The rows of a class list, a CSV with a column id and any other of COLUMNS."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, ValueError) as error:
        raise CourseError(f"cannot read the class list {path}: {error}") from None
    if not rows or "id" not in rows[0]:
        raise CourseError(f"{path} has no column id; its first line names the columns, such as "
                          + ",".join(COLUMNS))
    bad = [row["id"] for row in rows if not re.fullmatch(r"\w[\w.@-]*", row["id"] or "")]
    if bad:
        raise CourseError(f"{path}: {bad[0]!r} is no id; letters, digits and . @ - _ only")
    return [{name: (row.get(name) or "").strip() for name in COLUMNS} for row in rows]


def collect(course: Path, assignment: str, source: Path, class_list: Path | None = None,
            due: datetime | None = None) -> tuple[int, list[str]]:
    """Put the notebooks of a download into COURSE/submitted; how many, and a line a problem.

    With a class list, now or before, a notebook whose name fits no student, or two, is told and
    left alone. due: the last one given counts; without a time zone it is local time.
    """
    students = read_class_list(class_list) if class_list else []
    found = read_download(source)
    if not found:
        raise CourseError(f"no notebook in {source}")
    due = due and due.astimezone(UTC)  # without a time zone: this machine's
    with open_gradebook(course) as book:
        try:
            there = book.find_assignment(assignment)
        except MissingEntry:
            raise CourseError(f"{course} holds no assignment '{assignment}'; run python -m grading "
                              f"release {assignment} first") from None
        for row in students:
            book.update_or_create_student(row["id"], **{
                k: v or None for k, v in row.items() if k != "id"})
        students = students or _known(book)
        if due:
            there.duedate = due.replace(tzinfo=None)
            book.db.commit()
        elif there.duedate:
            due = there.duedate.replace(tzinfo=UTC)
    problems, chosen = [], {}
    for item in sorted(found, key=lambda f: (f.attempt, f.when, f.path)):
        student = _student(item, students) if students else key_id(item.name)
        earlier = chosen.get(student)
        if student is None:
            problems.append(f"{item.path}: {item.name!r} fits no single student of the class list")
        elif earlier and not students and earlier.name != item.name:
            problems.append(f"{item.path}: would go to {student}, as {earlier.path} does; give a "
                            "class list")
        else:
            if earlier:
                problems.append(f"{student}: {earlier.path} gives way to {item.path}")
            chosen[student] = item
    done = 0
    for student, item in chosen.items():
        try:
            _put(course / "submitted" / student / assignment, assignment, item, due)
            done += 1
        except CourseError as error:
            problems.append(f"{item.path}: {error}")
    missing = sorted({row["id"] for row in students} - set(chosen))
    problems += [f"{student}: nothing handed in" for student in missing]
    return done, [*map(submission.one_line, problems)]


def _known(book) -> list[dict[str, str]]:
    """The class list that an earlier collect has put into the gradebook; else empty."""
    rows = [{name: getattr(student, name) or "" for name in COLUMNS} for student in book.students]
    return rows if any(row[name] for row in rows for name in COLUMNS[1:]) else []


def key_id(name: str) -> str:
    """A folder name from a person's name."""
    return re.sub(r"\W+", "_", name.casefold()).strip("_")[:80] or "unnamed"


def _student(item: Found, students: list[dict[str, str]]) -> str | None:
    for row in students:
        if item.lms and item.lms == row["lms_user_id"]:
            return row["id"]
    fits = {row["id"] for row in students if key(item.name) in {
        key(row["id"]), key(row["first_name"] + row["last_name"]),
        key(row["last_name"] + row["first_name"]), key(row["email"]),
        key(row["email"].partition("@")[0])} - {""}}
    return fits.pop() if len(fits) == 1 else None


def _put(folder: Path, assignment: str, item: Found, due: datetime | None) -> None:
    when = item.when
    if due and item.late:  # what the platform says of lateness beats a file's date
        when = max(when, due + timedelta(seconds=1))
    data = item.read()
    with atomic(folder / f"{assignment}.ipynb") as temporary:
        temporary.write_bytes(data)
    write_text(folder / "timestamp.txt", when.strftime("%Y-%m-%d %H:%M:%S UTC\n"))


def export(course: Path, assignment: str, form: str = "plain") -> str:
    """The grades of an assignment as CSV: plain, or as Canvas or Moodle import them."""
    with open_gradebook(course) as book:
        rows = []
        for submission in book.assignment_submissions(assignment):
            student, [notebook] = submission.student, submission.notebooks
            late = notebook.late_submission_penalty or 0
            rows.append({
                "id": student.id, "lms": student.lms_user_id or "", "email": student.email or "",
                "name": f"{student.last_name or ''}, {student.first_name or ''}".strip(", "),
                "section": "", "score": notebook.score - late, "late": late,
                "max": notebook.max_score, "by_hand": notebook.needs_manual_grade})
    if not rows:
        raise CourseError(f"no grades for '{assignment}'; run python -m grading autograde first")
    columns = {
        "plain": {"student": "id", "name": "name", "score": "score", "max_score": "max",
                  "late_penalty": "late", "waits_for_manual_grade": "by_hand"},
        "canvas": {"Student": "name", "ID": "lms", "SIS Login ID": "id", "Section": "section",
                   assignment: "score"},
        "moodle": {"ID number": "id", "Full name": "name", "Email address": "email",
                   f"Assignment: {assignment}": "score"}}[form]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    for row in sorted(rows, key=lambda r: r["id"]):
        writer.writerow([_cell(row[name]) for name in columns.values()])
    return table.getvalue()


def _cell(value) -> str:
    """A value for a spreadsheet, which must not read a name as a formula."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text
