"""The course's pictures. Each function returns a matplotlib Figure with its message in ``alt``.

``show(figure)`` puts the picture into a notebook with that text as its alternative; a file
written by ``save`` carries it in its metadata.
"""

import base64
import io
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lib.files import atomic
from lib.tasks.base import Task

# Okabe and Ito's palette: distinguishable with the common kinds of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
MARKERS = "osD^vP*X"
DASHES = ("-", "--", ":")


def _figure(columns: int = 1, rows: int = 1, width: float = 4.2, height: float = 3.0):
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _style(i: int) -> dict[str, str]:
    """Colour and marker of the i-th thing in a picture."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


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

    As HTML, because JupyterLab shows image/png without the text that its metadata hold.
    """
    data = base64.b64encode(png(figure)).decode()
    alt = escape(figure.alt, quote=True)
    return {"text/html": f'<img src="data:image/png;base64,{data}" alt="{alt}">',
            "text/plain": figure.alt}


def show(figure: Figure) -> None:
    """Display the figure in the notebook, with its alternative text."""
    from IPython.display import display

    display(image(figure), raw=True)


def panels(content: dict[tuple[str, str, str], dict], *, alt: str, style: str = "-",
           columns: int | None = None, xscale: str = "linear",
           names: list[str] | None = None) -> Figure:
    """Curves side by side: {(title, x label, y label): {name: (x, y)}}, y of numbers or tensors.

    style: "-" lines, "o" markers (smaller ones over larger, so that what coincides shows) or
    "o-" both. columns: panels a row, default all. names: of the values 0, 1, ... on the y axis.
    """
    columns = columns or len(content)
    figure, axes = _figure(columns, -(-len(content) // columns), 6 if columns == 1 else 4.2)
    for axis, ((title, xlabel, ylabel), curves) in zip(axes, content.items(), strict=True):
        axis.set_xscale(xscale)
        for i, (name, (x, y)) in enumerate(curves.items()):
            look = _style(i) | ({} if "o" in style else {"marker": ""})
            axis.plot(np.asarray(x), [float(v) for v in y], label=name,
                      linestyle={"o": "", "o-": "-", "-": DASHES[i % 3]}[style],
                      markersize=max(9 - 2 * i, 4), **look)
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if names:
            axis.set_yticks(range(len(names)), names, fontsize=8)
            axis.invert_yaxis()
    if len(content) > 1 and len({tuple(curves) for curves in content.values()}) == 1:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5,
                      fontsize=8, frameon=False)
    else:
        for axis in axes[:len(content)]:
            axis.legend(fontsize=8, framealpha=0.5)
    figure.alt = alt
    return figure


def score_histogram(scores: dict[str, list[float]]) -> Figure:
    """Histogram of scores in [0, 1] for each named policy, means marked."""
    figure, (axis,) = _figure(width=6)
    bins = np.linspace(0, 1, 21)
    for i, (name, values) in enumerate(scores.items()):
        axis.hist(values, bins, alpha=0.55, color=COLOURS[i], label=f"{name}, n={len(values)}")
        axis.axvline(np.mean(values), color=COLOURS[i], linestyle="--")
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
    figure, axes = _figure(4, len(shown) // 4 + 1, width=3.1, height=2.4)
    for axis, (key, title, unit) in zip(axes, shown, strict=False):
        for i, (name, rows) in enumerate(histories.items()):
            points = [(r["step"], r[key]) for r in rows if key in r]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, linestyle=DASHES[i % 3],
                          **_style(i) | {"marker": "" if points[1:] else "o"})
        axis.set(title=title, xlabel="step", ylabel=unit)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if unit == "share":
            axis.set_ylim(-0.03, 1.03)
    for axis in axes[len(shown):]:
        axis.set_axis_off()
    lines = {line.get_label(): line for axis in axes for line in axis.get_lines()}
    axes[len(shown)].legend(lines.values(), lines, loc="center left", frameon=False)
    figure.alt = "Training curves. " + "; ".join(
        f"{name}: " + ", ".join(f"{title} {rows[0][key]:.2f} to {rows[-1][key]:.2f}"
                                for key, title, _ in shown if key in rows[0] and key in rows[-1])
        for name, rows in histories.items() if rows)
    return figure


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
        top.plot(steps, [row[key] for row in proxy], label=name, linestyle=DASHES[i], **_style(i))
    top.set(title="Proxy and gold, held-out prompts", xlabel="step", ylabel="score", ylim=(0, 1.05))
    top.legend(fontsize=8)
    for i, (key, name) in enumerate(names.items()):
        values = [row[key] / proxy[0][key] for row in proxy]
        below.plot(steps, values, label=name, linestyle=DASHES[i % 3], markersize=5,
                   **_style(i + 2))
        if fired[key] is not None:
            below.plot(fired[key], values[steps.index(fired[key])], "x", color=COLOURS[i + 2],
                       markersize=10, markeredgewidth=3)
    below.axhline(1, color="grey", linewidth=0.8)
    below.set(title="Detectors (x: fires)", xlabel="step", ylabel="times its value at step 0",
              yscale="log")
    below.yaxis.set_major_formatter("{x:g}")
    below.legend(fontsize=8)
    best = max(proxy, key=lambda row: row["gold"])
    figure.alt = (
        f"Scores by step: proxy {proxy[0]['score']:.2f} to {proxy[-1]['score']:.2f}, gold "
        f"{proxy[0]['gold']:.2f}, at best {best['gold']:.2f} at step {best['step']}, at the end "
        f"{proxy[-1]['gold']:.2f}. Detectors: " + ", ".join(
            f"{name} " + (f"fires at step {fired[key]}" if fired[key] is not None else
                          "never fires") for key, name in names.items()))
    return figure


def signal(rates: dict[str, float], size: int, probability) -> Figure:
    """Chance that a group is not tied by its size, for each named base rate; size is marked."""
    sizes = list(range(2, 65))
    figure, (axis,) = _figure(width=6)
    for i, (name, rate) in enumerate(rates.items()):
        axis.plot(sizes, [probability(rate, g) for g in sizes], label=name,
                  linestyle=DASHES[i % 3], **_style(i) | {"marker": ""})
        axis.plot(size, probability(rate, size), **_style(i), markersize=9)
    axis.set(title="Which groups teach anything", xlabel="group size G", ylim=(-0.03, 1.03),
             ylabel="share of groups with a spread")
    axis.legend(fontsize=8)
    figure.alt = f"Share of groups with unequal rewards at G = {size}: " + "; ".join(
        f"{name}: {probability(rate, size):.2f}" for name, rate in rates.items())
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
    figure, (axis,) = _figure(width=6)
    order = np.argsort(scores)
    for i, (name, values) in enumerate(shaped.items()):
        values = np.asarray(values, dtype=float)
        advantage = (values - values.mean()) / (values.std(ddof=1) + 1e-4)
        axis.plot(np.asarray(scores)[order], advantage[order], markersize=10 - 3 * i, label=name,
                  **_style(i))
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.set(title="What the policy is pushed by", xlabel="score", ylabel="advantage")
    axis.legend()
    figure.alt = ("Advantage against score for one group of completions. Linear shapings lie on "
                  "one line; the exponential one rewards the best completion more and tells "
                  "the poor ones apart less.")
    return figure


def frontier(points: dict[str, dict]) -> Figure:
    """Score against KL(pi||ref) for each named validation's metrics, with 95 % bars."""
    figure, (axis,) = _figure(width=6.4, height=3.6)
    for i, (name, metrics) in enumerate(points.items()):
        (x, dx), (y, dy) = ((m["value"], [[m["value"] - m["low"]], [m["high"] - m["value"]]])
                            for m in (metrics["kl"], metrics["score"]))
        axis.errorbar(x, y, dy, dx, linestyle="", capsize=3, label=name, **_style(i))
    axis.set(title="What a score costs", ylabel="mean score", xscale="symlog",
             xlabel="KL(pi||ref), nats a completion")
    axis.legend(loc="lower right", fontsize=8)
    figure.alt = "Score against KL from the reference. " + "; ".join(
        f"{name}: score {m['score']['value']:.2f} at {m['kl']['value']:.1f} nats"
        for name, m in points.items())
    return figure


def detectors(points: dict[str, dict], task: type[Task]) -> Figure:
    """The task's detectors of each named validation as dots with their 95 % intervals."""
    metrics = task.all_metrics()
    titles = {key: metrics[key].label for key in task.detectors}
    figure, axes = _figure(3, -(-len(titles) // 3), width=3.4, height=2.4)
    for axis in axes[len(titles):]:
        axis.set_axis_off()
    for axis, (key, title) in zip(axes, titles.items(), strict=False):
        for i, metrics in enumerate(points.values()):
            m = metrics[key]
            axis.errorbar(i, m["value"], [[m["value"] - m["low"]], [m["high"] - m["value"]]],
                          linestyle="", capsize=3, **_style(i))
        axis.set_title(title)
        axis.set_xticks(range(len(points)), points, rotation=20, ha="right", fontsize=8)
        axis.set_xlim(-0.5, len(points) - 0.5)
        if key == "reference_perplexity":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            low, high = (f(m[key]["value"] for m in points.values()) for f in (min, max))
            axis.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
        if key == "kl":
            axis.set_yscale("symlog")
            axis.set_ylim(-0.5, 3 * max(m["kl"]["high"] for m in points.values()) + 1)
    figure.alt = "Detectors by policy. " + "; ".join(
        f"{name}: " + ", ".join(f"{t} {m[k]['value']:.2f}" for k, t in titles.items())
        for name, m in points.items())
    return figure


def two_fits(x, target, fits: dict[str, object]) -> Figure:
    """A two-mode target density on the grid x and the fits to it, by name."""
    figure, (axis,) = _figure(width=6)
    axis.fill_between(x, target, color="lightgrey", label="target P, two modes")
    for i, (name, density) in enumerate(fits.items()):
        axis.plot(x, density, color=COLOURS[i], linestyle=DASHES[i % 3], label=name)
    axis.set(title="One Gaussian, two modes", xlabel="x",
             ylabel="probability of a grid cell")
    axis.legend(fontsize=8)
    figure.alt = ("A density with two modes and single Gaussians fitted to it: minimising "
                  "KL(P||Q) covers both modes with a wide bell, minimising KL(Q||P) sits on one.")
    return figure
