"""The one step that runs a submission: nbgrader's own autograder, in its own kernel.

NOT isolated: the kernel has the rights of whoever grades. Grade trusted submissions only.
"""

from pathlib import Path

from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory

from grading.release import config, run_nbgrader


def run_submission(course: Path, assignment: str, student: str) -> None:
    """Execute and score one submission; its grades are then in the gradebook.

    Reads ``submitted/{student}/{assignment}``, writes ``autograded/...``. Raises CourseError
    with nbgrader's reason when the notebook cannot be graded at all.
    """
    settings = config(course, assignment_id=assignment, student_id=student)
    run_nbgrader(Autograde(coursedir=CourseDirectory(config=settings), config=settings))
