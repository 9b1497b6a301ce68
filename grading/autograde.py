"""Grade every submission of an assignment and report the points.

    python -m grading autograde 01_sentiment

Submissions lie in nbgrader's layout: COURSE/submitted/{student}/{assignment}/*.ipynb.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, MissingEntry
from tqdm.auto import tqdm

from grading.execute import run_submission
from lib import CourseError


@dataclass
class Result:
    """One graded submission: points by test cell, what is left to the instructor, or why not.

    points: test cell -> (got, of). manual: points of questions that a person grades.
    unsolved: the exercises that named themselves. problem: why nothing was graded.
    """

    student: str
    points: dict[str, tuple[float, float]] = field(default_factory=dict)
    manual: float = 0.0
    unsolved: list[str] = field(default_factory=list)
    problem: str | None = None

    @property
    def total(self) -> tuple[float, float]:
        got, possible = zip(*self.points.values(), strict=True) if self.points else ((), ())
        return sum(got), sum(possible)


def submitted(course: Path, assignment: str) -> list[str]:
    """Students with a folder for the assignment, sorted; raises CourseError when there is none."""
    students = sorted(p.parent.name for p in (course / "submitted").glob(f"*/{assignment}"))
    if not students:
        raise CourseError(f"no submissions for '{assignment}' under {course / 'submitted'}; put "
                          f"them at submitted/STUDENT/{assignment}/{assignment}.ipynb")
    return students


def autograde(course: Path, assignment: str, students: list[str] | None = None) -> list[Result]:
    """Grade the submissions of an assignment, one after the other; one Result each.

    A submission that cannot be graded gets a reason; the others go on.
    """
    if not (course / "gradebook.db").exists():
        raise CourseError(f"{course} holds no gradebook; run python -m grading release first")
    results = []
    for student in tqdm(students or submitted(course, assignment), "grade", disable=None):
        try:
            run_submission(course, assignment, student)
            results.append(read_result(course, assignment, student))
        except CourseError as error:
            results.append(Result(student, problem=_reason(course, assignment, student, error)))
    return results


def _reason(course: Path, assignment: str, student: str, error: CourseError) -> str:
    path = course / "submitted" / student / assignment / f"{assignment}.ipynb"
    if not path.exists():
        return f"no file {path.name}"
    try:
        nbformat.read(path, as_version=4)
    except Exception:
        return f"{path.name} is not a readable notebook"
    return f"not graded: {error}"


def read_result(course: Path, assignment: str, student: str) -> Result:
    """The grades of a submission from the gradebook, its unsolved exercises from the notebook."""
    result = Result(student)
    with Gradebook(f"sqlite:///{(course / 'gradebook.db').resolve()}") as gradebook:
        try:
            notebook = gradebook.find_submission_notebook(assignment, assignment, student)
        except MissingEntry as error:
            raise CourseError(f"no grades for {student}: {error}") from None
        for grade in sorted(notebook.grades, key=lambda g: g.name):
            if grade.cell.cell_type == "code":
                result.points[grade.name] = (grade.score, grade.max_score)
            else:
                result.manual += grade.max_score
    graded = nbformat.read(
        course / "autograded" / student / assignment / f"{assignment}.ipynb", as_version=4)
    result.unsolved = unsolved(graded)
    return result


def unsolved(notebook) -> list[str]:
    """The exercises whose NotImplementedError a notebook's outputs show, in order, once each."""
    names = [match[1] for cell in notebook.cells for output in cell.get("outputs", [])
             if output.output_type == "error" and output.ename == "NotImplementedError"
             for match in [re.match(r"(Exercise \w+):", output.evalue)] if match]
    return list(dict.fromkeys(names))


def report(results: list[Result]) -> str:
    """The results as a text table: a line a student, then what is unsolved or wrong."""
    lines = []
    for result in results:
        got, possible = result.total
        lines.append(f"{result.student}: " + (result.problem or (
            f"{got:g} of {possible:g} points; {result.manual:g} more are graded by hand")))
        lines += [f"    {name}: {score:g} of {best:g}"
                  for name, (score, best) in result.points.items()]
        if result.unsolved:
            lines.append(f"    not solved: {', '.join(result.unsolved)}")
    return "\n".join(lines)
