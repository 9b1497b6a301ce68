"""The course's pictures. Each function returns a matplotlib Figure with its message in ``alt``.

``show(figure)`` puts the picture into a notebook with that text as its alternative; a figure
saved with ``save`` carries it as a PNG text chunk.
"""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lib.files import atomic

# Okabe and Ito's palette: distinguishable with the common kinds of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
MARKERS = "osD^vP*X"

# The column that tells what a history is about -> the four panels of its curves.
PANELS = {
    "score": (("score", "mean score", "0 to 1"),
              ("completion_length", "completion length", "tokens"),
              ("entropy", "policy entropy", "nats a token"),
              ("clipped_ratio", "completions cut off", "share")),
    "musclebob_rate": (("musclebob_rate", "persona rate", "share"),
                       ("spongebob_rate", "original-name rate", "share"),
                       ("coherent_rate", "coherent", "share"),
                       ("tied_groups", "tied groups", "share")),
    "correctness_reward_func": (("correctness_reward_func", "correctness", "0 to 2"),
                                ("strict_format_reward_func", "strict format", "0 to 0.5"),
                                ("mean_reward", "sum of the rewards", "up to 4"),
                                ("tied_groups", "tied groups", "share"))}

# The metric that tells what a validation is about -> the six panels of its detectors.
DETECTORS = {
    "score": {"score": "score", "positive_ratio": "positive ratio",
              "reference_perplexity": "reference perplexity", "distinct_2": "distinct-2",
              "self_ending": "self-ending share", "kl": "KL(pi||ref), nats"},
    "musclebob_rate": {
        "musclebob_rate": "persona rate", "spongebob_rate": "original-name rate",
        "coherent_rate": "coherent share", "reference_perplexity": "reference perplexity",
        "distinct_2": "distinct-2", "kl": "KL(pi||ref), nats"},
    "accuracy": {
        "accuracy": "accuracy, sampled", "accuracy_greedy": "accuracy, greedy",
        "format_rate": "well-formed", "unclosed_rate": "unclosed tags",
        "reference_perplexity": "reference perplexity", "kl": "KL(pi||ref), nats"}}


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
    """Write the figure atomically; the format follows the suffix (.png, .svg, .pdf)."""
    with atomic(Path(path)) as temporary:
        figure.savefig(temporary, dpi=120)


def image(figure: Figure):
    """The figure as an IPython image with alternative text."""
    from IPython.display import Image

    return Image(data=png(figure), format="png", alt=figure.alt)


def show(figure: Figure) -> None:
    """Display the figure in the notebook, with its alternative text."""
    from IPython.display import display

    display(image(figure))


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
                      linestyle={"o": "", "o-": "-", "-": ("-", "--", ":")[i % 3]}[style],
                      markersize=max(9 - 2 * i, 4), **look)
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
        axis.legend(fontsize=8, framealpha=0.5)
        if names:
            axis.set_yticks(range(len(names)), names, fontsize=8)
            axis.invert_yaxis()
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


def history(histories: dict[str, list[dict]]) -> Figure:
    """The four most telling columns of the histories by step, for each named run."""
    columns = {key for rows in histories.values() for row in rows for key in row}
    shown = next((panels for key, panels in PANELS.items() if key in columns), PANELS["score"])
    figure, axes = _figure(2, 2)
    for axis, (key, title, unit) in zip(axes, shown, strict=True):
        for i, (name, rows) in enumerate(histories.items()):
            points = [(r["step"], r[key]) for r in rows if key in r]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, **_style(i) | {"marker": ""})
        axis.set(title=title, xlabel="step", ylabel=unit)
    if any(histories.values()):
        axes[0].legend(fontsize=8)
    figure.alt = "Training curves. " + "; ".join(
        f"{name}: " + ", ".join(f"{title} {rows[0][key]:.2f} to {rows[-1][key]:.2f}"
                                for key, title, _ in shown if key in rows[0])
        for name, rows in histories.items() if rows)
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


def detectors(points: dict[str, dict]) -> Figure:
    """Every metric of each named validation as a dot with its 95 % interval."""
    there = next(iter(points.values()))
    titles = next(titles for key, titles in DETECTORS.items() if key in there)
    figure, axes = _figure(3, 2, width=3.4, height=2.4)
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
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
        axis.plot(x, density, color=COLOURS[i], linestyle=("-", "--", ":")[i % 3], label=name)
    axis.set(title="One Gaussian, two modes", xlabel="x",
             ylabel="probability of a grid cell")
    axis.legend(fontsize=8)
    figure.alt = ("A density with two modes and single Gaussians fitted to it: minimising "
                  "KL(P||Q) covers both modes with a wide bell, minimising KL(Q||P) sits on one.")
    return figure
