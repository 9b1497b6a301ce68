"""Visible checks: the reference and its other spellings pass, each misconception is named."""

import math

import pytest
import torch

from grading import chapters
from grading.faults import reference
from grading.release import source_notebook
from lib import CourseError
from lib.checks import sentiment as checks
from lib.points import exercises
from lib.scoring import get_sentiment_scores, get_star_probs

CHECKED = [(chapter, exercise, one["check"]) for chapter in chapters()
           for exercise, one in exercises(chapter).items() if one["check"]]


@pytest.mark.parametrize("chapter, exercise, name", CHECKED)
def test_the_reference_passes(chapter, exercise, name, capsys):
    """Every chapter's own check cells, on its own answers."""
    [cell] = [cell for cell in source_notebook(chapter).cells
              if cell.metadata.get("check") == exercise]
    exec(cell.source, reference(chapter))
    assert f"{name}: the visible check passes" in capsys.readouterr().out


def scores(texts):
    return get_sentiment_scores(list(texts))


RIGHT = {
    "loop": ("sentiment_reward", lambda completions, **kw: [scores([c])[0] for c in completions]),
    "tensor maths": ("exponential_shaping",
                     lambda s, t: (torch.tensor(s, dtype=torch.float64) / t).expm1().tolist()),
    "fmean": ("forward_kl_bonus",
              lambda rows, c: [c * math.fsum(r) / len(r) for r in rows]),
    "plain exp": ("kl_estimates",
                  lambda p, r: [p - r, (p - r) ** 2 / 2, (r - p).exp() - 1 + p - r]),
    "xlogy": ("categorical_kl", lambda p, q: (
        torch.special.xlogy(p, p).sum() - torch.special.xlogy(p, q).sum())),
    "tuple": ("exponential_shaping", lambda s, t: tuple(math.expm1(x / t) for x in s)),
}
def in_place(scores, temperature):
    scores[:] = [math.expm1(s / temperature) for s in scores]
    return scores


WRONG = {
    "prompt required": ("sentiment_reward", lambda completions, **kw:
                        scores(completions) if kw["prompts"] else [],
                        "raised KeyError: 'prompts'; this call has completions alone"),
    "one text at a time": ("sentiment_reward", lambda completions, **kw: [
        get_sentiment_scores(c) for c in completions], "takes the whole list"),
    "in place": ("exponential_shaping", in_place, "changes an argument"),
    "rows sorted": ("forward_kl_bonus", lambda rows, c: [
        c * sum(r) / len(r) for r in rows if r.sort() is None], "changes an argument"),
    "a row emptied": ("backward_kl_penalty", lambda rows, c: [
        -c * math.exp(min(20, -r.pop())) for r in rows], "changes an argument"),
    "tensors zeroed": ("kl_estimates", lambda p, r: (p.zero_(), r.zero_(), p),
                       "changes an argument"),
    "sorted": ("exponential_shaping", lambda s, t: sorted(math.expm1(x / t) for x in s),
               "keep the order"),
    "not per item": ("exponential_shaping", lambda s, t: math.exp(s / t), "each of its floats"),
    "hard-wired coefficient": ("forward_kl_bonus", lambda rows, c: [
        0.1 * sum(r) / len(r) for r in rows], "hard-wired"),
    "ragged tensor": ("forward_kl_bonus", lambda rows, c:
                      (c * torch.tensor(rows).mean(-1)).tolist(), "treat each by itself"),
    "clamp per token": ("backward_kl_penalty", lambda rows, c: [
        -c * math.exp(-sum(max(x, -20) for x in r) / len(r)) for r in rows], "not each token"),
    "lists": ("kl_estimates", lambda p, r: [x.tolist() for x in (
        p - r, (p - r) ** 2 / 2, (r - p).exp() - 1 + p - r)], "return tensors"),
    "epsilon": ("categorical_kl", lambda p, q: (p * ((p + 1e-8) / (q + 1e-8)).log()).sum(),
                "add no epsilon"),
    "item": ("categorical_kl", lambda p, q: (
        torch.special.xlogy(p, p).sum() - torch.special.xlogy(p, q).sum()).item(), "no .item()"),
    "no kwargs": ("sentiment_reward", lambda completions: scores(completions), "keep **kwargs"),
    "reversed": ("sentiment_reward", lambda completions, **kw: scores(completions)[::-1],
                 "order is reversed"),
    "with prompt": ("sentiment_reward", lambda completions, prompts=None, **kw: scores(
        [p + c for p, c in zip(prompts or [""] * 9, completions, strict=False)]),
        "scored the prompt too"),
    "stars": ("sentiment_reward", lambda completions, **kw:
              [1 + 4 * s for s in scores(completions)], "1 to 5 stars"),
    "five stars only": ("sentiment_reward", lambda completions, **kw:
                        get_star_probs(completions)[:, 4].tolist(), "five stars alone"),
    "argmax": ("sentiment_reward", lambda completions, **kw:
               (get_star_probs(completions).argmax(-1) / 4).tolist(), "most likely star"),
    "batch mean": ("sentiment_reward", lambda completions, **kw:
                   [sum(scores(completions)) / 3] * len(completions), "one mean for the whole"),
    "tensor": ("sentiment_reward", lambda completions, **kw:
               torch.tensor(scores(completions)), "return a list of floats"),
    "negated": ("sentiment_reward", lambda completions, **kw:
                [1 - s for s in scores(completions)], "more positive must mean"),
    "no minus 1": ("exponential_shaping", lambda s, t: [math.exp(x / t) for x in s],
                   "subtract 1"),
    "times T": ("exponential_shaping", lambda s, t: [math.expm1(x * t) for x in s],
                "do not multiply"),
    "no T": ("exponential_shaping", lambda s, t: [math.expm1(x) for x in s], "not used"),
    "T hard-wired": ("exponential_shaping", lambda s, t: [math.expm1(x / 0.5) for x in s],
                     "hard-wired"),
    "normalised": ("exponential_shaping", lambda s, t: [
        math.expm1(x / t) / max(math.expm1(y / t) for y in s) for x in s], "largest value"),
    "sum": ("forward_kl_bonus", lambda rows, c: [c * sum(r) for r in rows], "not the sum"),
    "forward sign": ("forward_kl_bonus", lambda rows, c: [-c * sum(r) / len(r) for r in rows],
                     "the sign"),
    "no coefficient": ("forward_kl_bonus", lambda rows, c: [sum(r) / len(r) for r in rows],
                       "kl_coef is not used"),
    "mean of exp": ("backward_kl_penalty", lambda rows, c: [
        -c * sum(math.exp(-x) for x in r) / len(r) for r in rows], "exponentiate the mean"),
    "inner sign": ("backward_kl_penalty", lambda rows, c: [
        -c * math.exp(sum(r) / len(r)) for r in rows], "sign inside"),
    "outer sign": ("backward_kl_penalty", lambda rows, c: [
        c * math.exp(-sum(r) / len(r)) for r in rows], "a penalty is negative"),
    "no clamp": ("backward_kl_penalty", lambda rows, c: [
        -c * math.exp(-sum(r) / len(r)) for r in rows], "clamp the exponent"),
    "k1 sign": ("kl_estimates", lambda p, r: (r - p, (p - r) ** 2 / 2, (r - p).exp() - 1 + p - r),
                "the sign"),
    "k2 no half": ("kl_estimates", lambda p, r: (p - r, (p - r) ** 2, (r - p).exp() - 1 + p - r),
                   "half the square"),
    "k3 inverse": ("kl_estimates", lambda p, r: (
        p - r, (p - r) ** 2 / 2, (p - r).exp() - 1 - p + r), "its inverse"),
    "averaged": ("kl_estimates", lambda p, r: ((p - r).mean(), (p - r).mean(), (p - r).mean()),
                 "do not average"),
    "swapped": ("categorical_kl", lambda p, q: (q * (q / p).log()).sum(), "swapped"),
    "cross-entropy": ("categorical_kl", lambda p, q: -(p * q.log()).sum(), "cross-entropy"),
    "bits": ("categorical_kl", lambda p, q: (p * (p / q).log2()).sum(), "natural logarithm"),
    "no clamp, inf": ("backward_kl_penalty", lambda rows, c: [
        -c * float(torch.tensor(-sum(r) / len(r)).exp()) for r in rows], "infinite reward"),
    "0 log 0": ("categorical_kl", lambda p, q: (p * (p / q).log()).sum(), "counts as 0"),
}


@pytest.mark.parametrize("name, function", RIGHT.values(), ids=RIGHT)
def test_other_spellings_pass(name, function):
    function.__name__ = name
    getattr(checks, name)(function)


def test_a_notebook_shows_the_students_line_and_no_other():
    def exponential_shaping(scores, temperature):
        return math.exp(scores / temperature)

    def sentiment_reward(completions):
        return get_sentiment_scores(completions)

    def forward_kl_bonus(rows, kl_coef):
        try:
            return rows.mean()
        except AttributeError as error:
            raise AssertionError("rows is a list") from error

    for function, lines in ((exponential_shaping, 1), (sentiment_reward, 0),
                            (forward_kl_bonus, 1)):
        with pytest.raises(AssertionError) as caught:
            getattr(checks, function.__name__)(function)
        *above, line = caught.value._render_traceback_()
        assert line == f"AssertionError: {caught.value}" and len(above) == lines
        assert all(__file__ in text and f"in {function.__name__}" in text for text in above)
    assert CourseError("no such file")._render_traceback_() == ["CourseError: no such file"]


@pytest.mark.parametrize("name, function, message", WRONG.values(), ids=WRONG)
def test_a_misconception_is_named(name, function, message):
    function.__name__ = name
    with pytest.raises(AssertionError) as caught:
        getattr(checks, name)(function)
    assert message in str(caught.value)
