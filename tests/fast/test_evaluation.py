import math
import random
import statistics
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib import CourseError
from lib.intervals import (
    Z95,
    distinct_2,
    mean_interval,
    perplexity_interval,
    rate_interval,
    surprise_interval,
    text_metrics,
)
from lib.rollout import sample, sampled_rows
from lib.tasks import sentiment


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_are_where_the_normal_test_just_rejects(hits_n):
    """The bounds b solve |p - b| = z sqrt(b (1 - b) / n): Wilson's definition."""
    hits, n = hits_n
    m = rate_interval(hits, n)
    slack = 1e-9  # of rounding
    assert -slack <= m["low"] <= m["value"] + slack and m["value"] - slack <= m["high"] <= 1 + slack
    for bound in (m["low"], m["high"]):
        spread = Z95 * math.sqrt(max(0, bound * (1 - bound)) / n)
        assert abs(m["value"] - bound) == pytest.approx(spread, abs=1e-6)


def test_mean_interval_holds_the_truth_about_95_times_in_100():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(2000, 50, generator=generator).tolist()
    hits = sum(m["low"] <= 0 <= m["high"] for m in map(mean_interval, draws))
    assert 0.92 < hits / 2000 < 0.97


def test_perplexity_weighs_tokens_not_texts():
    m = perplexity_interval([[-1.0] * 9, [-2.0]])
    assert m["value"] == pytest.approx(math.exp(1.1)) and m["low"] < m["value"] < m["high"]


def test_entropy_a_token_of_a_policy_that_decides_its_length():
    """Enumerated: a policy that ends at once with probability 1 - q, and goes on with q.

    Its texts have k tokens with probability q^(k-1) (1 - q); each token's entropy is H(q).
    """
    q, texts = 0.9, 4000
    entropy = -q * math.log(q) - (1 - q) * math.log(1 - q)
    dice, logps = random.Random(0), []
    for _ in range(texts):
        row = []
        while dice.random() < q:
            row.append(math.log(q))
        logps.append([*row, math.log(1 - q)])
    m = surprise_interval(logps)
    assert m["low"] <= entropy <= m["high"] and m["high"] - m["low"] < 0.05 * entropy
    means = mean_interval([-statistics.fmean(row) for row in logps])
    assert means["low"] > 1.2 * entropy, "the mean of means is another number"


def test_distinct_2_by_hand():
    assert distinct_2(["a b c", "a b d"]) == pytest.approx(3 / 4)
    assert distinct_2(["so so so so"]) == pytest.approx(1 / 3)
    assert distinct_2(["", "one"]) == 1.0


def test_train_and_evaluation_prompts_are_disjoint():
    train, held_out = sentiment.prompts("train"), sentiment.prompts("eval")
    assert not set(train) & set(held_out)
    assert len(set(train)) == len(train) == 168 and len(set(held_out)) == 40


def test_sampling_repeats_with_its_seed_and_leaves_the_global_generator_alone(tiny):
    prompts = sentiment.prompts("eval")[:8]
    state = torch.get_rng_state()
    one, two, other = (sample(*tiny, prompts, temperature=1.0, max_completion_length=20, seed=s)
                       for s in (1, 1, 2))
    assert one == two != other
    assert torch.equal(state, torch.get_rng_state())


def test_sampling_does_what_training_does_whatever_the_model_would_do_by_itself(tiny, monkeypatch):
    """Qwen's instruct models come with a repetition penalty and two end tokens."""
    policy, tokenizer = tiny
    how = {"temperature": 0.0, "max_completion_length": 20, "seed": 0}
    plain = sample(*tiny, sentiment.prompts("eval")[:8], **how)
    monkeypatch.setattr(policy.generation_config, "repetition_penalty", 1.5)
    assert sample(*tiny, sentiment.prompts("eval")[:8], **how) == plain
    second = plain[0][2]
    monkeypatch.setattr(policy.generation_config, "eos_token_id",
                        [tokenizer.eos_token_id, second])
    assert sample(*tiny, sentiment.prompts("eval")[:8], **how) == [
        row[:row.index(second) + 1] if second in row else row for row in plain]
    [row] = sampled_rows(policy, tokenizer, policy, sentiment.prompts("eval")[:1],
                         temperature=0.0)
    assert row["ended"] and row["completion_ids"][-1] == second


def test_a_policy_equal_to_its_reference_has_kl_exactly_zero(tiny):
    policy, tokenizer = tiny
    result = sentiment.measure(partial(sampled_rows, policy, tokenizer, policy),
                               sentiment.prompts("eval")[:6], max_completion_length=12)
    assert result["metrics"]["kl"]["value"] == result["metrics"]["kl"]["high"] == 0
    scores = [row["score"] for row in result["rows"]]
    assert result["metrics"]["score"]["value"] == pytest.approx(statistics.fmean(scores))
    assert result["metrics"]["positive_ratio"]["value"] == pytest.approx(
        statistics.fmean(score > 0.5 for score in scores))
    for row in result["rows"]:
        assert row["ended"] == (row["completion_ids"][-1] == tokenizer.eos_token_id)
        assert tokenizer.eos_token_id not in row["completion_ids"][:-1]
        assert len(row["logps"]) == len(row["completion_ids"]) <= 12


@pytest.mark.parametrize("n", [2, 3, 7, 39, 41])
def test_few_completions_have_finite_intervals_and_one_is_refused(n):
    rows = [{"completion": f"word{i} two three", "completion_ids": [1] * (i + 1), "ended": True,
             "logps": [-1.0] * (i + 1), "ref_logps": [-2.0] * (i + 1)} for i in range(n)]
    for m in text_metrics(rows).values():
        assert all(map(math.isfinite, m.values())) and m["low"] <= m["value"] + 1e-9
    with pytest.raises(CourseError, match="at least two held-out prompts"):
        text_metrics(rows[:1])


def test_metrics_come_from_the_rows():
    rows = [{"completion": f"word{i} two three", "completion_ids": [1, 2],
             "ended": i < 15, "logps": [-1.0, -1.0], "ref_logps": [-2.0, -1.5]}
            for i in range(60)]
    got = text_metrics(rows)
    assert got["self_ending"]["value"] == 0.25
    assert got["kl"]["value"] == pytest.approx(1.5)
    assert got["reference_perplexity"]["value"] == pytest.approx(math.exp(1.75))
    assert got["distinct_2"]["n"] == 3
    assert got["distinct_2"]["value"] == pytest.approx(
        statistics.fmean([(20 + 1) / 40] * 3))
