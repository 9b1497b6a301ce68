"""The unit of work: grade one notebook, given as bytes, against one chapter.

Trusted: it holds the tests. The student's code runs in a jail (``grading.jail``); the tests run
here, on proxies of the student's functions. Needs no gradebook and no files of the course, so
that it runs in any worker process, on any machine.
"""

import ast
import atexit
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field

from nbformat import NotebookNode

from grading import cells, jail, sandbox, wire
from grading.runtime import Namespace, plain_python, silence
from grading.sandbox import Gone, Prisoner, Proxy, Zygote
from lib import CourseError, models, scoring

SUBMISSION_SECONDS = 180.0
TEST, UNSOLVED, STOPPED = "<test>", "not solved yet", "calling your function,"


@dataclass(frozen=True)
class Assignment:
    """A chapter as the grader sees it. tests: source of each test cell, hidden part included."""

    name: str
    places: list[cells.Slot]
    given: dict[str, str]
    tests: dict[str, str]
    points: dict[str, float]

    @classmethod
    def of(cls, name: str, source: NotebookNode, released: NotebookNode) -> "Assignment":
        """From the source notebook and the one generated from it."""
        marks = {cell.id: cell.metadata.get("nbgrader", {}) for cell in source.cells}
        tests = {cell.id: cell.source for cell in source.cells
                 if marks[cell.id].get("grade") and not marks[cell.id].get("solution")}
        places = cells.slots(released)
        return cls(name, places, {s.id: s.source for s in places if s.kind == "given"}, tests,
                   {i: float(marks[i]["points"]) for i in tests})


@dataclass
class Outcome:
    """How a submission did. All plain data.

    passed: test -> whether it has the points. messages: test -> what the student is told.
    sources: solution or question -> the text that was graded. problem: why nothing was.
    """

    passed: dict[str, bool] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


_zygote: Zygote | None = None


def warm(level: str) -> Zygote:
    """This process's zygote, started when it is first needed or has died."""
    global _zygote
    if _zygote is not None and _zygote.process.poll() is not None:
        close()
    if _zygote is None:
        _zygote = Zygote(level)
        atexit.register(close)
    return _zygote


def close() -> None:
    """End this process's zygote."""
    global _zygote
    if _zygote is not None:
        _zygote.close()
        _zygote = None
        atexit.unregister(close)


_job: tuple["Assignment", str] | None = None


def start_worker(assignment: "Assignment", level: str) -> None:
    """Prepare a worker process. It starts its zygote later: an error here would tell no reason."""
    global _job
    _job = assignment, level
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process hears Ctrl-C, and ends us
    if sys.platform == "linux":
        jail.libc.prctl(jail.PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def grade_in_worker(data: bytes) -> dict:
    """grade() with what start_worker was given."""
    assignment, level = _job
    return grade(assignment, data, level)


def grade(assignment: Assignment, data: bytes, level: str = "strict", again: bool = True) -> dict:
    """Grade one notebook file: an Outcome as a dict. Raises CourseError without a jail.

    again: whether to try once more when the zygote is lost, which is no fault of the notebook's.
    """
    zygote = warm(level)
    scoring.use_scorer(str(models.TINY_SCORER))  # the tests' oracle, whatever ran before
    try:
        return asdict(_grade(zygote, assignment, cells.fill(
            assignment.places, cells.read_cells(data, f"{assignment.name}.ipynb"))))
    except CourseError as error:
        if zygote.process.poll() is None:
            return asdict(Outcome(problem=str(error)))
        if not again:
            raise
        return grade(assignment, data, level, again=False)
    except Exception as error:  # a fault of the grader must not stop the class
        where = traceback.extract_tb(error.__traceback__)[-1]
        return asdict(Outcome(problem=f"the grader failed: {type(error).__name__} in "
                              f"{where.name}, line {where.lineno}; please report it"))


def _grade(zygote: Zygote, assignment: Assignment, filled_and_repairs) -> Outcome:
    filled, repairs = filled_and_repairs
    outcome = Outcome(repairs=repairs, sources={
        f.slot.id: "\n\n".join(f.sources) for f in filled if f.sources})
    until = time.monotonic() + SUBMISSION_SECONDS
    with Session(zygote, filled, until, set()) as session:
        for place in filled:
            session.enter(place)
            if place.slot.kind == "test":
                name = place.slot.id
                message = session.test(assignment.tests[name])
                outcome.passed[name] = message is None
                if message is not None:
                    outcome.messages[name] = message
            session.extras(place)
        outcome.repairs += session.notes
    failed = [name for name, message in outcome.messages.items()
              if message != UNSOLVED and not message.startswith(STOPPED)]
    if failed and any(place.extras for place in filled):
        _with_whole_extras(session, assignment, filled, failed, outcome)
    if set(failed) & set(outcome.messages):
        _explain(session, filled, outcome)
    return outcome


def _with_whole_extras(first: "Session", assignment: Assignment, filled: list[cells.Filled],
                       failed: list[str], outcome: Outcome) -> None:
    """Try failed tests once more with every cell of the student's own run whole.

    An honest answer may need a table that such a cell fills.
    """
    with Session(first.zygote, filled, first.until, first.deadly) as session:
        for place in filled:
            session.enter(place)
            if place.slot.id in failed and session.test(assignment.tests[place.slot.id]) is None:
                outcome.passed[place.slot.id] = True
                del outcome.messages[place.slot.id]
            session.extras(place, whole=True)


def _explain(first: "Session", filled: list[cells.Filled], outcome: Outcome) -> None:
    """Add what the visible checks say, from a jail that has seen no hidden test."""
    with Session(first.zygote, filled, first.until, first.deadly) as session:
        for place, test in zip(filled, _next_tests(filled), strict=True):
            session.enter(place)
            told = outcome.messages.get(test, UNSOLVED)
            if (place.slot.source.startswith("checks.") and told != UNSOLVED
                    and not told.startswith(STOPPED)):
                outcome.messages[test] = session.test(place.slot.source, visible=True) or told
            session.extras(place)


def _next_tests(filled: list[cells.Filled]) -> list[str | None]:
    """For each place the test that comes next."""
    found: list[str | None] = [None]
    for place in reversed(filled):
        found.append(place.slot.id if place.slot.kind == "test" else found[-1])
    return found[:0:-1]


class Session:
    """One pass over a notebook: the jail, and the trusted namespace of the tests."""

    def __init__(self, zygote: Zygote, filled: list[cells.Filled], until: float,
                 deadly: set[str]):
        """until: the end of its time. deadly: cells that have ended a jail before."""
        self.zygote, self.until, self.deadly = zygote, until, deadly
        self.prisoner: Prisoner | None = None
        self.steps: list[list] = []  # [source, whole]: what a new prisoner has to run first
        self.notes: list[str] = []
        self.trusted = Namespace()
        self.names = [name for f in filled if f.slot.kind == "solution" for name in f.slot.names]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.prisoner:
            self.prisoner.close()

    def enter(self, place: cells.Filled) -> None:
        """Run what is at a place: given cells on both sides, solutions in the jail."""
        if place.slot.kind == "given":
            self.step(place.slot.source, whole=False)
            with silence():
                self.trusted.run(plain_python(place.slot.source), whole=False)
            self.trusted.update({name: Proxy(self.alive, name) for name in self.names})
        elif place.slot.kind == "solution":
            for source in place.sources:
                self.step(source, whole=True, what=place.slot.id)

    def extras(self, place: cells.Filled, whole: bool = False) -> None:
        """Run the student's own cells after a place: their definitions, or all of them."""
        for source in place.extras:
            self.step(source, whole)

    def step(self, source: str, whole: bool, what: str = "") -> None:
        """Run a cell in the jail, and remember it for the next jail if this one dies."""
        whole = whole and source not in self.deadly
        try:
            raised = self.alive().run(source, whole)
        except Gone as reason:
            self.deadly.add(source)
            if whole:
                self.notes.append(f"{what}: running its cell, {reason}; only its definitions "
                                  "count")
                self.step(source, whole=False, what=what)
            else:
                self.notes.append(f"{what or 'a cell'} was left out: {reason}")
            return
        except wire.WireError:
            self.notes.append(f"{what or 'a cell'} is too long")
            return
        if raised and what and raised["raised"] in ("SyntaxError", "IndentationError", "TabError"):
            self.notes.append(f"{what}: its cell is no valid Python")
        self.steps.append([source, whole])

    def alive(self) -> Prisoner:
        """The prisoner, or a new one that has run the same cells."""
        if self.prisoner is None or self.prisoner.leash is None:
            if time.monotonic() > self.until:
                raise Gone("the submission's time was over")
            self.prisoner = self.zygote.fork()
            self.prisoner.deadline = self.until
            for source, whole in self.steps:
                self.prisoner.run(source, whole)
        return self.prisoner

    def test(self, source: str, visible: bool = False) -> str | None:
        """Run a test or check on the trusted side: None, or why it fails, fit for a student.

        Of a hidden test only the author's message is told: no value, no input, no text that
        the student's code made, since that code has seen the inputs.
        """
        try:
            with silence():
                self.trusted.recover(lambda: exec(compiled(source), self.trusted))
        except Gone as reason:
            return f"{STOPPED} {reason}"
        except Exception as error:
            return _told(error, visible)
        return None


_code: dict[str, object] = {}


def compiled(source: str):
    """The code of a trusted cell, compiled once a process."""
    if source not in _code:
        _code[source] = compile(ast.parse(source), TEST, "exec")
    return _code[source]


def _told(error: Exception, visible: bool) -> str:
    if isinstance(error, NotImplementedError):
        return UNSOLVED
    if getattr(error, "from_student", False):
        return cells.clean(f"your function raised {type(error).__name__}: {error}")[:500] \
            if visible else "your function raised an error"
    if isinstance(error, AssertionError):
        text = cells.clean(str(error)).strip()
        frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        if text and (visible or frames[-1] == TEST or frames[-1] == sandbox.__file__):
            return text[:500]
        return "the result is wrong"
    return "the result has another type or shape than the task says"
