"""The unit of work: grade one notebook, given as bytes, against one chapter.

Trusted: it holds the tests. The student's code runs in a jail (``grading.sandbox``); the tests run
here, on proxies of the student's functions. Needs no gradebook and no files of the course, so
that it runs in any worker process, on any machine.

Two passes, each in jails of its own: the visible checks (V), which make all that is told, then the
hidden tests (H), which say pass or fail.
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

from grading import bounded, handed_in, submission
from grading.handed_in import HandedIn
from grading.sandbox import client, isolation, protocol
from grading.sandbox.client import Forkserver, Proxy, SandboxDied, SandboxProcess
from grading.sandbox.namespace import Namespace, silence
from lib import CourseError, scoring
from lib.checks import numbers

PASS_SECONDS = 180.0  # for each of the two passes over a submission
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
    measured: what a hidden test leaves in MEASURED, for the instructor; no feedback shows it.
    """

    status: dict[str, Status] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    measured: dict = field(default_factory=dict)

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
    if _lost():
        close()
    if _forkserver is None:
        _forkserver = Forkserver(level)
        atexit.register(close)
    return _forkserver


def _lost() -> bool:
    return _forkserver is not None and _forkserver.process.poll() is not None


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


def grade_in_worker(data: bytes | HandedIn) -> Outcome:
    """grade() with what start_worker was given."""
    assignment, level = _job
    return grade(assignment, data, level)


def grade(assignment: Assignment, data: bytes | HandedIn, level: str = "strict") -> Outcome:
    """Grade one notebook file, or what was handed in. Raises CourseError without a jail."""
    warm(level)
    handed = data if isinstance(data, HandedIn) else HandedIn(data)
    scoring.use_scorer(scoring.TINY_SCORER)  # the tests' oracle, whatever ran before
    try:
        filled, repairs = submission.fill(
            assignment.places, submission.cells_of(handed.notebook, assignment.name))
        filled[0].extras[:0] = [f"%%writefile {name}\n{text}" for name, text in handed.modules]
        return _grade(Attempt(level, filled), assignment, repairs)
    except CourseError as error:
        if _lost():
            raise
        return Outcome(problem=str(error))
    except Exception as error:  # a fault of the grader must not stop the class
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(problem=f"the grader failed: {type(error).__name__} in {where.name}, "
                               f"line {where.lineno}; please report it")


@dataclass
class Attempt:
    """What the passes over one submission share.

    until: when the pass's time is over, on time.monotonic(). deadly: cells that have ended a jail
    before, of which only the definitions run from then on.
    """

    level: str
    filled: list[submission.Filled]
    until: float = 0.0
    deadly: set[str] = field(default_factory=set)


@dataclass
class Seen:
    """What the pass of the visible checks has found, and all that is ever told of it.

    whole: the tests for which every cell of the student's own runs whole.
    """

    status: dict[str, Status] = field(default_factory=dict)
    reasons: dict[str, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)


def _grade(attempt: Attempt, assignment: Assignment, repairs: list[str]) -> Outcome:
    """Two passes, in this order: what is told is made before the code has seen a hidden input."""
    seen = _steadily(_look, attempt, assignment)
    kept = {f.slot.id: handed_in.kept("\n\n".join(f.sources), f.slot.kind == "solution")
            for f in attempt.filled if f.sources}
    outcome = Outcome(
        repairs=repairs + seen.notes + [f"{name}: {told}" for name, (_, told) in kept.items()
                                        if told],
        sources={name: text for name, (text, _) in kept.items()})
    sentences = _steadily(_examine, attempt, assignment, seen, outcome.measured)
    for test in assignment.tests:
        outcome.status[test] = Status.PASSED
        if (sentence := sentences.get(test, HIDDEN)) is not None:
            told = seen.status[test] != Status.PASSED
            outcome.status[test] = seen.status[test] if told else Status.WRONG
            if (reason := seen.reasons[test] if told else sentence) is not None:
                outcome.reasons[test] = reason
    return outcome


def _steadily(run, attempt: Attempt, *args):
    """A pass; once more where the forkserver is lost in it, which no notebook is to blame for.

    A pass that has ended is never run again: hidden inputs were seen after it, and it is told.
    """
    try:
        return run(attempt, *args)
    except CourseError:
        if not _lost():
            raise
        return run(attempt, *args)


def _look(attempt: Attempt, assignment: Assignment) -> Seen:
    """Pass V: the visible checks alone. It fixes how cells are run, and every text but one.

    An honest answer may need a table that a cell of the student's own fills. So where a check
    fails, all of these cells run whole, and what passes then is examined in that way too.
    """
    attempt.until = time.monotonic() + PASS_SECONDS
    seen = _checked(attempt, assignment, whole=False)
    failed = {test for test, status in seen.status.items() if status == Status.WRONG}
    if failed and any(place.extras for place in attempt.filled):
        again = _checked(attempt, assignment, whole=True)
        seen.whole = {test for test in failed if again.status[test] == Status.PASSED}
        seen.status |= dict.fromkeys(seen.whole, Status.PASSED)
    return seen


def _checked(attempt: Attempt, assignment: Assignment, whole: bool) -> Seen:
    """How each test's visible check ends, or the visible part of a test that has none."""
    seen = Seen()
    with Session(attempt) as session:
        for place in attempt.filled:
            session.enter(place)
            test = place.slot.checks or place.slot.id
            if test in assignment.tests and test not in seen.status:
                seen.status[test], seen.reasons[test] = session.check(place.slot.source)
            session.extras(place, whole)
        seen.notes = list(dict.fromkeys(session.notes))
    return seen


def _examine(attempt: Attempt, assignment: Assignment, seen: Seen,
             measured: dict) -> dict[str, str | None]:
    """Pass H: test -> None where it passes, else a sentence. Each hidden test runs once, but for
    those of functions that hang or crash on visible inputs.

    The code has seen hidden inputs now. What leaves it is whether it passes, and which of the
    test's own sentences tells why not: no note, no other message, no second try.
    """
    verdicts: dict[str, str | None] = {}
    attempt.until = time.monotonic() + PASS_SECONDS
    tests = {test for test in assignment.tests if seen.status[test] != Status.STOPPED}
    for whole, left in ((False, tests - seen.whole), (True, tests & seen.whole)):
        with Session(attempt) as session:
            for place in attempt.filled if left else ():
                session.enter(place)
                if place.slot.id in left:
                    verdicts[place.slot.id] = session.examine(assignment.tests[place.slot.id])
                    left.remove(place.slot.id)
                    if not left:
                        break
                session.extras(place, whole)
            measured |= session.trusted.names.get("MEASURED", {})
    return verdicts


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
                self.trusted.run(place.slot.source, whole=False)
            self.trusted.names.update({name: Proxy(self.alive, name) for name in self.names})
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
        if raised and what:
            self.notes.append(
                f"{what}: " + _stopped(str(raised["raised"]), str(raised.get("text"))))
        self.steps.append([source, whole])

    def alive(self) -> SandboxProcess:
        """The jailed process, or a new one that has run the same cells."""
        if self.sandboxed is None or self.sandboxed.lifeline is None:
            if time.monotonic() > self.attempt.until:
                raise SandboxDied("the submission's time was over")
            self.sandboxed = warm(self.attempt.level).fork()
            self.sandboxed.deadline = self.attempt.until
            for source, whole in self.steps:
                self.sandboxed.run(source, whole)
        return self.sandboxed

    def check(self, source: str) -> tuple[Status, str | None]:
        """Run a visible check on the trusted side: how it ends, and why, fit for a student."""
        error = self._error(source)
        if error is None:
            return Status.PASSED, None
        if isinstance(error, SandboxDied | bounded.Exceeded):
            return Status.STOPPED, str(error)
        if isinstance(error, NotImplementedError):
            return Status.UNSOLVED, None
        return Status.WRONG, _told(error)

    def examine(self, source: str) -> str | None:
        """Run a hidden test: None where it passes, else a sentence of its author's, or HIDDEN."""
        error = self._error(source)
        return None if error is None else _authors_sentence(error) or HIDDEN

    def _error(self, source: str) -> BaseException | None:
        try:
            with silence(), bounded.limits():
                self.trusted.recover(lambda: exec(compiled(source), self.trusted.names))
        except (Exception, SandboxDied, bounded.Exceeded) as error:
            if isinstance(error, MemoryError | bounded.Exceeded) and self.sandboxed:
                self.sandboxed.close()  # it may be in the middle of an answer
            return error
        return None


def _stopped(raised: str, text: str) -> str:
    """The first error of a solution cell, as its student is told."""
    error = handed_in.one_line(f"{raised}: {text}")[:200]
    if raised in ("SyntaxError", "IndentationError", "TabError"):
        return f"its cell is no valid Python ({error})"
    return f"its cell stopped with {error}; what it defines below that still counts"


_code: dict[str, object] = {}


def compiled(source: str):
    """The code of a trusted cell, compiled once a process."""
    if source not in _code:
        _code[source] = compile(ast.parse(source), TEST, "exec")
    return _code[source]


# One text for all that can go wrong in a hidden test and that its author has no sentence for.
HIDDEN = ("a hidden test is not passed: on other inputs it gives another value, type or shape than "
          "the task says, or raises an error, or does not end")


def _told(error: Exception) -> str:
    """Why a visible check failed, as the student may read it."""
    text = handed_in.clean(str(error)).strip()
    if getattr(error, "from_student", False):
        text = f"your function raised {type(error).__name__}: {text}"
    elif not isinstance(error, AssertionError):
        text = "the result has another type or shape than the task says"
    return text[:500] or "the result is wrong"


def _authors_sentence(error: BaseException) -> str | None:
    """What the author of a hidden test, or of the channel, wrote to the assertion that failed."""
    if not isinstance(error, AssertionError) or getattr(error, "from_student", False):
        return None
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return str(error)[:500] if last in (TEST, client.__file__, numbers.__file__) else None
