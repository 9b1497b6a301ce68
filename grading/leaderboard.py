"""What the policies of a class can do, for those who put themselves on the page.

    python -m grading leaderboard 06_project

Opting in is a name in the notebook: ``leaderboard_name = "..."``. The notebook is read as text and
nothing of it runs; the figures are those that autograde recorded.
"""

import re
from pathlib import Path

import jinja2

from grading import handed_in
from grading.gradebook import Grader
from lib import CourseError
from lib.files import write_text

NAME = re.compile(r"""^leaderboard_name *= *(["'])([^"'\\\n]*)\1""", re.MULTILINE)
LENGTH = 30  # characters of a name
PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ assignment }}: leaderboard</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .4rem; border-bottom: 1px solid #bbb }
td { overflow-wrap: anywhere }
.number { text-align: right; white-space: nowrap }
</style>
<h1>{{ assignment }}: leaderboard</h1>
{% if rows %}
<table>
<thead><tr><th>name<th class="number">gold<th class="number">variety<th class="number">KL, nats
<th>a review</tr></thead>
<tbody>
{% for row in rows %}
<tr><td>{{ row.name }}<td class="number">{{ "%.2f" % row.gold }}
<td class="number">{{ "%.2f" % row.variety }}<td class="number">{{ "%.1f" % row.kl }}
<td>{{ row.sample }}</tr>
{% endfor %}
</tbody>
</table>
{% else %}
<p>Nobody whose reward trained a policy has put a name here yet.</p>
{% endif %}
</html>
""")


def leaderboard(course: Path, assignment: str, out: Path | None = None) -> Path:
    """Write the page, best gold first; returns its path.

    Raises CourseError where the assignment has no capstone.
    """
    with Grader(course, assignment) as grader:
        if not any("MEASURED" in test for test in grader.assignment.tests.values()):
            raise CourseError(f"{assignment} trains no policies; the leaderboard is 06_project's")
        students = (path.parent.name for path in (course / "submitted").glob(f"*/{assignment}"))
        rows = [row for student in students if (row := _row(grader, student))]
    rows.sort(key=lambda row: (-row["gold"], row["name"]))
    out = out or course / "leaderboard" / f"{assignment}.html"
    write_text(out, PAGE.render(assignment=assignment, rows=rows))
    return out


def _row(grader: Grader, student: str) -> dict | None:
    """The pseudonym and figures of a student who wants to be on the page and is graded."""
    graded = grader.graded(student)
    measured = graded and graded["outcome"].measured
    if not measured:
        return None
    try:
        handed = handed_in.HandedIn.read(grader.submission(student))
        cells = handed_in.read_cells(handed.notebook, f"{grader.name}.ipynb")
    except CourseError:
        return None
    names = [match[2] for cell in cells if cell.kind == "code"
             for match in NAME.finditer(cell.source)]
    name = handed_in.one_line(names[-1])[:LENGTH] if names else ""
    return {"name": name, **measured} if name else None
