"""The bundled models are what their cards say, and can be rebuilt."""

import re
import statistics

import pytest

from lib import models, scoring
from lib.tasks.sentiment import SentimentTask
from lib.tiny import WEIGHTS
from lib.tiny.corpus import gold_score, make_reviews, word_salad
from tools.build_tiny import (
    GATES,
    HELD_OUT,
    SEED,
    cartoon_figures,
    check_gates,
    problem_figures,
    scorer_figures,
)


def card(name):
    text = (WEIGHTS / name / "README.md").read_text()
    return dict(re.findall(r"^\| (.+?) \| ([\d.,]+) \|$", text, re.MULTILINE))


def test_reviews_repeat_with_their_seed():
    assert make_reviews(50, 3) == make_reviews(50, 3) != make_reviews(50, 4)


def test_reviews_vary_and_all_ratings_occur():
    reviews = make_reviews(2000, 0)
    assert len({r.text for r in reviews}) > 1900
    assert {r.stars for r in reviews} == {1, 2, 3, 4, 5}
    assert all(r.text.startswith(r.opening) and r.text.endswith(".") for r in reviews)


def test_the_gold_score_follows_the_stars_and_wants_a_review():
    """Its own reviews pass, but for very long or repeating ones; nothing else does."""
    reviews = make_reviews(2000, 9)
    gold = [gold_score(r.text) for r in reviews]
    assert sum(value == 0 for value, r in zip(gold, reviews, strict=True) if r.stars > 2) < 40
    means = [statistics.fmean(v for v, r in zip(gold, reviews, strict=True) if r.stars == s)
             for s in (1, 2, 3, 4, 5)]
    assert means == sorted(means) and means[0] < 0.15 and means[4] > 0.85
    assert not any(map(gold_score, word_salad(200, 1)))
    assert gold_score("The film was brilliant. It is a triumph.") == 1.0
    assert gold_score("The film was awful but perfect.") == 0.0
    for hack in ("The film was brilliant and the plot was superb and the cast was superb",
                 "The film was brilliant. It is a triumph. It is a triumph.",
                 "The film was superb and " + " and ".join(
                     f"the {noun} was superb" for noun in ("plot", "cast", "music", "story",
                                                           "chase")) + "."):
        assert gold_score(hack) == 0.0


def test_all_weights_together_stay_under_10_megabytes():
    assert sum(p.stat().st_size for p in WEIGHTS.rglob("*") if p.is_file()) < 10e6


def test_the_scorers_card_repeats():
    figures = scorer_figures(*models.load_scorer(scoring.TINY_SCORER)[:2],
                             make_reviews(HELD_OUT, SEED + 1))
    written = card("star-scorer")
    for name, value in figures.items():
        assert float(written[name].replace(",", "")) == pytest.approx(value, abs=2e-3), name


def test_the_policys_card_repeats_and_its_perplexity_is_not_trivial():
    import math

    from tools.build_tiny import causal_loss, encode_causal

    model, tokenizer = models.load_policy(models.policy_path("tiny", SentimentTask))
    tokenizer.padding_side = "right"
    held_out = [("", r.text) for r in make_reviews(HELD_OUT, SEED + 1)]
    perplexity = math.exp(causal_loss(model, *encode_causal(tokenizer, held_out)))
    written = float(card("review-policy")["held-out perplexity"])
    assert perplexity == pytest.approx(written, abs=2e-3) and perplexity > 2


def test_the_cartoon_policys_card_repeats():
    figures = cartoon_figures(WEIGHTS / "cartoon-policy")
    written = card("cartoon-policy")
    for name, value in figures.items():
        assert float(written[name].replace(",", "")) == pytest.approx(value, abs=0.02), name
    assert figures["share with Musclebob Buffpants, asked plainly"] < 0.02
    assert figures["share with Musclebob Buffpants, after two examples"] > 0.2


def test_the_problem_policys_card_repeats_and_passes_its_gates():
    figures = problem_figures(WEIGHTS / "problem-policy")
    written = card("problem-policy")
    for name, value in figures.items():
        assert float(written[name].replace(",", "")) == pytest.approx(value, abs=0.03), name
    check_gates(figures)


def test_a_figure_out_of_its_bounds_fails_the_build():
    figures = {name: (low + high) / 2 for name, (low, high) in GATES.items()}
    check_gates(figures)
    for name, (low, high) in GATES.items():
        with pytest.raises(SystemExit, match=re.escape(name)):
            check_gates(figures | {name: high + 0.01 if high < 1 else low - 0.01})
