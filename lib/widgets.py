"""Sliders, the sample browser and the hacking lab.

Without a live front end each shows its first picture.
"""

import re
from html import escape
from statistics import fmean

import ipywidgets
import numpy as np
from IPython.display import HTML, display

from lib import CourseError, is_autograding, plots
from lib.evaluation import grid
from lib.intervals import text_metrics
from lib.runs import PROBES, read_samples
from lib.tasks.base import Task


def _slider(description: str, **kwargs):
    return {"description": description, "continuous_update": False,
            "style": {"description_width": "initial"}, **kwargs}


def _interactive(draw, **sliders) -> None:
    """Show draw's picture with its sliders; nothing while nbgrader executes the notebook."""
    if is_autograding():
        print("Skipped while grading.")
        return
    bundle = ipywidgets.interactive(draw, **sliders)._repr_mimebundle_()
    bundle["text/plain"] = "Sliders: run this cell again to move them."  # where no widget can live
    display(bundle, raw=True)


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
    _interactive(draw, temperature=ipywidgets.SelectionSlider(
        options=[0.1, 0.15, 0.25, 0.5, 1.0, 2.0], value=0.25, **_slider("temperature T")))


FOR_THE_LAB = ("first_token_perplexity", "entropy")


CELL = "white-space:nowrap; font-size:85%; padding:4px"  # nine columns in JupyterLab's width
# A wide table scrolls by itself; its first column stays.
SCROLLS = "overflow-x:auto"
PAPER = "var(--jp-layout-color0, var(--color-background-primary, white))"  # JupyterLab, the site
STAYS = f"position:sticky; left:0; background:{PAPER}"


def show_table(columns: dict[str, dict], task: type[Task]) -> None:
    """The metrics of each named validation of a task, as rows: value [95 % interval] n.

    Those that only the hacking lab tells of are left out: the table has to fit.
    """
    columns = {name: {key: m for key, m in metrics.items() if key not in FOR_THE_LAB}
               for name, metrics in columns.items()}
    rows = [[re.sub(r" (?=\[|n=)", "<br>", escape(cell)) for cell in row]
            for row in zip(*grid(columns, task), strict=True)]
    head = "".join(f"<th scope='col'>{cell}</th>" for cell in rows[0])
    body = "".join(f"<tr><th scope='row' style='{STAYS}'>{row[0]}</th>"
                   + "".join(f"<td style='{CELL}'>{cell}</td>" for cell in row[1:]) + "</tr>"
                   for row in rows[1:])
    display(HTML(f"<div style='{SCROLLS}'><table><thead><tr>{head}</tr></thead>"
                 f"<tbody>{body}</tbody></table></div>"))


def surprise(logp: float) -> str:
    """Background of a token by its log-prob: white at 0, full orange at -6 nats and below."""
    share = min(-logp / 6, 1)
    return f"rgb({255 - 25 * share:.0f},{255 - 96 * share:.0f},{255 - 255 * share:.0f})"


def tokens_html(row: dict) -> str:
    """A completion's tokens, each on a background that says how unlikely the reference finds it."""
    return "".join(
        f"<span style='background:{surprise(logp)};color:#000' title='{logp:.2f} nats'>"
        f"{escape(token) or '·'}</span>"
        for token, logp in zip(row["tokens"], row["ref_logps"], strict=True))


# What a probe's row holds beside the parts of its reward.
NO_PARTS = {"step", "prompt", "completion", "completion_ids", "tokens", "logps", "ref_logps",
            "ended", "kl", "reward"}
# Where there is little room a completion stands below its figures, each with its name.
STACKED = """<style>
.samples { container-type: inline-size; }
.samples td.text { text-align: left; }
@container (max-width: 620px) {
  .samples thead { display: none; }
  .samples :is(table, tbody, tr) { display: block; width: 100%; }
  .samples td { display: inline-block; }
  .samples td[data-name]::before { content: attr(data-name) " "; opacity: 0.7; }
  .samples td.text { display: block; }
}
</style>"""


def told_parts(rows: list[dict]) -> tuple[list[str], list[str]]:
    """The parts of the reward that a table of rows shows; in words, those that tell nothing in it.

    A part tells nothing if it is the same in all rows, or always the reward itself.
    """
    parts = [key for key, value in rows[0].items() if key not in NO_PARTS and value is not None]
    shown, silent = [], []
    for key in parts:
        values = [row[key] for row in rows]
        if len(rows) > 1 and len(set(values)) == 1:
            silent.append(f"{key.replace('_', ' ')} is always {values[0]:.2f}")
        elif len(rows) > 1 and values == [row["reward"] for row in rows]:
            silent.append(f"{key.replace('_', ' ')} equals the reward")
        else:
            shown.append(key)
    return shown, silent


def samples_html(rows: list[dict], all_rows: list[dict] | None = None) -> str:
    """A table of completions: reward, its parts, and the tokens with the reference's surprise.

    all_rows: of the whole run. A part that tells nothing in them has no column, but a line below.
    """
    parts, silent = told_parts(all_rows or rows)
    names = {key: key.replace("_", " ") for key in ("reward", *parts)}
    head = "".join(f"<th scope='col'>{name}</th>" for name in names.values())
    body = "".join(
        "<tr>" + "".join(f"<td data-name='{name}'>{row[key]:.2f}</td>"
                         for key, name in names.items())
        + "<td class='text' style='text-align:left'><span style='white-space:pre-wrap'>"
        f"{tokens_html(row)}</span>{'' if row['ended'] else ' ...'}"
        f"<details><summary>least likely: {escape(row['tokens'][i])!r}, "
        f"{row['ref_logps'][i]:.1f} nats; mean {fmean(row['ref_logps']):.2f}</summary>"
        + ", ".join(f"{escape(token)!r} {logp:.1f}" for token, logp in
                    zip(row["tokens"], row["ref_logps"], strict=True)) + "</details></td></tr>"
        for row in rows for i in [int(np.argmin(row["ref_logps"]))])
    return (f"{STACKED}<div class='samples'><p><b>{escape(rows[0]['prompt'])}</b></p>"
            f"<table><thead><tr>{head}<th scope='col' style='text-align:left'>completion (the "
            "stronger the orange, the less likely under the reference; ... is cut off)</th></tr>"
            f"</thead><tbody>{body}</tbody></table>"
            + f"<p>In this run {', '.join(silent)}.</p>" * bool(silent) + "</div>")


def read_probes(run_dir) -> list[dict]:
    """The rows of a run's probes.jsonl; raises CourseError when there are none."""
    if probes := read_samples(run_dir, PROBES):
        return probes
    raise CourseError(f"{run_dir} holds no {PROBES}; train it (again)")


def sample_browser(run_dir) -> None:
    """What a run answered to held-out prompts as it trained: choose a prompt, move the step."""
    probes = read_probes(run_dir)
    steps, prompts = (list(dict.fromkeys(row[key] for row in probes)) for key in (
        "step", "prompt"))

    def draw(step, prompt):
        display(HTML(samples_html([row for row in probes if (row["step"], row["prompt"]) == (
            step, prompt)], probes)))

    _interactive(
        draw, step=ipywidgets.SelectionSlider(options=steps, value=steps[-1], **_slider("step")),
        prompt=ipywidgets.Dropdown(
            options=[(" ".join(prompt.split()), prompt) for prompt in prompts],
            value=prompts[0], description="prompt"))


def signal_slider(signal_probability) -> None:
    """How often a group teaches anything, by its size and the base rate, with the student's law."""
    def draw(rate, size):
        plots.show(plots.signal({f"base rate {p:g}": p for p in dict.fromkeys(
            (rate, 0.001, 0.05))}, size, signal_probability))
        print(f"base rate {rate:g}, G = {size}: {signal_probability(rate, size):.1%} of the groups "
              "have a spread")

    signal_probability(0.5, 2)  # an unsolved exercise says so here
    _interactive(
        draw, rate=ipywidgets.SelectionSlider(
            options=[0.0, 0.001, 0.005, 0.02, 0.05, 0.2, 0.5, 0.95], value=0.02,
            **_slider("base rate p")),
        size=ipywidgets.SelectionSlider(options=[2, 4, 8, 16, 32, 64], value=8,
                                        **_slider("group size G")))


def tilt(scores: list[float], beta: float) -> np.ndarray:
    """Probabilities of sampled texts under the policy that maximises E[score] - beta KL(pi||ref).

    It is pi(x) = pi_ref(x) exp(score(x) / beta) / Z (Korbak et al. 2022); texts sampled from the
    reference stand for it with equal weights.
    """
    logits = np.asarray(scores, float) / beta
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def kl_slider(rows: list[dict]) -> None:
    """The distribution that GRPO with a KL coefficient aims at, over texts of the base.

    rows: of a validation of the base policy, several for each prompt. GRPO divides rewards by
    their group's standard deviation, so beta is weighed against score / spread.
    """
    groups = [[r["score"] for r in rows if r["prompt"] == prompt]
              for prompt in dict.fromkeys(r["prompt"] for r in rows)]
    spread = fmean(np.std(group, ddof=1) for group in groups)
    scores = [row["score"] for row in rows]

    def draw(beta):
        weights = tilt(scores, beta * spread)
        plots.show(plots.tilted(scores, list(weights), beta))
        there = weights[weights > 0]
        print(f"beta = {beta:g} at a spread of {spread:.2f}: expected score "
              f"{weights @ np.asarray(scores):.2f}, KL(pi||ref) "
              f"{there @ np.log(there * len(scores)):.2f} nats, at most "
              f"{np.log(len(scores)):.2f} with {len(scores)} texts")

    _interactive(draw, beta=ipywidgets.SelectionSlider(
        options=[0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0, 5.0], value=0.2, **_slider("beta")))


# Detector -> its name, and the range, as multiples of its value at step 0, outside which it fires.
ALARMS = {"reference_perplexity": ("reference perplexity", 0, 1.5),
          "first_token_perplexity": ("perplexity of the first token", 0, 1.5),
          "distinct_2": ("distinct-2", 0.5, np.inf),
          "self_ending": ("self-ending share", 0.8, np.inf),
          "entropy": ("entropy", 0.5, 1.5)}


def first_alarm(values: list[float], low: float, high: float) -> int | None:
    """Index from which values stay outside low to high times the first one; None for never."""
    inside = [i for i, value in enumerate(values) if low <= value / values[0] <= high]
    return inside[-1] + 1 if inside[-1] + 1 < len(values) else None


def hacking_lab(run_dir) -> None:
    """Proxy against gold over a run, and which detector of hacking fires first."""
    probes = read_probes(run_dir)
    if probes[0].get("gold") is None:
        print("No gold measure for this policy: the lab wants the tier tiny and its prompts.")
        return
    steps = list(dict.fromkeys(row["step"] for row in probes))
    metrics = []
    for step in steps:
        rows = [row for row in probes if row["step"] == step]
        metrics.append({"step": step, **{k: m["value"] for k, m in text_metrics(rows).items()},
                        **{key: fmean(row[key] for row in rows) for key in ("score", "gold")}})
    alarms = {key: first_alarm([row[key] for row in metrics], low, high)
              for key, (_, low, high) in ALARMS.items()}
    fired = {key: None if i is None else steps[i] for key, i in alarms.items()}
    plots.show(plots.hacking(metrics, {key: name for key, (name, *_) in ALARMS.items()}, fired))
    best = max(metrics, key=lambda row: row["gold"])
    print(f"gold is best at step {best['step']}: {best['gold']:.2f}, and ends at "
          f"{metrics[-1]['gold']:.2f}; proxy ends at {metrics[-1]['score']:.2f}")
    for key in sorted(ALARMS, key=lambda key: np.inf if fired[key] is None else fired[key]):
        when = "never fires" if fired[key] is None else f"fires at step {fired[key]}"
        print(f"{ALARMS[key][0]:>30}  {when}")
