"""From a learning platform's download to nbgrader's folders.

    python -m grading collect 01_sentiment FILE.zip --class-list class.csv --due 2026-12-01T23:59

``grading.download`` reads what lies in it, ``grading.owners`` says whose each file is. Here one
notebook a student is chosen: the assignment's own, then the later one. Every other file that
somebody handed in is told.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import nbformat
from nbgrader.api import MissingEntry

from grading import gradescope, handed_in, late, submission
from grading.class_list import COLUMNS, key, read_class_list
from grading.download import COPY, File, read_download
from grading.gradebook import open_gradebook
from grading.owners import PLAIN, Claim, Owned, Roster, key_id, owned
from lib import CourseError
from lib.files import atomic

HELPER = re.compile(r"[^\W\d]\w*\.py")  # a module that a notebook beside it can import
# What is read of one student's notebooks, and of the modules beside the one that is taken.
FILES, MOST = 200, 128 * 2**20  # the latest so many, and so many bytes
TOLD = 5  # files of one kind that are named
CLOCK = 2  # seconds by which a zip's time may be rounded


def collect(course: Path, assignment: str, source: Path, class_list: Path | None = None,
            due: datetime | None = None) -> tuple[int, list[str]]:
    """Put the notebooks of a download into COURSE/submitted; how many, and a line a problem.

    With a class list, now or before, a notebook whose name fits no student, or two, is told and
    left alone. due: the last one given counts; without a time zone it is local time. A source that
    is COURSE/submitted itself came through nbgrader's exchange, whose times stay.
    """
    students = read_class_list(class_list) if class_list else []
    files = read_download(source)
    exchanged = source.resolve() == (course / "submitted").resolve()
    if exchanged:
        files = [file for file in files if file.name not in handed_in.EXCHANGE]
    if not files:
        raise CourseError(f"no file in {source}")
    students, due = _enter(course, assignment, students, due)
    released = course / "release" / assignment / f"{assignment}.ipynb"
    if not released.exists():
        raise CourseError(f"{course} holds no {released.relative_to(course)}; run python -m "
                          f"grading release {assignment} first")
    places = submission.slots(nbformat.read(released, as_version=4))
    theirs, problems = _by_student(files, students, assignment)
    taken = {}
    for student, items in sorted(theirs.items()):
        try:
            taken[student] = _take(course, assignment, student, items, places, problems)
        except CourseError as error:
            problems.append(f"{student}: {error}")
    if not exchanged:
        claims = {student: item.claim for student, item in taken.items()}
        for student, claim in claims.items():
            late.note(course / "submitted" / student / assignment / "timestamp.txt", claim, due)
        problems += late.told(claims, due)
    missing = {row["id"] for row in students
               if not (course / "submitted" / row["id"] / assignment).exists()}
    named = " ".join(problems)
    problems += [f"{student}: nothing handed in" for student in sorted(missing - set(theirs))
                 if f"{student}: " not in named]
    return len(taken), [*map(handed_in.one_line, problems)]


def _enter(course: Path, assignment: str, students: list[dict[str, str]], due: datetime | None
           ) -> tuple[list[dict[str, str]], datetime | None]:
    """Note class list and due date in the gradebook; what it knows of both, due in UTC."""
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
        if due:
            there.duedate = due.replace(tzinfo=None)
            book.db.commit()
        elif there.duedate:
            due = there.duedate.replace(tzinfo=UTC)
        return students or _known(book), due


def _known(book) -> list[dict[str, str]]:
    """The class list that an earlier collect has put into the gradebook; else empty."""
    rows = [{name: getattr(student, name) or "" for name in COLUMNS} for student in book.students]
    return rows if any(row[name] for row in rows for name in COLUMNS[1:]) else []


def _by_student(files: list[File], students: list[dict[str, str]], assignment: str
                ) -> tuple[dict[str, list[Owned]], list[str]]:
    """The files of each student, and a line for each file or owner that is nobody's."""
    roster = Roster(students) if students else None
    problems: list[str] = []
    others: dict[str, str] = {}  # student -> another name beside the student's number
    owners: dict[str, dict[tuple, list[Owned]]] = defaultdict(lambda: defaultdict(list))
    files, known = gradescope.claims(files)
    items = list(owned(files, roster, known))
    on_platform = any(item.claim.kind != PLAIN for item in items)
    for item in items:
        student = _student(item.claim, roster, assignment)
        if on_platform and not roster and item.place == item.file.path and not (
                item.file.is_notebook or item.claim.kind != PLAIN):
            student = None  # a page or table of the platform's own
        if student:
            owners[student][item.owner].append(item)
            if roster and roster.by_number_alone(item.claim):
                others[student] = item.claim.label
        elif item.file.is_notebook or item.claim.kind != PLAIN:
            problems.append(f"{item.file.path}: {_nobody(item.claim, roster)}")
        else:
            problems.append(f"{item.file.path}: is no notebook, and nobody's; left out")
    theirs = {}
    for student, by_owner in owners.items():
        with_notebook = [items for items in by_owner.values()
                         if any(item.file.is_notebook for item in items)]
        if len(with_notebook) > 1:
            both = " and ".join(repr(items[0].place) for items in with_notebook)
            problems.append(f"{student}: {both} would both go to {student}; neither was collected: "
                            + ("put the right one there by hand" if roster
                               else "give a class list"))
        else:
            theirs[student] = (with_notebook or list(by_owner.values()))[0]
    if not roster and len(theirs) == 1 and sum(item.file.is_notebook for item in items) > 1:
        problems.append(f"{next(iter(theirs))}: all files were taken for one student's; if they "
                        "are several students', give a class list")
    problems += [f"{student}: by the number alone, Canvas writes '{name}'; if that is a group, its "
                 "other members got nothing" for student, name in sorted(others.items())]
    return theirs, problems


def _student(claim: Claim, roster: Roster | None, assignment: str) -> str | None:
    if roster:
        return roster.student(claim)
    name = COPY.sub("", f"{claim.label}.ipynb").removesuffix(".ipynb")
    return None if claim.blind or key(name) == key(assignment) else key_id(claim.label)


def _nobody(claim: Claim, roster: Roster | None) -> str:
    if claim.blind:
        return (f"the names are hidden; reveal the students' identities in "
                f"{claim.kind.capitalize()} and download again")
    return f"{claim.label!r} " + ("fits no single student of the class list" if roster
                                  else "names no student; give a class list")


def _take(course: Path, assignment: str, student: str, items: list[Owned], places: list,
          problems: list[str]) -> Owned:
    """Choose among one student's files and put them in place; what was not taken is told."""
    latest = sorted(items, key=partial(_rank, assignment), reverse=True)
    seen = {item: _seen(data, assignment, places) for item, data in _read(
        [item for item in latest if item.file.is_notebook], problems)}
    # Its own cells, the answered ones before the released ones; then the later file.
    ranked = sorted(seen, key=lambda item: (seen[item][0], _rank(assignment, item)))
    if not ranked:
        others = [item.file.name for item in items if not item.file.is_notebook]
        raise CourseError(f"handed in {', '.join(others[:TOLD])}, no notebook" if others
                          else "no file that can be read")
    best = ranked[-1]
    if other := seen[best][1]:
        raise CourseError(f"{best.file.path}: this is {other}, not {assignment}; not collected")
    beside = [item for item in latest if HELPER.fullmatch(_module(item))
              and item.file.parts[:-1] == best.file.parts[:-1]]
    helpers: dict[str, bytes] = {}
    for item, data in _read(beside, problems):
        helpers.setdefault(_module(item), data)
    if told := _put(course / "submitted" / student / assignment, assignment, best, helpers):
        problems.append(f"{student}: {told}")
    *others, _ = ranked
    problems += [f"{student}: {item.file.path} gives way to {best.file.path}"
                 for item in others[-TOLD:]]
    if len(others) > TOLD:
        problems.append(f"{student}: so do {len(others) - TOLD} older ones")
    if left := [item.file.name for item in items
                if not item.file.is_notebook and _module(item) not in helpers]:
        problems.append(f"{student}: left out, since only .py files that the notebook beside them "
                        f"can import count: {', '.join(left[:TOLD])}")
    return best


def _read(items: list[Owned], problems: list[str]) -> Iterator[tuple[Owned, bytes]]:
    """The bytes of one file of a student after the other; what cannot be read is told.

    A zip of a megabyte may hold a thousand files of thirty: the rest of so many is left out.
    """
    room = MOST
    for number, item in enumerate(items):
        if room <= 0 or number == FILES:
            problems.append(f"{item.file.path}: left out, with {len(items) - number - 1} more of "
                            f"this student; {FILES} files or {MOST >> 20} MiB are looked at")
            return
        try:
            data = item.file.read()
        except CourseError as error:
            problems.append(f"{item.file.path}: {error}")
            continue
        room -= len(data)
        yield item, data


def _module(item: Owned) -> str:
    return COPY.sub("", item.own_name)


def _rank(assignment: str, item: Owned) -> tuple:
    """How late a file is among one owner's: by the platform, else its date, else its name.

    A copy's number is no date: a browser writes " (1)" on whatever is fetched for the second time.
    """
    none = datetime.min
    by_number = re.sub(r"\d+", lambda digits: digits[0].zfill(20), item.file.path)
    return (item.claim.when or none, item.claim.order, item.file.when or none,
            key(assignment) in key(item.own_name), item.file.copy, by_number)


def _seen(data: bytes, assignment: str, places: list) -> tuple[int, str | None]:
    """What a notebook has of the assignment's own, and which other chapter it is, if any."""
    try:
        return submission.holds(submission.cells_of(data, assignment), places), None
    except submission.OtherChapter as error:
        return 0, error.chapter
    except CourseError:  # what is broken is collected: autograde says how, and feedback too
        return 0, None


def _put(folder: Path, assignment: str, item: Owned, helpers: dict[str, bytes]) -> str:
    """Write a submission; what is to be told. Raises CourseError when a newer one is there already.

    The notebook keeps the time that it has in the download, by which the next collect knows.
    """
    notebook, data, told = folder / f"{assignment}.ipynb", item.file.read(), ""
    when = item.claim.when or item.file.when
    other = notebook.is_file() and notebook.read_bytes() != data
    if other and not when:
        told = (f"{item.file.path} has no date; it took the place of another one, which was "
                "collected before")
    elif other:
        there = datetime.fromtimestamp(notebook.stat().st_mtime)
        if (there - when).total_seconds() > CLOCK:
            raise CourseError(f"{item.file.path} of {when:%Y-%m-%d %H:%M} is older than what was "
                              f"collected before, of {there:%Y-%m-%d %H:%M}, which stays; to take "
                              f"the older one delete {notebook} first")
    for name, content in {notebook.name: data, **helpers}.items():
        with atomic(folder / name) as temporary:
            temporary.write_bytes(content)
    for path in folder.glob("*.py"):
        if path.name not in helpers:  # of an earlier submission
            path.unlink()
    if when:
        os.utime(notebook, (when.timestamp(),) * 2)
    return told
