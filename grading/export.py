"""The grades of an assignment as a table that a learning platform imports.

    python -m grading export 01_sentiment --format canvas > grades.csv

Everybody whom the gradebook knows has a row. A score is empty, not 0, where nothing was handed in
or nothing could be graded: the plain form says why.
"""

import csv
import io
import re
from pathlib import Path

from grading import handed_in, late
from grading.gradebook import Grader
from lib import CourseError

# A spreadsheet takes a cell that begins with one of these for a formula, and so it does a part
# that begins after what another country's settings take for the end of a cell.
FORMULA = re.compile(r"(^|[;,|])(?=\W*[=+\-@＝﹦⁼₌＋﹢⁺₊－﹣−＠﹫])")


def export(course: Path, assignment: str, form: str = "plain") -> str:
    """The grades of an assignment as CSV: plain, or as Canvas or Moodle import them."""
    with Grader(course, assignment) as grader:
        rows = [_row(grader, student) for student in grader.gradebook.students]
    if not any(row["max"] for row in rows):
        raise CourseError(f"no grades for '{assignment}'; run python -m grading autograde first")
    columns = {
        "plain": {"student": "id", "name": "name", "score": "score", "max_score": "max",
                  "late_penalty": "late", "waits_for_manual_grade": "by_hand",
                  "remark": "remark"},
        "canvas": {"Student": "name", "ID": "lms", "SIS Login ID": "id", "Section": "section",
                   assignment: "score"},
        "moodle": {"ID number": "id", "Full name": "name", "Email address": "email",
                   f"Assignment: {assignment}": "score"}}[form]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    for row in sorted(rows, key=lambda r: r["id"]):
        writer.writerow([_cell(row[name]) for name in columns.values()])
    return table.getvalue()


def _row(grader: Grader, student) -> dict:
    row = {"id": student.id, "lms": student.lms_user_id or "", "email": student.email or "",
           "name": f"{student.last_name or ''}, {student.first_name or ''}".strip(", "),
           "section": "", "score": "", "late": "", "max": "", "by_hand": "", "remark": ""}
    notebook = grader.entry(student.id)
    if notebook is None:
        handed_in = grader.submission(student.id).parent.exists()
        return row | {"remark": "not graded yet" if handed_in else "nothing handed in"}
    graded = grader.graded(student.id)
    outcome = graded and graded["outcome"]
    row["max"] = notebook.max_score
    if grader.nothing_counts(notebook, outcome):
        return row | {"remark": f"not graded: {outcome.problem}"}
    lost = grader.penalty(notebook)
    return row | {"score": notebook.score - lost, "late": lost,
                  "by_hand": notebook.needs_manual_grade,
                  "remark": late.reckoning(notebook.score, lost, notebook.max_score)
                  if lost else ""}


def _cell(value) -> str:
    """A value for a spreadsheet, which must not read a name as a formula."""
    if isinstance(value, float):
        return f"{value:g}"
    return FORMULA.sub(r"\1'", handed_in.one_line(str(value)))
