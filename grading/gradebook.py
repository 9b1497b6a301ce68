"""The gradebook of a course folder: what an assignment is worth, and what a submission got.

The database is nbgrader's own, so that its formgrader, manual grading and feedback go on from
there. Each submission is recorded on its own, the gradebook first and then the graded notebook
that says so: a kill between the two repeats that one submission and nothing else.
"""

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, InvalidEntry, MissingEntry
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.utils import parse_utc
from sqlalchemy.exc import DatabaseError, OperationalError

from grading import handed_in, late
from grading.grade import Assignment, Outcome, Status
from grading.release import config
from grading.sandbox.isolation import LEVELS
from lib import CourseError
from lib.files import write_text

TITLE = re.compile(r"^(?:# |\*\*)((?:Exercise|Question) \w+)", re.MULTILINE)
NO_RESPONSE = "No response."  # nbgrader's own words for an answer that was left as it was


@dataclass
class Result:
    """One graded submission, as reported.

    points: test cell -> (got, of). manual: points of answers that a person grades.
    late: points of the gradebook's score lost for being late. unsolved: the exercises that are
    not solved yet. messages: test cell -> what was wrong.
    repairs: what was put right first. problem: why nothing was graded.
    """

    student: str
    points: dict[str, tuple[float, float]] = field(default_factory=dict)
    manual: float = 0.0
    late: float = 0.0
    unsolved: list[str] = field(default_factory=list)
    messages: dict[str, str] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)
    problem: str | None = None

    @property
    def total(self) -> tuple[float, float]:
        got, possible = zip(*self.points.values(), strict=True) if self.points else ((), ())
        return sum(got), sum(possible)


def submitted(course: Path, assignment: str, only: list[str] | None = None) -> list[str]:
    """Students with a folder for the assignment, sorted, or only some of them, as given.

    Raises CourseError when there is none at all, or none of a student that is given.
    """
    there = sorted(p.parent.name for p in (course / "submitted").glob(f"*/{assignment}"))
    if not there:
        raise CourseError(f"no submissions for '{assignment}' under {course / 'submitted'}; put "
                          f"them at submitted/STUDENT/{assignment}/{assignment}.ipynb")
    if unknown := sorted(set(only or ()) - set(there)):
        raise CourseError(f"no submission of {', '.join(unknown)} under {course / 'submitted'}")
    return only or there


@contextmanager
def open_gradebook(course: Path) -> Iterator[Gradebook]:
    """The gradebook of a course folder; CourseError when there is none, or none that works."""
    path = course / "gradebook.db"
    if not path.exists():  # nbgrader would make an empty one
        raise CourseError(f"{course} holds no {path.name}; run python -m grading release first")
    try:
        with Gradebook(f"sqlite:///{path.resolve()}", "grpo") as book:
            yield book
    except (DatabaseError, InvalidEntry) as error:
        raise CourseError(f"{path} {_trouble(words(error))}") from None


def words(error: Exception) -> str:
    """What an error of the gradebook says: SQLite's own words, whoever passed them on."""
    said = re.search(r"\(sqlite3\.\w+\) (.*)", str(error))
    return (said[1] if said else str(error).partition("\n")[0])[:200]


def of_all(error: Exception) -> bool:
    """Whether the whole gradebook is in trouble, and not one row. nbgrader wraps what it caught."""
    return isinstance(error, OperationalError) or isinstance(error.__context__, OperationalError)


def _trouble(said: str) -> str:
    """What is wrong with a database, and what to do, from SQLite's own words."""
    if "locked" in said:
        return "is in use by another program; close it and try again"
    if re.search("no such (table|column)|has no column", said):
        return "is of another version of nbgrader; run nbgrader db upgrade in its folder"
    if "not a database" in said or "malformed" in said:
        return "is no gradebook, or a damaged one; put back a copy of it"
    return f"cannot be used: {said}"


class Grader:
    """An assignment in a course folder, with its gradebook open; a context manager."""

    def __init__(self, course: Path, assignment: str, late_percent: float | None = None):
        """Raises CourseError when the course does not hold the assignment.

        late_percent: of the score, for a day begun; None is what was given before.
        """
        if Path(assignment).name != assignment:
            raise CourseError(f"'{assignment}' is no name of an assignment, such as 01_sentiment")
        self.course, self.name = course, assignment
        source, released = (course / kind / assignment / f"{assignment}.ipynb"
                            for kind in ("source", "release"))
        for path in (source, released):
            if not path.exists():
                raise CourseError(f"{course} holds no {path.relative_to(course)}; run python -m "
                                  f"grading release {assignment} --course {course} first")
        self.released = nbformat.read(released, as_version=4)
        self.assignment = Assignment.of(
            assignment, nbformat.read(source, as_version=4), self.released)
        self.worth = {cell.id: cell.metadata.get("nbgrader", {}).get("points", 0)
                      for cell in self.released.cells}
        self.tests_digest = hashlib.sha256(source.read_bytes()).hexdigest()
        self.titles = {prefix + slot.id: title for slot in self.assignment.places
                       for prefix in ("test_", "") for title in TITLE.findall(slot.source)[:1]}
        self.late_percent = late.percent(course, assignment, late_percent)
        self.plugin = LateSubmissionPlugin(config=config(course))
        self._opened = open_gradebook(course)
        self.gradebook = self._opened.__enter__()
        try:
            self.gradebook.find_assignment(assignment)
        except MissingEntry:
            self._opened.__exit__(None, None, None)
            raise CourseError(f"{course}/gradebook.db knows no '{assignment}'; run python -m "
                              f"grading release {assignment} --course {course} first") from None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return self._opened.__exit__(*error)

    def graded_path(self, student: str) -> Path:
        return self.course / "autograded" / student / self.name / f"{self.name}.ipynb"

    def submission(self, student: str) -> Path:
        return self.course / "submitted" / student / self.name / f"{self.name}.ipynb"

    def graded(self, student: str) -> dict | None:
        """What record() noted in a graded notebook: digests and Outcome; None without one.

        One that an earlier release wrote in another form counts as none, and is graded again.
        """
        try:
            noted = json.loads(self.graded_path(student).read_bytes())["metadata"]["grading"]
            return noted | {"outcome": Outcome(**noted["outcome"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def recorded(self, student: str, digest: str, isolation: str) -> Outcome | None:
        """The outcome of an earlier run, if file and tests are the same and the jail no weaker."""
        graded = self.graded(student)
        if not graded or (graded["submitted"], graded["tests"]) != (digest, self.tests_digest):
            return None
        if graded["outcome"].problem:  # which may have been the machine's
            return None
        level = graded.get("isolation")  # an earlier release did not note it
        if level not in LEVELS or LEVELS.index(level) > LEVELS.index(isolation):
            return None
        return graded["outcome"]

    def date(self, student: str) -> None:
        """Put the time of a submission, which a later collect may have changed, into its entry."""
        if entry := self.entry(student):
            entry.assignment.timestamp = self._timestamp(student)
            entry.late_submission_penalty = None  # derived, and by no means added up
            self.gradebook.db.commit()

    def record(self, student: str, digest: str, outcome: Outcome, isolation: str) -> None:
        """Gradebook first, then the notebook that says so: a kill between repeats the work."""
        book = self.gradebook
        book.update_or_create_student(student)
        entry = book.update_or_create_submission(self.name, student)
        entry.timestamp = self._timestamp(student)
        [notebook] = [n for n in entry.notebooks if n.name == self.name]
        for grade in notebook.grades:
            grade.auto_score = self._auto_score(grade, outcome)
            grade.needs_manual_grade = grade.manual_score is not None or grade.auto_score is None
        for comment in notebook.comments:
            comment.auto_comment = None if self._answered(comment.name, outcome) else NO_RESPONSE
        notebook.late_submission_penalty = None  # derived wherever it is needed
        book.db.commit()
        write_text(self.graded_path(student), self._graded_notebook(digest, outcome, isolation))

    def _timestamp(self, student: str):
        path = self.submission(student).with_name("timestamp.txt")
        try:
            return parse_utc(handed_in.read_bytes(path)[:100].decode().strip())
        except (CourseError, ValueError, OverflowError):
            return None

    def penalty(self, notebook) -> float:
        """Points that an entry of the gradebook loses for being late, by the score it has now."""
        entry = notebook.assignment
        when = self._timestamp(entry.student.id)
        due = entry.assignment.duedate and entry.duedate  # its own, with an extension
        seconds = (when - due).total_seconds() if when and due else 0.0
        return late.penalty(self.plugin, entry.student.id, notebook.score, seconds,
                            self.late_percent)

    def entry(self, student: str):
        """The gradebook's entry of a student's notebook; None for a student who is not in it."""
        try:
            return self.gradebook.find_submission_notebook(self.name, self.name, student)
        except MissingEntry:
            return None

    @staticmethod
    def nothing_counts(notebook, outcome: Outcome | None) -> bool:
        """Whether an entry's score is no grade: nothing could be graded, and nobody did by hand."""
        return bool(outcome and outcome.problem) and all(
            grade.manual_score is None for grade in notebook.grades)

    def _answered(self, cell: str, outcome: Outcome) -> bool:
        [stub] = [slot.source for slot in self.assignment.places if slot.id == cell]
        return outcome.sources.get(cell, stub).strip() not in ("", stub.strip())

    def _auto_score(self, grade, outcome: Outcome) -> float | None:
        """nbgrader's rules: a test has all its points or none, an unanswered question none."""
        if grade.name in self.assignment.tests:
            return grade.max_score if outcome.passed(grade.name) else 0.0
        return None if self._answered(grade.name, outcome) else 0.0

    def _graded_notebook(self, digest: str, outcome: Outcome, isolation: str) -> str:
        """The release with the student's answers and each test's outcome; no hidden line."""
        notebook = copy.deepcopy(self.released)
        notebook.metadata["grading"] = {
            "submitted": digest, "tests": self.tests_digest, "isolation": isolation,
            "outcome": asdict(outcome)}
        for cell in notebook.cells:
            if cell.id in outcome.sources:
                cell.source = handed_in.shown(outcome.sources[cell.id], cell.cell_type == "code")
            elif cell.id in self.assignment.tests:
                cell.outputs = [_output(outcome.remark(cell.id) or outcome.problem,
                                        self.assignment.points[cell.id])]
        return nbformat.writes(notebook) + "\n"

    def result(self, student: str, outcome: Outcome) -> Result:
        """An outcome as reported."""
        points = {} if outcome.problem else {
            name: (best * outcome.passed(name), best)
            for name, best in sorted(self.assignment.points.items())}
        manual = sum(self.worth[slot.id] for slot in self.assignment.places
                     if slot.kind == "manual" and self._answered(slot.id, outcome))
        entry = self.entry(student) if points else None
        return Result(student, points, float(manual),
                      self.penalty(entry) if entry else 0.0,
                      [self.titles.get(t, t) for t, status in outcome.status.items()
                       if status == Status.UNSOLVED],
                      {t: outcome.remark(t) for t in outcome.reasons},
                      outcome.repairs, outcome.problem)


def _output(message: str | None, points: float) -> nbformat.NotebookNode:
    if message is None:
        return nbformat.v4.new_output("stream", name="stdout", text=f"{points:g} of {points:g}\n")
    return nbformat.v4.new_output("error", ename="AssertionError", evalue=message,
                                  traceback=[f"0 of {points:g}: {message}"])
