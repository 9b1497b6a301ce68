"""The course's pictures. Each function returns a matplotlib Figure with its message in ``alt``.

``show(figure)`` puts the picture into a notebook with that text as its alternative; a file
written by ``save`` carries it in its metadata.
"""

import base64
import io
from collections.abc import Iterable
from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from lib.files import atomic
from lib.tasks.base import Task

# Okabe and Ito's palette: distinguishable with the common kinds of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vP*<"  # one more than colours, so that the eighth run looks like no other
DASHES = ("-", "--", ":")
BASE = {"color": "#7F7F7F", "marker": "X", "linestyle": "-"}  # the policy before training: grey
NARROW = 600  # pixels: a picture shrinks no further, its cell scrolls

# Run -> its number, in the order in which they were first drawn here: a run has one colour and one
# marker in all pictures of a notebook, whichever other runs a picture shows beside it.
_NUMBERS: dict[str, int] = {}


def _figure(columns: int = 1, rows: int = 1, width: float = 4.2, height: float = 3.0, **kwargs):
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, **kwargs)).ravel()
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _style(i: int) -> dict[str, str]:
    """Colour, marker and line of the i-th thing in a picture."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)],
            "linestyle": DASHES[i % len(DASHES)]}


def _key(run: str) -> str:
    """A run under the name of its folder: the live plot knows no other ("no_kl" is "no KL")."""
    return run.lower().replace(",", "").replace(" ", "_")


def run_styles(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Colour, marker and line of each named run; "base" is grey."""
    return {name: BASE if name == "base" else
            _style(_NUMBERS.setdefault(_key(name), len(_NUMBERS))) for name in names}


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG bytes, its alternative text in the file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Description": figure.alt})
    return buffer.getvalue()


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure atomically, its alternative text in it; the format follows the suffix.

    A .jpg has no place for the text that matplotlib would fill.
    """
    path = Path(path)
    field = {".png": "Description", ".svg": "Description", ".pdf": "Subject"}.get(path.suffix)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={field: figure.alt} if field else None)


def image(figure: Figure) -> dict[str, str]:
    """The figure as a notebook's output: a picture with its alternative text, or the text alone.

    As HTML, because JupyterLab shows image/png without the text that its metadata hold. Where there
    is little room the picture shrinks to NARROW and can be scrolled, so that it can still be read.
    """
    data = base64.b64encode(png(figure)).decode()
    alt, least = escape(figure.alt, quote=True), min(NARROW, round(100 * figure.get_figwidth()))
    return {"text/html": f'<div style="overflow-x:auto"><img src="data:image/png;base64,{data}" '
                         f'alt="{alt}" style="min-width:{least}px"></div>',
            "text/plain": figure.alt}


def show(figure: Figure) -> None:
    """Display the figure in the notebook, with its alternative text."""
    from IPython.display import display

    display(image(figure), raw=True)


def _panelled(content: dict[tuple[str, str, str], dict], columns: int | None = None):
    """A figure and its axes, one for each (title, x label, y label), with their texts."""
    columns = columns or min(len(content), 3)
    figure, axes = _figure(columns, -(-len(content) // columns), {1: 6, 2: 4.2}.get(columns, 3.2))
    for axis, (title, xlabel, ylabel) in zip(axes, content, strict=False):
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    for axis in axes[len(content):]:
        axis.set_axis_off()
    return figure, axes[:len(content)]


def _explained(figure: Figure, axes, alt: str) -> Figure:
    """The figure with its alternative text and its legend: below, where one explains all panels."""
    figure.alt = alt
    legends = [axis.get_legend_handles_labels() for axis in axes]
    longest = max(legends, key=lambda legend: len(legend[1]))
    if len(axes) > 1 and all(longest[1][:len(names)] == names for _, names in legends):
        figure.legend(*longest, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    else:
        for axis in axes:
            axis.legend(fontsize=8, framealpha=0.5)
    return figure


def panels(content: dict[tuple[str, str, str], dict], *, alt: str, style: str = "-",
           columns: int | None = None, xscale: str = "linear",
           names: list[str] | None = None) -> Figure:
    """Curves side by side: {(title, x label, y label): {name: (x, y)}}, y of numbers or tensors.

    style: "-" lines, "o" markers (smaller ones over larger, so that what coincides shows) or
    "o-" both. columns: panels a row, default three at most. names: of the values 0, 1, ... on the y
    axis. Curves that are called like runs of other pictures look as they do there.
    """
    figure, axes = _panelled(content, columns)
    for axis, curves in zip(axes, content.values(), strict=True):
        axis.set_xscale(xscale)
        drawn = {*map(_key, curves)} <= {"base", *_NUMBERS}
        looks = run_styles(curves) if drawn else {n: _style(i) for i, n in enumerate(curves)}
        for i, (name, (x, y)) in enumerate(curves.items()):
            look = looks[name] | {"o": {"linestyle": ""}, "o-": {"linestyle": "-"},
                                  "-": {"marker": ""}}[style]
            axis.plot(np.asarray(x), [float(v) for v in y], label=name,
                      markersize=max(9 - 2 * i, 4), **look)
        if names:
            axis.set_yticks(range(len(names)), names, fontsize=8)
            axis.invert_yaxis()
    return _explained(figure, axes, alt)


def seeds(content: dict[tuple[str, str, str], dict], *, alt: str, xscale: str = "linear",
          log: Iterable[str] = (), title: str = "") -> Figure:
    """Curves of several seeds: {(title, x label, y label): {name: (x, rows)}}, a row a seed.

    Each seed is a thin line, their mean a bold one of the same colour. x: of all seeds, or a row a
    seed too. log: the titles of panels whose y axis is logarithmic above 1. title: of the figure.
    """
    figure, axes = _panelled(content)
    for axis, (label, *_), curves in zip(axes, content, content.values(), strict=True):
        axis.set_xscale(xscale)
        ys = [y for _, rows in curves.values() for row in rows for y in row]
        for i, (name, (x, rows)) in enumerate(curves.items()):
            look = (BASE if name == "base" else _style(i)) | {"linestyle": "-"}
            xs = x if np.ndim(x[0]) else [x] * len(rows)
            for at, row in zip(xs, rows, strict=True) if len(rows) > 1 else ():
                axis.plot(at, row, **look | {"marker": ""}, linewidth=0.7, alpha=0.5)
            axis.plot(_mean(xs), _mean(rows), **look, linewidth=2.2, markersize=4, label=name)
        if len({*map(tuple, xs)}) == 1 and len(xs[0]) < 9:  # few places, of all: each is named
            axis.set_xticks(xs[0], [f"{at:g}" for at in xs[0]])
            axis.minorticks_off()
        if label in log:
            axis.set_yscale("symlog", linthresh=1)
            axis.set_ylim(-0.03, max(1.5, axis.get_ylim()[1]))
            axis.yaxis.set_major_formatter("{x:g}")
        elif min(ys) >= 0 and 0.5 < max(ys) <= 1:  # shares: the whole scale
            axis.set_ylim(-0.03, 1.05)
    if title:
        figure.suptitle(title)
    return _explained(figure, axes, alt)


def _mean(rows) -> list[float]:
    """The mean at each place that all rows have."""
    return [float(np.mean(at)) for at in zip(*rows, strict=False)]


def score_histogram(scores: dict[str, list[float]]) -> Figure:
    """Histogram of scores in [0, 1] for each named policy, means marked."""
    figure, (axis,) = _figure(width=6)
    bins = np.linspace(0, 1, 21)
    for name, look in run_styles(scores).items():
        axis.hist(scores[name], bins, alpha=0.55, color=look["color"],
                  label=f"{name}, n={len(scores[name])}")
        axis.axvline(np.mean(scores[name]), color=look["color"], linestyle="--")
    axis.set(title="Scores of sampled reviews", xlabel="score (0 = one star, 1 = five stars)",
             ylabel="completions")
    axis.legend()
    figure.alt = "Histogram of scores. " + "; ".join(
        f"{name}: mean {np.mean(v):.2f}, {np.mean(np.array(v) > 0.5):.0%} above one half"
        for name, v in scores.items())
    return figure


def comparison(results: dict[str, dict], task: type[Task]) -> Figure:
    """The picture of named validations side by side: a histogram where the task has one."""
    if task.histogram:
        return score_histogram({name: [row[task.histogram] for row in result["rows"]]
                                for name, result in results.items()})
    return detectors({name: result["metrics"] for name, result in results.items()}, task)


def history(histories: dict[str, list[dict]], task: type[Task]) -> Figure:
    """The most telling columns of the histories by step, for each named run of a task."""
    columns = {key for rows in histories.values() for row in rows for key in row}
    shown = [(key, *metric.panel) for key, metric in task.all_metrics().items()
             if metric.panel and key in columns]
    figure, axes = _figure(3, len(shown) // 3 + 1, width=2.8, height=2.1)
    for axis, (key, title, unit) in zip(axes, shown, strict=False):
        for name, look in run_styles(histories).items():
            points = [(r["step"], r[key]) for r in histories[name] if key in r]
            if points:
                axis.plot(*zip(*points, strict=True), label=name,
                          **look | {"marker": "" if points[1:] else look["marker"]})
        axis.set(title=title, xlabel="step", ylabel=unit)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if unit == "share":
            axis.set_ylim(-0.03, 1.03)
        else:
            _keep_readable(axis)
    for axis in axes[len(shown):]:
        axis.set_axis_off()
    lines = {line.get_label(): line for axis in axes for line in axis.get_lines()}
    axes[len(shown)].legend(lines.values(), lines, loc="center left", frameon=False)
    figure.alt = "Training curves. " + "; ".join(
        f"{name}: " + ", ".join(f"{title} {rows[0][key]:.2f} to {rows[-1][key]:.2f}"
                                for key, title, _ in shown if key in rows[0] and key in rows[-1])
        for name, rows in histories.items() if rows)
    return figure


def _keep_readable(axis) -> None:
    """A logarithmic axis beyond the usual values where one curve dwarfs the others.

    A shaped reward goes to fifty where the others end at one; the others would lie flat.
    """
    sizes = sorted(np.abs(line.get_ydata()).max() for line in axis.get_lines())
    usual = next((low for low, high in pairwise(sizes) if high > 5 * low > 0), None)
    if usual:
        axis.set_yscale("symlog", linthresh=usual, linscale=2)
        axis.set_yticks([0, usual, *(10.0**i for i in range(-2, 6)
                                     if 2 * usual < 10**i < sizes[-1] / 2), sizes[-1]])
        axis.yaxis.set_major_formatter(
            lambda x, _: f"{x:.2g}" if abs(x) < 100 else f"{x:,.0f}")  # .2g: 1.3e+02
        axis.set_title(f"{axis.get_title()} (log above {usual:.2g})", fontsize=10)


def hacking(proxy: list[dict], names: dict[str, str], fired: dict[str, int | None]) -> Figure:
    """Proxy and gold score by step on one axis, and the detectors beside it, each relative to
    its value at step 0, a cross where it fires.

    proxy: one row of metrics a probed step. names: detector -> its name. fired: detector -> the
    step from which its alarm stays on, or None.
    """
    figure, (top, below) = _figure(2, width=5.2, height=3.6)
    steps = [row["step"] for row in proxy]
    for i, (key, name) in enumerate((("score", "proxy: what is trained on"),
                                     ("gold", "gold: nobody trains on it"))):
        top.plot(steps, [row[key] for row in proxy], label=name, **_style(i))
    top.set(title="Proxy and gold, held-out prompts", xlabel="step", ylabel="score", ylim=(0, 1.05))
    for i, (key, name) in enumerate(names.items()):
        values = [row[key] / proxy[0][key] for row in proxy]
        below.plot(steps, values, label=name, markersize=5, **_style(i + 2))
        if fired[key] is not None:
            below.plot(fired[key], values[steps.index(fired[key])], "x", color=COLOURS[i + 2],
                       markersize=10, markeredgewidth=3)
    below.axhline(1, color="grey", linewidth=0.8)
    below.set(title="Detectors (x: fires)", xlabel="step", ylabel="times its value at step 0",
              yscale="log")
    below.yaxis.set_major_formatter("{x:g}")
    best = max(proxy, key=lambda row: row["gold"])
    for axis in (top, below):
        axis.axvline(best["step"], color=_style(1)["color"], linestyle="--", alpha=0.6,
                     label=f"gold is best: step {best['step']}")
        axis.legend(fontsize=8)
    figure.alt = (
        f"Scores by step: proxy {proxy[0]['score']:.2f} to {proxy[-1]['score']:.2f}, gold "
        f"{proxy[0]['gold']:.2f}, at best {best['gold']:.2f} at step {best['step']}, at the end "
        f"{proxy[-1]['gold']:.2f}. Detectors: " + ", ".join(
            f"{name} " + (f"fires at step {fired[key]}" if fired[key] is not None else
                          "never fires") for key, name in names.items()))
    return figure


def signal(rates: dict[str, float], size: int, probability) -> Figure:
    """Chance that a group is not tied by its size, for each named base rate; size is marked."""
    sizes = range(2, 65)
    figure = panels({("Which groups teach anything", "group size G",
                      "share of groups with a spread"): {
        name: (sizes, [probability(rate, g) for g in sizes]) for name, rate in rates.items()}},
        alt=f"Share of groups with unequal rewards at G = {size}: " + "; ".join(
            f"{name}: {probability(rate, size):.2f}" for name, rate in rates.items()))
    figure.axes[0].axvline(size, color="grey", linestyle="--", linewidth=0.8)
    figure.axes[0].set_ylim(-0.03, 1.03)
    return figure


def tilted(scores: list[float], weights: list[float], beta: float) -> Figure:
    """Reference probabilities of some texts, all equal, and the optimum's, by score."""
    figure, (axis,) = _figure(width=6)
    order = np.argsort(scores)
    axis.bar(range(len(order)), np.asarray(weights)[order], color=COLOURS[0],
             label=f"optimum at beta = {beta:g}")
    axis.axhline(1 / len(order), color=COLOURS[1], linestyle="--", label="reference")
    axis.set(title="What training aims at", xlabel="sampled texts, worst to best score",
             ylabel="probability", xticks=[])
    axis.legend(fontsize=8)
    figure.alt = (f"Probabilities of {len(order)} texts by score. Under the reference each has "
                  f"{1 / len(order):.3f}; under the optimum for beta {beta:g} the best has "
                  f"{max(weights):.3f} and the worst {min(weights):.4f}.")
    return figure


def advantage_shaping(scores: list[float], shaped: dict[str, list[float]]) -> Figure:
    """Group-normalised advantages of one group under each named shaping of its scores."""
    order = np.argsort(scores)

    def advantages(values):
        values = np.asarray(values, dtype=float)[order]
        return (values - values.mean()) / (values.std(ddof=1) + 1e-4)

    return panels(
        {("What the policy is pushed by", "score", "advantage"): {
            name: (np.asarray(scores)[order], advantages(values))
            for name, values in shaped.items()}}, style="o-",
        alt="Advantage against score for one group of completions. Linear shapings lie on one "
            "line; the exponential one rewards the best completion more and tells the poor ones "
            "apart less.")


def frontier(points: dict[str, dict], line: Iterable[str] = ()) -> Figure:
    """Score against KL(pi||ref) for each named validation's metrics, with 95 % bars.

    line: the names of those that differ in one setting only, in its order: joined by a line.
    """
    figure, (axis,) = _figure(width=7, height=4)
    at = {name: tuple(metrics[key]["value"] for key in ("kl", "score"))
          for name, metrics in points.items()}
    for name, look in run_styles(points).items():
        bars = [[[m["value"] - m["low"]], [m["high"] - m["value"]]]
                for m in (points[name]["score"], points[name]["kl"])]
        axis.errorbar(*at[name], *bars, capsize=3, **look | {"linestyle": ""})
    joined = [at[name] for name in line if name in at]
    if joined:
        axis.plot(*zip(*joined, strict=True), color=BASE["color"], linestyle=":", zorder=0)
    axis.set(title="What a score costs", ylabel="mean score", xscale="symlog",
             xlabel="KL(pi||ref), nats a completion (log above 1)")
    axis.set_xlim(min(x for x, _ in at.values()) - 0.1, 2 * max(x for x, _ in at.values()) + 1)
    axis.margins(y=0.3)
    axis.xaxis.set_major_formatter("{x:g}")
    _label(figure, axis, at)
    figure.alt = "Score against KL from the reference. " + "; ".join(
        f"{name}: score {y:.2f} at {x:.1f} nats" for name, (x, y) in at.items())
    return figure


def _label(figure: Figure, axis, at: dict[str, tuple[float, float]]) -> None:
    """Write each name beside its point, where it covers no point and no other name."""
    figure.draw_without_rendering()  # boxes are known after the layout only
    taken = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6)
             for x, y in axis.transData.transform(list(at.values()))]
    places = [(dx, dy) for far in (9, 20, 32, 44, 56, 68) for dy in (far, -far) for dx in (8, -8)]
    for name, look in run_styles(at).items():
        for place in places:
            text = axis.annotate(name, at[name], place, textcoords="offset points", va="center",
                                 ha="left" if place[0] > 0 else "right", color=look["color"])
            box = text.get_window_extent()
            if axis.bbox.count_contains(box.corners()) == 4 and not box.count_overlaps(taken):
                break
            text.remove()
        else:
            continue  # no room at all; the alternative text has it
        taken.append(box)
        axis.annotate("", at[name], place, textcoords="offset points", arrowprops={
            "arrowstyle": "-", "color": look["color"], "alpha": 0.4})


def bars(points: dict[str, dict[str, dict]], alt: str) -> Figure:
    """Bars with values and 95 % intervals: {name: {title: interval}}, a panel a title.

    alt: what the alternative text begins with; the values follow.
    """
    titles = list(next(iter(points.values())))
    figure, axes = _figure(3, -(-len(titles) // 3), width=3, height=0.7 + 0.25 * len(points),
                           sharey=True)
    for axis in axes[len(titles):]:
        axis.set_axis_off()
    looks = run_styles(points)
    for axis, title in zip(axes, titles, strict=False):
        for i, (name, intervals) in enumerate(points.items()):
            m = intervals[title]
            axis.barh(i, m["value"], color=looks[name]["color"], alpha=0.75)
            spread = [[max(0, m["value"] - m["low"])], [max(0, m["high"] - m["value"])]]
            axis.errorbar(m["value"], i, xerr=spread, color="black", linewidth=1, capsize=2)
            axis.annotate(f"{m['value']:.3g}" if m["value"] >= 10 else f"{m['value']:.2f}",
                          (m["high"], i), (4, 0), textcoords="offset points", va="center",
                          fontsize=8)
        axis.set_title(title)
        axis.grid(axis="y", alpha=0)
        axis.set_yticks(range(len(points)), points, fontsize=9)
        highs = sorted(m[title]["high"] for m in points.values())
        if highs[-1] > 10 * max(highs[len(highs) // 2], 1):  # the largest would hide the others
            axis.set_xscale("symlog")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.set_xlim(0, 4 * highs[-1])
        else:
            axis.set_xlim(0, 1.3 * highs[-1] or 1)
    axes[0].invert_yaxis()  # shared by all
    figure.alt = f"{alt} " + "; ".join(
        f"{name}: " + ", ".join(f"{title} {m[title]['value']:.2f}" for title in titles)
        for name, m in points.items())
    return figure


def detectors(points: dict[str, dict], task: type[Task]) -> Figure:
    """The task's detectors of each named validation, as ``bars``."""
    labels = {key: task.all_metrics()[key].label for key in task.detectors}
    return bars({name: {label: metrics[key] for key, label in labels.items()}
                 for name, metrics in points.items()}, "Detectors by policy.")
