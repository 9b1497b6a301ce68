"""The one step that runs a submission: nbgrader's own autograder, in its own kernel.

NOT isolated: the kernel has the rights of whoever grades. Grade trusted submissions only.
"""

import logging
from pathlib import Path

from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory

from grading.release import config


def run_submission(course: Path, assignment: str, student: str) -> None:
    """Execute and score one submission; its grades are then in the gradebook.

    Reads ``submitted/{student}/{assignment}``, writes ``autograded/...``. Raises whatever
    nbgrader raises when the notebook cannot be graded at all.
    """
    settings = config(course, assignment_id=assignment, student_id=student)
    app = Autograde(coursedir=CourseDirectory(config=settings), config=settings)
    app.force, app.log.level = True, logging.CRITICAL
    app.start()
