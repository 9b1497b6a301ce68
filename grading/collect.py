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
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from nbgrader.api import Gradebook

from grading import cells
from lib import CourseError
from lib.files import atomic, write_text

CANVAS = re.compile(r"^(?P<name>[^_/]+)(?P<late>_LATE)?_(?P<lms>\d+)_\d+_(?P<file>.+)$")
MOODLE = re.compile(r"^(?P<name>[^_/]+)_(?P<lms>\d+)_assignsubmission_file_/?(?P<file>.+)$")
DASHED = re.compile(r"^(?P<name>[^/]+?) - (?P<file>[^/]+)$")
COPY = re.compile(r"(?:-(\d+)| ?\((\d+)\))?\.ipynb$")
COLUMNS = ("id", "first_name", "last_name", "email", "lms_user_id")


@dataclass(frozen=True)
class Found:
    """A notebook in a download. attempt: the platform's number of a copy, 0 for the first."""

    name: str
    lms: str | None
    late: bool
    attempt: int
    when: datetime
    path: str
    data: bytes | None  # None: too large, or no ordinary file


def key(text: str) -> str:
    """A name as it is compared: letters and digits alone, lower case."""
    return re.sub(r"[\W_]+", "", text.lower())


def parse(path: str) -> dict | None:
    """Name, platform id, lateness and attempt from a file's path in a download."""
    parts = PurePosixPath(path).parts
    for text in (parts[-1], "/".join(parts[-2:])):
        for pattern in (MOODLE, CANVAS, DASHED):
            if match := pattern.match(text):
                return match.groupdict()
    owners = [part for part in parts[:-1] if part != PurePosixPath(path).stem]
    return {"name": owners[-1]} if owners else None


def read_download(source: Path) -> list[Found]:
    """Every notebook of a folder or zip. Raises CourseError when it is neither."""
    if source.is_dir():
        entries = [(str(p.relative_to(source)), p) for p in sorted(source.rglob("*.ipynb"))]
        files = [(name, datetime.fromtimestamp(p.lstat().st_mtime, UTC), _from_folder(p))
                 for name, p in entries]
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            files = [(info.filename, datetime(*info.date_time, tzinfo=UTC),
                      _from_zip(archive, info)) for info in archive.infolist()
                     if info.filename.endswith(".ipynb")]
    else:
        raise CourseError(f"{source} is neither a folder nor a zip file")
    found = []
    for path, when, data in files:
        if "__MACOSX" in path or ".ipynb_checkpoints" in path:
            continue
        known = parse(path) or {"name": PurePosixPath(path).stem}
        copy = COPY.search(path)
        found.append(Found(known["name"], known.get("lms"), bool(known.get("late")),
                           int(copy[1] or copy[2] or 0), when, path, data))
    return found


def _from_folder(path: Path) -> bytes | None:
    try:
        return cells.read_bytes(path)
    except CourseError:
        return None


def _from_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes | None:
    try:
        with archive.open(info) as file:
            data = file.read(cells.FILE_LIMIT + 1)  # the header's size may be a lie
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError):
        return None
    return data if len(data) <= cells.FILE_LIMIT else None


def read_class_list(path: Path) -> list[dict[str, str]]:
    """The rows of a class list, a CSV with a column id and any other of COLUMNS."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, ValueError) as error:
        raise CourseError(f"cannot read the class list {path}: {error}") from None
    if not rows or "id" not in rows[0]:
        raise CourseError(f"{path} has no column id; its first line names the columns, such as "
                          + ",".join(COLUMNS))
    bad = [row["id"] for row in rows if not re.fullmatch(r"[\w.@-]+", row["id"] or "")]
    if bad:
        raise CourseError(f"{path}: {bad[0]!r} is no id; letters, digits and . @ - _ only")
    return [{name: (row.get(name) or "").strip() for name in COLUMNS} for row in rows]


def collect(course: Path, assignment: str, source: Path, class_list: Path | None = None,
            due: datetime | None = None) -> list[str]:
    """Put the notebooks of a download into COURSE/submitted; returns a line for each problem.

    With a class list, a notebook whose name fits no student, or two, is told and left alone.
    """
    if not (course / "gradebook.db").exists():
        raise CourseError(f"{course} holds no gradebook; run python -m grading release first")
    students = read_class_list(class_list) if class_list else []
    found = read_download(source)
    if not found:
        raise CourseError(f"no notebook in {source}")
    with Gradebook(f"sqlite:///{(course / 'gradebook.db').resolve()}", "grpo") as book:
        for row in students:
            book.update_or_create_student(row["id"], **{
                k: v or None for k, v in row.items() if k != "id"})
        if due:
            book.find_assignment(assignment).duedate = due.astimezone(UTC).replace(tzinfo=None)
            book.db.commit()
    problems, chosen = [], {}
    for item in sorted(found, key=lambda f: (f.attempt, f.when, f.path)):
        student = _student(item, students) if students else key_id(item.name)
        if student is None:
            problems.append(f"{item.path}: fits no single student of the class list")
        elif item.data is None:
            problems.append(f"{item.path}: too large, damaged, or no ordinary file")
        else:
            if student in chosen:
                problems.append(f"{student}: {chosen[student].path} gives way to {item.path}")
            chosen[student] = item
    for student, item in chosen.items():
        _put(course / "submitted" / student / assignment, assignment, item, due)
    missing = sorted({row["id"] for row in students} - set(chosen))
    problems += [f"{student}: nothing handed in" for student in missing]
    return [f"{len(chosen)} collected", *map(cells.clean, problems)]


def key_id(name: str) -> str:
    """A folder name from a person's name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "unnamed"


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
    with atomic(folder / f"{assignment}.ipynb") as temporary:
        temporary.write_bytes(item.data)
    write_text(folder / "timestamp.txt", when.strftime("%Y-%m-%d %H:%M:%S UTC\n"))


def export(course: Path, assignment: str, form: str = "plain") -> str:
    """The grades of an assignment as CSV: plain, or as Canvas or Moodle import them."""
    with Gradebook(f"sqlite:///{(course / 'gradebook.db').resolve()}", "grpo") as book:
        rows = []
        for submission in book.assignment_submissions(assignment):
            student, [notebook] = submission.student, submission.notebooks
            late = notebook.late_submission_penalty or 0
            rows.append({
                "id": student.id, "lms": student.lms_user_id or "", "email": student.email or "",
                "name": f"{student.last_name or ''}, {student.first_name or ''}".strip(", "),
                "score": notebook.score - late, "late": late, "max": notebook.max_score,
                "by_hand": notebook.needs_manual_grade})
    if not rows:
        raise CourseError(f"no grades for '{assignment}'; run python -m grading autograde first")
    columns = {
        "plain": {"student": "id", "name": "name", "score": "score", "max_score": "max",
                  "late_penalty": "late", "waits_for_manual_grade": "by_hand"},
        "canvas": {"Student": "name", "ID": "lms", "SIS Login ID": "id", assignment: "score"},
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
