"""Grade every submission of an assignment: jailed, in parallel, each recorded on its own.

    python -m grading autograde 01_sentiment

Submissions lie in nbgrader's layout: COURSE/submitted/{student}/{assignment}/{assignment}.ipynb.
Points go into nbgrader's gradebook, the graded notebook into COURSE/autograded/, so that its
formgrader, manual grading and feedback go on from there.
"""

import copy
import hashlib
import json
import math
import re
from collections.abc import Hashable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.utils import parse_utc
from tqdm.auto import tqdm

from grading import cells, execute
from grading.release import config
from lib import CourseError
from lib.files import write_text

STUDENT = re.compile(r"[\w@][\w.@ +'-]*")
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
        self.assignment = execute.Assignment.of(
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
        """What record() noted in a graded notebook: digests and outcome; None without one."""
        try:
            return json.loads(self.graded_path(student).read_bytes())["metadata"]["grading"]
        except (OSError, ValueError, KeyError):
            return None

    def recorded(self, student: str, digest: str) -> execute.Outcome | None:
        """The outcome of an earlier run, if file and tests are still the same."""
        graded = self.graded(student)
        if not graded or (graded["submitted"], graded["tests"]) != (digest, self.tests_digest):
            return None
        if graded["outcome"]["problem"]:  # which may have been the machine's
            return None
        return execute.Outcome(**graded["outcome"])

    def record(self, student: str, digest: str, outcome: execute.Outcome) -> None:
        """Gradebook first, then the notebook that says so: a kill between repeats the work."""
        book = self.gradebook
        book.update_or_create_student(student)
        when = self._timestamp(student)
        submission = book.update_or_create_submission(
            self.name, student, **({"timestamp": when} if when else {}))
        [notebook] = [n for n in submission.notebooks if n.name == self.name]
        for grade in notebook.grades:
            grade.auto_score = self._auto_score(grade, outcome)
            grade.needs_manual_grade = grade.manual_score is not None or grade.auto_score is None
        for comment in notebook.comments:
            comment.auto_comment = None if self._answered(comment.name, outcome) else "No response."
        book.db.commit()
        self._penalize(student, submission, notebook)
        write_text(self.graded_path(student), self._graded_notebook(digest, outcome))

    def _timestamp(self, student: str):
        path = self.submission(student).with_name("timestamp.txt")
        try:
            return parse_utc(cells.read_bytes(path)[:100].decode().strip())
        except (CourseError, ValueError, OverflowError):
            return None

    def _penalize(self, student: str, submission, notebook) -> None:
        notebook.late_submission_penalty = None
        seconds = submission.total_seconds_late
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

    def _answered(self, cell: str, outcome: execute.Outcome) -> bool:
        [stub] = [slot.source for slot in self.assignment.places if slot.id == cell]
        return outcome.sources.get(cell, stub).strip() not in ("", stub.strip())

    def _auto_score(self, grade, outcome: execute.Outcome) -> float | None:
        """nbgrader's rules: a test has all its points or none, an unanswered question none."""
        if grade.name in self.assignment.tests:
            return grade.max_score if outcome.passed.get(grade.name) else 0.0
        return None if self._answered(grade.name, outcome) else 0.0

    def _graded_notebook(self, digest: str, outcome: execute.Outcome) -> str:
        """The release with the student's answers and each test's outcome; no hidden line."""
        notebook = copy.deepcopy(self.released)
        notebook.metadata["grading"] = {
            "submitted": digest, "tests": self.tests_digest, "outcome": asdict(outcome)}
        for cell in notebook.cells:
            if cell.id in outcome.sources:
                cell.source = outcome.sources[cell.id]
                if cell.cell_type == "markdown":
                    cell.source = cells.harmless(cell.source)
            elif cell.id in self.assignment.tests:
                cell.outputs = [_output(outcome.messages.get(cell.id, outcome.problem),
                                        self.assignment.points[cell.id])]
        return nbformat.writes(notebook) + "\n"

    def result(self, student: str, outcome: execute.Outcome) -> Result:
        """An outcome as reported."""
        points = {} if outcome.problem else {
            name: (best * outcome.passed.get(name, False), best)
            for name, best in sorted(self.assignment.points.items())}
        manual = sum(self.worth[slot.id] for slot in self.assignment.places
                     if slot.kind == "manual" and self._answered(slot.id, outcome))
        entry = self.entry(student) if points else None
        return Result(student, points, float(manual),
                      (entry and entry.late_submission_penalty) or 0.0,
                      [self.titles.get(t, t) for t, m in outcome.messages.items()
                       if m == execute.UNSOLVED],
                      {t: m for t, m in outcome.messages.items() if m != execute.UNSOLVED},
                      outcome.repairs, outcome.problem)


def _output(message: str | None, points: float) -> nbformat.NotebookNode:
    if message is None:
        return nbformat.v4.new_output("stream", name="stdout", text=f"{points:g} of {points:g}\n")
    return nbformat.v4.new_output("error", ename="AssertionError", evalue=message,
                                  traceback=[f"0 of {points:g}: {message}"])


def autograde(course: Path, assignment: str, students: list[str] | None = None, *,
              workers: int = 1, isolation: str = "strict", regrade: bool = False,
              scheduler: str | None = None, late_percent: float = 0.0) -> list[Result]:
    """Grade the submissions of an assignment; one Result each, in order of students.

    Submissions that are graded already, against the same tests, are not run again unless
    regrade. A submission that cannot be graded gets a reason and no points; the others go on.
    """
    with Grader(course, assignment, late_percent) as grader:
        names = submitted(course, assignment, students)
        results: dict[str, Result] = {}

        def finish(student: str, outcome: execute.Outcome, digest: str | None = None) -> None:
            try:
                if digest is not None:
                    grader.record(student, digest, outcome)
            except Exception as error:  # of one student: the class goes on
                grader.gradebook.db.rollback()
                outcome = execute.Outcome(problem=f"not recorded: {type(error).__name__}")
            results[student] = grader.result(student, outcome)
            progress.update()

        def work() -> Iterator[tuple[tuple[str, str], bytes]]:
            for student in names:
                if not STUDENT.fullmatch(student):
                    finish(student, execute.Outcome(problem="this folder's name is no student's"))
                    continue
                try:
                    data = cells.read_bytes(grader.submission(student))
                except CourseError as error:
                    finish(student, execute.Outcome(problem=str(error)), "")
                    continue
                digest = hashlib.sha256(data).hexdigest()
                old = None if regrade else grader.recorded(student, digest)
                if old:
                    finish(student, old)
                else:
                    yield (student, digest), data

        with tqdm(total=len(names), desc="grade", disable=None) as progress:
            for (student, digest), outcome in run_all(grader.assignment, work(), isolation,
                                                      workers, scheduler):
                finish(student, execute.Outcome(**outcome), digest)
        return [results[name] for name in names]


Work = Iterator[tuple[Hashable, bytes]]  # a key, and the notebook file
Outcomes = Iterator[tuple[Hashable, dict]]


def run_all(assignment: execute.Assignment, work: Work, isolation: str, workers: int,
            scheduler: str | None) -> Outcomes:
    """(key, outcome) for each piece of work as it is done, in any order."""
    if scheduler:
        yield from _on_cluster(assignment, work, isolation, scheduler)
    elif workers == 1:
        for key, data in work:
            yield key, execute.grade(assignment, data, isolation)
    else:
        yield from _in_processes(assignment, work, isolation, workers)


LOST = asdict(execute.Outcome(problem="its grading ended the worker process, twice"))


def _in_processes(assignment, work: Work, isolation, workers) -> Outcomes:
    """Two submissions a worker are under way at a time: memory does not grow with the class.

    When a worker is killed, what was under way is tried again, each alone and once.
    """
    work, suspects = iter(work), []
    while True:
        for key, data in suspects:
            with _pool(assignment, isolation, 1) as pool:
                try:
                    yield key, pool.submit(execute.grade_in_worker, data).result()
                except BrokenProcessPool:
                    yield key, LOST
        running: dict = {}
        with _pool(assignment, isolation, workers) as pool:
            try:
                while True:
                    for key, data in islice(work, 2 * workers - len(running)):
                        running[pool.submit(execute.grade_in_worker, data)] = key, data
                    if not running:
                        return
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        outcome = done.result()
                        yield running.pop(done)[0], outcome
            except BrokenProcessPool:
                suspects = list(running.values())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _pool(assignment, isolation, workers) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, get_context("spawn"), execute.start_worker,
                               (assignment, isolation))


def _on_cluster(assignment, work: Work, isolation, address) -> Outcomes:
    """The same on a Dask cluster, which starts a piece of work again when its worker is lost."""
    try:
        from dask.distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise CourseError("dask.distributed is not installed; pip install 'grpo-course[cluster]'"
                          ) from None
    try:
        client = Client(address, timeout="5s")
    except (OSError, ValueError) as error:
        raise CourseError(f"no Dask scheduler answers at {address}: {error}") from None
    with client:
        shared = client.scatter(assignment, broadcast=True)
        running: dict = {}

        def more(n: int):
            for key, data in islice(work, n):
                future = client.submit(execute.grade, shared, data, isolation, pure=False)
                running[future] = key
                yield future

        pending = as_completed(more(2 * sum(client.nthreads().values()) or 2))
        for done in pending:
            lost = isinstance(done.exception(), KilledWorker)
            yield running.pop(done), LOST if lost else done.result()
            for future in more(1):
                pending.add(future)


def report(results: list[Result]) -> str:
    """The results as text: a line a student, then what is unsolved, wrong or was repaired."""
    lines = []
    for result in results:
        got, possible = result.total
        lines.append(f"{cells.one_line(result.student)}: " + (result.problem or (
            f"{got:g} of {possible:g} points"
            + f", {result.late:g} of them lost for being late" * bool(result.late)
            + f"; {result.manual:g} more are graded by hand")))
        lines += [f"    {name}: {score:g} of {best:g}"
                  + (f", {cells.one_line(result.messages[name])}"
                     if name in result.messages else "")
                  for name, (score, best) in result.points.items()]
        if result.unsolved:
            lines.append(f"    not solved: {', '.join(result.unsolved)}")
        lines += [f"    repaired: {repair}" for repair in result.repairs]
    return "\n".join(lines)
