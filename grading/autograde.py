"""Grade every submission of an assignment: jailed, in parallel, each recorded on its own.

    python -m grading autograde 01_sentiment

Submissions lie in nbgrader's layout: COURSE/submitted/{student}/{assignment}/{assignment}.ipynb.
This is the scheduling: which submissions, on which workers, and what happens when one dies.
``grading.grade`` grades one, ``grading.gradebook`` records it.
"""

import copy
import re
from collections.abc import Hashable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from tqdm.auto import tqdm

from grading import grade, handed_in, late
from grading.gradebook import Grader, Result, of_all, submitted, words
from grading.handed_in import HandedIn
from lib import CourseError

NOT_RECORDED = "not recorded"  # a problem of the gradebook's, with which a Result begins
STUDENT = re.compile(r"[\w@][\w.@ +'-]*")


def autograde(course: Path, assignment: str, students: list[str] | None = None, *,
              workers: int = 1, isolation: str = "strict", regrade: bool = False,
              scheduler: str | None = None, late_percent: float | None = None) -> list[Result]:
    """Grade the submissions of an assignment; one Result each, in order of students.

    Submissions that are graded already, against the same tests, are not run again unless
    regrade. A submission that cannot be graded gets a reason and no points; the others go on.
    late_percent: of the score, for a day begun after the due date; None is what was given before.
    """
    with Grader(course, assignment, late_percent) as grader:
        names = submitted(course, assignment, students)
        results: dict[str, Result] = {}

        def finish(student: str, outcome: grade.Outcome, digest: str | None = None) -> None:
            try:
                if digest is not None:
                    grader.record(student, digest, outcome, isolation)
            except Exception as error:
                grader.gradebook.db.rollback()
                if of_all(error):  # what is recorded so far stays
                    raise
                # Of one student: the class goes on.
                outcome = grade.Outcome(problem=f"{NOT_RECORDED}: {words(error)}")
            results[student] = grader.result(student, outcome)
            progress.update()

        def work() -> Iterator[tuple[tuple[str, str], HandedIn]]:
            for student in names:
                if not STUDENT.fullmatch(student):
                    finish(student, grade.Outcome(problem="this folder's name is no student's"))
                    continue
                try:
                    data = HandedIn.read(grader.submission(student))
                except CourseError as error:
                    finish(student, grade.Outcome(problem=str(error)), "")
                    continue
                old = None if regrade else grader.recorded(student, data.digest, isolation)
                if old:
                    grader.date(student)
                    finish(student, old)
                else:
                    yield (student, data.digest), data

        with tqdm(total=len(names), desc="grade", disable=None) as progress:
            for (student, digest), outcome in run_all(grader.assignment, work(), isolation,
                                                      workers, scheduler):
                finish(student, outcome, digest)
        return [results[name] for name in names]


Work = Iterator[tuple[Hashable, HandedIn]]  # a key, and what was handed in
Outcomes = Iterator[tuple[Hashable, grade.Outcome]]


def run_all(assignment: grade.Assignment, work: Work, isolation: str, workers: int,
            scheduler: str | None) -> Outcomes:
    """(key, outcome) for each piece of work as it is done, in any order."""
    if scheduler:
        yield from _on_cluster(assignment, work, isolation, scheduler)
    elif workers == 1:
        for key, data in work:
            yield key, grade.grade(assignment, data, isolation)
    else:
        yield from _in_processes(assignment, work, isolation, workers)


LOST = grade.Outcome(problem="its grading ended the worker process, twice")


def _in_processes(assignment, work: Work, isolation, workers) -> Outcomes:
    """Two submissions a worker are under way at a time: memory does not grow with the class.

    When a worker is killed, what was under way is tried again, each alone and once.
    """
    work, suspects = iter(work), []
    while True:
        for key, data in suspects:
            with _pool(assignment, isolation, 1) as pool:
                try:
                    yield key, pool.submit(grade.grade_in_worker, data).result()
                except BrokenProcessPool:
                    yield key, LOST
        running: dict = {}
        with _pool(assignment, isolation, workers) as pool:
            try:
                while True:
                    for key, data in islice(work, 2 * workers - len(running)):
                        running[pool.submit(grade.grade_in_worker, data)] = key, data
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
    return ProcessPoolExecutor(workers, get_context("spawn"), grade.start_worker,
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
        # As a piece of work, which Dask does again: scattered data is gone with its worker.
        shared = client.submit(copy.copy, assignment, pure=False)
        running: dict = {}

        def more(n: int):
            for key, data in islice(work, n):
                future = client.submit(grade.grade, shared, data, isolation, pure=False)
                running[future] = key
                yield future

        pending = as_completed(more(2 * sum(client.nthreads().values()) or 2))
        for done in pending:
            if done.cancelled():
                raise CourseError(f"the Dask scheduler at {address} gave work up; run the command "
                                  "again: what was graded is kept")
            lost = isinstance(done.exception(), KilledWorker)
            yield running.pop(done), LOST if lost else done.result()
            for future in more(1):
                pending.add(future)


def report(results: list[Result]) -> str:
    """The results as text: a line a student, then what is unsolved, wrong or was repaired."""
    lines = []
    for result in results:
        got, possible = result.total
        lines.append(f"{handed_in.one_line(result.student)}: " + (result.problem or (
            f"{late.reckoning(got, result.late, possible)} points"
            + (f"; {result.manual:g} more are graded by hand" if result.manual else ""))))
        lines += [f"    {name}: {score:g} of {best:g}"
                  + (f", {handed_in.one_line(result.messages[name])}"
                     if name in result.messages else "")
                  for name, (score, best) in result.points.items()]
        if result.unsolved:
            lines.append(f"    not solved: {', '.join(result.unsolved)}")
        lines += [f"    repaired: {repair}" for repair in result.repairs]
    return "\n".join(lines)
