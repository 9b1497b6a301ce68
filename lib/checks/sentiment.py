"""Visible checks of chapter 1."""

import math
from collections.abc import Callable

import torch

from lib import scoring
from lib.checks import attempt, expect, floats, passed, short, visible


@visible
def sentiment_reward(function: Callable) -> None:
    """Exercise 1."""
    texts = [" okay.", " awful. I walked out halfway.", " brilliant. I loved every minute."]
    hint = ("TRL calls it with keywords: keep **kwargs in the signature; get_sentiment_scores "
            "takes the whole list of texts")
    alone = "this call has completions alone, and they are enough"
    got = floats(function, hint, 3, texts, prompts=["The film was"] * 3,
                 completion_ids=[[1], [2], [3]])
    right = scoring.get_sentiment_scores(texts)
    probs = scoring.get_star_probs(texts)
    with_prompt = scoring.get_sentiment_scores(["The film was" + text for text in texts])
    expect("the rewards of a middling, a bad and a good review", got, right, {
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
           [floats(function, alone, 1, [text])[0] for text in texts])
    floats(function, f"{alone}; an empty list of them gives an empty list", 0, [])
    passed(function)


@visible
def exponential_shaping(function: Callable) -> None:
    """Exercise 2a."""
    scores, hint = [0.5, 0.0, 1.0, 0.25], "scores is a list: work on each of its floats"
    right = [1.7182818, 0.0, 6.3890561, 0.6487213]
    got = floats(function, hint, 4, scores, 0.5)
    expect("exponential_shaping([0.5, 0, 1, 0.25], temperature=0.5)", got, right, {
        "subtract 1, so that a score of 0 stays a reward of 0":
            [2.7182818, 1.0, 7.3890561, 1.6487213],
        "divide by the temperature, do not multiply": [0.2840254, 0.0, 0.6487213, 0.1331485],
        "the temperature is not used": [0.6487213, 0.0, 1.7182818, 0.2840254],
        "do not divide the result by its largest value": [r / max(right) for r in right],
        "the sign in the exponent is wrong": [-0.6321206, 0.0, -0.8646647, -0.3934693],
        "keep the order of the scores": sorted(right),
    })
    expect("at temperature 1", floats(function, hint, 1, [1.0], 1.0), [1.7182818], {
        "the temperature is hard-wired": [6.3890561]})
    floats(function, "an empty list of scores gives an empty list of rewards", 0, [], 0.5)
    passed(function)


# What is compared, two rewards, the group size, whether the advantages agree, a likely mistake.
PAIRS = (
    ("10 r + 3", [0.0, 1, 0.5, 0], [3.0, 13, 8, 3], 4, True,
     "compare advantages, not rewards: mean and standard deviation take shift and factor out"),
    ("-r", [0.0, 1, 0.5, 0], [0.0, -1, -0.5, 0], 4, False,
     "a negative factor turns the best into the worst: look at signs too, not at sizes alone"),
    ("a shift for each group", [0.0, 1, 5, 6], [5.0, 6, 0, 1], 2, True,
     "subtract the mean of each group of num_generations, not that of all"),
    ("a factor for each group", [0.0, 1, 0, 2], [0.0, 1, 0, 20], 2, True,
     "divide by the standard deviation of each group, not by that of all"),
    ("another gap, in the same order", [0.0, 1, 2, 3], [0.0, 1, 2, 9], 4, False,
     "the order is not all: advantages keep the proportions of the gaps"),
    ("the same rewards, exchanged within a group", [0.0, 1, 0, 1], [1.0, 0, 0, 1], 2, False,
     "compare completion by completion: sorting, mean or sum hide who got what"),
    ("a change in the last group alone", [0.0, 1, 0, 0, 1, 0], [0.0, 1, 0, 0, 0, 1], 3, False,
     "every group counts, the last one too"),
    ("a change of 0.0001", [0.0, 1, 0.5, 0.25], [0.0, 1, 0.5, 0.2501], 4, True,
     "advantages less than 0.01 apart count as the same; == sees the rounding"),
    ("a change of 0.2 in a reward", [0.0, 1, 0.5, 0], [0.0, 1, 0.7, 0], 4, False,
     "0.01 is all that advantages may differ by; yours lets more pass"),
    ("eight times 0.7 and eight times 0", [0.7] * 8, [0.0] * 8, 8, True,
     "equal rewards have advantages 0, and the mean of eight times 0.7 is not exactly 0.7: add "
     "epsilon to the standard deviation, or compare the largest with the smallest"),
    ("a group with a spread and one without", [0.0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 4, False,
     "a group without a spread has advantages 0, one with a spread has not (nan is not 0)"),
    ("a group without a spread and one with", [0.5, 0.5, 0.5, 0.5], [0.0, 1, 0, 1], 4, False,
     "it does not matter which of the two comes first"))


@visible
def same_advantages(function: Callable) -> None:
    """Exercise 2b."""
    for what, before, after, size, right, mistake in PAIRS:
        got = attempt(function, "rewards are lists of floats: cut them into groups, or make a "
                      "tensor", list(before), list(after), size)
        assert isinstance(got, bool), f"return True or False, yours is {short(got)}: bool(...)"
        assert got is right, f"{what}: {mistake}"
    passed(function)


JUDGED = {
    "a": "mean and standard deviation take the shift and the positive factor out",
    "b": "the best becomes the worst: every advantage changes its sign",
    "c": "above 0.6 all differences are gone, so completions that differed are now tied",
    "d": "a bend: the gaps between the best grow more than those between the worst",
    "e": "two values lie on a straight line, whatever is done to them",
    "f": "the bonus is the same for all that are compared, and the group's mean takes it out",
    "g": "one shift and one positive factor for all: the group's mean and standard deviation take "
         "them out",
    "h": "ranks keep the order and lose the gaps"}


@visible
def changes_nothing(function: Callable) -> None:
    """Exercise 2c. Says where to look again, by the reason; the next cell of the notebook tries."""
    said = attempt(function, "return a dict with the letters a to h")
    assert isinstance(said, dict) and set(said) == set(JUDGED), (
        f"return a dict with the letters {', '.join(JUDGED)}")
    for letter, right in zip(JUDGED, (True, False, False, False, True, True, True, False),
                             strict=True):
        assert isinstance(said[letter], bool), f"{letter}: True or False"
        assert said[letter] is right, f"look at {letter} again: {JUDGED[letter]}"
    passed(function)


ROWS = "the rows have different lengths: treat each by itself, as a list of floats"
REF_LOGPS = [[-1.0, -3.0], [-0.5], [-2.0, -2.0, -0.5, -0.1, -0.4]]


@visible
def forward_kl_bonus(function: Callable) -> None:
    """Exercise 3a."""
    got = floats(function, ROWS, 3, [list(row) for row in REF_LOGPS], 0.1)
    expect("forward_kl_bonus", got, [-0.2, -0.05, -0.1], {
        "take the mean over tokens, not the sum: a sum pays for being short": [-0.4, -0.05, -0.5],
        "the sign: likely under the reference must give the larger bonus": [0.2, 0.05, 0.1],
        "kl_coef is not used": [-2.0, -0.5, -1.0],
        "average the log-probabilities, do not exponentiate": [
            0.1 * sum(map(math.exp, row)) / len(row) for row in REF_LOGPS],
    })
    expect("with kl_coef 0.5", floats(function, ROWS, 1, [[-1.0, -3.0]], 0.5), [-1.0], {
        "kl_coef is hard-wired": [-0.2]})
    passed(function)


@visible
def backward_kl_penalty(function: Callable) -> None:
    """Exercise 3b."""
    hint = f"{ROWS}; an OverflowError means: clamp the exponent at 20"
    got = floats(function, hint, 3, [list(row) for row in REF_LOGPS], 0.1)
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
    far = attempt(function, hint, [[-2000.0]], 0.1)
    expect("the penalty of a text with mean log-prob -2000", far, [-0.1 * math.exp(20)], {
        "clamp the exponent at 20: an infinite reward stops the run": [-math.inf]})
    expect("the penalty of log-probs -0.5 and -30", floats(function, hint, 1, [[-0.5, -30.0]], 0.1),
           [-419783.43], {"clamp the mean, not each token": [-0.1 * math.exp(10.25)]})
    passed(function)


@visible
def kl_estimates(function: Callable) -> None:
    """Exercise 4a."""
    policy = torch.tensor([[-1.0, -2.0, -0.5], [-0.1, -3.0, -1.5]])
    reference = torch.tensor([[-1.5, -1.0, -0.5], [-0.4, -2.0, -3.5]])
    got = attempt(function, "the arguments are tensors: use tensor operations", policy, reference)
    assert isinstance(got, tuple | list) and len(got) == 3, (
        "return three tensors: k1, k2, k3")
    assert all(isinstance(k, torch.Tensor) for k in got), "return tensors, not lists or arrays"
    k1, k2, k3 = got
    right1 = torch.tensor([[0.5, -1.0, 0.0], [0.3, -1.0, 2.0]])
    assert k1.shape == policy.shape, (
        f"k1 has shape {tuple(k1.shape)}, the log-probs {tuple(policy.shape)}: "
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


@visible
def categorical_kl(function: Callable) -> None:
    """Exercise 4b."""
    hint = "p and q are tensors: use tensor operations, and keep the result a tensor"
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])

    def value(p, q):
        return attempt(function, hint, p, q)

    expect("categorical_kl([0.5, 0.5], [0.9, 0.1])", value(p, q), 0.5108256, {
        "p and q are swapped: KL(p||q) averages under p": 0.3680642,
        "the sign: it is the sum of p log(p/q), never negative": -0.5108256,
        "use the natural logarithm": 0.7369656,
        "take the sum over categories, not the mean": 0.2554128,
        "this is the cross-entropy; subtract the entropy of p": 1.2039728,
    })
    expect("the KL of a distribution to itself", value(p, p), 0.0)
    zero = value(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]))
    assert not torch.isnan(torch.as_tensor(zero)), "0 log 0 counts as 0 here, yours gives nan"
    expect("categorical_kl([0, 1], [0.5, 0.5])", zero, 0.6931472)
    never = value(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
    assert math.isinf(float(never)), (
        f"p > 0 where q = 0 makes it infinite, yours is {short(float(never))}: add no epsilon, "
        "clamp nothing")
    result = value(p, q.requires_grad_())
    assert isinstance(result, torch.Tensor) and result.requires_grad, (
        "keep the result a tensor that gradients flow through (no .item(), no float()): the next "
        "cell differentiates it")
    passed(function)
