"""How late a submission is, and what that costs: derived each time, never stored.

Only what a platform says is evidence. A file's time in a zip is somebody's local time, or that of
the download: Canvas writes the moment at which the zip was made.
"""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

from grading.owners import Claim
from lib import CourseError
from lib.files import read_json, write_json, write_text

SAY_LATE = ("canvas", "ilias")  # platforms that mark what is late, and nothing else
PERCENTS = "late_percent.json"  # in the course folder: what a day costs, by assignment


def note(path: Path, claim: Claim, due: datetime | None) -> None:
    """Write nbgrader's timestamp.txt as far as the platform says a time, else remove it.

    "Late", but not by how much, is one second after the due date: one day begun.
    """
    when = claim.when and claim.when.astimezone(UTC)
    if when is None and claim.late and due:
        when = due + timedelta(seconds=1)
    if when:
        write_text(path, when.strftime("%Y-%m-%d %H:%M:%S UTC\n"))
    else:
        path.unlink(missing_ok=True)


def told(claims: dict[str, Claim], due: datetime | None) -> list[str]:
    """What the instructor has to know of the times, a line each; claims by student."""
    late = [student for student, claim in claims.items() if claim.late and not claim.when]
    unknown = [student for student, claim in claims.items()
               if claim.kind not in SAY_LATE and not claim.when]
    lines = [f"{student}: late, says the platform, but not by how much; "
             + ("it counts as one day" if due else "without --due it costs nothing")
             for student in late]
    if due and unknown:
        lines.append(f"the platform does not say when {len(unknown)} of the notebooks were handed "
                     "in, and a file's own time is no evidence: they count as on time; to say "
                     "otherwise write submitted/STUDENT/ASSIGNMENT/timestamp.txt")
    return lines


def percent(course: Path, assignment: str, given: float | None = None) -> float:
    """Percent of the score that a day costs; given is remembered, as the due date is."""
    path = course / PERCENTS
    known = read_json(path) if path.exists() else {}
    if given is None:
        return known.get(assignment, 0.0)
    if not 0 <= given <= 100:
        raise CourseError("--late-percent must be from 0 to 100")
    if given != known.get(assignment, 0.0):
        write_json(path, known | {assignment: given})
    return given


def reckoning(got: float, lost: float, possible: float) -> str:
    """How a score comes about: "50 - 5 late = 45 of 80"."""
    return f"{got:g} - {lost:g} late = " * bool(lost) + f"{got - lost:g} of {possible:g}"


def penalty(plugin, student: str, score: float, seconds: float, percent: float) -> float:
    """Points lost: what the course's nbgrader plugin takes, and percent for each day begun."""
    if seconds <= 0:
        return 0.0
    lost = plugin.late_submission_penalty(student, score, seconds) or 0
    return min(lost + score * percent / 100 * math.ceil(seconds / 86400), score)
