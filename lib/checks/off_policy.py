"""Visible checks of chapter 5."""

from collections.abc import Callable

import torch

from lib.checks import attempt, expect, passed, visible
from lib.checks.grpo import gradient, tensor

OLD = torch.tensor([[-1.0, -2, -0.5], [-1, -1, -3]])
RATIO = torch.tensor([[1.5, 0.5, 1], [2, 0.9, 8]])
LOGPS = OLD + RATIO.log()
MASK = torch.tensor([[1.0, 1, 1], [1, 1, 0]])


@visible
def sequence_ratio(function: Callable) -> None:
    """Exercise 1."""
    def value(logps=LOGPS, old=OLD, mask=MASK):
        return tensor(function, (len(mask),), logps, old, mask,
                      hint="the mean goes along dimension 1")

    expect("the ratios of [1.5, 0.5, 1] and [2, 0.9]", value(), [0.90856, 1.341641], {
        "this is the product of the ratios; GSPO takes its root: the mean of the log-ratios":
            [0.75, 1.8],
        "the mean of the log-ratios, not of the ratios": [1.0, 1.45],
        "the ratio is new over old; yours is its inverse": [1.100642, 0.745356],
        "leave out what the mask leaves out": [0.90856, 2.432881],
        "divide by the number of tokens that count, not by T": [0.90856, 1.21644],
        "take the exp at the end": [-0.095894, 0.293893]})
    none = value(mask=torch.zeros(2, 3))
    assert not none.isnan().any(), "a row without tokens: keep the count from being 0"
    expect("rows in which nothing counts", none, [1, 1])
    far = torch.full((2, 3), -200.0)
    assert not value(far, far).isnan().any(), "exp(-200) is 0 in float32: subtract log-probs"
    logps = LOGPS.clone().requires_grad_()
    expect("the gradient", gradient(value(logps), logps),
           [[0.302853] * 3, [0.67082, 0.67082, 0]])
    passed(function)


@visible
def clip_fraction(function: Callable) -> None:
    """Exercise 2."""
    advantages = torch.tensor([1.0, -1])

    def value(low, high, ratio=RATIO, advantages=advantages, mask=MASK):
        return tensor(function, (), ratio, advantages, mask, low, high,
                      hint="advantages has shape (B,), the ratios (B, T)")

    expect("ratios [1.5, 0.5, 1] and [2, 0.9] with advantages 1 and -1, epsilon 0.05",
           value(0.05, 0.05), 0.4, {
               "a ratio on the other side keeps its gradient: look at the advantage's sign": 0.8,
               "with a negative advantage the clip acts below 1 - epsilon_low": 0.2,
               "leave out what the mask leaves out": 1 / 3,
               "divide by the number of tokens that count, not of all": 1 / 3,
               "this is the share that the clip leaves alone": 0.6})
    expect("the same with epsilon_low 0.2", value(0.2, 0.05), 0.2, {
        "the bounds are exchanged": 0.4})
    expect("with epsilon_high 0.6", value(0.05, 0.6), 0.2, {"epsilon_high is not used": 0.4})
    wrong = torch.tensor([[0.5, 1.0, 1], [1, 2, 1]])
    expect("ratios that went the wrong way", value(0.2, 0.2, wrong), 0.0, {
        "the sides are exchanged: with a positive advantage the clip acts above": 0.4})
    square = torch.tensor([[2.0, 2], [1, 1]])
    expect("as many tokens as completions", value(
        0.2, 0.2, square, mask=torch.ones(2, 2)), 0.5, {
            "advantages along the tokens: unsqueeze(1) makes them one a completion": 0.25})
    none = value(0.2, 0.2, mask=torch.zeros(2, 3))
    assert not none.isnan(), "where nothing counts the share is 0, not nan"
    passed(function)


@visible
def truncated_weights(function: Callable) -> None:
    """Exercise 3."""
    def value(cap, shape=(2, 3), train=LOGPS, sampler=OLD, **kwargs):
        return tensor(function, shape, train, sampler, MASK, cap,
                      hint="log-probs and mask have shape (B, T)", **kwargs)

    def counted(weights):
        return weights * MASK

    inverse = counted(1 / RATIO)
    expect("the weights of tokens, cap 1.8", counted(value(1.8)), [[1.5, 0.5, 1], [1.8, 0.9, 0]], {
        "policy over sampler; yours is the inverse": inverse.clamp(max=1.8),
        "nothing is truncated": counted(RATIO),
        "only the cap truncates; there is no bound below": [[1.5, 1, 1], [1.8, 1, 0]],
        "a weight above the cap becomes the cap, not 0": [[1.5, 0.5, 1], [0, 0.9, 0]],
        "take the exp of the difference of log-probs": counted(RATIO.log())})
    expect("the weights of sequences, cap 1.7", value(1.7, (2, 1), level="sequence"), [
        [0.75], [1.7]], {
        "the product over the tokens, not the geometric mean": [[0.90856], [1.341641]],
        "nothing is truncated": [[0.75], [1.8]],
        "truncate the product, not each token": [[0.75], [1.53]]})
    long = torch.zeros(2, 3)
    long[1, 2] = 0.5
    expect("sequences whose padding differs", value(
        9.0, (2, 1), OLD + long, level="sequence"), [[1], [1]], {
            "leave out what the mask leaves out": [[1], [1.648721]]})
    far = torch.full((2, 3), -200.0)
    for level, shape in (("token", (2, 3)), ("sequence", (2, 1))):
        assert not value(9.0, shape, far, far, level=level).isnan().any(), (
            "exp(-200) is 0 in float32: subtract log-probs")
    logps = LOGPS.clone().requires_grad_()
    for level, shape in (("token", (2, 3)), ("sequence", (2, 1))):
        weights = value(9.0, shape, logps, level=level)
        flows = weights.requires_grad and torch.autograd.grad(
            weights.sum(), logps, allow_unused=True)[0]
        assert flows is None or flows is False or not flows.abs().sum(), (
            "a weight is no part of what is trained: detach it")
    passed(function)


@visible
def select_alive(function: Callable) -> None:
    """Exercise 4."""
    def value(rewards, size, need):
        got = attempt(function, "view the rewards as (N / G, G)", torch.tensor(rewards), size, need)
        assert isinstance(got, tuple | list) and len(got) == 2, (
            "return two things: the numbers of the groups, and how many were sampled")
        kept = got[0].tolist() if isinstance(got[0], torch.Tensor) else list(got[0])
        return [float(i) for i in kept], float(got[1])

    def compare(what, got, kept, sampled, mistakes):
        for mistake, wrong in mistakes.items():
            if got == wrong:
                raise AssertionError(f"{what}: {mistake}")
        assert got == (kept, sampled), (
            f"{what} should give groups {[int(i) for i in kept]} of {sampled:g} sampled; yours "
            f"gives {got[0]} of {got[1]:g}")

    five = [0.0, 0, 0, 1, 1, 1, 1, 0, 0, 1]
    compare("groups [0,0] [0,1] [1,1] [1,0] [0,1], need 2", value(five, 2, 2), [1, 3], 4, {
        "this is how many were dead before": ([1, 3], 2), "count from 1: the groups up to and "
        "with the last one": ([1, 3], 3), "sampling stops when enough are alive": ([1, 3], 5),
        "keep no more than need": ([1, 3, 4], 5), "these are the tied ones": ([0, 2], 3),
        "numbers of groups are asked for, from 0": ([2, 4], 4)})
    compare("the same with need 4 (there are only 3)", value(five, 2, 4), [1, 3, 4], 5, {})
    compare("eight rewards of 0.7", value([0.7] * 8, 8, 1), [], 1, {
        "the standard deviation of eight times 0.7 is not exactly 0: compare largest and smallest":
            ([0], 1)})
    compare("rewards 0.5 and 0.500001", value([0.5, 0.500001], 2, 1), [0], 1, {
        "a small difference is one too, the spread divides by it: no tolerance": ([], 1)})
    compare("groups [0,0] and [1,1]", value([0.0, 0, 1, 1], 2, 1), [], 2, {
        "a group in which all succeed is tied too": ([1], 2)})
    passed(function)


@visible
def keep_best(function: Callable) -> None:
    """Exercise 5."""
    rewards = torch.tensor([0.8, 0.9, 0.5, 0.3, 0.2, 0.7])

    def value(k, rewards=rewards, size=3):
        return tensor(function, (k * len(rewards) // size,), rewards, size, k,
                      hint="argsort along dimension 1")

    expect("the best of [.8, .9, .5] and [.3, .2, .7]", value(1), [1, 5], {
        "indices into all rewards: group i begins at i G": [1, 2],
        "the best, not the worst": [2, 4], "these are rewards, not indices": [0.9, 0.7],
        "the best of each group, not of the whole batch": [0, 1]})
    expect("the two best of each", value(2), [0, 1, 3, 5], {
        "in ascending order": [1, 0, 5, 3]})
    expect("the best of three equal ones", value(1, torch.tensor([2.0, 2, 2])), [0], {
        "of equal rewards the earlier one: stable=True": [2]})
    assert not value(1).is_floating_point(), "indices are whole numbers"
    passed(function)


@visible
def dpo_loss(function: Callable) -> None:
    """Exercise 6."""
    chosen, rejected = torch.tensor([-5.0, -8]), torch.tensor([-6.0, -4])
    ref_chosen, ref_rejected = torch.tensor([-6.0, -7]), torch.tensor([-5.0, -5])

    def value(chosen=chosen, rejected=rejected, beta=0.5):
        return tensor(function, (), chosen, rejected, ref_chosen, ref_rejected, beta,
                      hint="everything has shape (B,)")

    expect("the loss of two pairs with margins 2 and -2, beta 0.5", value(), 0.813262, {
        "the mean over the pairs, not their sum": 1.626523,
        "beta is not used": 1.126928,
        "minus the log of the sigmoid": -0.813262,
        "the reference is left out": 1.300502,
        "the log is missing: -log sigmoid": -0.5})
    expect("the same with beta 1", value(beta=1.0), 1.126928, {"beta is hard-wired": 0.813262})
    expect("pairs that are ranked rightly", value(torch.tensor([-5.0, -5]), torch.tensor(
        [-6.0, -6])), 0.257337, {
            "the sign: a larger margin must have a smaller loss": 1.507337,
            "chosen and rejected are exchanged": 1.507337})
    far = value(torch.tensor([-5000.0, -5000]), beta=1.0)
    assert far.isfinite(), "a margin of -5000 overflows: use logsigmoid"
    leaf = chosen.clone().requires_grad_()
    expect("the gradient of the chosen", gradient(value(leaf), leaf), [-0.067235, -0.182765])
    passed(function)
