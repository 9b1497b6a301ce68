"""Visible checks: run in the notebook, they name the likely misconception.

A check compares with numbers worked out beforehand and with laws, so that it holds no
answer. Passing it is a good sign; the hidden tests try more inputs.
"""

import math
from collections.abc import Callable

import torch

from lib import scoring
from lib.rewards import gate


def close(got, right, tolerance: float = 1e-4) -> bool:
    """Whether got is right within tolerance (relative above 1); False when it has another shape."""
    try:
        got = torch.as_tensor(got, dtype=torch.float64)
        right = torch.as_tensor(right, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return False
    return got.shape == right.shape and torch.allclose(got, right, atol=tolerance, rtol=tolerance)


def expect(what: str, got, right, mistakes: dict[str, object] | None = None) -> None:
    """Raise AssertionError unless got is right; name the mistake whose result got equals."""
    if close(got, right):
        return
    for mistake, result in (mistakes or {}).items():
        if close(got, result):
            raise AssertionError(f"{what}: {mistake}")
    raise AssertionError(f"{what} should be {_short(right)}, yours is {_short(got)}")


def _short(value) -> str:
    if isinstance(value, torch.Tensor):
        value = value.detach().tolist()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_short(v) for v in value[:6]) + ", ..." * (len(value) > 6) + "]"
    return f"{value:.5g}" if isinstance(value, float) else repr(value)[:80]


def _floats(function: Callable, values, n: int) -> list[float]:
    """The gate of the training run, with its message as an ordinary failed check."""
    from lib import CourseError

    try:
        return gate(function.__name__, values, n)
    except CourseError as error:
        raise AssertionError(str(error)) from None


def passed(function: Callable) -> None:
    print(f"{function.__name__}: the visible check passes.")


def sentiment_reward(function: Callable) -> None:
    """Exercise 1."""
    texts = [" awful. I walked out halfway.", " okay.", " brilliant. I loved every minute."]
    _floats(function, function([]), 0)
    try:
        got = function(texts, prompts=["The film was"] * 3, completion_ids=[[1], [2], [3]])
    except TypeError as error:
        if "unexpected keyword" in str(error):
            raise AssertionError("TRL passes more keywords than you use (prompts, completion_ids, "
                                 "trainer_state ...): keep **kwargs in the signature") from None
        raise
    got = _floats(function, got, 3)
    right = scoring.get_sentiment_scores(texts)
    probs = scoring.get_star_probs(texts)
    with_prompt = scoring.get_sentiment_scores(["The film was" + text for text in texts])
    expect("the rewards of a bad, a middling and a good review", got, right, {
        "the order is reversed: reward i belongs to completion i": right[::-1],
        "you scored the prompt too; a reward judges the completion": with_prompt,
        "these are 1 to 5 stars; map them to [0, 1]": [1 + 4 * s for s in right],
        "this is the probability of five stars alone; use all five": probs[:, 4],
        "this is the most likely star, not the expected one": probs.argmax(-1) / 4,
        "one mean for the whole batch leaves no differences to learn from":
            [sum(right) / 3] * 3,
        "more positive must mean a higher reward": [1 - s for s in right],
    })
    expect("scoring a batch and scoring one by one", got,
           [_floats(function, function([text]), 1)[0] for text in texts])
    passed(function)


def exponential_shaping(function: Callable) -> None:
    """Exercise 2."""
    scores = [0.0, 0.25, 0.5, 1.0]
    right = [0.0, 0.6487213, 1.7182818, 6.3890561]
    got = _floats(function, function(list(scores), 0.5), 4)
    expect("exponential_shaping([0, 0.25, 0.5, 1], temperature=0.5)", got, right, {
        "subtract 1, so that a score of 0 stays a reward of 0":
            [1.0, 1.6487213, 2.7182818, 7.3890561],
        "divide by the temperature, do not multiply": [0.0, 0.1331485, 0.2840254, 0.6487213],
        "the temperature is not used": [0.0, 0.2840254, 0.6487213, 1.7182818],
        "do not divide the result by its largest value": [r / right[-1] for r in right],
        "the sign in the exponent is wrong": [0.0, -0.3934693, -0.6321206, -0.8646647],
    })
    assert scores == [0.0, 0.25, 0.5, 1.0], "the list of scores was changed: return a new one"
    expect("at temperature 1", _floats(function, function([1.0], 1.0), 1), [1.7182818], {
        "the temperature is hard-wired": [6.3890561]})
    assert function([], 0.5) == [], "an empty list of scores gives an empty list of rewards"
    passed(function)


REF_LOGPS = [[-1.0, -3.0], [-0.5], [-2.0, -2.0, -0.5, -0.1, -0.4]]


def forward_kl_bonus(function: Callable) -> None:
    """Exercise 3a."""
    got = _floats(function, function([list(row) for row in REF_LOGPS], 0.1), 3)
    expect("forward_kl_bonus", got, [-0.2, -0.05, -0.1], {
        "take the mean over tokens, not the sum: a sum pays for being short": [-0.4, -0.05, -0.5],
        "the sign: likely under the reference must give the larger bonus": [0.2, 0.05, 0.1],
        "kl_coef is not used": [-2.0, -0.5, -1.0],
        "average the log-probabilities, do not exponentiate": [
            0.1 * sum(map(math.exp, row)) / len(row) for row in REF_LOGPS],
    })
    passed(function)


def backward_kl_penalty(function: Callable) -> None:
    """Exercise 3b."""
    got = _floats(function, function([list(row) for row in REF_LOGPS], 0.1), 3)
    expect("backward_kl_penalty", got, [-0.73890561, -0.16487213, -0.27182818], {
        "the sign outside: a penalty is negative": [0.73890561, 0.16487213, 0.27182818],
        "the sign inside: exp(-mean) grows when the reference finds the text unlikely":
            [-0.01353353, -0.06065307, -0.03678794],
        "take the mean over tokens, not the sum": [-5.45981500, -0.16487213, -14.8413159],
        "exponentiate the mean, do not average the exponentials": [
            -0.1 * sum(math.exp(-lp) for lp in row) / len(row) for row in REF_LOGPS],
        "kl_coef is not used": [-7.3890561, -1.6487213, -2.7182818],
        "there is no minus 1 here": [-0.63890561, -0.06487213, -0.17182818],
    })
    try:
        far = function([[-2000.0]], 0.1)
    except OverflowError:
        raise AssertionError("exp overflows for a text the reference thinks impossible: clamp "
                             "the exponent at 20") from None
    expect("the penalty of a text with mean log-prob -2000", far, [-0.1 * math.exp(20)], {
        "clamp the exponent at 20, or one text outweighs all others": [-math.inf]})
    passed(function)


def kl_estimates(function: Callable) -> None:
    """Exercise 4a."""
    policy = torch.tensor([[-1.0, -2.0, -0.5], [-0.1, -3.0, -1.5]])
    reference = torch.tensor([[-1.5, -1.0, -0.5], [-0.4, -2.0, -3.5]])
    got = function(policy, reference)
    assert isinstance(got, tuple | list) and len(got) == 3, (
        "return three tensors: k1, k2, k3")
    k1, k2, k3 = got
    right1 = torch.tensor([[0.5, -1.0, 0.0], [0.3, -1.0, 2.0]])
    assert getattr(k1, "shape", None) == policy.shape, (
        f"k1 has shape {tuple(getattr(k1, 'shape', ()))}, the log-probs {tuple(policy.shape)}: "
        "estimate per token, do not average")
    expect("k1", k1, right1, {"the sign: these samples come from the policy": -right1})
    right2 = torch.tensor([[0.125, 0.5, 0.0], [0.045, 0.5, 2.0]])
    expect("k2", k2, right2, {"k2 is half the square": 2 * right2})
    right3 = torch.tensor([[0.1065307, 0.7182818, 0.0], [0.0408182, 0.7182818, 1.1353353]])
    expect("k3", k3, right3, {
        "the ratio in k3 is reference over policy; this is its inverse":
            torch.tensor([[0.1487213, 0.3678794, 0.0], [0.0498588, 0.3678794, 4.3890561]]),
        "k3 = (ratio - 1) - log ratio; the log term is missing":
            torch.tensor([[-0.3934693, 1.7182818, 0.0], [-0.2591818, 1.7182818, -0.8646647]]),
    })
    passed(function)


def categorical_kl(function: Callable) -> None:
    """Exercise 4b."""
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    expect("categorical_kl([0.5, 0.5], [0.9, 0.1])", function(p, q), 0.5108256, {
        "p and q are swapped: KL(p||q) averages under p": 0.3680642,
        "the sign: it is the sum of p log(p/q), never negative": -0.5108256,
        "use the natural logarithm": 0.7369656,
        "take the sum over categories, not the mean": 0.2554128,
        "this is the cross-entropy; subtract the entropy of p": 1.2039728,
    })
    expect("the KL of a distribution to itself", function(p, p), 0.0)
    zero = function(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]))
    assert not torch.isnan(torch.as_tensor(zero)), "0 log 0 counts as 0 here, yours gives nan"
    expect("categorical_kl([0, 1], [0.5, 0.5])", zero, 0.6931472)
    passed(function)
