"""What the sliders, the sample browser, the lab and the preflight are made of."""

import json
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image

from grading import chapters
from lib import CourseError, models, plots, preflight, widgets
from lib.files import read_json
from lib.runs import PROBES

ROW = {"step": 0, "prompt": "The film was", "completion": " <b>", "tokens": [" <", "b", ">"],
       "logps": [-1.0, -1.0, -1.0], "ref_logps": [-0.5, -6.5, -1.0], "ended": False, "reward": 0.5,
       "score": 0.25, "gold": None, "kl": 0.0, "completion_ids": [1, 2, 3]}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".jpg"])
def test_a_saved_picture_carries_its_alternative_text(tmp_path, suffix):
    path = tmp_path / f"curves{suffix}"
    plots.save(plots.panels({("t", "x", "y"): {"a": ([0, 1], [0, 1])}}, alt="Rises by 1."), path)
    if suffix == ".png":
        with Image.open(path) as image:
            assert image.info["Description"] == "Rises by 1."
    assert suffix == ".jpg" or b"Rises by 1." in path.read_bytes()
    assert path.stat().st_size > 1000


def test_completions_are_escaped_and_the_least_likely_token_is_named():
    page = widgets.samples_html([ROW])
    assert "<b></td>" not in page and "&lt;" in page and "&gt;" in page
    assert "least likely: &#x27;b&#x27;" in page or "least likely: 'b', -6.5 nats" in page
    assert "<th scope='col'>score</th>" in page and "gold" not in page, "no column without values"
    blue = [int(x) for x in re.findall(r"background:rgb\(\d+,\d+,(\d+)\)", page)]
    assert blue[1] == 0 and blue[0] > blue[2] > 0, "the less likely, the stronger the orange"


def test_a_part_that_tells_nothing_has_a_line_in_place_of_a_column():
    rows = [ROW | {"kl_term": 0.0, "shaped": reward, "reward": reward, "score": 2 * reward,
                   "completion": str(reward)} for reward in (0.1, 0.3)]
    page = widgets.samples_html(rows[:1], rows)
    assert re.findall(r"<th scope='col'>(\w+)", page) == ["reward", "score"]
    assert "kl term is always 0.00, shaped equals the reward" in page


def test_the_tilted_distribution_is_the_optimum_of_score_minus_beta_kl():
    dice = np.random.default_rng(3)
    scores, n = dice.random(20), 20
    for beta in (0.05, 0.3, 2.0):
        def objective(p, beta=beta):
            return p @ scores - beta * (p @ np.log(p * n))

        best = widgets.tilt(list(scores), beta)
        assert best.sum() == pytest.approx(1)
        for _ in range(200):
            other = best * np.exp(0.1 * dice.standard_normal(n))
            assert objective(other / other.sum()) < objective(best)
    assert widgets.tilt([0.0, 1.0], 1e-4)[1] == pytest.approx(1)


def test_an_alarm_is_told_from_where_it_stays():
    assert widgets.first_alarm([1, 1.2, 2, 1.1, 1.8, 3], 0, 1.5) == 4
    assert widgets.first_alarm([1, 1.2], 0, 1.5) is None
    assert widgets.first_alarm([4, 1], 0.5, 9) == 1


def lab(tmp_path, capsys, gold):
    dice = random.Random(1)
    rows = []
    for step in (0, 5, 10):
        for i in range(20):
            logps = [-0.5 - step * (i % 2), -1.0 - step]
            rows.append(ROW | {"step": step, "completion": f" word{dice.random()} {i}",
                               "ref_logps": logps, "logps": [-1.0, -1.0], "tokens": ["a", "b"],
                               "ended": True, "score": 0.1 * step, "gold": gold and gold[step]})
    (tmp_path / PROBES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    widgets.hacking_lab(tmp_path)
    return capsys.readouterr().out


def test_the_lab_tells_where_gold_was_best_and_what_fired(tmp_path, capsys):
    told = lab(tmp_path, capsys, {0: 0.4, 5: 0.8, 10: 0.1})
    assert "gold is best at step 5: 0.80, and ends at 0.10; proxy ends at 1.00" in told
    assert re.search(r"reference perplexity  fires at step 5", told)
    assert re.search(r"distinct-2  never fires", told)
    assert "No gold measure" in lab(tmp_path, capsys, None)


def test_a_run_without_probes_says_so(tmp_path):
    for show in (widgets.sample_browser, widgets.hacking_lab):
        with pytest.raises(CourseError, match=r"holds no probes.jsonl; train it"):
            show(tmp_path)


def test_sliders_draw_without_a_front_end(capsys):
    widgets.signal_slider(lambda p, g: 1 - p**g - (1 - p)**g)
    widgets.kl_slider([{"prompt": "a", "score": score} for score in (0.1, 0.5, 0.9)])
    with pytest.raises(NotImplementedError, match="Exercise 3"):
        widgets.signal_slider(unsolved)


def unsolved(*args):
    raise NotImplementedError("Exercise 3: write signal_probability")


def test_the_preflight_tells_machine_tier_and_the_measured_sections(monkeypatch):
    timings = read_json(preflight.TIMINGS)
    assert set(timings["chapters"]) == set(chapters())
    for chapter, rows in timings["chapters"].items():
        text = preflight.report(chapter)
        assert max(map(len, text.splitlines())) <= 100
        assert "GiB memory free" in text and "none: offline models only" in text
        assert all(row["title"][:60] in text and row["mib"] > 200 for row in rows)
        total = sum(row["seconds"] for row in rows) / 60
        assert float(re.search(r"^  all +([\d.]+)", text, re.MULTILINE)[1]) == pytest.approx(
            total, abs=0.051)
    monkeypatch.setattr(models, "hub_reachable", lambda: True)
    assert not preflight.network(), "HF_HUB_OFFLINE is set"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert preflight.network()
    assert preflight.advice(torch.device("cpu")).startswith("tiny")
