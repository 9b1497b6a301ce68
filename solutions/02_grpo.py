# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Chapter 2: open the box
#
# In chapter 1 TRL's `GRPOTrainer` did the work. Now you write GRPO yourself: ten short
# functions of plain tensors, from the gradient itself to a loss. At the end your loss **and its
# gradient** equal TRL's on the same tensors, and your own loop trains the review policy as TRL does.
#
# | part | you write | points | minutes |
# |---|---|---|---|
# | 0 | the policy gradient, and a baseline | 15 | 30 |
# | 1 | advantages from rewards | 10 | 20 |
# | 2 | log-probs and entropy from logits | 10 | 20 |
# | 3 | a mean that leaves out padding | 5 | 5 |
# | 4 | the clipped surrogate | 10 | 20 |
# | 5 | the KL term, with and without its correction | 10 | 15 |
# | 6 | the loss, in four variants | 15 | 30 |
# | 7 | one step; then the loop runs | 5 | 15 |
# | 8 | five analysis questions | 20 | 30 |
#
# Exercises 6 and 7 are built from the earlier ones: a mistake there shows up here again. Solve
# in order.

# %%
import random
import statistics

import torch

from lib import (
    evaluation,
    is_autograding,
    models,
    off_policy,
    plots,
    preflight,
    thinking,
)
from lib.checks import grpo as checks
from lib.predict import predict
from lib.progress import progress
from lib.rollout import sampled_rows
from lib.scoring import get_star_probs, use_scorer
from lib.tasks import reasoning, sentiment
from lib.training import experiment

MODEL = "tiny"
LOOPS = {}  # name -> for each seed a row of figures a step


def from_to(values):
    return f"{min(values):.2f} to {max(values):.2f}"


use_scorer(sentiment.scorer_path(MODEL))
dice = torch.Generator().manual_seed(0)
print(preflight.report("02_grpo"))

# %% [markdown]
# ## The words
#
# A step samples **completions** for some prompts, G for each: a **group**. The shapes are the
# same all through the chapter: B completions in all (a flat list of draws or rewards has the length N), T tokens,
# V entries in the vocabulary.
#
# ## 0. Where the gradient comes from
#
# A policy *samples* its tokens, and a sample has no derivative. How can a reward push weights at
# all? The smallest case shows it: one prompt, a completion of one token, V tokens to choose from. A
# game of one move is called a *bandit*, its moves *actions*. The policy has V logits $\theta$;
# $\pi_\theta(a)$, for short $\pi(a)$, is the probability that their softmax gives to action $a$, which brings
# the reward $r(a)$. We want a larger expected reward
#
# $$J(\theta) = \sum_a \pi_\theta(a)\, r(a), \qquad
# \nabla J = \sum_a \nabla\pi_\theta(a)\, r(a).$$
#
# Here $\nabla$ is the gradient with respect to the logits $\theta$, a vector of V numbers. The rewards do not
# depend on $\theta$, so only $\pi_\theta$ is differentiated.
#
# With six actions that is a sum of six terms. With all texts of 40 tokens nobody can sum it. But an
# *average over samples* we can have. Write $\mathbb{E}_{a\sim\pi_\theta}[\dots]$ for the exact mean,
# $\sum_a \pi_\theta(a)\,[\dots]$; the average of what stands in the brackets over N draws of $a$ from the policy
# estimates it, the better the more draws there are. The derivative of a logarithm is
# $\nabla\log\pi = \nabla\pi / \pi$, so $\nabla\pi = \pi\,\nabla\log\pi$, and
#
# $$\nabla J = \sum_a \pi_\theta(a)\; r(a)\,\nabla\log\pi_\theta(a)
# = \mathbb{E}_{a\sim\pi_\theta}\left[\, r(a)\,\nabla\log\pi_\theta(a)\,\right].$$
#
# So: draw actions from the policy, and push each one's log-prob up by as much as it was rewarded. That
# is the **policy gradient**, also called REINFORCE (Williams 1992) or the score-function estimate. We
# never differentiate the reward. It may come from a classifier, a compiler or a person.
#
# **The baseline.** From every reward one may subtract a number $b$, called the baseline, and the
# average stays what it is. For the change is
#
# $$\mathbb{E}_a\left[b\,\nabla\log\pi(a)\right] = b\sum_a \pi(a)\,\nabla\log\pi(a)
# = b\sum_a \nabla\pi(a) = b\,\nabla\sum_a \pi(a) = b\,\nabla 1 = 0.$$
#
# Probabilities add up to 1 whatever the logits are, and the constant 1 has gradient 0: giving *every* action
# the same weight $b$ moves nothing on average. Try it with two actions of probability 0.8 and 0.2. For a softmax the
# gradient of $\log\pi(a)$ with respect to the logits has a 1 at $a$, minus the probabilities of all actions: for the
# first action $(1, 0) - (0.8, 0.2) = (0.2, -0.2)$, for the second $(0, 1) - (0.8, 0.2) = (-0.8, 0.8)$. The
# first is drawn four times as often and pushes a quarter as hard:
# $0.8 \cdot (0.2, -0.2) + 0.2 \cdot (-0.8, 0.8) = (0, 0)$. So with $b$ or without it the estimate is
# *unbiased*: right on average, though each single draw is noisy.
#
# In the line above $b$ stood in front of the sum, and that is the only condition: **it must not
# depend on the action that was drawn.** A baseline $b(a)$ cannot be moved in front of it, and what is left is the
# gradient of $\sum_a\pi(a)\,(r(a) - b(a))$, another goal. That estimate is *biased*: wrong on average, however
# many estimates you average. (What $b$ is made of is free: it may come from the logits, computed once and then held
# fixed as a number.)
#
# What is it good for, then? For the *noise*. If all rewards lie between 8 and 9, then without a
# baseline every drawn action is pushed up hard, and only the average over many draws finds out which
# deserved it more. With $b = 8.5$ the better ones go up and the worse ones down at once.
#
# ### Exercise 0a: `policy_gradient` (10 points, medium, 20 minutes)
#
# **Task.** `logits` has shape (V,), `actions` and `rewards` (N,): N draws. `baseline` is a number, or
# a tensor of shape () or (N,): one number for each draw, which may differ from draw to draw as long as it does not
# look at *this* draw's action. Return the estimate, shape (V,): the mean
# over the draws of (reward - baseline) times the gradient of the drawn action's log-prob with respect
# to the logits.
#
# A baseline of any other shape raises `ValueError`. Shape (V,), a number for each *action*, is the
# biased one; shape (N, 1) would be broadcast to (N, N) without a word.
#
# <details><summary>Hint</summary><code>torch.nn.functional.one_hot(actions, V)</code> has shape
# (N, V). Autograd does it as well: the gradient of the mean of (reward - baseline) times the
# log-prob.</details>

# %% nbgrader={"grade": false, "grade_id": "ex0a", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 0a
def policy_gradient(logits, actions, rewards, baseline=0.0):
    """The score-function estimate of the gradient of the expected reward.

    logits: (V,). actions: (N,) long. rewards: (N,). baseline: a number, or a
    tensor of shape () or (N,); any other shape raises ValueError.
    Returns: (V,), the mean over the N draws.
    """
    ### BEGIN SOLUTION
    baseline = torch.as_tensor(baseline, dtype=rewards.dtype)
    if baseline.shape not in (torch.Size([]), rewards.shape):
        raise ValueError("the baseline has to be a number, or one number for each draw: one that "
                         "depends on the action makes the estimate biased")
    chosen = torch.nn.functional.one_hot(actions, len(logits))
    scores = chosen - logits.softmax(0)
    return ((rewards - baseline).unsqueeze(1) * scores).mean(0)
    ### END SOLUTION

# %% check="ex0a"
checks.policy_gradient(policy_gradient)

# %% nbgrader={"grade": true, "grade_id": "test_ex0a", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_one = policy_gradient(torch.zeros(3), torch.tensor([1]), torch.ones(1), 0.0)
assert _one.shape == (3,)
### BEGIN HIDDEN TESTS
import itertools as _itertools

_gen = torch.Generator().manual_seed(59)
for _v, _n in ((3, 4), (6, 5), (5, 1), (4, 9)):
    _logits = 2 * torch.randn(_v, generator=_gen, dtype=torch.float64)
    _actions = torch.randint(_v, (_n,), generator=_gen)
    _rewards = 3 * torch.randn(_n, generator=_gen, dtype=torch.float64)
    _p = _logits.softmax(0)
    for _base in (0.0, 1.5, -2, torch.tensor(0.7, dtype=torch.float64),
                  torch.randn(_n, generator=_gen, dtype=torch.float64)):
        _each = _base.tolist() if getattr(_base, "ndim", 0) else [float(_base)] * _n
        _want = [sum((float(r) - b) * ((int(a) == j) - float(_p[j]))
                     for r, a, b in zip(_rewards, _actions, _each)) / _n for j in range(_v)]
        _got = policy_gradient(_logits, _actions, _rewards, _base)
        assert _got.shape == (_v,), "one number for each logit"
        assert all(abs(float(g) - w) < 1e-6 for g, w in zip(_got, _want)), (
            "the mean over the draws of (reward - baseline) x gradient of the log-prob")
    for _wrong in (torch.zeros(_v, dtype=torch.float64), torch.zeros(_n, 1, dtype=torch.float64)):
        try:
            policy_gradient(_logits, _actions, _rewards, _wrong)
        except ValueError:
            continue
        raise AssertionError("a baseline of a shape other than () or (N,) raises ValueError")
# The average over all pairs of draws, each with its probability, is the exact gradient.
_logits = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64)
_worth, _p = [2.0, 7.0, -1.0], _logits.softmax(0).tolist()
_mean = [0.0] * 3
for _pair in _itertools.product(range(3), repeat=2):
    _r = torch.tensor([_worth[a] for a in _pair], dtype=torch.float64)
    _got = policy_gradient(_logits, torch.tensor(_pair), _r, _r.flip(0))  # the other's reward
    _mean = [m + _p[_pair[0]] * _p[_pair[1]] * float(g) for m, g in zip(_mean, _got)]
_expected = sum(p * w for p, w in zip(_p, _worth))
assert all(abs(m - p * (w - _expected)) < 1e-6 for m, p, w in zip(_mean, _p, _worth)), (
    "the average over all draws is the gradient of the expected reward")
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 0b: `leave_one_out` (5 points, easy, 10 minutes)
#
# Which number? Near the expected reward would be good: then what is better than average goes up, what is worse goes
# down, and the pushes are small. We do not know it, but the *other* draws of the group do: their mean is close. And
# it is allowed. Hold the other draws fixed: their mean is then just a number, and the proof above holds for my draw.
# It gives 0 whatever the others were, so it gives 0 on average. This is the baseline of RLOO, "REINFORCE leave-one-out" (Kool et al. 2019; Ahmadian et al. 2024).
#
# **Task.** `rewards` has shape (N,), the G rewards of a group side by side, G at least 2. Return for each
# the mean of the other G - 1 rewards of its group, shape (N,).
#
# <details><summary>Hint</summary>View the rewards as (N / G, G). The sum of the others is the group's
# sum minus my own.</details>

# %% nbgrader={"grade": false, "grade_id": "ex0b", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 0b
def leave_one_out(rewards, num_generations):
    """For each reward the mean of the others of its group.

    rewards: float tensor, shape (N,), N a multiple of num_generations.
    Returns: shape (N,), a baseline for each.
    """
    ### BEGIN SOLUTION
    groups = rewards.view(-1, num_generations)
    others = groups.sum(dim=1, keepdim=True) - groups
    return (others / (num_generations - 1)).flatten()
    ### END SOLUTION

# %% check="ex0b"
checks.leave_one_out(leave_one_out)

# %% nbgrader={"grade": true, "grade_id": "test_ex0b", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert leave_one_out(torch.tensor([0.0, 1.0]), 2).shape == (2,)
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(61)
for _groups, _size in ((3, 4), (1, 8), (5, 2), (4, 4), (2, 12)):
    _r = 3 * torch.rand(_groups * _size, generator=_gen, dtype=torch.float64)
    _kept = _r.clone()
    _got = leave_one_out(_r, _size)
    assert _got.shape == _r.shape, "one baseline a reward"
    for _i, _value in enumerate(_got.tolist()):
        _start = _i // _size * _size
        _others = [float(_r[j]) for j in range(_start, _start + _size) if j != _i]
        assert abs(_value - sum(_others) / len(_others)) < 1e-6, "the mean of the others"
    assert torch.equal(_r, _kept), "do not change the rewards"
### END HIDDEN TESTS

# %% [markdown]
# ### Four estimates: how noisy each is, and what it is right about on average
#
# A bandit with six actions, five of them worth about 3 and a rare one worth 7. For groups of G draws: your estimate without a
# baseline, with the group's mean, with the mean of the others, and with the group's mean and then
# divided by the group's standard deviation, as GRPO does. Thousands of groups each. On the left the
# **noise**: the variance of the estimate, summed over its components, over the squared length of its mean, so that a mere factor
# makes no difference. On the right the **mean** of the estimates for G = 4 beside the exact gradient.

# %%
predict(
    "The group's mean holds my own reward, so it depends on my action. What "
    "does that do to the mean of the estimates?",
    {"nothing: it meets the exact gradient":
         "That holds for the mean of the others, which cannot know my draw.",
     "it keeps its direction and gets shorter":
         "My own share of the mean is 1/G, so r - m is (G - 1) / G times the "
         "unbiased difference: the same factor for every draw.",
     "it points somewhere else":
         "That takes a factor that differs from group to group, as the "
         "division by the spread does."},
    right="it keeps its direction and gets shorter")

# %%
BANDIT = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0, -1.5])
WORTH = torch.tensor([3.2, 3.0, 3.6, 2.6, 3.4, 7.0])
# The sum over all actions: pi(a) times (r(a) - J), for each logit.
EXACT = BANDIT.softmax(0) * (WORTH - (BANDIT.softmax(0) * WORTH).sum())


def estimates(kind, size, n):
    """n estimates of one kind from groups of so many draws, shape (n, 6)."""
    drawn = torch.multinomial(BANDIT.softmax(0), n * size, replacement=True,
                              generator=dice)
    found = []
    for actions in drawn.view(n, size):
        rewards = WORTH[actions]
        baseline = {"none": 0.0, "others": leave_one_out(rewards, size)}.get(
            kind, rewards.mean())
        one = policy_gradient(BANDIT, actions, rewards, baseline)
        found.append(one / (rewards.std() + 1e-4) if kind == "spread" else one)
    return torch.stack(found)


NAMES = {"none": "no baseline", "mean": "group mean", "others": "leave one out",
         "spread": "mean, over the spread"}
SIZES = (2, 4, 8, 16)
DRAWN = {kind: {size: estimates(kind, size, 4000 if size == 4 else 1000)
                for size in SIZES} for kind in NAMES}


def noise(x):
    """Variance over squared mean.

    The square of a mean of n estimates is too large by variance / n.
    """
    variance = x.var(0).sum()
    return float(variance / (x.mean(0).square().sum() - variance / len(x)))


NOISE = {kind: [noise(x) for x in by_size.values()]
         for kind, by_size in DRAWN.items()}
MEANS = {kind: by_size[4].mean(0) for kind, by_size in DRAWN.items()}
SHRINK = {kind: float(m @ EXACT / (EXACT @ EXACT)) for kind, m in MEANS.items()}
ANGLE = {kind: float(torch.cosine_similarity(m, EXACT, dim=0).clamp(max=1)
                     .arccos().rad2deg()) for kind, m in MEANS.items()}
plots.show(plots.panels({
    ("Noise of the estimate", "group size G", "variance / squared mean"): {
        name: (SIZES, NOISE[kind]) for kind, name in NAMES.items()},
    ("Mean of the estimates, G = 4", "action", "gradient of its logit"): {
        name: (range(1, 7), MEANS[kind]) for kind, name in NAMES.items()}
    | {"exact gradient": (range(1, 7), EXACT)}}, style="o",
    alt="Left: without a baseline the noise is "
    f"{NOISE['none'][1] / NOISE['others'][1]:.0f} times that of leave-one-out "
    "at G = 4; group mean and leave-one-out have the same but for chance. "
    "Right: no baseline and leave-one-out meet the exact gradient, the group "
    f"mean is {SHRINK['mean']:.2f} times it, and over the spread it points "
    f"{ANGLE['spread']:.0f} degrees off."))
for kind, name in NAMES.items():
    print(f"{name:>22}: {SHRINK[kind]:.2f} of the exact gradient's length "
          f"along it, {MEANS[kind][5] / EXACT[5]:.2f} of its push on action 6, "
          f"{ANGLE[kind]:.0f} degrees off, noise {NOISE[kind][1]:.1f}")

# %% [markdown]
# - **No baseline** is unbiased, and the noisiest by far: the common 3 in all rewards is pushed around.
# - **Leave one out** is unbiased too, and much less noisy.
# - **The group's mean** holds my own reward, so it does depend on my action, and is biased. But look how:
#   with $m$ the mean of all G and $m_{-i}$ that of the others,
#   $r_i - m = \frac{G-1}{G}\,(r_i - m_{-i})$. The estimate is the unbiased one **times a constant**,
#   0.75 for G = 4 and nearer to 1 the larger G is. The direction is right, the noise relative to it is the same, and the learning rate
#   takes up the factor.
# - **Divided by the group's spread**, no constant factor is left: a group with small differences
#   counts for as much as one with large ones. What one gets for it is a step whose size does not depend on
#   the scale of the rewards. The price: the estimate aims elsewhere, here the rare action that brings 7 gets less
#   than its due.
#
# ### From here to the loss
#
# From here on $\theta$ is all the weights of the model, $x_t$ the t-th token of a completion, and $\pi_\theta(x_t)$
# its probability after the prompt and the tokens before it. The derivation stays as it is, and autograd carries the
# gradient from the logits on to the weights. The log-prob of a completion is the sum of its tokens' log-probs. So the
# gradient for a whole completion is $\sum_t (r - b)\,\nabla\log\pi_\theta(x_t)$: every token is
# pushed by what the completion brought. What GRPO calls the **advantage** $A$ is this $r - b$ with the group's mean as
# $b$, usually divided by the group's standard deviation.
#
# In PyTorch one writes a number, and autograd differentiates it. Any number with this gradient
# will do, even if its value means nothing; such a stand-in is called a **surrogate**. In it $A$ is a constant, and
# since optimizers minimise, the loss will be *minus* the surrogate. The plainest one is
# $A \log\pi_\theta(x_t)$. GRPO takes another: $A\,\pi_\theta(x_t) / \pi_{\mathrm{old}}(x_t)$, where
# $\pi_{\mathrm{old}}(x_t)$ is the probability with which the token *was* sampled, a constant. This
# quotient is the **importance ratio**, "ratio" for short. On fresh samples it is 1, and its gradient is
# $\nabla\pi/\pi_{\mathrm{old}} = \nabla\log\pi$: the same push. On samples of an earlier policy it is not
# 1, and its gradient is the ratio times $\nabla\log\pi$: a token that has become twice as likely counts double. Part 4 is about that case.
#
# ### What TRL calls it
#
# To come back to: what you will write, what TRL calls it, and what TRL 1.16 does unless told otherwise. Each part
# explains its own symbols.
#
# | symbol | code | TRL option | default |
# |---|---|---|---|
# | $G$ | `num_generations` | `num_generations` | `8` |
# | $A_i$ scaled by | `scale` | `scale_rewards` | `"group"` |
# | $\epsilon_\mathrm{low}$ | `epsilon_low` | `epsilon` | `0.2` |
# | $\epsilon_\mathrm{high}$ | `epsilon_high` | `epsilon_high` | `None` (same as low) |
# | $\beta$ | `beta` | `beta` | `0.0` |
# | $k_3 \cdot \rho$ or $k_3$ | `use_bias_correction_kl` | `use_bias_correction_kl` | `True` |
# | aggregation | `loss_type` | `loss_type` | `"dapo"` |
# | $L_\mathrm{max}$ | `max_completion_length` | `max_completion_length` | `512` |
# | updates per batch | 1 | `num_iterations` | `1` |
# | sampling temperature | 1 | `temperature` | `1.0` |
# | learning rate | `learning_rate` | `learning_rate` | `1e-06` |
#
# These defaults have moved between releases, so set what matters to you by name.
#
# ## 1. Advantages
#
# $$A_i = \frac{r_i - \mathrm{mean}(\text{group of } i)}{\mathrm{std}(\text{group of } i) + \mathrm{eps}}$$
#
# (Shao et al. 2024, *DeepSeekMath*, section 4.1.2, there without eps.) The group's own mean takes the
# place of the second network that PPO, an older method, trains to predict rewards: it says what was to be expected of this
# prompt.
#
# ### Exercise 1: `group_advantages` (10 points, medium, 20 minutes)
#
# **Task.** `rewards` has shape (N,); the G rewards of a group lie side by side, groups one
# after another. Return the advantages, shape (N,).
#
# - `scale="group"`: subtract the group's mean, divide by the group's standard deviation + eps.
# - `scale="batch"`: subtract the group's mean, divide by the standard deviation of all N + eps.
# - `scale="none"`: only subtract the group's mean.
#
# `torch.std` divides by G - 1, and so does TRL. Dividing by G is accepted as well, and so is any
# eps up to 1e-4. A group whose rewards are all equal gets zeros (but for rounding).
#
# <details><summary>Hint 1</summary>View the rewards as (N / G, G); then mean and std go along
# dimension 1.</details>
# <details><summary>Hint 2</summary><code>keepdim=True</code> lets (N / G, 1) broadcast over
# (N / G, G).</details>

# %% nbgrader={"grade": false, "grade_id": "ex1", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 1
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    """Advantages within groups of num_generations rewards side by side.

    rewards: float tensor, shape (N,), N a multiple of num_generations.
    scale: "group", "batch" or "none". Returns: shape (N,).
    """
    ### BEGIN SOLUTION
    groups = rewards.view(-1, num_generations)
    advantages = groups - groups.mean(dim=1, keepdim=True)
    if scale == "group":
        advantages = advantages / (groups.std(dim=1, keepdim=True) + eps)
    elif scale == "batch":
        advantages = advantages / (rewards.std() + eps)
    return advantages.flatten()
    ### END SOLUTION

# %% check="ex1"
checks.group_advantages(group_advantages)

# %% nbgrader={"grade": true, "grade_id": "test_ex1", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert group_advantages(torch.tensor([0.0, 1.0]), 2).shape == (2,)
### BEGIN HIDDEN TESTS
import statistics as _statistics

_gen = torch.Generator().manual_seed(23)


def _near(got, right, tolerance):
    return all(abs(float(a) - b) <= tolerance * (1 + abs(b)) for a, b in zip(got, right))


for _groups, _size in ((3, 4), (1, 8), (5, 2)):
    _r = torch.rand(_groups * _size, generator=_gen) * 3
    _parts = [_r[i * _size:(i + 1) * _size].double().tolist() for i in range(_groups)]
    _kept = _r.clone()
    for _scale in ("group", "batch", "none"):
        _got = group_advantages(_r, _size, scale=_scale)
        assert _got.shape == _r.shape, "one advantage a completion"
        _rights = []
        for _std in (_statistics.stdev, _statistics.pstdev):
            _all = _std(_r.double().tolist())
            _rights.append([
                (v - _statistics.fmean(p)) / {"group": _std(p), "batch": _all, "none": 1}[_scale]
                for p in _parts for v in p])
        # 1e-4 in the denominator, or less, moves a value by less than this
        assert any(_near(_got, _right, 5e-3) for _right in _rights), (
            f"the advantages with scale={_scale!r}")
    assert torch.equal(_r, _kept), "do not change the rewards"
_tied = group_advantages(torch.tensor([0.5] * 4 + [0.0, 1.0, 0.0, 0.0]), 4)
assert not _tied.isnan().any() and float(_tied[:4].abs().max()) < 1e-6, (
    "equal rewards have no advantage")
assert float(group_advantages(torch.tensor([1e-3, 0.0, 0.0, 0.0]), 4)[0]) > 1.0, (
    "eps is added to the standard deviation, not to the variance")
assert float(group_advantages(torch.tensor([1e-4, 0.0, 0.0, 0.0]), 4)[0]) > 0.3, (
    "a small spread is a spread")
_rare = group_advantages(torch.tensor([1.0] + [0.0] * 15), 16)
assert float(_rare[0]) > 3.6 and all(-0.3 < float(_a) < -0.2 for _a in _rare[1:]), (
    "a rare hit has a large advantage")
### END HIDDEN TESTS

# %% [markdown]
# ### Why `10 * reward + 3` does nothing
#
# The mean takes the shift out, the standard deviation the factor. Below, the same eight rewards
# in three scales: with `scale="group"` the advantages lie on one another. With `scale="none"`
# the factor stays; the shift is gone all the same.

# %%
eight = torch.tensor([0.10, 0.40, 0.35, 0.80, 0.50, 0.20, 0.90, 0.55])
views = {"r": eight, "10 r + 3": 10 * eight + 3, "r / 5": eight / 5}
number = range(1, 9)
plots.show(plots.panels({
    ("Rewards", "completion", "reward"): {
        name: (number, r) for name, r in views.items()},
    ('Advantages, scale="group"', "completion", "advantage"): {
        name: (number, group_advantages(r, 8)) for name, r in views.items()},
    ('Advantages, scale="none"', "completion", "advantage"): {
        name: (number, group_advantages(r, 8, scale="none"))
        for name, r in views.items()},
}, style="o", alt="Eight rewards in three scales. Scaled by the group, the "
    "three sets of advantages coincide; unscaled, those of 10 r + 3 are ten "
    "times those of r."))

# %% [markdown]
# ### Dead groups
#
# If all rewards of a group are equal, its advantages are zero and it teaches nothing about the reward:
# a **dead** or **tied group**. Take a reward that is 1 with probability p and else 0. What share of groups is dead?
# Your function answers, on 2,000 sampled groups for each point.

# %%
predict(
    "A policy is right once in a thousand tries (p = 0.001). How many groups "
    "of 16 teach it nothing?",
    {"about half":
         "A group of 16 sees a hit only once in some 60 groups.",
     "about 85 %":
         "That is so at a hit rate of one in a hundred: 0.99 to the power of "
         "16.",
     "about 98 %":
         "A group is dead if all 16 miss: 0.999 to the power of 16 is 0.984."},
    right="about 98 %")

# %%
def sampled_groups(p, size, n=2000):
    """Shares of groups with a hit, and of dead ones, at hit rate p."""
    hits = (torch.rand(n, size, generator=dice) < p).float()
    advantages = group_advantages(hits.flatten(), size).view(n, size)
    return (hits.any(1).float().mean().item(),
            (advantages == 0).all(1).float().mean().item())


rates = [0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97, 0.99]
shares = {size: [sampled_groups(p, size) for p in rates]
          for size in (2, 4, 8, 16)}
plots.show(plots.panels({
    ("A group with at least one hit", "hit rate p", "share of groups"): {
        f"G = {size}": (rates, [hit for hit, _ in s])
        for size, s in shares.items()},
    ("Dead groups", "hit rate p", "share of groups"): {
        f"G = {size}": (rates, [dead for _, dead in s])
        for size, s in shares.items()},
}, style="o-", xscale="logit", alt="Left: the share of groups with at least "
    "one hit rises with the hit rate and with G. Right: nearly all groups are "
    f"dead at a hit rate of 0.001 ({shares[8][0][1]:.1%} for G = 8), fewest in "
    "the middle, and many are dead again near 1."))
for size, points in shares.items():
    print(f"G = {size}: {points[0][1]:.1%} of the groups are dead at p = 0.001")

# %% [markdown]
# At a hit rate of 0.1 % even groups of 16 are nearly all dead, **whatever the learning rate**.
# Groups die at the other end too: a policy that always succeeds has nothing to learn from
# this prompt. TRL logs the share as `frac_reward_zero_std` (with `scale_rewards="batch"` it only tells
# whether the whole batch is tied). Watch that one, not `reward_std`:
# that is the spread of all rewards of a batch, between prompts too, and can be large while every
# group is dead.
#
# ### Noise is not a remedy
#
# Some add a little noise to the rewards so that no group is tied. Here is what it does to groups
# whose completions are all equally good.

# %%
tied = torch.full((8 * 20000,), 0.5)
noise = torch.randn(len(tied), generator=dice)
sizes = [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
noisy = [group_advantages(tied + size * noise, 8).view(-1, 8)
         for size in sizes]
honest = group_advantages(torch.rand(len(tied), generator=dice), 8)
plots.show(plots.panels({
    ("Tied groups with noise added", "standard deviation of the noise",
     "advantage"): {
        "typical size": (sizes, [a.abs().mean() for a in noisy]),
        "mean of one, over 20,000 groups": (
            sizes, [a[:, 0].mean() for a in noisy]),
        "typical size, real differences": (
            sizes, [honest.abs().mean()] * len(sizes))},
}, style="o-", xscale="log", alt="Noise of 0.001 already gives tied groups "
    f"advantages of typical size {noisy[4].abs().mean():.2f}, nearly as large "
    f"as real differences do ({honest.abs().mean():.2f}), although their mean "
    f"is {noisy[4][:, 0].mean():z.2f}."))

# %% [markdown]
# The division blows the noise up: rewards that differ by a thousandth push the policy almost as
# hard as real differences. On average the push is 0, so it carries no information; over many
# steps the policy makes a random walk. Honest remedies raise the chance of a signal: easier
# prompts, partial rewards, examples in the prompt (chapter 3), more samples a group, or sampling on
# until enough groups are alive (DAPO's dynamic sampling).
#
# The same thing can happen without anybody adding noise: in float32 the mean of eight times 0.7
# is off by rounding. With eps = 1e-8 that alone gives advantages of up to 0.8. With TRL's 1e-4
# it gives less than 0.001. (TRL's `frac_reward_zero_std` counts such a group as alive: its
# standard deviation is 6e-8, the tolerance 1e-8.)

# %%
same = torch.full((8,), 0.7)
for eps in (1e-4, 1e-8):
    largest = group_advantages(same, 8, eps=eps).abs().max().item()
    print(f"eight rewards of 0.7, eps={eps:g}: largest advantage {largest:.1g}")

# %% [markdown]
# ## 2. Log-probs and entropy
#
# The model gives **logits**: V numbers for each position. The policy's probability of the
# token it sampled is the softmax at that token's id. We need its logarithm.
#
# ### Exercise 2: `token_logprobs` and `entropy` (5 + 5 points, medium, 20 minutes)
#
# **Task a.** `token_logprobs(logits, ids)`: logits (B, T, V), ids (B, T). Return (B, T), the
# log-prob of each id. `logits[:, t]` already belongs to `ids[:, t]`: the shift by one (the
# output at a position predicts the *next* token) has been done. It has to be stable: logits of
# 1000 must not overflow, an unlikely token must not become log 0. For `gpt2` V is 50,257, so
# avoid more copies of size (B, T, V) than you need.
#
# **Task b.** `entropy(logits)`: (B, T, V) to (B, T), in nats: $-\sum_v p_v \log p_v$. It is the
# thermometer of exploration: near 0, all completions of a group are alike.
#
# <details><summary>Hint 1</summary>log softmax of one entry is that logit minus
# <code>logsumexp</code> of all of them.</details>
# <details><summary>Hint 2</summary><code>gather(-1, ids.unsqueeze(-1))</code> picks one entry
# along the last axis.</details>
# <details><summary>Hint 3, for the entropy</summary>0 log 0 is nan: take p as the exp of the
# log softmax.</details>

# %% nbgrader={"grade": false, "grade_id": "ex2a", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 2a
def token_logprobs(logits, ids):
    """Log-probs of the sampled ids.

    logits: (B, T, V) float. ids: (B, T) long. Returns: (B, T).
    """
    ### BEGIN SOLUTION
    chosen = logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(-1)
    ### END SOLUTION

# %% check="ex2a"
checks.token_logprobs(token_logprobs)

# %% nbgrader={"grade": true, "grade_id": "test_ex2a", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert token_logprobs(torch.zeros(1, 1, 3), torch.tensor([[2]])).shape == (1, 1)
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(29)
for _b, _t, _v in ((2, 3, 5), (4, 4, 4), (1, 7, 50)):
    _logits = 4 * torch.randn(_b, _t, _v, generator=_gen)
    _ids = torch.randint(_v, (_b, _t), generator=_gen)
    _leaf = _logits.clone().requires_grad_()
    _got = token_logprobs(_leaf, _ids)
    _right = torch.distributions.Categorical(logits=_logits.double()).log_prob(_ids)
    assert _got.shape == (_b, _t), "one log-prob a token"
    assert torch.allclose(_got.double(), _right, atol=1e-4), "the log-prob of the sampled id"
    _weights = torch.randn(_b, _t, generator=_gen)
    (_got * _weights).sum().backward()
    _want = (torch.nn.functional.one_hot(_ids, _v) - _logits.softmax(-1)) * _weights[..., None]
    assert torch.allclose(_leaf.grad, _want, atol=1e-4), "the gradient: one-hot minus softmax"
    assert torch.allclose(token_logprobs(_logits + 1000, _ids).double(), _right, atol=1e-3), (
        "large logits must not overflow")
_far = token_logprobs(torch.tensor([[[0.0, 300.0]]]), torch.tensor([[0]]))
assert abs(float(_far) + 300) < 1e-3, "an unlikely token has a finite log-prob"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "ex2b", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 2b
def entropy(logits):
    """Entropy in nats at each position. logits: (B, T, V). Returns: (B, T)."""
    ### BEGIN SOLUTION
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)
    ### END SOLUTION

# %% check="ex2b"
checks.entropy(entropy)

# %% nbgrader={"grade": true, "grade_id": "test_ex2b", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert entropy(torch.zeros(1, 2, 3)).shape == (1, 2)
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(31)
for _b, _t, _v in ((2, 3, 5), (4, 4, 4), (1, 7, 50)):
    _logits = 3 * torch.randn(_b, _t, _v, generator=_gen)
    _got = entropy(_logits)
    _right = torch.distributions.Categorical(logits=_logits.double()).entropy()
    assert _got.shape == (_b, _t), "one entropy a position"
    assert torch.allclose(_got.double(), _right, atol=1e-4), "minus the sum of p log p"
    assert torch.allclose(entropy(_logits + 500).double(), _right, atol=1e-3), (
        "adding a constant to all logits changes nothing")
assert abs(float(entropy(torch.zeros(1, 1, 5000))) - 8.517193) < 1e-3, "ln 5000 if all are equal"
for _v in (3, 50_000):
    _sure = torch.zeros(1, 1, _v)
    _sure[..., 1] = 200.0
    assert abs(float(entropy(_sure))) < 1e-4, "a certain token has entropy 0"
### END HIDDEN TESTS

# %% [markdown]
# ## 3. A mean that leaves out padding
#
# Completions end at different lengths; tensors do not. The **mask** is 1 on every token of a
# completion, its end-of-text token included, and 0 on the padding after it. Forget it, and the
# policy is trained on tokens that it never wrote.
#
# ### Exercise 3: `masked_mean` (5 points, easy, 5 minutes)
#
# **Task.** `masked_mean(values, mask, dim=None)`: the mean of the values where the mask is 1,
# over all of them or along `dim`. Where the mask is 0 everywhere the mean is 0, with a finite
# gradient. The mask may be of floats, integers or booleans.
#
# <details><summary>Hint</summary>A sum over a count; <code>clamp(min=1)</code> keeps the count
# from being 0.</details>

# %% nbgrader={"grade": false, "grade_id": "ex3", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 3
def masked_mean(values, mask, dim=None):
    """Mean of values where mask is 1, 0 where there are none.

    values, mask: one shape, such as (B, T). dim: None for all, or an axis.
    """
    ### BEGIN SOLUTION
    return (values * mask).sum(dim) / mask.sum(dim).clamp(min=1)
    ### END SOLUTION

# %% check="ex3"
checks.masked_mean(masked_mean)

# %% nbgrader={"grade": true, "grade_id": "test_ex3", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert abs(float(masked_mean(torch.ones(2, 3), torch.ones(2, 3))) - 1) < 1e-4
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(37)
for _b, _t in ((3, 4), (4, 4), (1, 9)):
    _values = 4 * torch.randn(_b, _t, generator=_gen)
    _mask = (torch.rand(_b, _t, generator=_gen) < 0.6).float()
    _mask[0] = 0
    _rows = [[v for v, m in zip(vs, ms) if m] for vs, ms in zip(_values.tolist(), _mask.tolist())]
    _all = [v for row in _rows for v in row]
    _got = masked_mean(_values, _mask)
    assert _got.shape == () and abs(float(_got) - sum(_all) / max(len(_all), 1)) < 1e-5, (
        "over all tokens that count")
    for _kind in (_mask, _mask.bool(), _mask.long()):
        _got = masked_mean(_values, _kind, dim=1)
        assert _got.shape == (_b,) and all(
            abs(float(g) - sum(r) / max(len(r), 1)) < 1e-5 for g, r in zip(_got, _rows)), (
            "row by row, 0 for an empty row")
    _columns = masked_mean(_values, _mask, dim=0)
    for _j in range(_t):
        _column = [v for v, m in zip(_values[:, _j].tolist(), _mask[:, _j]) if m]
        assert abs(float(_columns[_j]) - sum(_column) / max(len(_column), 1)) < 1e-5, (
            "dim is the axis to average over")
_leaf = torch.ones(2, 3, requires_grad=True)
assert abs(float(masked_mean(_leaf.detach(), torch.zeros(2, 3)))) < 1e-6, "0 where nothing counts"
masked_mean(_leaf, torch.tensor([[0.0, 0, 0], [1, 1, 0]]), dim=1).sum().backward()
assert torch.allclose(_leaf.grad, torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0]]), atol=1e-5), (
    "the gradient: 0 on what does not count")
### END HIDDEN TESTS

# %% [markdown]
# ## 4. The clipped surrogate
#
# Part 0 left us with a surrogate that is built on the **importance ratio**,
#
# $$\rho_t = \frac{\pi_\theta(x_t)}{\pi_{\mathrm{old}}(x_t)}
# = \exp(\mathrm{logps} - \mathrm{old\_logps})$$
#
# where old means: the policy that sampled. On fresh samples $\rho = 1$, and since
# $\nabla\rho = \rho\,\nabla\log\pi_\theta$ the gradient of $A\,\rho$ is exactly
# $A\,\nabla\log\pi_\theta$. When the same samples serve for several
# updates, $\rho$ moves away from 1, and PPO's clip (Schulman et al. 2017, equation 7) takes away
# the reason to go further:
#
# $$\min\left(\rho_t A,\; \mathrm{clip}(\rho_t,\, 1-\epsilon_\mathrm{low},\, 1+\epsilon_\mathrm{high})\, A\right)$$
#
# The minimum makes it pessimistic: clipping removes gains, never losses.
#
# ### Exercise 4: `clipped_surrogate` (10 points, medium, 20 minutes)
#
# **Task.** `logps` and `old_logps` have shape (B, T), `advantages` (B,). Return the expression
# above for every token, shape (B, T). It is an objective: larger is better. The gradient has to
# flow through `logps`. Work with differences of log-probs: the probability of a token with
# log-prob -200 is 0 in float32.
#
# <details><summary>Hint 1</summary>An advantage belongs to a whole row:
# <code>advantages.unsqueeze(1)</code>. With B = T the wrong way round raises no error.</details>
# <details><summary>Hint 2</summary><code>ratio.clamp(low, high)</code>, then
# <code>torch.min</code> of the two <em>products</em>.</details>

# %% nbgrader={"grade": false, "grade_id": "ex4", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 4
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    """PPO's clipped objective for every token.

    logps, old_logps: (B, T). advantages: (B,). Returns: (B, T).
    """
    ### BEGIN SOLUTION
    ratio = (logps - old_logps).exp()
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    advantages = advantages.unsqueeze(1)
    return torch.min(ratio * advantages, clipped * advantages)
    ### END SOLUTION

# %% check="ex4"
checks.clipped_surrogate(clipped_surrogate)

# %% nbgrader={"grade": true, "grade_id": "test_ex4", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_two = torch.zeros(2, 3)
assert clipped_surrogate(_two, _two, torch.ones(2), 0.2, 0.2).shape == (2, 3)
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(41)
for _b, _t, _low, _high, _far in ((2, 3, 0.2, 0.2, 0.5), (5, 5, 0.1, 0.3, 0.5),
                                  (3, 1, 0.3, 0.1, 0.5), (6, 6, 0.2, 0.2, 1.5)):
    _old = -3 * torch.rand(_b, _t, generator=_gen)
    _leaf = (_old + _far * torch.randn(_b, _t, generator=_gen)).requires_grad_()
    _adv = torch.randn(_b, generator=_gen)
    _got = clipped_surrogate(_leaf, _old, _adv, _low, _high)
    assert _got.shape == (_b, _t), "one value a token"
    _got.sum().backward()
    _got = _got.detach()
    for _i in range(_b):
        for _j in range(_t):
            _rho, _a = (_leaf - _old)[_i, _j].exp().item(), float(_adv[_i])
            # a gain is capped, a loss is not
            _eff = min(_rho, 1 + _high) if _a > 0 else max(_rho, 1 - _low)
            assert abs(float(_got[_i, _j]) - _eff * _a) < 1e-4, "min(ratio A, clipped ratio A)"
            _slope = _rho * _a if _eff == _rho else 0.0
            assert abs(float(_leaf.grad[_i, _j]) - _slope) < 1e-4, (
                "ratio A where it is not clipped, else 0")
_far = torch.full((1, 2), -200.0)
_got = clipped_surrogate(_far, _far, torch.ones(1), 0.2, 0.2)
assert torch.allclose(_got, torch.ones(1, 2)), "probabilities underflow: subtract log-probs"
### END HIDDEN TESTS

# %%
def show_clipping():
    x = torch.linspace(0.4, 1.8, 141)

    def y(advantage, low, high):
        return clipped_surrogate(x.log().unsqueeze(0), torch.zeros(1, 141),
                                 torch.tensor([advantage]), low, high)[0]

    plots.show(plots.panels({
        (f"Advantage {a:+.0f}", "importance ratio", "surrogate"): {
            "not clipped": (x, a * x), "epsilon 0.2": (x, y(a, 0.2, 0.2)),
            "0.2 below, 0.28 above": (x, y(a, 0.2, 0.28))}
        for a in (1.0, -1.0)},
        alt="The surrogate against the importance ratio. With a positive "
        "advantage it is flat above the upper bound, with a negative one flat "
        "below the lower bound, which is the same in both."))


show_clipping()

# %% [markdown]
# Where the curve is flat, the gradient is 0: this token has been pushed far enough. On the
# other side the curve stays steep: a token that went the *wrong* way keeps its full gradient.
#
# A larger $\epsilon_\mathrm{high}$ ("clip-higher", Yu et al. 2025, *DAPO*, section 3.1) gives rare tokens
# room: from 0.01 a factor of 1.2 leads to 0.012 only, while a token at 0.9 can reach 1.
#
# With one update per batch, which is TRL's default and what chapter 1 did, the ratio is always 1
# and **clipping never acts**. It begins to matter with `num_iterations` above 1, or with several
# optimizer steps per generation (`steps_per_generation` above `gradient_accumulation_steps`).
#
# ## 5. The KL term
#
# The price for leaving the reference: $\beta$ times an estimate of
# $\mathrm{KL}(\pi\|\pi_{\mathrm{ref}})$, added to the loss of every token.
#
# ### Exercise 5: `kl_term` (10 points, medium, 15 minutes)
#
# Chapter 1 has $k_3 = (e^{\ell} - 1) - \ell$, with
# $\ell = \mathrm{ref\_logps} - \mathrm{logps}$: its mean over tokens *of the policy* is the
# divergence. But our tokens are those of the *old* policy. Weighing each by the ratio
# $\rho = \pi_\theta(x_t)/\pi_{\mathrm{old}}(x_t)$ puts the mean right again, and the next
# section shows that it changes the gradient even where $\rho$ is 1.
#
# **Task.** For every token return $k_3\,\rho$, or $k_3$ with `use_bias_correction_kl=False`, shape
# (B, T). The gradient has to flow through `logps`, in the ratio too; nothing is clipped. Here too
# subtract log-probs; divide no probabilities.
#
# <details><summary>Hint 1</summary>Two differences of log-probs: <code>ref_logps - logps</code> for
# k3, <code>logps - old_logps</code> for the ratio.</details>
# <details><summary>Hint 2</summary>Detach neither of them.</details>

# %% nbgrader={"grade": false, "grade_id": "ex5", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 5
def kl_term(logps, old_logps, ref_logps, use_bias_correction_kl=True):
    """k3 for every token, times the importance ratio or plain.

    logps, old_logps, ref_logps: (B, T). Returns: (B, T).
    """
    ### BEGIN SOLUTION
    ell = ref_logps - logps
    k3 = torch.expm1(ell) - ell
    return k3 * (logps - old_logps).exp() if use_bias_correction_kl else k3
    ### END SOLUTION

# %% check="ex5"
checks.kl_term(kl_term)

# %% nbgrader={"grade": true, "grade_id": "test_ex5", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_nil = torch.zeros(1, 1)
assert float(kl_term(_nil, _nil, _nil)) == 0
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(43)
for _shape in ((2, 3), (4, 4), (1, 9)):
    _ref, _old = (-3 * torch.rand(_shape, generator=_gen) for _ in range(2))
    for _fresh in (True, False):
        _start = _old.clone() if _fresh else -3 * torch.rand(_shape, generator=_gen)
        _d, _rho = (_ref - _start).double(), (_start - _old).double().exp()
        _k3 = _d.exp() - 1 - _d
        for _corrected in (True, False):
            _leaf = _start.clone().requires_grad_()
            _got = kl_term(_leaf, _old, _ref, use_bias_correction_kl=_corrected)
            assert _got.shape == _shape, "one value a token"
            assert torch.allclose(_got.double(), _k3 * (_rho if _corrected else 1),
                                  rtol=1e-4, atol=1e-4), "k3, with the correction times the ratio"
            _got.sum().backward()
            # d(k3 rho) = rho (1 - exp(l) + k3), which is -rho l
            _slope = -_rho * _d if _corrected else 1 - _d.exp()
            assert torch.allclose(_leaf.grad.double(), _slope, rtol=1e-4, atol=1e-4), (
                "the gradient, through the ratio too")
    assert torch.allclose(kl_term(_start, _old, _ref).double(), _k3 * _rho, rtol=1e-4, atol=1e-4), (
        "the correction is the default")
_one, _eight = torch.tensor([[-1.0]]), torch.tensor([[-9.0]])
assert abs(float(kl_term(_eight, _eight, _one)) - 2971.957987) < 1, "k3 has no upper limit"
assert abs(float(kl_term(_one, _eight, _one - 1)) - 1096.633158) < 1, "the ratio is not clipped"
_low = torch.tensor([[-200.0]])
assert abs(float(kl_term(_low, _low, _low - 1)) - 0.367879) < 1e-4, (
    "probabilities underflow: subtract log-probs")
### END HIDDEN TESTS

# %% [markdown]
# ### A value is not a gradient
#
# Chapter 1 asked what $k_1, k_2, k_3$ are worth as **estimates** of
# $\mathrm{KL}(\pi\|\pi_{\mathrm{ref}})$. In a loss only their **gradient** counts, and that is
# another question. For sampled tokens we differentiate the expression, not the sampling:
# $\mathbb{E}_{x\sim\pi}[\nabla k(x)]$. With few categories it can be computed exactly, without a
# single sample:

# %%
def show_estimators():
    logits = torch.tensor([2.0, 0.5, 0.0, -1.0, -1.0, 1.4], requires_grad=True)
    policy = torch.distributions.Categorical(logits=logits)
    reference = torch.distributions.Categorical(
        logits=torch.tensor([0.0, 1.2, -0.6, 0.9, -1.4, -0.2]))
    away = torch.distributions.kl_divergence(policy, reference)
    back = torch.distributions.kl_divergence(reference, policy)
    difference = policy.logits - reference.logits
    three = policy.logits, policy.logits.detach(), reference.logits
    terms = {"k1": difference, "k2": difference**2 / 2,
             "k3": kl_term(*three, use_bias_correction_kl=False),
             "k3 x ratio": kl_term(*three)}  # the ratio is 1, with a gradient
    weights = policy.probs.detach()  # an expectation is a weighted sum

    def slope(value):
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    slopes = {name: slope((weights * term).sum())
              for name, term in terms.items()}

    def apart(name, other):
        return f"{(slopes[name] - other).abs().max():.3f}"

    plots.show(plots.panels({
        (name, "token", "gradient with respect to its logit"): {
            "grad KL(pi||ref)": (range(1, 7), slope(away)),
            "grad KL(ref||pi)": (range(1, 7), slope(back)),
            f"E[grad {name}]": (range(1, 7), slopes[name])}
        for name in terms}, columns=2, style="o",
        alt="Expected gradients for each of six tokens, and how far they are "
        f"apart. k1: {apart('k1', 0)} from zero. From that of KL(pi||ref): "
        f"k2 {apart('k2', slope(away))}, k3 {apart('k3', slope(away))}, k3 x "
        f"ratio {apart('k3 x ratio', slope(away))}. From that of KL(ref||pi): "
        f"k3 {apart('k3', slope(back))}."))
    print(f"KL(pi||ref) = {away.item():.4f} nats")
    for name, term in terms.items():
        print(f"expected value of {name}: {(weights * term).sum().item():.4f}")


show_estimators()

# %% [markdown]
# - $k_1$ has the right value, and as a loss its expected gradient is **zero**: it restrains
#   nothing.
# - $k_2$ has a biased value and the gradient of $\mathrm{KL}(\pi\|\pi_{\mathrm{ref}})$.
# - $k_3$ has the right value and the gradient of the *other* divergence,
#   $\mathrm{KL}(\pi_{\mathrm{ref}}\|\pi)$. This is the term of the DeepSeekMath paper (equation 4).
# - $k_3 \cdot \rho$ has both right: on fresh samples $\rho$ is 1 and carries the gradient of
#   the sampling. This is TRL 1.16's default (`use_bias_correction_kl=True`), after DeepSeek-V3.2
#   (2025, arXiv 2512.02556).
#
# Why? A mean $\mathbb{E}_{x\sim\pi}[k(x)]$ depends on $\pi$ twice: through $k$, and through which
# tokens are drawn. Differentiating $k$ on fixed samples sees the first and forgets the second. For
# $k_1$ the first is $\mathbb{E}[\nabla\log\pi] = 0$, the very line of part 0, and the whole gradient
# sits in the second. The ratio puts it back. That to differentiate an estimate of the KL is not to estimate the
# KL's gradient is the first of the pitfalls of Tang & Munos 2025 (arXiv 2506.09477). Liu et al. 2025 (arXiv
# 2510.01555) show that on fresh samples $k_2$ as a loss and $k_1$ in the reward have the same gradient.
#
# **How far this goes.** The six tokens above are an exact sum, so no seed is behind it. But it is about *one token*,
# given the tokens before it, on *fresh samples*:
#
# - Over a whole completion the per-token terms leave out what a token does to the KL of later ones (the second
#   pitfall of Tang & Munos). TRL's term leaves it out too.
# - Where the loss divides by the length, $k_1$ keeps a small push on the length, none towards the reference.
# - The ratio has to be the token's own. With a ratio of the whole sequence (chapter 5) TRL multiplies that one in, and
#   the property is lost.
# - With sampled tokens every one of these gradients is also noisy; the picture shows their means.
# - Near the reference the gradients agree, all but $k_1$'s. So the difference can show only in runs that go far. The
#   course has not measured that it does.
#
# ## 6. The loss
#
# Every token has a loss now: minus its surrogate, plus $\beta$ times its KL term. How they
# are added up makes the four variants. With $c_{i,t}$ for the loss (the cost) of token t of
# completion i, $|o_i|$ for the tokens that count in it:
#
# | `loss_type` | loss | from |
# |---|---|---|
# | `grpo` | $\frac{1}{B}\sum_i \frac{1}{\lvert o_i\rvert}\sum_t c_{i,t}$ | DeepSeekMath |
# | `bnpo` | $\frac{1}{\sum_i \lvert o_i\rvert}\sum_{i,t} c_{i,t}$ | TRL |
# | `dapo` | the same, over all tokens of the optimizer step | DAPO |
# | `dr_grpo` | $\frac{1}{B\,L_\mathrm{max}}\sum_{i,t} c_{i,t}$ | Liu et al. 2025, *Dr. GRPO* |
#
# `bnpo` and `dapo` differ only when a step is split (gradient accumulation, or several GPUs):
# `bnpo` then averages in each part, `dapo` over the whole step. Our B completions *are*
# the whole step, so here they are the same. The papers go a little further than these names: Dr.
# GRPO also leaves out the standard deviation, because dividing by it gives very easy and very hard
# prompts more weight (in TRL you set `scale_rewards="none"` too); DAPO divides by the tokens of each
# group, TRL by those of all.
#
# ### Exercise 6: `grpo_loss` (15 points, hard, 30 minutes)
#
# **Task.** Return the loss, a tensor without dimensions. With `use_bias_correction_kl` (the
# default) the KL term is $k_3\,\rho$, without it $k_3$. With
# `beta=0`, `ref_logps` may be None. `max_completion_length` matters to `dr_grpo` alone. Use
# your own functions.
#
# <details><summary>Hint 1</summary>First a tensor of shape (B, T) from
# <code>clipped_surrogate(..., epsilon, epsilon)</code> and <code>kl_term</code>, then one way of
# adding up for each loss type.</details>
# <details><summary>Hint 2</summary>Two of the four are one <code>masked_mean</code>, another is
# the mean of a <code>masked_mean</code> along dim 1. <code>dr_grpo</code> is a masked sum over a
# constant.</details>

# %% nbgrader={"grade": false, "grade_id": "ex6", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 6
def grpo_loss(logps, old_logps, ref_logps, advantages, mask, epsilon=0.2,
              beta=0.0, loss_type="dapo", max_completion_length=512,
              use_bias_correction_kl=True):
    """The loss of one optimizer step.

    logps, old_logps, ref_logps, mask: (B, T). advantages: (B,).
    loss_type: "grpo", "bnpo", "dapo" or "dr_grpo". Returns: shape ().
    """
    ### BEGIN SOLUTION
    token_loss = -clipped_surrogate(logps, old_logps, advantages, epsilon, epsilon)
    if beta:
        token_loss = token_loss + beta * kl_term(logps, old_logps, ref_logps,
                                                 use_bias_correction_kl)
    if loss_type == "grpo":
        return masked_mean(token_loss, mask, dim=1).mean()
    if loss_type in ("bnpo", "dapo"):
        return masked_mean(token_loss, mask)
    if loss_type == "dr_grpo":
        return (token_loss * mask).sum() / (len(mask) * max_completion_length)
    raise ValueError(f"unknown loss_type {loss_type!r}")
    ### END SOLUTION

# %% check="ex6"
checks.grpo_loss(grpo_loss)

# %% nbgrader={"grade": true, "grade_id": "test_ex6", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
_two = torch.zeros(2, 3)
assert grpo_loss(_two, _two, None, torch.zeros(2), torch.ones(2, 3)).shape == ()
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(47)


def _slow_loss(logps, old, ref, adv, mask, epsilon, beta, kind, longest, corrected):
    rows = []
    for i in range(len(mask)):
        rows.append([])
        for t in range(mask.shape[1]):
            if mask[i, t]:
                ratio = (logps[i, t] - old[i, t]).exp()
                kept = ratio.clamp(max=1 + epsilon) if adv[i] > 0 else ratio.clamp(min=1 - epsilon)
                cost = -kept * adv[i]
                if beta:
                    away = (ref[i, t] - logps[i, t]).exp() - 1 - ref[i, t] + logps[i, t]
                    cost = cost + beta * away * (ratio if corrected else 1)
                rows[-1].append(cost)
    flat = [cost for row in rows for cost in row]
    if kind == "grpo":
        return sum(sum(row) / len(row) for row in rows if row) / len(rows)
    return sum(flat) / (len(rows) * longest if kind == "dr_grpo" else len(flat))


for _case in range(12):
    _b, _t = (4, 4) if _case % 3 == 0 else (2 + _case % 4, 3 + _case % 5)
    _old, _ref = (-3 * torch.rand(_b, _t, generator=_gen, dtype=torch.float64) for _ in range(2))
    _logps = _old + (0.4 * torch.randn(_b, _t, generator=_gen) if _case % 2 else 0)
    _adv = torch.randn(_b, generator=_gen, dtype=torch.float64)
    _long = torch.randint(1, _t + 1, (_b, 1), generator=_gen)
    _mask = (torch.arange(_t) < _long).double()
    for _kind in ("grpo", "bnpo", "dapo", "dr_grpo"):
        for _beta, _corrected in ((0.0, True), (0.003, True), (0.05, True), (0.5, False)):
            _results = []
            for _of in (grpo_loss, _slow_loss):
                _leaf = _logps.clone().requires_grad_()
                _loss = (_of(_leaf, _old, _ref, _adv, _mask, epsilon=0.2, beta=_beta,
                             loss_type=_kind, max_completion_length=40,
                             use_bias_correction_kl=_corrected) if _of is grpo_loss else
                         _of(_leaf, _old, _ref, _adv, _mask, 0.2, _beta, _kind, 40, _corrected))
                _loss.backward()
                _results.append((_loss.detach(), _leaf.grad))
            (_got, _got_grad), (_right, _right_grad) = _results
            assert _got.shape == (), "the loss has no dimensions"
            assert abs(float(_got - _right)) < 1e-6, (
                f"the loss with loss_type={_kind!r}, beta={_beta}")
            assert torch.allclose(_got_grad, _right_grad, atol=1e-6), (
                f"the gradient with loss_type={_kind!r}, beta={_beta}")
_wide = grpo_loss(_logps, _old, None, _adv, _mask, epsilon=0.05)
_right = _slow_loss(_logps, _old, None, _adv, _mask, 0.05, 0.0, "dapo", 512, True)
assert abs(float(_wide - _right)) < 1e-6, "epsilon is an argument"
### END HIDDEN TESTS

# %% [markdown]
# ### The closing check: is it TRL's?
#
# `equals_trl` runs the loss function of the installed TRL on random tensors, beside yours: ragged
# masks, old log-probs equal to the new ones and not. Loss and gradient may differ by 1e-6. (One thing
# it does not cover: with vLLM as the sampler TRL multiplies one more weight in, which chapter 5 is
# about.)

# %%
checks.equals_trl(grpo_loss)

# %% [markdown]
# ### Who is pushed how hard
#
# Four completions of 5, 10, 20 and 40 tokens, all with the same advantage. How much of the whole
# gradient lands on one token of each, and how much on each completion?

# %%
def push(loss_type, lengths):
    """Share of the gradient that lands on each token, shape (4, 40)."""
    mask = (torch.arange(40) < lengths.unsqueeze(1)).float()
    logps = torch.full((4, 40), -1.0, requires_grad=True)
    loss = grpo_loss(logps, logps.detach(), None, torch.ones(4), mask,
                     loss_type=loss_type, max_completion_length=40)
    share = torch.autograd.grad(loss, logps)[0].abs()
    return share / share.sum()


def show_length_bias():
    lengths = torch.tensor([5, 10, 20, 40])
    shares = {kind: push(kind, lengths)
              for kind in ("grpo", "bnpo", "dapo", "dr_grpo")}
    plots.show(plots.panels({
        ("One token", "length of its completion", "share of the gradient"): {
            kind: (lengths, share[:, 0]) for kind, share in shares.items()},
        ("One completion", "its length", "share of the gradient"): {
            kind: (lengths, share.sum(1)) for kind, share in shares.items()},
    }, style="o-", alt="A token of a completion of 5 against one of 40, and a "
        "whole completion of 5 against one of 40. " + "; ".join(
            f"{kind}: {share[0, 0] / share[3, 0]:.2f} times the push, and "
            f"{share[0].sum() / share[3].sum():.2f} times"
            for kind, share in shares.items())))


show_length_bias()

# %% [markdown]
# With `grpo` each completion has the same weight, so a token in a long one counts less. A *bad*
# completion gets away more cheaply by being long, and a good one gains more a token by being
# short. This is the **length bias** that Dr. GRPO describes. The other three treat all tokens
# alike. Within one batch they differ by a constant factor only, which is why their curves
# coincide here. Between batches they do not: `bnpo` and `dapo` divide by how many tokens this
# batch happens to have, `dr_grpo` by the same number every time.
#
# ## 7. One step, and the loop
#
# ### Exercise 7: `grpo_step` (5 points, medium, 15 minutes)
#
# **Task.** Put the pieces together: from logits (B, T, V), sampled ids (B, T), mask (B, T) and
# rewards (B,) to the loss. The samples are fresh, so the old log-probs are the current ones; for
# the ratio to be 1 *and* to have a gradient they have to be a **detached copy**. `settings` go
# to `grpo_loss` as they are.
#
# <details><summary>Hint</summary>Three lines: log-probs, advantages, loss. Forget
# <code>.detach()</code>, and the loss is right while its gradient is zero.</details>

# %% nbgrader={"grade": false, "grade_id": "ex7", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 7
def grpo_step(logits, ids, mask, rewards, ref_logps, num_generations,
              **settings):
    """The loss of one step on fresh samples.

    logits: (B, T, V). ids, mask, ref_logps: (B, T). rewards: (B,), groups of
    num_generations side by side. settings: further arguments of grpo_loss.
    """
    ### BEGIN SOLUTION
    logps = token_logprobs(logits, ids)
    advantages = group_advantages(rewards, num_generations)
    return grpo_loss(logps, logps.detach(), ref_logps, advantages, mask, **settings)
    ### END SOLUTION

# %% check="ex7"
checks.grpo_step(grpo_step)

# %% nbgrader={"grade": true, "grade_id": "test_ex7", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
_zero = torch.zeros(2, 1, 3)
assert grpo_step(_zero, torch.zeros(2, 1, dtype=torch.long), torch.ones(2, 1),
                 torch.tensor([0.0, 1.0]), None, 2).shape == ()
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(53)
for _groups, _size, _t, _v in ((2, 4, 5, 6), (3, 2, 6, 4), (1, 6, 6, 6), (1, 16, 3, 4)):
    _b = _groups * _size
    _logits = torch.randn(_b, _t, _v, generator=_gen, dtype=torch.float64)
    _ids = torch.randint(_v, (_b, _t), generator=_gen)
    _long = torch.randint(1, _t + 1, (_b, 1), generator=_gen)
    _mask = (torch.arange(_t) < _long).double()
    _ref = -2 * torch.rand(_b, _t, generator=_gen, dtype=torch.float64)
    _r = torch.rand(_b, generator=_gen, dtype=torch.float64) ** 9
    _row = _r.view(_groups, _size)
    for _kind in ("grpo", "dapo", "dr_grpo"):
        for _beta in (0.0, 0.3):
            _leaf = _logits.clone().requires_grad_()
            _loss = grpo_step(_leaf, _ids, _mask, _r, _ref if _beta else None, _size, beta=_beta,
                              loss_type=_kind, max_completion_length=9)
            _loss.backward()
            _logp = _logits.log_softmax(-1).gather(-1, _ids[..., None])[..., 0]
            _d = _ref - _logp
            _weight = _mask / {"grpo": _b * _mask.sum(1, keepdim=True), "dapo": _mask.sum(),
                               "dr_grpo": torch.tensor(9.0 * _b)}[_kind]
            _fits = []
            for _correction in (0, 1):
                _a = ((_row - _row.mean(1, keepdim=True)) /
                      (_row.std(1, keepdim=True, correction=_correction) + 1e-4)).view(_b, 1)
                _right = (_weight * (-_a + _beta * (_d.exp() - 1 - _d))).sum()
                # on fresh samples: d(k3 ratio)/d logp = -l
                _slope = _weight * (-_a - _beta * _d)
                _one_hot = torch.nn.functional.one_hot(_ids, _v)
                _want = _slope[..., None] * (_one_hot - _logits.softmax(-1))
                _fits.append(abs(float(_loss.detach() - _right)) < 1e-3 and
                             torch.allclose(_leaf.grad, _want, atol=1e-3 * float(_want.abs().max())))
            assert any(_fits), f"loss and gradient of a step with loss_type={_kind!r}, beta={_beta}"
### END HIDDEN TESTS

# %% [markdown]
# ### The loop
#
# Generate, reward, log-probs, loss, update: all of GRPO. The reward of this chapter is the
# classifier's probability of **five stars**.

# %%
def five_stars(completions, **kwargs):
    return [float(row[4]) for row in get_star_probs(list(completions))]


def my_grpo(steps=20, completions=64, num_generations=8, seed=0, beta=0.2,
            learning_rate=2e-4, max_new_tokens=40):
    """Train the review policy with your functions; returns a row a step."""
    torch.manual_seed(seed)
    path = models.policy_path(MODEL, sentiment.TASK)
    (policy, tokenizer), (reference, _) = (models.load_policy(path)
                                           for _ in range(2))
    optimizer = torch.optim.AdamW(policy.parameters(), learning_rate,
                                  weight_decay=0.0)
    prompts, order = sentiment.prompts("train"), random.Random(seed)
    rows = []
    for step in progress(range(1, steps + 1)):
        # 1. Generate: every prompt num_generations times, side by side.
        chosen = order.sample(prompts, completions // num_generations)
        batch = tokenizer([p for p in chosen for _ in range(num_generations)],
                          return_tensors="pt", padding=True).to(policy.device)
        tokens = policy.generate(**batch, do_sample=True, top_k=0,
                                 max_new_tokens=max_new_tokens,
                                 pad_token_id=tokenizer.pad_token_id)
        width = batch.input_ids.shape[1]
        ids = tokens[:, width:]
        is_end = (ids == tokenizer.eos_token_id).int()
        mask = (is_end.cumsum(1) - is_end == 0).float()  # up to the first end

        # 2. Reward.
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        rewards = torch.tensor(five_stars(texts), device=policy.device)

        # 3. Logits: position t predicts token t + 1, hence the shift by one.
        attention = torch.cat([batch.attention_mask, mask.long()], dim=1)
        positions = (attention.cumsum(1) - 1).clamp(min=0)  # prompts are padded

        def logits_of(model, tokens=tokens, attention=attention,
                      positions=positions, width=width):
            return model(input_ids=tokens, attention_mask=attention,
                         position_ids=positions).logits[:, width - 1:-1]

        with torch.no_grad():
            ref_logps = token_logprobs(logits_of(reference), ids)
        logits = logits_of(policy)

        # 4. Loss and update.
        loss = grpo_step(logits, ids, mask, rewards, ref_logps, num_generations,
                         beta=beta, max_completion_length=max_new_tokens)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()

        with torch.no_grad():
            per_completion = grpo_step(logits, ids, mask, rewards, ref_logps,
                                       num_generations, beta=beta,
                                       loss_type="grpo")
            logps = token_logprobs(logits, ids)
            k3 = kl_term(logps, logps, ref_logps)  # the ratio is 1
            rows.append({
                "step": step, "score": rewards.mean().item(),
                "kl": masked_mean(k3, mask, dim=1).mean().item(),
                "gradient norm": norm.item(),
                "loss, dapo": loss.item(), "loss, grpo": per_completion.item(),
                "completion_length": mask.sum(1).mean().item(),
                "entropy": masked_mean(entropy(logits), mask).item(),
                "clipped_ratio": (is_end.sum(1) == 0).float().mean().item()})
    return rows

# %% [markdown]
# Your loop, and TRL with the same reward and the same settings, three seeds each: about a minute in all. The
# prompts come in another order, so the curves are not the same; they should be of the same kind.

# %%
predict(
    "The reward will rise over these 20 steps. What does the loss do, with "
    'loss_type="grpo" and beta = 0.2?',
    {"it falls, as losses do":
         "It would if it measured the reward. But the advantages of a group "
         "add up to 0, however good the group is.",
     "it stays at 0":
         "That is its first part, the surrogate: advantages add up to 0. The "
         "KL term comes on top.",
     "it begins at 0 and rises":
         "The surrogate is 0 on fresh samples, and what is left is beta times "
         "the KL, which grows as the policy leaves the reference."},
    right="it begins at 0 and rises")

# %%
if not is_autograding():
    LOOPS["your loop"] = [my_grpo(seed=seed) for seed in (0, 1, 2)]
    LOOPS["TRL"] = list(evaluation.histories({
        seed: experiment(f"chapter2_trl_{seed}",
                         {"sentiment_reward": five_stars}, model=MODEL,
                         beta=0.2, max_steps=20, seed=seed, live=False)
        for seed in (0, 1, 2)}).values())


def column(loop, key, factor=1):
    """The steps, and a row a seed of one of a loop's figures."""
    return ([row["step"] for row in LOOPS[loop][0]],
            [[factor * row[key] for row in rows] for rows in LOOPS[loop]])


if LOOPS:
    plots.show(plots.seeds({
        (title, "step", unit): {loop: column(loop, key) for loop in LOOPS}
        for key, title, unit in (
            ("score", "Score", "probability of five stars"),
            ("kl", "KL estimate", "nats a token"),
            ("entropy", "Entropy", "nats a token"))},
        alt="Three seeds each. " + "; ".join(
            f"{loop}: score at the first step "
            f"{from_to([row[0] for row in column(loop, 'score')[1]])}, at the "
            f"last {from_to([row[-1] for row in column(loop, 'score')[1]])}"
            for loop in LOOPS)))

# %% [markdown]
# A bold line is the mean of three seeds, a thin one a seed. Both loops start below 0.35 and end above 0.6, on every seed, and the
# seeds of one loop lie as far apart as the two loops do.

# %% [markdown]
# ### The bug that the reward does not show
#
# In your loop stands a line that is easy to overlook: `positions`. The prompts of a batch have
# different lengths, so the shorter ones are padded on the left. GPT-2 has learnt a vector for every
# *position*, and it counts padding as positions unless it is told otherwise. `generate` tells it. So
# a padded row is *sampled* with the first real token at position 0, and if the loss then calls
# `model(input_ids, attention_mask)` and nothing else, it is *scored* with the first real token at
# position 12. That is another policy.
#
# TRL 1.16 makes that call. How much does it matter? Below, the chapter 4 policy answers eight questions. Each
# answer's log-prob is computed again and again, with more and more padding before its question.

# %%
solver, solver_tokenizer = models.load_policy(
    models.policy_path("tiny", reasoning.TASK))
asked = [reasoning.messages(row["question"])
         for row in reasoning.get_gsm8k_questions("eval")[:8]]
answers = sampled_rows(solver, solver_tokenizer, solver, asked, temperature=0.0)


def log_prob(answer, padding, told):
    """An answer's log-prob behind so much padding, positions told or not."""
    question = solver_tokenizer(answer["prompt"])["input_ids"]
    ids = ([solver_tokenizer.pad_token_id] * padding + question
           + answer["completion_ids"])
    mask = torch.tensor([[0] * padding + [1] * (len(ids) - padding)])
    where = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if told else {}
    with torch.no_grad():
        logits = solver(input_ids=torch.tensor([ids]), attention_mask=mask,
                        **where).logits[:, :-1]
    logps = token_logprobs(logits, torch.tensor([ids])[:, 1:])
    return float(logps[0, -len(answer["completion_ids"]):].sum())


PADDING = range(0, 21, 2)
TOLD, NOT_TOLD = ([[log_prob(answer, n, told) for n in PADDING]
                   for answer in answers] for told in (True, False))
moved = max(max(row) - min(row) for row in TOLD)
lost = [row[0] - min(row) for row in NOT_TOLD]
plots.show(plots.seeds({
    ("Eight answers, the same weights", "padding on the left, tokens",
     "log-prob of the answer, nats"): {
        "positions counted from the first real token": (PADDING, TOLD),
        "padding counted too": (PADDING, NOT_TOLD)}},
    alt=f"With positions told no log-prob moves by more than {moved:.3f} nats, "
    "whatever the padding. Without, each of the eight falls: by "
    f"{min(lost):.0f} to {max(lost):.0f} nats. A thin line is an answer, a "
    "bold one the mean."))

# %% [markdown]
# The curve that should be flat is not. And what does it do to a training? Chapter 4 trains this policy on such
# questions, with prompts of many lengths. Its run was made again on three seeds with nothing changed but this: the
# log-probs are TRL's own, with padding counted (`python -m benchmarks.off_policy --only positions`). Sampled accuracy is measured on 60
# held-out questions every ten steps, and on all 240 at the end.

# %%
predict(
    "Each update now scores a padded row as a text at another place. What "
    "does the training do?", {
    "It fails: the accuracy stays where it was":
        "In each batch the longest prompt has no padding and others have "
        "little, and they teach rightly.",
    "It learns, and ends lower":
        "The rows with much padding give a gradient for texts at other "
        "places: wrong, but not against the task.",
    "Nothing changes: old and new log-probs are wrong in the same way":
        "The ratio is 1, to be sure. The gradient is that of another "
        "policy."},
    right="It learns, and ends lower")

# %%
def with_last(run):
    """Sampled accuracy by step; the last figure is of all 240 questions."""
    return run["curve"]["accuracy"][:-1] + [run["final"]["accuracy"]["value"]]


COUNTED = off_policy.measured()["positions"]["padding counted"]
RIGHTLY = thinking.measured()["runs"]["all five"]
ACCURACY = {"positions told": [with_last(RIGHTLY[seed]) for seed in COUNTED],
            "padding counted": [[row["accuracy"] for row in rows]
                                for rows in COUNTED.values()]}
STEPS = [row["step"] for row in COUNTED["1"]]
LARGEST = [rows[-1]["largest_kl"] for rows in COUNTED.values()]
plots.show(plots.seeds({
    ("Chapter 4's run, held-out questions", "step", "right, sampled"): {
        name: (STEPS, rows) for name, rows in ACCURACY.items()}},
    alt="Sampled accuracy at the end, three seeds. " + "; ".join(
        f"{name}: {from_to([row[-1] for row in rows])}"
        for name, rows in ACCURACY.items())))
print("largest logged KL with padding counted: "
      + ", ".join(f"{value:,.0f}" for value in LARGEST))

# %% [markdown]
# On each of the three seeds the run with the bug learns, and on each it learns later: at step 30 half of the samples
# are right (0.50 to 0.53 of 60 questions), with the positions told 0.65 to 0.73; at the end 0.88 to 0.89 against 0.90 to
# 0.92, of 240. The figures that one watches do not tell. The reward rises. The ratio is 1,
# because old and new log-probs are wrong in the same way. One figure does tell here, because this run has a KL
# term: the reference is asked about a text at a wrong place, where it has learnt nothing, and $k_3$
# has no upper limit. In the first ten steps the logged KL is below 0.1; by step 20 it has been above 3, by step 30 above
# 100, by the end above 2,000. Without a KL term nothing in the log would have pointed at it.
#
# No test of this course saw it for a long time, and the reason is the lesson: the tests compared our
# loss with TRL's loss *on the log-probs that TRL computed*. **An oracle must not share an assumption
# with what it checks.** The one that found it takes each completion alone, without any padding. The
# course's trainer now passes the positions (`lib/trl_overrides.py`).

# %% [markdown]
# ### "The loss is 0. Is it broken?"
#
# On fresh samples every ratio is 1, so the surrogate of a token is its advantage, and the
# advantages of a group add up to 0. With `loss_type="grpo"` and $\beta = 0$ the loss **is** 0, at
# the first step and at the last. It is the *gradient* that trains, and that is not 0. Many have stopped at
# it: [trl#2703](https://github.com/huggingface/trl/issues/2703),
# [open-r1#239](https://github.com/huggingface/open-r1/issues/239). Your loop
# minimised the `dapo` loss; on the same tensors it also wrote down the `grpo` one.

# %%
if LOOPS:
    LOSS, DAPO, NORM, SCORE = (column("your loop", key)[1] for key in (
        "loss, grpo", "loss, dapo", "gradient norm", "score"))
    below = [statistics.fmean(value < 0 for value in row) for row in DAPO]
    plots.show(plots.seeds({
        ('Loss with loss_type="grpo"', "step", "loss"): {
            "loss": column("your loop", "loss, grpo"),
            "beta x KL": column("your loop", "kl", 0.2)},
        ('Loss with loss_type="dapo"', "step", "loss"): {
            "loss": column("your loop", "loss, dapo")},
        ("Gradient", "step", "norm"): {
            "gradient norm": column("your loop", "gradient norm")},
    }, alt="Your loop, three seeds. The score rises from "
        f"{from_to([row[0] for row in SCORE])} to "
        f"{from_to([row[-1] for row in SCORE])}. The grpo loss starts at "
        f"{max(abs(row[0]) for row in LOSS):.3f} and ends at "
        f"{from_to([row[-1] for row in LOSS])}; it equals beta times the KL. "
        f"The dapo loss is below zero in {from_to(below)} of the steps. The "
        f"smallest gradient norm of any step is {min(map(min, NORM)):.2f}."))

# %% [markdown]
# The reward rose all the while, on each of the three seeds. The `grpo` loss starts at 0 and **rises**: it is $\beta$ times the KL, averaged over
# completions, and the KL grows because the policy learns. The
# `dapo` loss weighs completions by their length: where longer ones are better than shorter ones, as
# in most steps here, the weighted advantages do not cancel, and it is negative. Neither tells you whether
# the policy improves. Look at the reward, and at samples. A loss of 0 is broken only if the gradient
# is 0 as well.
#
# ### Is this difference noise?
#
# Train with G = 4, 8 and 16, always 32 completions a step (so of 8, 4 and 2 prompts), 14 steps,
# **five seeds** each: the policy's mean reward over the last four steps. About a minute.

# %%
SEEDS = range(5)
if not is_autograding():
    finals = {g: [statistics.fmean(row["score"] for row in my_grpo(
        steps=14, completions=32, num_generations=g, seed=seed,
        max_new_tokens=24)[-4:]) for seed in SEEDS] for g in (4, 8, 16)}
    difference = {g: [b - a for a, b in zip(finals[8], finals[g], strict=True)]
                  for g in finals}
    verdict = []
    for g in (4, 16):
        mean = statistics.fmean(difference[g])
        half = 2.776 * statistics.stdev(difference[g]) / 5**0.5
        verdict.append(
            f"G = {g} against G = 8: mean difference {mean:+.3f}, "
            f"95 % interval {mean - half:+.3f} to {mean + half:+.3f}; single "
            f"seeds {min(difference[g]):+.3f} to {max(difference[g]):+.3f}")

    def by_seed(results):
        """The group sizes, and a row a seed."""
        return list(results), list(zip(*results.values()))

    plots.show(plots.seeds({
        ("Mean reward at the end", "group size G", "probability of 5 stars"): {
            "five seeds": by_seed(finals)},
        ("Against G = 8, same seed", "group size G", "difference"): {
            "five seeds": by_seed(difference)}},
        alt="Mean reward at the end by group size, for five seeds. "
            + ". ".join(verdict)))
    print("\n".join(verdict))

# %% [markdown]
# Pick the right seed, and "G = 16 is better" or "G = 16 is worse" can both be shown. One run each is
# an anecdote. The interval (Student's t with 4 degrees of freedom, hence 2.776) says what
# five seeds can tell: an effect whose interval holds 0 has not been shown, in either direction.
#
# ## Analysis questions (4 points each)
#
# A few sentences each, with your own numbers.

# %% [markdown] nbgrader={"grade": true, "grade_id": "q1", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# **Question 1.** A run with `loss_type="grpo"` and `beta=0.2` logs a loss of 0.000 at first,
# then slowly rising values. Its owner wants to stop it. What do you tell them, and which
# figures do you ask for?
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Did you say which part of the loss is 0 at first, and why it is exactly 0?
# - Did you name what makes it rise, and whether that is good or bad news?
# - Would your figures tell a run that learns from one that does not?
# - Would they tell a run that is really broken from this one?
#
# </details>
#
# ### BEGIN SOLUTION
# On fresh samples the ratio is 1 and the advantages of a group add up to 0, so the loss is beta
# times the KL: 0 at first, rising as the policy leaves the reference. It is no measure of
# progress. Ask for the mean reward, samples, the gradient norm and the share of tied groups
# (frac_reward_zero_std).
#
# Rubric: 1 point for why it is 0 at first. 1 point for why it rises. 2 points for figures: the
# reward or samples for progress, and the gradient norm or the share of tied groups to exclude a
# run that is really broken.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q2", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# **Question 2.** A reward is 1 for a right answer, and the policy is right once in a thousand
# tries. What does your plot say about groups of 8? Name two remedies that help and one that
# only looks as if it did.
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Did you read the share of dead groups off your own plot or output?
# - Does each of your remedies make a spread within a group more likely? By what?
# - Did you say why the third one only looks like help, although the dead groups are gone?
#
# </details>
#
# ### BEGIN SOLUTION
# About 99 % of the groups are dead; a larger learning rate multiplies zero. Help: easier
# prompts first, partial credit, few-shot examples in the prompt, supervised warm-up, sampling
# on until enough groups are alive; larger groups help a little. Looks like help: noise on ties;
# it makes advantages of nearly full size that carry no information.
#
# Rubric: 1 point for the share read off the output. 2 points for two remedies that raise the
# chance of a hit, give graded rewards, or replace dead groups. 1 point for noise (or a higher
# learning rate) with the reason.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q3", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# **Question 3.** A colleague adds `beta * (logps - ref_logps)` to the token loss "because k1 is
# the unbiased estimator". What happens to the policy, and why does the logged KL look right?
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Did you keep value and gradient of the estimate apart?
# - Did you work out the mean of its gradient on tokens that the policy itself drew?
# - Does your answer explain why nobody sees it in the log?
# - Did you say what to put in its place?
#
# </details>
#
# ### BEGIN SOLUTION
# The value is an unbiased estimate, so the logged KL is right. But on fixed samples its
# gradient is beta times grad log pi, whose mean is 0 for each token: nothing pulls the policy
# back, it drifts as with beta = 0, with added noise. Use k2, or k3 times the ratio, or subtract
# k1 from the reward instead.
#
# Rubric: 2 points for the zero expected gradient with the reason (a remark on the length that
# remains with loss_type grpo is right too). 1 point for value against gradient. 1 point for a
# working remedy.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q4", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# **Question 4.** With which `loss_type` does a wrong answer of 400 tokens cost the policy as
# much as a wrong answer of 40, and what will the policy learn from that?
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Did you write down the weight of one token in a completion of 40 and of 400?
# - Did you check all four variants, not only the one you chose?
# - Did you follow the push to what the policy will do more of, for wrong answers and for right
#   ones?
#
# </details>
#
# ### BEGIN SOLUTION
# With grpo: every completion has the same weight, so each token of the long wrong one is pushed
# down ten times less. Being wrong at length becomes cheap, and wrong answers grow longer. The
# other three push every token alike.
#
# Rubric: 2 points for grpo with the argument per token. 2 points for the consequence.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q5", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# **Question 5.** What do your five seeds say about G = 4 and about G = 16, each against G = 8?
# What could somebody have published with one seed?
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Did you quote mean difference and interval for both group sizes?
# - Does each conclusion say no more than its interval allows?
# - Did you look at single seeds: could they have been quoted for the opposite?
# - What else differed between the groups besides G?
#
# </details>
#
# ### BEGIN SOLUTION
# Answers quote mean difference and interval and draw the conclusion that the interval allows:
# where it holds 0, no difference has been shown. With one seed either sign could have been
# shown for G = 16. Good answers name the confound: larger groups mean fewer prompts a step.
#
# Rubric: 2 points for conclusions that fit the student's own intervals. 1 point for single
# seeds of opposite sign. 1 point for a limit of the experiment (few seeds, short runs, fewer
# prompts with larger groups).
# ### END SOLUTION

# %% [markdown]
# ## What you have seen
#
# - The policy gradient: push up what was drawn by what it brought. A baseline that does not look at
#   the own action takes noise away and adds no bias.
# - GRPO is short: advantages within a group, a clipped ratio, a KL term, a mean.
# - No spread in a group, no gradient. Noise does not create information.
# - The loss is not a learning curve. It may be 0, or rise, while the policy learns.
# - An estimator with the right value may have the wrong gradient.
# - One seed is an anecdote.
#
# Chapter 3 takes a task whose base rate is near zero, where all of this decides.
