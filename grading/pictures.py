"""The pictures of the README and of the site's home page, drawn from the executed chapters.

    python -m grading pictures       # execute what is not, draw, keep in docs/_static
"""

import base64
import re
import textwrap
from collections.abc import Iterator
from html import unescape
from pathlib import Path

from matplotlib.figure import Figure

from grading.release import keep
from grading.walkthrough import BUILD, DOCS, executed
from lib import CourseError, plots
from lib.runs import PROBES, read_samples

# File -> chapter, and how the alternative text of the picture in it begins.
SHOWN = {"lab": ("01_sentiment", "Scores by step"),
         "padding": ("02_grpo", "With positions told"),
         "signal": ("03_persona", "The chance that a group is not tied"),
         "thinking": ("04_reasoning", "By step"),
         "clip": ("05_off_policy", "After six batches. Score with"),
         "rates": ("06_project", "Learning rate, means over seeds")}
# Column of the strip of samples -> run of chapter 1; the first shows that run's step 0.
STRIP = {"before training": "no_kl", "trained on the score alone": "no_kl",
         "trained with a KL term": "beta_0.2"}
IMAGE = re.compile(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)"')


def shown(chapter: str, beginning: str) -> tuple[bytes, str]:
    """The last picture of an executed chapter whose alternative text begins so: PNG, and text."""
    found = [(base64.b64decode(data), unescape(alt)) for cell in executed(chapter).cells
             for output in cell.get("outputs", [])
             for data, alt in IMAGE.findall(output.get("data", {}).get("text/html", ""))]
    for data, alt in reversed(found):
        if alt.startswith(beginning):
            return data, alt
    raise CourseError(f"no picture of {chapter} begins with {beginning!r}; mend SHOWN in "
                      "grading/pictures.py")


def strip(columns: dict[str, list[dict]]) -> Figure:
    """Completions of the same prompts side by side. columns: title -> a probe's row a prompt."""
    prompts = [row["prompt"] for row in next(iter(columns.values()))]
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(0, len(columns)), ylim=(len(prompts), -0.2))
    axis.set_axis_off()
    for x, (title, rows) in enumerate(columns.items()):
        colour = plots.BASE["color"] if x == 0 else plots.COLOURS[len(columns) - 1 - x]
        axis.text(x, -0.1, title, weight="bold", color=colour)
        for y, row in enumerate(rows):
            text = row["prompt"] + row["completion"] + ("" if row["ended"] else " ...")
            axis.text(x, y + 0.05, f"score {row['score']:.2f}", va="top", color=colour, fontsize=9)
            axis.text(x, y + 0.2, "\n".join(textwrap.wrap(text, 38)), va="top", fontsize=9)
    for y in range(len(prompts)):
        axis.axhline(y, color="grey", linewidth=0.5)
    figure.alt = "What the policy writes. " + " ".join(
        f"{title.capitalize()}: {'; '.join(row['prompt'] + row['completion'] for row in rows)}"
        for title, rows in columns.items())
    return figure


def samples() -> Figure:
    """The strip, from chapter 1's runs: the first completion of each of its first prompts."""
    executed("01_sentiment")
    columns = {}
    for title, run in STRIP.items():
        rows = read_samples(BUILD / "01_sentiment" / "runs" / run, PROBES)
        step = rows[0 if not columns else -1]["step"]
        first = {}
        for row in rows:
            if row["step"] == step:
                first.setdefault(row["prompt"], row)
        columns[title] = list(first.values())[:3]
    return strip(columns)


def fresh() -> Iterator[tuple[str, bytes, str]]:
    """Name, PNG and alternative text of every picture, as the chapters have it now."""
    for name, (chapter, beginning) in SHOWN.items():
        yield name, *shown(chapter, beginning)
    figure = samples()
    yield "samples", plots.png(figure), figure.alt


def pictures() -> list[Path]:
    """Draw every picture that looks otherwise than the one in docs/_static; all their files."""
    return [keep(DOCS / "_static" / f"{name}.png", data, alt) for name, data, alt in fresh()]
