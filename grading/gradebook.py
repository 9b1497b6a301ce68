"""The gradebook of a course folder: what an assignment is worth, and what a submission got.

The database is nbgrader's own, so that its formgrader, manual grading and feedback go on from
there. Each submission is recorded on its own, the gradebook first and then the graded notebook
that says so: a kill between the two repeats that one submission and nothing else.
"""

import copy
import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.utils import parse_utc

from grading import submission
from grading.grade import Assignment, Outcome, Status
from grading.release import config
from lib import CourseError
from lib.files import write_text

TITLE = re.compile(r"^(?:# |\*\*)((?:Exercise|Question) \w+)", re.MULTILINE)


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


def open_gradebook(course: Path) -> Gradebook:
    """The gradebook of a course folder, a context manager; CourseError when there is none."""
    path = course / "gradebook.db"
    if not path.exists():  # nbgrader would make an empty one
        raise CourseError(f"{course} holds no {path.name}; run python -m grading release first")
    return Gradebook(f"sqlite:///{path.resolve()}", "grpo")


class Grader:
    """An assignment in a course folder, with its gradebook open; a context manager."""

    def __init__(self, course: Path, assignment: str, late_percent: float = 0.0):
        """Raises CourseError when the course does not hold the assignment."""
        self.course, self.name, self.late_percent = course, assignment, late_percent
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
        self.late = LateSubmissionPlugin(config=config(course))
        self.gradebook = open_gradebook(course)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gradebook.close()

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

    def recorded(self, student: str, digest: str) -> Outcome | None:
        """The outcome of an earlier run, if file and tests are still the same."""
        graded = self.graded(student)
        if not graded or (graded["submitted"], graded["tests"]) != (digest, self.tests_digest):
            return None
        if graded["outcome"].problem:  # which may have been the machine's
            return None
        return graded["outcome"]

    def record(self, student: str, digest: str, outcome: Outcome) -> None:
        """Gradebook first, then the notebook that says so: a kill between repeats the work."""
        book = self.gradebook
        book.update_or_create_student(student)
        when = self._timestamp(student)
        entry = book.update_or_create_submission(
            self.name, student, **({"timestamp": when} if when else {}))
        [notebook] = [n for n in entry.notebooks if n.name == self.name]
        for grade in notebook.grades:
            grade.auto_score = self._auto_score(grade, outcome)
            grade.needs_manual_grade = grade.manual_score is not None or grade.auto_score is None
        for comment in notebook.comments:
            comment.auto_comment = None if self._answered(comment.name, outcome) else "No response."
        book.db.commit()
        self._penalize(student, entry, notebook)
        write_text(self.graded_path(student), self._graded_notebook(digest, outcome))

    def _timestamp(self, student: str):
        path = self.submission(student).with_name("timestamp.txt")
        try:
            return parse_utc(submission.read_bytes(path)[:100].decode().strip())
        except (CourseError, ValueError, OverflowError):
            return None

    def _penalize(self, student: str, entry, notebook) -> None:
        notebook.late_submission_penalty = None
        seconds = entry.total_seconds_late
        if seconds > 0:
            penalty = self.late.late_submission_penalty(student, notebook.score, seconds) or 0
            penalty += notebook.score * self.late_percent / 100 * math.ceil(seconds / 86400)
            notebook.late_submission_penalty = min(penalty, notebook.score) or None
        self.gradebook.db.commit()

    def entry(self, student: str):
        """The gradebook's entry of a student's notebook; None for a student who is not in it."""
        try:
            return self.gradebook.find_submission_notebook(self.name, self.name, student)
        except MissingEntry:
            return None

    def _answered(self, cell: str, outcome: Outcome) -> bool:
        [stub] = [slot.source for slot in self.assignment.places if slot.id == cell]
        return outcome.sources.get(cell, stub).strip() not in ("", stub.strip())

    def _auto_score(self, grade, outcome: Outcome) -> float | None:
        """nbgrader's rules: a test has all its points or none, an unanswered question none."""
        if grade.name in self.assignment.tests:
            return grade.max_score if outcome.passed(grade.name) else 0.0
        return None if self._answered(grade.name, outcome) else 0.0

    def _graded_notebook(self, digest: str, outcome: Outcome) -> str:
        """The release with the student's answers and each test's outcome; no hidden line."""
        notebook = copy.deepcopy(self.released)
        notebook.metadata["grading"] = {
            "submitted": digest, "tests": self.tests_digest, "outcome": asdict(outcome)}
        for cell in notebook.cells:
            if cell.id in outcome.sources:
                cell.source = outcome.sources[cell.id]
                if cell.cell_type == "markdown":
                    cell.source = submission.harmless(cell.source)
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
                      (entry and entry.late_submission_penalty) or 0.0,
                      [self.titles.get(t, t) for t, status in outcome.status.items()
                       if status == Status.UNSOLVED],
                      {t: outcome.remark(t) for t in outcome.reasons},
                      outcome.repairs, outcome.problem)


def _output(message: str | None, points: float) -> nbformat.NotebookNode:
    if message is None:
        return nbformat.v4.new_output("stream", name="stdout", text=f"{points:g} of {points:g}\n")
    return nbformat.v4.new_output("error", ename="AssertionError", evalue=message,
                                  traceback=[f"0 of {points:g}: {message}"])
