"""What a student sees of the points: after each visible check, and at the end of a chapter.

``exercises.json`` says which exercises there are; ``python -m grading release`` writes it from the
notebooks' own metadata. Which checks have passed is known to this kernel alone: a check that
passed before a restart passes again when its cell is run again. A passed check vouches for its
points; the hidden tests try more inputs.
"""

from html import escape
from pathlib import Path

from lib.files import read_json
from lib.progress import in_kernel

EXERCISES = Path(__file__).with_name("exercises.json")
GREEN_TICK = "\x1b[32m✔\x1b[0m"
HAND_IN = """<p><b>To hand in:</b> save this notebook (Ctrl+S; on Colab <i>File &gt; Download &gt;
Download .ipynb</i>) and upload <code>{chapter}.ipynb</code>, under this name, where your course
collects it. It may hold unsolved exercises: each counts for itself. On your own there is nothing to
hand in.</p>"""

_passed: set[tuple[str, str]] = set()  # (chapter, exercise), in this kernel


def exercises(chapter: str) -> dict[str, dict]:
    """Id -> title, check, points, of what a chapter grades; by_hand: its questions."""
    return read_json(EXERCISES)[chapter]


def vouched(chapter: str) -> int:
    """The points that the checks passed so far vouch for."""
    return sum(one["points"] for name, one in exercises(chapter).items()
               if (chapter, name) in _passed)


def tick(function: str) -> str:
    """Remember that the check of a function has passed; the line that says so.

    A function that is no exercise's has the first half of the line only.
    """
    said = f"{function}: the visible check passes."
    tick = GREEN_TICK if in_kernel() else "✔"
    for chapter, here in read_json(EXERCISES).items():
        for name, one in here.items():
            if one["check"] == function:
                _passed.add((chapter, name))
                total = sum(other["points"] for other in here.values() if other["check"])
                return (f"{tick} {said} Visible checks vouch for {vouched(chapter)} of {total} "
                        "points so far.")
    return f"{tick} {said}"


def closing_html(chapter: str) -> str:
    """A chapter's exercises, done and open, its questions, and how to hand in."""
    here = exercises(chapter)
    rows = {"done": [], "open": [], "questions": [], "graded": []}
    for name, one in here.items():
        state = "questions" if one["by_hand"] else "graded" if not one["check"] else (
            "done" if (chapter, name) in _passed else "open")
        rows[state].append(f"{escape(one['title'])} ({one['points']})")
    coded = sum(one["points"] for one in here.values() if one["check"])
    total = sum(one["points"] for one in here.values())
    lines = [
        f"<span style='color:green'>✔</span> <b>Done</b>, by their visible checks "
        f"({vouched(chapter)} of {coded} points): {', '.join(rows['done']) or 'none yet'}",
        f"<b>Open</b>, or not run since the kernel started: {', '.join(rows['open']) or 'none'}",
        *[f"<b>Known when it is graded</b>: {', '.join(rows['graded'])}"] * bool(rows["graded"]),
        f"<b>Read by a person</b>: {', '.join(rows['questions']) or 'none'}"]
    return (f"<p><b>This chapter has {total} points.</b></p><ul>"
            + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"
            + HAND_IN.format(chapter=chapter))


def closing(chapter: str) -> None:
    """Show the list of a chapter's exercises."""
    from IPython.display import HTML, display

    display(HTML(closing_html(chapter)))
