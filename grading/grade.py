"""The unit of work: grade one notebook, given as bytes, against one chapter.

Trusted: it holds the tests. The student's code runs in a jail (``grading.sandbox``); the tests run
here, on proxies of the student's functions. Needs no gradebook and no files of the course, so
that it runs in any worker process, on any machine.
"""

import ast
import atexit
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from enum import StrEnum

from nbformat import NotebookNode

from grading import submission
from grading.sandbox import client, isolation, protocol
from grading.sandbox.client import Forkserver, Proxy, SandboxDied, SandboxProcess
from grading.sandbox.namespace import Namespace, plain_python, silence
from lib import CourseError, scoring

SUBMISSION_SECONDS = 180.0
TEST = "<test>"  # the file name of a test's code, by which a traceback knows it


class Status(StrEnum):
    """How a test ended. PASSED has the points."""

    PASSED = "passed"
    WRONG = "wrong"
    UNSOLVED = "unsolved"  # the stub is still there
    STOPPED = "stopped"  # the function hung, crashed or flooded


@dataclass(frozen=True)
class Assignment:
    """A chapter as the grader sees it. tests: source of each test cell, hidden part included."""

    name: str
    places: list[submission.Slot]
    given: dict[str, str]
    tests: dict[str, str]
    points: dict[str, float]

    @classmethod
    def of(cls, name: str, source: NotebookNode, released: NotebookNode) -> "Assignment":
        """From the source notebook and the one generated from it."""
        marks = {cell.id: cell.metadata.get("nbgrader", {}) for cell in source.cells}
        tests = {cell.id: cell.source for cell in source.cells
                 if marks[cell.id].get("grade") and not marks[cell.id].get("solution")}
        places = submission.slots(released)
        return cls(name, places, {s.id: s.source for s in places if s.kind == "given"}, tests,
                   {i: float(marks[i]["points"]) for i in tests})


@dataclass
class Outcome:
    """How a submission did. All plain data.

    status: test -> how it ended. reasons: test -> why, where it is WRONG or STOPPED.
    sources: solution or question -> the text that was graded. problem: why nothing was.
    """

    status: dict[str, Status] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    problem: str | None = None

    def passed(self, test: str) -> bool:
        return self.status.get(test) == Status.PASSED

    def remark(self, test: str) -> str | None:
        """What the student is told of a test; None where there is nothing to tell."""
        reason = self.reasons.get(test)
        return {Status.UNSOLVED: "not solved yet",
                Status.STOPPED: f"calling your function, {reason}"}.get(
                    self.status.get(test), reason)


_forkserver: Forkserver | None = None


def warm(level: str) -> Forkserver:
    """This process's forkserver, started when it is first needed or has died."""
    global _forkserver
    if _forkserver is not None and _forkserver.process.poll() is not None:
        close()
    if _forkserver is None:
        _forkserver = Forkserver(level)
        atexit.register(close)
    return _forkserver


def close() -> None:
    """End this process's forkserver."""
    global _forkserver
    if _forkserver is not None:
        _forkserver.close()
        _forkserver = None
        atexit.unregister(close)


_job: tuple["Assignment", str] | None = None


def start_worker(assignment: "Assignment", level: str) -> None:
    """Prepare a worker process. Its forkserver starts later: an error here would tell no reason."""
    global _job
    _job = assignment, level
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process hears Ctrl-C, and ends us
    if sys.platform == "linux":
        isolation.libc.prctl(isolation.PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def grade_in_worker(data: bytes) -> Outcome:
    """grade() with what start_worker was given."""
    assignment, level = _job
    return grade(assignment, data, level)


def grade(assignment: Assignment, data: bytes, level: str = "strict", again: bool = True
          ) -> Outcome:
    """Grade one notebook file. Raises CourseError without a jail.

    again: whether to try once more when the forkserver is lost, which no notebook is to blame for.
    """
    forkserver = warm(level)
    scoring.use_scorer(scoring.TINY_SCORER)  # the tests' oracle, whatever ran before
    try:
        return _grade(forkserver, assignment, *submission.fill(
            assignment.places, submission.read_cells(data, f"{assignment.name}.ipynb")))
    except CourseError as error:
        if forkserver.process.poll() is None:
            return Outcome(problem=str(error))
        if not again:
            raise
        return grade(assignment, data, level, again=False)
    except Exception as error:  # a fault of the grader must not stop the class
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(problem=f"the grader failed: {type(error).__name__} in {where.name}, "
                               f"line {where.lineno}; please report it")


@dataclass
class Attempt:
    """What all passes over one submission share.

    until: when its time is over, on time.monotonic(). deadly: cells that have ended a jail before,
    of which only the definitions run from then on.
    """

    forkserver: Forkserver
    filled: list[submission.Filled]
    until: float
    deadly: set[str] = field(default_factory=set)


def _grade(forkserver: Forkserver, assignment: Assignment, filled: list[submission.Filled],
           repairs: list[str]) -> Outcome:
    outcome = Outcome(repairs=repairs, sources={
        f.slot.id: "\n\n".join(f.sources) for f in filled if f.sources})
    attempt = Attempt(forkserver, filled, time.monotonic() + SUBMISSION_SECONDS)
    with Session(attempt) as session:
        for place in filled:
            session.enter(place)
            if place.slot.kind == "test":
                _note(outcome, place.slot.id, *session.test(assignment.tests[place.slot.id]))
            session.extras(place)
        outcome.repairs += session.notes
    failed = {name for name, status in outcome.status.items() if status == Status.WRONG}
    if failed and any(place.extras for place in filled):
        _with_whole_extras(attempt, assignment, failed, outcome)
    if any(not outcome.passed(name) for name in failed):
        _explain(attempt, outcome)
    return outcome


def _note(outcome: Outcome, test: str, status: Status, reason: str | None) -> None:
    outcome.status[test] = status
    outcome.reasons.pop(test, None)
    if reason is not None:
        outcome.reasons[test] = reason


def _with_whole_extras(attempt: Attempt, assignment: Assignment, failed: set[str],
                       outcome: Outcome) -> None:
    """Try failed tests once more with every cell of the student's own run whole.

    An honest answer may need a table that such a cell fills.
    """
    with Session(attempt) as session:
        for place in attempt.filled:
            session.enter(place)
            if place.slot.id in failed:
                status, reason = session.test(assignment.tests[place.slot.id])
                if status == Status.PASSED:
                    _note(outcome, place.slot.id, status, reason)
            session.extras(place, whole=True)


def _explain(attempt: Attempt, outcome: Outcome) -> None:
    """Add what the visible checks say, from a jail that has seen no hidden test."""
    with Session(attempt) as session:
        for place in attempt.filled:
            session.enter(place)
            if outcome.status.get(place.slot.checks) == Status.WRONG:
                _, reason = session.test(place.slot.source, visible=True)
                outcome.reasons[place.slot.checks] = reason or outcome.reasons[place.slot.checks]
            session.extras(place)


class Session:
    """One pass over a notebook: the jail, and the trusted namespace of the tests."""

    def __init__(self, attempt: Attempt):
        self.attempt = attempt
        self.sandboxed: SandboxProcess | None = None
        self.steps: list[list] = []  # [source, whole]: what a new process has to run first
        self.notes: list[str] = []
        self.trusted = Namespace()
        self.names = [name for f in attempt.filled if f.slot.kind == "solution"
                      for name in f.slot.names]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.sandboxed:
            self.sandboxed.close()

    def enter(self, place: submission.Filled) -> None:
        """Run what is at a place: given cells on both sides, solutions in the jail."""
        if place.slot.kind == "given":
            self.step(place.slot.source, whole=False)
            with silence():
                self.trusted.run(plain_python(place.slot.source), whole=False)
            self.trusted.update({name: Proxy(self.alive, name) for name in self.names})
        elif place.slot.kind == "solution":
            for source in place.sources:
                self.step(source, whole=True, what=place.slot.id)

    def extras(self, place: submission.Filled, whole: bool = False) -> None:
        """Run the student's own cells after a place: their definitions, or all of them."""
        for source in place.extras:
            self.step(source, whole)

    def step(self, source: str, whole: bool, what: str = "") -> None:
        """Run a cell in the jail, and remember it for the next jail if this one dies."""
        whole = whole and source not in self.attempt.deadly
        try:
            raised = self.alive().run(source, whole)
        except SandboxDied as reason:
            self.attempt.deadly.add(source)
            if whole:
                self.notes.append(f"{what}: running its cell, {reason}; only its definitions "
                                  "count")
                self.step(source, whole=False, what=what)
            else:
                self.notes.append(f"{what or 'a cell'} was left out: {reason}")
            return
        except protocol.ProtocolError:
            self.notes.append(f"{what or 'a cell'} is too long")
            return
        if raised and what and raised["raised"] in ("SyntaxError", "IndentationError", "TabError"):
            self.notes.append(f"{what}: its cell is no valid Python")
        self.steps.append([source, whole])

    def alive(self) -> SandboxProcess:
        """The jailed process, or a new one that has run the same cells."""
        if self.sandboxed is None or self.sandboxed.lifeline is None:
            if time.monotonic() > self.attempt.until:
                raise SandboxDied("the submission's time was over")
            self.sandboxed = self.attempt.forkserver.fork()
            self.sandboxed.deadline = self.attempt.until
            for source, whole in self.steps:
                self.sandboxed.run(source, whole)
        return self.sandboxed

    def test(self, source: str, visible: bool = False) -> tuple[Status, str | None]:
        """Run a test or check on the trusted side: how it ends, and why, fit for a student.

        Of a hidden test only the author's message is told: no value, no input, no text that
        the student's code made, since that code has seen the inputs.
        """
        try:
            with silence():
                self.trusted.recover(lambda: exec(compiled(source), self.trusted))
        except SandboxDied as reason:
            return Status.STOPPED, str(reason)
        except NotImplementedError:
            return Status.UNSOLVED, None
        except Exception as error:
            return Status.WRONG, _told(error, visible)
        return Status.PASSED, None


_code: dict[str, object] = {}


def compiled(source: str):
    """The code of a trusted cell, compiled once a process."""
    if source not in _code:
        _code[source] = compile(ast.parse(source), TEST, "exec")
    return _code[source]


def _told(error: Exception, visible: bool) -> str:
    """An error of a test as the student may read it."""
    if getattr(error, "from_student", False):
        return submission.clean(f"your function raised {type(error).__name__}: {error}")[:500] \
            if visible else "your function raised an error"
    if isinstance(error, AssertionError):
        text = submission.clean(str(error)).strip()
        frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        if text and (visible or frames[-1] == TEST or frames[-1] == client.__file__):
            return text[:500]
        return "the result is wrong"
    return "the result has another type or shape than the task says"
