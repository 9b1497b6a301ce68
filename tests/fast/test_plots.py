"""Laws of the course's pictures: read from the figures, which matplotlib keeps as data."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from lib import plots
from lib.tasks.sentiment import SentimentTask

RUNS = ["base", "no KL", "beta 0.2", "beta 0.2, shaped"]


def metrics(score: float, kl: float) -> dict[str, dict]:
    """A validation's metrics; every detector is the score, but for the KL."""
    def one(value):
        return {"value": value, "low": 0.9 * value, "high": 1.1 * value, "n": 50}

    return {key: one(kl if key == "kl" else score) for key in (*SentimentTask.detectors, "kl")}


POINTS = {name: metrics(0.4 + i / 10, 5.0 * i) for i, name in enumerate(RUNS)}


def curve(size: float) -> list[dict]:
    return [{"step": step, "mean_reward": size * step / 10, "score": step / 10}
            for step in range(1, 11)]


def colours(figure) -> dict[str, str]:
    """Name -> colour of a picture's named lines and bars, in its legends and beside its bars."""
    found = {line.get_label(): to_hex(line.get_color()) for axis in figure.axes
             for line in axis.get_lines() if not line.get_label().startswith("_")}
    for axis in figure.axes:
        names = [label.get_text() for label in axis.get_yticklabels()]
        bars = [to_hex(bar.get_facecolor()) for bar in axis.patches]
        if len(names) == len(bars):
            found |= dict(zip(names, bars, strict=True))
        found |= {text.get_text(): to_hex(text.get_color()) for text in axis.texts
                  if text.get_text() in RUNS}
    return found


def test_a_run_has_one_colour_in_all_pictures_and_the_base_is_grey():
    live = colours(plots.history({"no_kl": curve(1)}, SentimentTask))  # by its folder's name
    bars = colours(plots.detectors(POINTS, SentimentTask))
    some = {name: curve(1) for name in ("beta 0.2, shaped", "no KL")}  # others, in another order
    for later in (colours(plots.history(some, SentimentTask)), colours(plots.frontier(POINTS)),
                  colours(plots.panels({("t", "x", "y"): {
                      name: ([0, 1], [0, 1]) for name in ("beta 0.2", "base")}}, alt="a"))):
        assert len(later) >= 2 and later.items() <= bars.items()
    assert bars["no KL"] == live["no_kl"] and len(set(bars.values())) == len(RUNS)
    red, green, blue = (int(bars["base"][i:i + 2], 16) for i in (1, 3, 5))
    assert red == green == blue


@pytest.mark.parametrize("largest", [1.0, 3.0, 50.0, 1e4])
def test_a_shaped_reward_does_not_flatten_the_others(largest):
    """The usual curve takes a quarter of its panel's height, whatever the size of the other."""
    figure = plots.history({"plain": curve(1), "shaped": curve(largest)}, SentimentTask)
    [panel] = [axis for axis in figure.axes if "mean reward" in axis.get_title()]
    figure.draw_without_rendering()
    plain = panel.get_lines()[0]
    heights = panel.transData.transform(np.column_stack([plain.get_xdata(), plain.get_ydata()]))
    assert np.ptp(heights[:, 1]) > panel.bbox.height / 4


def test_a_bar_ends_at_its_value_which_stands_beside_it():
    figure = plots.detectors(POINTS, SentimentTask)
    for axis, key in zip(figure.axes, SentimentTask.detectors, strict=True):
        ends = [bar.get_x() + bar.get_width() for bar in axis.patches]
        assert ends == [point[key]["value"] for point in POINTS.values()]
        assert [text.get_text() for text in axis.texts] == [
            f"{v:.3g}" if v >= 10 else f"{v:.2f}" for v in ends]


def test_names_at_the_points_of_the_frontier_cover_nothing():
    crowd = {name: metrics(0.9 + i / 200, 5 + i / 10) for i, name in enumerate(
        ["no KL", "beta 0.2", "beta 0.2, shaped", "forward bonus", "backward penalty"])}
    figure = plots.frontier({"base": metrics(0.4, 0.0), **crowd}, line=["base", "beta 0.2"])
    figure.draw_without_rendering()
    [axis] = figure.axes
    boxes = [text.get_window_extent() for text in axis.texts if text.get_text()]
    assert len(boxes) == 1 + len(crowd)
    for i, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:i] + boxes[i + 1:])
        assert axis.bbox.count_contains(box.corners()) == 4
    joined = axis.get_lines()[-1]
    assert list(joined.get_xdata()) == [0.0, crowd["beta 0.2"]["kl"]["value"]]


def test_the_lab_marks_where_gold_is_best():
    rows = [{"step": step, "score": step / 20, "gold": gold, "entropy": 1.0}
            for step, gold in ((0, 0.4), (5, 0.9), (10, 0.2))]
    figure = plots.hacking(rows, {"entropy": "entropy"}, {"entropy": None})
    for axis in figure.axes:
        [line] = [line for line in axis.get_lines() if "gold is best" in line.get_label()]
        assert list(line.get_xdata()) == [5, 5] and "step 5" in line.get_label()
