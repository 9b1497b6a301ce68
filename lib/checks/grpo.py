"""Visible checks of chapter 2."""

from collections.abc import Callable
from importlib.metadata import version

import torch

from lib import is_autograding
from lib.checks import attempt, close, expect, passed, short, visible


def tensor(function: Callable, shape: tuple, *args, hint: str = "use tensor operations", **kwargs):
    """The tensor of this shape that function returns."""
    got = attempt(function, hint, *args, **kwargs)
    assert isinstance(got, torch.Tensor), f"return a tensor, not a {type(got).__name__}"
    assert got.shape == shape, f"the result should have shape {shape}, yours {tuple(got.shape)}"
    return got


def gradient(value: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """d sum(value) / d of; an AssertionError where nothing flows."""
    flows = value.requires_grad and torch.autograd.grad(value.sum(), of, allow_unused=True)[0]
    assert isinstance(flows, torch.Tensor), (
        "no gradient flows through your result: use no .item(), float(), .detach() or no_grad() "
        "on what is being trained")
    return flows


@visible
def policy_gradient(function: Callable) -> None:
    """Exercise 0a."""
    logits, actions = torch.tensor([1.0, 0, -1]), torch.tensor([0, 2, 0, 1])
    rewards = torch.tensor([2.0, 5, 4, 1])

    def value(baseline, rewards=rewards, actions=actions):
        return tensor(function, (3,), logits, actions, rewards, baseline,
                      hint="one_hot(actions, V) has shape (N, V)")

    right = [-0.495723, -0.484185, 0.979908]
    expect("the estimate without a baseline", value(0.0), right, {
        "the mean over the draws, not their sum": [4 * g for g in right],
        "the sign: rewarded actions go up": [-g for g in right],
        "the gradient of log pi(a) is one-hot minus the probabilities; theirs are missing":
            [1.5, 0.25, 1.25],
        "the gradient of the log-prob, not of the probability":
            [0.218477, -0.225537, 0.00706],
    })
    expect("with the baseline 3", value(3.0), [0, -0.5, 0.5], {"the baseline is not used": right})
    each = torch.tensor([1.0, 2, 3, 4])
    expect("with a baseline for each draw", value(each), value(0.0, rewards - each), {
        "the baseline is not used": right})
    for wrong, text in ((torch.zeros(5), "is no number for each of the draws"),
                        (torch.zeros(4, 1), "would be broadcast to (N, N)")):
        try:
            function(logits, actions, rewards, wrong)
        except ValueError:
            continue
        except Exception:  # such as torch's own, of shapes that do not fit
            pass
        raise AssertionError(f"a baseline of shape {tuple(wrong.shape)} {text}: raise ValueError. "
                             "One that depends on the action makes the estimate biased")
    many = torch.multinomial(logits.softmax(0), 40_000, replacement=True,
                             generator=torch.Generator().manual_seed(0))
    worth, p = torch.tensor([8.0, 9, 12]), logits.softmax(0)
    exact = p * (worth - (p * worth).sum())
    each = (torch.eye(3)[many] - p) * (worth[many] - 8.5).unsqueeze(1)
    error = each.std(0) / len(many)**0.5
    off = (value(8.5, worth[many], actions=many) - exact).abs()
    assert (off < 4 * error).all(), (
        "the mean of 40,000 draws is more than four standard errors off the exact gradient "
        f"{short(exact)}")
    passed(function)


@visible
def leave_one_out(function: Callable) -> None:
    """Exercise 0b."""
    rewards = torch.tensor([1.0, 2, 6, 4, 0, 2])
    expect("for [1, 2, 6] and [4, 0, 2]", tensor(
        function, (6,), rewards, 3, hint="view the rewards as (N / G, G)"),
        [4, 3.5, 1.5, 1, 3, 2], {
            "leave out my own reward: it depends on my own action": [3.0, 3, 3, 2, 2, 2],
            "divide by G - 1: that is how many others there are":
                [8 / 3, 7 / 3, 1, 2 / 3, 2, 4 / 3],
            "the others of my group, not of the whole batch": [2.8, 2.6, 1.8, 2.2, 3.0, 2.6],
            "return the baseline; policy_gradient subtracts it": [-3.0, -1.5, 4.5, 3, -3, 0],
            "a group is num_generations rewards side by side": [4.0, 0, 2, 1, 2, 6]})
    passed(function)


@visible
def group_advantages(function: Callable) -> None:
    """Exercise 1."""
    rewards = torch.tensor([1.0, 0, 0, 0, 4, 2, 2, 0])

    def value(rewards, **kwargs):
        return tensor(function, tuple(rewards.shape), rewards, 4,
                      hint="rewards has shape (N,): view it as (N / G, G)", **kwargs)

    right = [1.4997, -0.4999, -0.4999, -0.4999, 1.22467, 0, 0, -1.22467]
    centred = [0.75, -0.25, -0.25, -0.25, 2, 0, 0, -2]
    got = value(rewards)
    divisor_g = close(got, [1.73165, *[-0.577217] * 3, 1.414114, 0, 0, -1.414114], 1e-3)
    if not divisor_g:
        expect("the advantages of [1, 0, 0, 0] and [4, 2, 2, 0]", got, right, {
            "a group is num_generations rewards side by side: view(-1, num_generations)":
                [-0.439129, -0.49995, -1.024635, -0.49995, 1.317388, 1.49985, 0.146376, -0.49995],
            "mean and standard deviation belong to the group, not to the whole batch":
                [-0.085743, *[-0.771691] * 3, 1.972098, 0.600204, 0.600204, -0.771691],
            "the standard deviation of the whole batch is scale='batch'; the default is 'group'":
                [0.51446, *[-0.171487] * 3, 1.371895, 0, 0, -1.371895],
            "divide by the standard deviation": centred,
            "divide by the standard deviation, not by its square":
                [2.9988, *[-0.9996] * 3, 0.749972, 0, 0, -0.749972],
            "subtract the mean of the group": [1.9996, 0, 0, 0, 2.44934, 1.22467, 1.22467, 0],
            "the sign: a reward above the mean has a positive advantage": [-a for a in right],
        }, 1e-3)
    tied = value(torch.full((4,), 0.5))
    assert not tied.isnan().any(), "a group of equal rewards has spread 0: add eps to it"
    expect("the advantages of a group of equal rewards", tied, [0.0] * 4)
    small = float(value(torch.tensor([0.001, 0, 0, 0]))[0])
    assert small > 1, (
        f"the first advantage of [0.001, 0, 0, 0] should be above 1, yours is {small:.2g}: add "
        "eps to the standard deviation itself, not under the root")
    expect("with scale='none'", value(rewards, scale="none"), centred, {
        "scale is not used": got, "subtract the mean here too": rewards})
    batch = value(rewards, scale="batch")
    if not close(batch, [0.549979, *[-0.183326] * 3, 1.46661, 0, 0, -1.46661], 1e-3):
        expect("with scale='batch'", batch, [0.51446, *[-0.171487] * 3, 1.371895, 0, 0, -1.371895],
               {"scale is not used": got,
                "only the standard deviation is the batch's; the mean stays the group's":
                    [-0.085743, *[-0.771691] * 3, 1.972098, 0.600204, 0.600204, -0.771691],
                }, 1e-3)
    passed(function)
    if divisor_g:
        print("Your standard deviation divides by G; torch.std and TRL divide by G - 1. "
              "Both count here.")
    if float(value(torch.tensor([1.0, 0, 0, 0]), eps=0.5)[0]) > 1:
        print("Your answer does not use eps as it is given. That is no mistake here, but the cell "
              "on rounding below will show the same figure twice.")


LOGITS = torch.tensor([[[2.0, 0, -1], [0, 1, 0]], [[1, 1, 3], [0, -2, 0.5]]])
IDS = torch.tensor([[0, 2], [1, 2]])


@visible
def token_logprobs(function: Callable) -> None:
    """Exercise 2a."""
    def value(logits):
        return tensor(function, (2, 2), logits, IDS,
                      hint="gather along the last axis needs ids of shape (B, T, 1)")

    right = torch.tensor([[-0.169846, -1.551445], [-2.239545, -0.523909]])
    expect("the log-probs of the sampled ids", value(LOGITS), right, {
        "these are probabilities: take the logarithm": right.exp(),
        "these are the logits: normalise over the vocabulary": [[2, 0], [1, 0.5]],
        "the vocabulary is the last axis; you normalised over time":
            [[-0.126928, -0.313262], [-0.048587, -2.57889]],
        "the vocabulary is the last axis; you normalised over the batch":
            [[-0.313262, -0.974077], [-0.313262, -0.474077]],
        "a log-prob is never positive: this is the cross-entropy, minus it": -right,
        "use the natural logarithm": right / 0.6931472,
        "take the sampled id, not the likeliest": [[-0.169846, -0.551445], [-0.239545, -0.523909]],
        "logits[:, t] already belongs to ids[:, t]: do not shift the ids":
            [[-3.169846, -1.551445], [-0.239545, -3.023909]],
        "logits[:, t] already belongs to ids[:, t]: do not shift the logits":
            [[-0.169846, -3.169846], [-2.239545, -0.239545]],
    })
    expect("with logits 1000 higher (nothing changes)", value(LOGITS + 1000), right, {
        "exp overflows here: use log_softmax or logsumexp": right - torch.inf})
    far = value(torch.tensor([0.0, 200, 0]).expand(2, 2, 3))
    expect("the log-prob of a token 200 below the best", far[0, 0], -200.0, {
        "softmax underflows to 0 here: use log_softmax or logsumexp": -torch.inf})
    logits = LOGITS.clone().requires_grad_()
    expect("the sum of the gradient over the vocabulary", gradient(value(logits), logits).sum(-1),
           torch.zeros(2, 2))
    passed(function)


@visible
def entropy(function: Callable) -> None:
    """Exercise 2b."""
    def value(logits):
        return tensor(function, (2, 2), logits, hint="sum over the last axis, the vocabulary")

    right = torch.tensor([[0.524267, 0.975328], [0.665573, 0.82503]])
    expect("the entropies", value(LOGITS), right, {
        "the sign: an entropy is never negative": -right,
        "use the natural logarithm": right / 0.6931472,
        "sum over the vocabulary, do not average": right / 3,
        "the vocabulary is the last axis; you normalised over time":
            [[0.818179, 0.711561], [0.348201, 0.693402]],
    })
    sure = value(torch.tensor([0.0, 1000, 0]).expand(2, 2, 3))
    assert not sure.isnan().any(), "0 log 0 counts as 0: take log-probs from log_softmax"
    expect("the entropy of a sure thing", sure, torch.zeros(2, 2))
    many = torch.zeros(2, 2, 50_000)
    many[..., 7] = 200
    assert close(value(many), torch.zeros(2, 2)), (
        "the entropy of a sure thing among 50,000 tokens: clamp no probability: 50,000 small ones "
        "add up")
    expect("the entropy of three equal logits", value(torch.full((2, 2, 3), 7.0)),
           torch.full((2, 2), 1.0986123))
    passed(function)


@visible
def masked_mean(function: Callable) -> None:
    """Exercise 3."""
    values, mask = torch.tensor([[1.0, 2, 3], [4, 5, 6]]), torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    expect("the mean of [[1, 2, -], [4, -, -]]", tensor(function, (), values, mask), 7 / 3, {
        "the mask is not used": 3.5,
        "divide by the number of tokens that count, not of all": 7 / 6,
        "over all tokens, not the mean of row means: in that, short rows weigh more": 2.75,
        "divide by the number of tokens that count": 7.0,
    })
    expect("with dim=-1, row by row", tensor(function, (2,), values, mask, dim=-1), [1.5, 4], {
        "dim is the axis to average over": [2.5, 2.0]})
    none = torch.zeros(2, 3)
    empty = tensor(function, (2,), values, none, dim=-1)
    assert not empty.isnan().any(), "a row without a token that counts has mean 0 here, not nan"
    expect("rows in which nothing counts", empty, [0, 0])
    expect("where nothing counts at all", tensor(function, (), values, none), 0.0)
    expect("with dim=0, column by column", tensor(function, (3,), values, mask, dim=0),
           [2.5, 2, 0])
    leaf = values.clone().requires_grad_()
    flows = gradient(tensor(function, (2,), leaf, torch.tensor([[0.0, 0, 0], [1, 1, 0]]), dim=1),
                     leaf)
    assert flows.isfinite().all(), (
        "the gradient is nan where a row is empty: keep the count from being 0 before you divide")
    expect("with a mask of booleans", tensor(function, (), values, mask.bool()), 7 / 3)
    passed(function)


# Importance ratios 1.5, 0.5, 1.1 and 1 on both sides of the clip range, three rows of three.
OLD = torch.tensor([[-1.0, -2, -0.5], [-1, -1, -3], [-2, -1, -1]])
LOGPS = OLD + torch.tensor([[1.5, 0.5, 1], [1, 1.1, 0.5], [1.5, 0.5, 1.1]]).log()
ADVANTAGES = torch.tensor([2.0, -1, 1])
MASK = torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 0, 0]])


@visible
def clipped_surrogate(function: Callable) -> None:
    """Exercise 4."""
    def value(low, high, logps=LOGPS):
        return tensor(function, (3, 3), logps, OLD, ADVANTAGES, low, high,
                      hint="advantages has shape (B,), the log-probs (B, T)")

    right = torch.tensor([[2.4, 1, 2], [-1, -1.1, -0.8], [1.2, 0.5, 1.1]])
    expect("the surrogate with epsilon 0.2", value(0.2, 0.2), right, {
        "the ratio is new over old; yours is its inverse":
            [[4 / 3, 2.4, 2], [-1, -0.909091, -2], [2 / 3, 1.2, 0.909091]],
        "take the smaller of the two, the pessimistic one":
            [[3, 1.6, 2], [-1, -1.1, -0.5], [1.5, 0.8, 1.1]],
        "take the smaller of the clipped and the unclipped term; yours is always clipped":
            [[2.4, 1.6, 2], [-1, -1.1, -0.8], [1.2, 0.8, 1.1]],
        "nothing is clipped": [[3, 1, 2], [-1, -1.1, -0.5], [1.5, 0.5, 1.1]],
        "clip below 1 - epsilon_low as well": [[2.4, 1, 2], [-1, -1.1, -0.5], [1.2, 0.5, 1.1]],
        "clip above 1 + epsilon_high as well": [[3, 1, 2], [-1, -1.1, -0.8], [1.5, 0.5, 1.1]],
        "advantage i belongs to row i: unsqueeze it to (B, 1)":
            [[2.4, -0.8, 1], [2, -1.1, 0.5], [2.4, -0.8, 1.1]],
        "this is the objective, to be maximised; grpo_loss will negate it": -right,
        "the ratio is exp(logps - old_logps); the exp is missing":
            [[0.4, -1.386294, 0], [0, -0.09531, 0.2], [0.2, -0.693147, 0.09531]],
        "clip the ratio, not its product with the advantage":
            [[1.2, 1, 1.2], [0.8, 0.8, 0.8], [1.2, 0.8, 1.1]],
    })
    expect("with epsilon_low 0.1 and epsilon_high 0.3", value(0.1, 0.3),
           [[2.6, 1, 2], [-1, -1.1, -0.9], [1.3, 0.5, 1.1]], {
               "the bounds are hard-wired": right,
               "epsilon_low and epsilon_high are swapped":
                   [[2.2, 1, 2], [-1, -1.1, -0.7], [1.1, 0.5, 1.1]],
               "epsilon_low is not used": [[2.6, 1, 2], [-1, -1.1, -0.7], [1.3, 0.5, 1.1]],
               "epsilon_high is not used": [[2.2, 1, 2], [-1, -1.1, -0.9], [1.1, 0.5, 1.1]]})
    logps = LOGPS.clone().requires_grad_()
    expect("the gradient", gradient(value(0.2, 0.2, logps), logps),
           [[0, 1, 2], [-1, -1.1, 0], [0, 0.5, 1.1]])
    far = torch.full((1, 1), -200.0)
    assert not tensor(function, (1, 1), far, far, torch.ones(1), 0.2, 0.2).isnan(), (
        "exp(-200) is 0 in float32: subtract log-probs, divide no probabilities")
    passed(function)


REF = LOGPS + torch.tensor([[1, 2, 0.5], [0.5, 1, 1], [0.5, 2, 1]]).log()


@visible
def kl_term(function: Callable) -> None:
    """Exercise 5."""
    def value(logps=LOGPS, old=OLD, **kwargs):
        return tensor(function, (3, 3), logps, old, REF, **kwargs)

    plain = torch.tensor([[0, 0.306853, 0.193147], [0.193147, 0, 0], [0.193147, 0.306853, 0]])
    ratio = torch.tensor([[1.5, 0.5, 1], [1, 1.1, 0.5], [1.5, 0.5, 1.1]])
    expect("k3 without the correction", value(use_bias_correction_kl=False), plain, {
        "use_bias_correction_kl is not used": plain * ratio,
        "the ratio in k3 is reference over policy; yours is its inverse":
            [[0, 0.193147, 0.306853], [0.306853, 0, 0], [0.306853, 0.193147, 0]],
        "this is k1": (LOGPS - REF),
        "this is k2": (LOGPS - REF) ** 2 / 2,
        "the sign: k3 is never negative": -plain,
        "k3 = (ratio - 1) - log ratio; the -1 is missing": plain + 1,
        "k3 = (ratio - 1) - log ratio; the log term is missing":
            [[0, 1, -0.5], [-0.5, 0, 0], [-0.5, 1, 0]],
    })
    expect("k3 with the correction, the default", value(), plain * ratio, {
        "use_bias_correction_kl is not used": plain,
        "the importance ratio is new over old; yours is its inverse": plain / ratio,
        "do not clip the ratio here": plain * ratio.clamp(0.8, 1.2)})
    far = torch.full((3, 3), -200.0)
    assert not tensor(function, (3, 3), far, far, far).isnan().any(), (
        "exp(-200) is 0 in float32: subtract log-probs, divide no probabilities")
    logps = LOGPS.clone().requires_grad_()
    expect("the gradient without the correction",
           gradient(value(logps, use_bias_correction_kl=False), logps),
           [[0, -1, 0.5], [0.5, 0, 0], [0.5, -1, 0]])
    half = 0.693147
    expect("the gradient with it, old and new log-probs equal",
           gradient(value(logps, LOGPS), logps),
           [[0, -half, half], [half, 0, 0], [half, -half, 0]], {
               "the importance ratio has a gradient too: do not detach it":
                   [[0, -1, 0.5], [0.5, 0, 0], [0.5, -1, 0]]})
    passed(function)


@visible
def grpo_loss(function: Callable) -> None:
    """Exercise 6."""
    def value(loss_type, beta=0.0, logps=LOGPS, old=OLD, **kwargs):
        return tensor(function, (), logps, old, REF if beta else None, ADVANTAGES, MASK,
                      hint="with beta=0, ref_logps may be None", epsilon=0.2, beta=beta,
                      loss_type=loss_type, max_completion_length=4, **kwargs)

    for loss_type, right, unmasked, unclipped in (
            ("grpo", -0.65, -0.588889, -0.816667), ("bnpo", -0.75, -0.588889, -0.9),
            ("dapo", -0.75, -0.588889, -0.9), ("dr_grpo", -0.375, -0.441667, -0.45)):
        mistakes = {
            "the sign: the loss is minus the surrogate": -right,
            "leave out what the mask leaves out": unmasked,
            "nothing is clipped": unclipped,
            "average over the completions, do not add them up": -1.95,
            **({"the tokens are added up over B alone: divide by max_completion_length too": -1.5,
                "divide by B * max_completion_length, not by B * T": -0.5,
                "divide by a constant, not by the number of tokens": -0.75}
               if loss_type == "dr_grpo" else
               {"the tokens are added up and never averaged": -1.5,
                "divide by the number of tokens that count, not of all": -0.5,
                "average the tokens of each completion, then the completions": -0.75,
                "average over all tokens of the batch at once, not row by row": -0.65})}
        expect(f"the loss with loss_type='{loss_type}' and beta=0", value(loss_type), right,
               {text: wrong for text, wrong in mistakes.items() if wrong != right})
    expect("the loss with beta=0.1, loss_type='grpo'", value("grpo", 0.1), -0.633273, {
        "beta is not used": -0.65,
        "the KL term is a cost: it raises the loss": -0.666727,
        "multiply k3 by the importance ratio (use_bias_correction_kl)": -0.634787,
        "use k3, not k1": -0.599939, "use k3, not k2": -0.629982,
        "beta is not used as a factor": -0.482727})
    expect("the same with use_bias_correction_kl=False",
           value("grpo", 0.1, use_bias_correction_kl=False), -0.634787, {
               "use_bias_correction_kl is not used": -0.633273})
    expect("the loss with epsilon=0.4", tensor(
        function, (), LOGPS, OLD, None, ADVANTAGES, MASK, epsilon=0.4), -0.85, {
            "epsilon is hard-wired": -0.75})
    logps = LOGPS.clone().requires_grad_()
    flows = gradient(value("dapo", 0.1, logps=logps, old=LOGPS), logps)
    away = 0.1 * 0.6931472
    expect("the gradient where old and new log-probs are equal", 6 * flows,
           [[-2, -2 - away, -2 + away], [1 + away, 1, 0], [-1 + away, 0, 0]], {
               "the surrogate has none: let it flow through logps":
                   [[0, -away, away], [away, 0, 0], [away, 0, 0]],
               "the ratio on the KL term has a gradient too: do not detach it":
                   [[-2, -2.1, -1.95], [1.05, 1, 0], [-0.95, 0, 0]]})
    passed(function)


@visible
def grpo_step(function: Callable) -> None:
    """Exercise 7."""
    logits = torch.zeros(4, 2, 3, requires_grad=True)  # all log-probs are -log 3
    ids, rewards = torch.tensor([[0, 1], [2, 0], [1, 1], [0, 2]]), torch.tensor([1.0, 0, 5, 3])
    mask = torch.tensor([[1.0, 1], [1, 0], [1, 1], [1, 0]])
    ref_logps = torch.full((4, 2), -1.0986123 - 0.6931472)
    loss = tensor(function, (), logits, ids, mask, rewards, ref_logps, 2, beta=0.1,
                  loss_type="dr_grpo", max_completion_length=4,
                  hint="the arguments after num_generations go to grpo_loss")
    flows = gradient(loss, logits)
    kl = 0.1 * 0.1931472  # of each of the six tokens that count
    # The advantage of the better one of two: 1 with the standard deviation that divides by G.
    better = 1.0 if close(loss, (-2 + 6 * kl) / 16, 1e-3) else 0.70707
    expect("the loss of one step", loss, (-2 * better + 6 * kl) / 16, {
        "pass the settings on to grpo_loss": -better / 3,
        "use advantages, not rewards": (-15 + 6 * kl) / 16,
        "leave out what the mask leaves out": 8 * kl / 16,
        "these are two groups, each with its own mean and spread: pass num_generations on, and "
        "leave scale at 'group'": -0.0350402,
        "the old policy is the current one, not the reference": (-0.8 * better + 12 * kl) / 16,
        "scale the advantages by their group's standard deviation": (-1.5 + 6 * kl) / 16,
        "the sign": (2 * better - 6 * kl) / 16}, 1e-3)
    down = (better - 0.1 * 0.6931472) / 16 / 3
    expect("its gradient", 48 * flows[0, 0], [-96 * down, 48 * down, 48 * down], {
        "old_logps must be a detached copy (logps.detach()), else the ratio is 1 whatever the "
        "logits do, and the advantages push nothing": [0.1, -0.05, -0.05]}, 1e-3)
    passed(function)


def equals_trl(function: Callable, seeds: int = 5) -> None:
    """The closing check: loss and gradient of the student's grpo_loss against TRL's own.

    Random float64 tensors, ragged masks, old log-probs equal and unequal; prints the largest
    difference for each loss type and raises AssertionError where one exceeds 1e-6.
    """
    if is_autograding():
        print("Skipped while grading.")
        return
    from lib.trl_loss import LOSS_TYPES

    for loss_type in LOSS_TYPES:
        for beta in (0.0, 0.05):
            worst = max(difference_from_trl(function, seed, loss_type, beta, on_policy)
                        for seed in range(seeds) for on_policy in (True, False))
            print(f"loss_type={loss_type!r:<9} beta={beta:<4}  largest difference from TRL "
                  f"{version('trl')}: {worst:.0e}")
            assert worst <= 1e-6, f"not TRL's loss with loss_type={loss_type!r}, beta={beta}"


def difference_from_trl(function: Callable, seed: int, loss_type: str, beta: float,
                        on_policy: bool, **kwargs) -> float:
    """Largest difference in loss or gradient between function and TRL on one random batch."""
    from lib.trl_loss import trl_loss  # an answer to exercise 6: no name of this module

    dice = torch.Generator().manual_seed(seed)
    rows, width = (int(torch.randint(2, 9, (1,), generator=dice)) for _ in range(2))

    def draw():
        return -4 * torch.rand(rows, width, generator=dice, dtype=torch.float64)

    old, ref = draw(), draw()
    logps = old.clone() if on_policy else old + 0.2 * (draw() + 2)
    lengths = torch.randint(1, width + 1, (rows, 1), generator=dice)
    mask = (torch.arange(width) < lengths).double()
    advantages = torch.randn(rows, generator=dice, dtype=torch.float64)
    results = []
    for loss_of in (function, trl_loss):
        leaf = logps.clone().requires_grad_()
        loss = loss_of(leaf, old, ref, advantages, mask, epsilon=0.2, beta=beta,
                       loss_type=loss_type, max_completion_length=16, **kwargs)
        results.append((loss.detach(), *torch.autograd.grad(loss, leaf)))
    return max(float((mine - trls).abs().max()) for mine, trls in zip(*results, strict=True))
