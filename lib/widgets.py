"""Sliders and the sample browser. Without a live front end each shows its first picture."""

from html import escape

import ipywidgets
import numpy as np
from IPython.display import HTML, display

from lib import plots
from lib.evaluation import grid
from lib.monitor import read_samples


def _slider(description: str, **kwargs):
    return {"description": description, "continuous_update": False,
            "style": {"description_width": "initial"}, **kwargs}


def shaping_slider(scores: list[float], shaping) -> None:
    """Advantages of one group under the student's shaping, with a slider for T."""
    def draw(temperature):
        plots.show(plots.advantage_shaping(scores, {
            "no shaping": scores, "10 x score + 3": [10 * s + 3 for s in scores],
            f"exponential, T = {temperature:g}": shaping(list(scores), temperature)}))
        flat, curved = (np.asarray(v, float) for v in (scores, shaping(list(scores), temperature)))
        print(f"T = {temperature:g}: correlation of the shaped advantages with the unshaped "
              f"{np.corrcoef(flat, curved)[0, 1]:.3f}")

    shaping(list(scores), 0.25)  # an unsolved exercise says so here, not inside the widget
    display(ipywidgets.interactive(draw, temperature=ipywidgets.SelectionSlider(
        options=[0.1, 0.15, 0.25, 0.5, 1.0, 2.0], value=0.25, **_slider("temperature T"))))


def show_table(columns: dict[str, dict]) -> None:
    """The metrics of each named validation: rows are policies, cells value [95 % interval] n."""
    rows = [[escape(cell).replace(" [", "<br>[") for cell in row]
            for row in zip(*grid(columns), strict=True)]
    head = "".join(f"<th scope='col'>{cell}</th>" for cell in rows[0])
    body = "".join("<tr><th scope='row'>" + row[0] + "</th>"
                   + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows[1:])
    display(HTML(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"))


def samples_html(rows: list[dict]) -> str:
    """A table of completions with their rewards, all text escaped."""
    body = "".join(
        f"<tr><td style='text-align:right'>{row['reward']:.2f}</td>"
        f"<td style='text-align:left'><b>{escape(row['prompt'])}</b>"
        f"{escape(row['completion'])}</td></tr>" for row in rows)
    return f"<table><tr><th>reward</th><th style='text-align:left'>text</th></tr>{body}</table>"


def sample_browser(run_dir, rows_shown: int = 6) -> None:
    """The completions of a run by training step, with a step slider."""
    samples = read_samples(run_dir)
    steps = sorted({row["step"] for row in samples})

    def draw(step):
        display(HTML(samples_html([r for r in samples if r["step"] == step][:rows_shown])))

    display(ipywidgets.interactive(draw, step=ipywidgets.SelectionSlider(
        options=steps, value=steps[-1], **_slider("step"))))
