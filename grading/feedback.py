"""What goes back to students: an HTML page and a JSON file a submission.

    python -m grading feedback 01_sentiment

Points, the visible checks' messages, what was repaired, the instructor's comments. No hidden
test, no output of the submission: only text that the grader or the instructor wrote. It reads
the autograded notebook and the gradebook, so it can be repeated after manual grading.
"""

import contextlib
from pathlib import Path

import jinja2

from grading import handed_in, late
from grading.gradebook import NO_RESPONSE, Grader, submitted
from lib import CourseError
from lib.files import write_json, write_text

PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ assignment }}: {{ student }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .4rem; border-bottom: 1px solid #bbb }
td:first-child, td.points { white-space: nowrap }
td.points { text-align: right }
</style>
<h1>{{ assignment }}</h1>
{% if score is none %}
<p>{{ student }}: nothing could be graded: {{ problem }}. Your instructor sees the same line.</p>
{% else %}
<p>{{ student }}: <strong>
{{- reckoning(score + late_penalty, late_penalty, max_score) }} points</strong>
{%- if waiting %}; still to be graded by hand: {{ waiting }}{% endif %}.</p>
{% if problem %}<p>Nothing could be graded by the tests: {{ problem }}.</p>{% endif %}
<table>
<thead><tr><th>exercise<th>points<th>remarks</tr></thead>
<tbody>
{% for row in exercises %}
<tr><td>{{ row.title }}<td class="points">{{ "-" if row.points is none else "%g" % row.points }}
 of {{ "%g" % row.max_points }}<td>{{ row.remark }}</tr>
{% endfor %}
</tbody>
</table>
{% endif %}
{% if repairs %}
<h2>What was put right before grading</h2>
<ul>{% for repair in repairs %}<li>{{ repair }}{% endfor %}</ul>
{% endif %}
</html>
""")


def feedback(course: Path, assignment: str, students: list[str] | None = None) -> list[Path]:
    """Write the feedback of every graded submission; returns the pages, at least one."""
    pages = []
    with Grader(course, assignment) as grader:
        for student in submitted(course, assignment, students):
            content = page_content(grader, student)
            if content is None:
                continue  # not graded yet
            page = course / "feedback" / student / assignment / f"{assignment}.html"
            write_text(page, PAGE.render(content, reckoning=late.reckoning))
            write_json(page.with_suffix(".json"), content)
            for name in handed_in.EXCHANGE:
                with contextlib.suppress(CourseError):  # not handed in through the exchange
                    data = handed_in.read_bytes(grader.submission(student).with_name(name))
                    write_text(page.with_name(name), data.decode("utf-8", "replace"))
            pages.append(page)
    if not pages:
        raise CourseError(f"nothing is graded yet; run python -m grading autograde {assignment}")
    return pages


def page_content(grader: Grader, student: str) -> dict | None:
    """The feedback of one submission as plain data; None while it is not graded."""
    graded = grader.graded(student)
    if graded is None:  # first: a folder's name may be none that a database takes
        return None
    notebook = grader.entry(student)
    if notebook is None:
        return None
    outcome = graded["outcome"]
    content = {"student": student, "assignment": grader.name, "max_score": notebook.max_score,
               "problem": outcome.problem, "repairs": outcome.repairs}
    if grader.nothing_counts(notebook, outcome):  # no 0, which would be a grade
        return content | {"score": None, "late_penalty": 0.0, "waiting": 0, "exercises": []}
    comments = {c.name: c.comment or "" for c in notebook.comments}
    grades = {g.name: g for g in notebook.grades}
    rows = []
    for cell in grader.released.cells:
        grade = grades.get(cell.id)
        if grade is None:
            continue
        waits = grade.needs_manual_grade and grade.manual_score is None
        remark = outcome.remark(cell.id) or ""
        comment = comments.get(cell.id, comments.get(cell.id.removeprefix("test_"), ""))
        remarks = [remark, "" if remark and comment == NO_RESPONSE else comment]
        rows.append({
            "exercise": cell.id, "title": grader.titles.get(cell.id, cell.id),
            "points": None if waits else grade.score, "max_points": grade.max_score,
            "remark": handed_in.clean("; ".join(filter(None, remarks)))[:2000]})
    penalty = grader.penalty(notebook)
    return content | {"score": notebook.score - penalty, "late_penalty": penalty,
                      "waiting": sum(row["points"] is None for row in rows), "exercises": rows}
