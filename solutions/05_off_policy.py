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
# # Chapter 5: old samples, other samplers
#
# Sampling is the dear part of RL: a text is generated token by token, and trained on in one pass. So people
# save on it. They use the same samples for several updates. They let a faster engine draw them. They throw
# away what teaches nothing. Or they leave RL aside, and fine-tune on the best samples.
#
# Each of these has a price. In chapters 1 to 4 every update used fresh samples of the very policy that was
# being trained; that is called **on policy**, and every ratio of chapter 2 was 1. A sample of an older policy, or
# of another one, is **off policy**. The gradient of chapter 2 was derived for samples of the policy itself. What
# happens to it when they are not?
#
# Here you make each of these things happen on the review policy of chapter 1. There is no KL term, so
# that you can see where it breaks and what holds it.
#
# | exercise | you write | points | minutes |
# |---|---|---|---|
# | 1 | the ratio of a whole sequence | 10 | 15 |
# | 2 | the share of tokens that the clip holds back | 10 | 15 |
# | 3 | weights for samples of another sampler | 20 | 25 |
# | 4 | dynamic sampling: which groups are alive, and how many it took | 15 | 20 |
# | 5 | the best of each group | 10 | 15 |
# | 6 | the DPO loss | 15 | 20 |
# | | experiments, four analysis questions | 20 | 40 |
#
# Every experiment comes twice. First a short run with your functions, in seconds: it shows that they train. Then
# the same runs at full length on **three seeds**. Those were made by `python -m benchmarks.off_policy` with the
# reference answers, and the cells below draw them: a colour for each kind of run, a thin line for each seed, a
# bold one for their mean. What the text concludes, it concludes from the three seeds. Before each experiment you
# are asked what will happen. Choose the answer that you believe in: nobody counts.

# %%
import statistics

import torch

from lib import is_autograding, off_policy, plots, preflight
from lib.checks import off_policy as checks
from lib.predict import predict
from lib.scoring import use_scorer
from lib.tasks import sentiment

use_scorer(sentiment.scorer_path("tiny"))
SHORT = {}  # name -> the rows of a short run made here
MEASURED = off_policy.measured()  # experiment -> variant -> seed -> rows
print(preflight.report("05_off_policy"))


def interval(values):
    """Mean, and half the 95 % interval of three seeds (Student's t, 2 df)."""
    return (statistics.fmean(values),
            4.303 * statistics.stdev(values) / len(values) ** 0.5)


def ends(variants, *keys):
    """Print each variant's last figures: mean over seeds, and interval."""
    for variant, seeds in variants.items():
        told = []
        for key in keys:
            mean, half = interval([rows[-1][key] for rows in seeds.values()])
            told.append(f"{key} {mean:.2f} (+- {half:.2f})")
        print(f"{variant:>34}: " + ", ".join(told))


def curves(variants, x, key):
    """For each variant the places and the figures there, each a row a seed."""
    return {variant: tuple([[row[of] for row in rows]
                            for rows in seeds.values()] for of in (x, key))
            for variant, seeds in variants.items()}


def told(row):
    """One measurement as a line."""
    return ", ".join(f"{key} {value:.4g}" for key, value in row.items())

# %% [markdown]
# ## 1. The same rollouts, several updates
#
# A **rollout** is a sampled completion, together with all that is needed to learn from it: its prompt, its reward,
# and the log-probs that its tokens had when they were sampled. Take one batch of rollouts, and make 1, 2, 4 or 8
# optimizer updates with it (in TRL: `num_iterations`).
#
# At the first update the ratio $\rho_t = \pi_\theta(x_t)/\pi_{\mathrm{old}}(x_t)$ is 1. At the second it is
# not: the policy has moved, the samples have not. Now the clip of chapter 2 has something to do.
#
# **Which ratio?** Chapter 2 took it a token at a time. That is an approximation. It weighs the choice of this
# token, and forgets that the tokens before it have become likelier or less likely too. The exact weight of a
# whole text is the *product* of its tokens' ratios. But a product is hopelessly wild: 40 tokens at 1.1 each
# make 45.
#
# GSPO (Zheng et al. 2025, *Group Sequence Policy Optimization*, arXiv 2507.18071) takes the geometric mean
# instead, with $|o|$ for the number of tokens:
#
# $$s = \Big(\prod_t \rho_t\Big)^{1/|o|} = \exp\Big(\frac{1}{|o|}\sum_t \log\rho_t\Big)$$
#
# That is one ratio for the whole completion, which is then clipped as a whole or not at all. It is not the exact
# weight either. And a mean scatters less than its parts, so its clip range has to be far narrower than a token's.
#
# ### Exercise 1: `sequence_ratio` (10 points, medium, 15 minutes)
#
# **Task.** `logps`, `old_logps` and `mask` have shape (B, T). Return $s$ for each completion, shape
# (B,). Only tokens with mask 1 count; a row without any has ratio 1. The gradient has to flow through
# `logps`. Work with logarithms: products of 500 probabilities underflow.
#
# <details><summary>Hint</summary>The masked mean of <code>logps - old_logps</code> along dimension 1,
# then <code>exp</code>. <code>clamp(min=1)</code> keeps the count from being 0.</details>

# %% nbgrader={"grade": false, "grade_id": "ex1", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 1
def sequence_ratio(logps, old_logps, mask):
    """GSPO's ratio: the geometric mean of a completion's token ratios.

    logps, old_logps, mask: (B, T). Returns: (B,).
    """
    ### BEGIN SOLUTION
    log_ratio = (logps - old_logps) * mask
    return (log_ratio.sum(1) / mask.sum(1).clamp(min=1)).exp()
    ### END SOLUTION

# %% check="ex1"
checks.sequence_ratio(sequence_ratio)

# %% nbgrader={"grade": true, "grade_id": "test_ex1", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_two = torch.zeros(2, 3)
assert sequence_ratio(_two, _two, torch.ones(2, 3)).shape == (2,)
### BEGIN HIDDEN TESTS
import math as _math

_gen = torch.Generator().manual_seed(71)
for _b, _t in ((2, 3), (4, 4), (5, 9)):
    _old = -3 * torch.rand(_b, _t, generator=_gen, dtype=torch.float64)
    _leaf = (_old + 0.7 * torch.randn(_b, _t, generator=_gen)).requires_grad_()
    _long = torch.randint(1, _t + 1, (_b, 1), generator=_gen)
    _mask = (torch.arange(_t) < _long).double()
    _got = sequence_ratio(_leaf, _old, _mask)
    assert _got.shape == (_b,), "one ratio a completion"
    _got.sum().backward()
    _got = _got.detach()
    for _i in range(_b):
        _n = int(_long[_i])
        _d = [float(_leaf.detach()[_i, _j] - _old[_i, _j]) for _j in range(_n)]
        _right = _math.exp(sum(_d) / _n)
        assert abs(float(_got[_i]) - _right) < 1e-6 * (1 + _right), "exp of the mean log-ratio"
        for _j in range(_t):
            _slope = _right / _n if _j < _n else 0.0
            assert abs(float(_leaf.grad[_i, _j]) - _slope) < 1e-6 * (1 + _right), (
                "the gradient flows to each token that counts, and to no other")
_none = sequence_ratio(torch.ones(1, 3), torch.zeros(1, 3), torch.zeros(1, 3))
assert abs(float(_none) - 1) < 1e-6, "a row without tokens has ratio 1"
_far = torch.full((1, 600), -9.0)
assert abs(float(sequence_ratio(_far + 0.5, _far, torch.ones(1, 600))) - _math.exp(0.5)) < 1e-4, (
    "probabilities underflow: work with logarithms")
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 2: `clip_fraction` (10 points, easy, 15 minutes)
#
# How often does the clip act? It takes a token's gradient away only on *one* side. With a positive advantage, a
# token is to become likelier: it is held back above $1 + \epsilon_{\mathrm{high}}$. With a negative one it is to
# become less likely: it is held back below $1 - \epsilon_{\mathrm{low}}$. A ratio on the other side went the
# wrong way, and keeps its full gradient. TRL logs the share that is held back as `clip_ratio/region_mean`.
#
# **Task.** `ratio` and `mask` have shape (B, T), `advantages` (B,). Return the share of the tokens with
# mask 1 whose gradient the clip takes away, a tensor of shape (). Where nothing counts it is 0.
#
# <details><summary>Hint</summary>Two conditions, each a comparison of the ratio <code>&</code> a
# comparison of <code>advantages.unsqueeze(1)</code> with 0; joined by <code>|</code>.</details>

# %% nbgrader={"grade": false, "grade_id": "ex2", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 2
def clip_fraction(ratio, advantages, mask, epsilon_low, epsilon_high):
    """Share of the tokens that the clip holds back.

    ratio, mask: (B, T). advantages: (B,). Returns: shape ().
    """
    ### BEGIN SOLUTION
    advantages = advantages.unsqueeze(1)
    held = ((ratio > 1 + epsilon_high) & (advantages > 0)
            | (ratio < 1 - epsilon_low) & (advantages < 0))
    return (held * mask).sum() / mask.sum().clamp(min=1)
    ### END SOLUTION

# %% check="ex2"
checks.clip_fraction(clip_fraction)

# %% nbgrader={"grade": true, "grade_id": "test_ex2", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_two = torch.ones(2, 3)
assert float(clip_fraction(_two, torch.ones(2), _two, 0.2, 0.2)) == 0
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(73)
for _b, _t, _low, _high in ((4, 4, 0.2, 0.2), (3, 7, 0.1, 0.4), (5, 5, 0.4, 0.1)):
    _ratio = torch.rand(_b, _t, generator=_gen) * 2
    _adv = torch.randn(_b, generator=_gen)
    _adv[0] = 0.0
    _mask = (torch.arange(_t) < torch.randint(1, _t + 1, (_b, 1), generator=_gen)).float()
    _held = _all = 0
    for _i in range(_b):
        for _j in range(_t):
            if _mask[_i, _j]:
                _all += 1
                _rho, _a = float(_ratio[_i, _j]), float(_adv[_i])
                _held += (_a > 0 and _rho > 1 + _high) or (_a < 0 and _rho < 1 - _low)
    _got = clip_fraction(_ratio, _adv, _mask, _low, _high)
    assert _got.shape == (), "one share for the whole batch"
    assert abs(float(_got) - _held / _all) < 1e-5, "held back over all tokens that count"
_edge = clip_fraction(torch.tensor([[1.5, 0.5]]), torch.ones(1), torch.ones(1, 2), 0.5, 0.5)
assert abs(float(_edge)) < 1e-6, "at the bound the clip does not act yet"
_edge = clip_fraction(torch.tensor([[1.5, 0.5]]), -torch.ones(1), torch.ones(1, 2), 0.5, 0.5)
assert abs(float(_edge)) < 1e-6, "at the bound the clip does not act yet"
_single = clip_fraction(torch.tensor([[9.0, 1.0]]), torch.ones(1), torch.tensor([[1.0, 0]]), 0.2, 0.2)
assert abs(float(_single) - 1) < 1e-6, "one token that counts is a share of 1"
_none = clip_fraction(torch.full((1, 2), 9.0), torch.ones(1), torch.zeros(1, 2), 0.2, 0.2)
assert abs(float(_none)) < 1e-6, "0 where nothing counts"
### END HIDDEN TESTS

# %% [markdown]
# ### Eight updates on each batch

# %%
predict(
    "Without the clip, and without a KL term: what do eight updates on a "
    "batch do that one does not?", {
    "They learn about as much as one update; the samples are the same":
        "The score after six batches is far higher: a batch holds more "
        "information than one small step takes from it.",
    "They learn faster, and the policy goes much further from the reference":
        "How much further is what the clip decides.",
    "They make the score fall, because the samples are stale":
        "The score rises. What breaks is what the score does not see."},
    right="They learn faster, and the policy goes much further from the "
          "reference")

# %%
if not is_autograding():
    student = {"sequence_ratio": sequence_ratio, "clip_fraction": clip_fraction}
    for name, epsilon in {"clipped at 0.2": 0.2,
                          "not clipped": off_policy.NO_CLIP}.items():
        SHORT[name] = off_policy.reuse(student, updates=8, epsilon=epsilon,
                                       batches=2)
        print(f"{name:>15}, two batches of eight updates: "
              f"{told(SHORT[name][-1])}")

# %% [markdown]
# The same for six batches, three seeds, and 1, 2, 4 and 8 updates on each batch:

# %%
COUNTS = (1, 2, 4, 8)


def at_end(kind, key):
    """Each seed's last figure, for each number of updates."""
    names = ["1 update" if n == 1 else f"{n} updates, {kind}" for n in COUNTS]
    return [[rows[-1][key] for rows in MEASURED["reuse"][name].values()]
            for name in names]


kinds = ("clipped", "not clipped")
KL = {kind: at_end(kind, "kl") for kind in kinds}
SCORE = {kind: at_end(kind, "score") for kind in kinds}
HELD = at_end("clipped", "clipped")
plots.show(plots.seeds({
    ("Score", "updates on each batch", "score, held out"): {
        kind: (COUNTS, list(zip(*SCORE[kind]))) for kind in kinds},
    ("Distance (log above 1)", "updates on each batch",
     "KL(pi||ref), nats"): {
        kind: (COUNTS, list(zip(*KL[kind]))) for kind in kinds}},
    xscale="log", log=["Distance (log above 1)"],
    alt="After six batches. Score with the clip: "
    f"{statistics.fmean(SCORE['clipped'][0]):.2f} with one update, "
    f"{statistics.fmean(SCORE['clipped'][3]):.2f} with eight; without it "
    f"{statistics.fmean(SCORE['not clipped'][3]):.2f}. KL with eight updates: "
    f"at most {max(KL['clipped'][3]):.1f} nats with the clip, at least "
    f"{min(KL['not clipped'][3]):.0f} without."))
ends(MEASURED["reuse"], "score", "kl", "clipped")

# %% [markdown]
# In the table each mean has its interval over three seeds in brackets. Three are few, so the intervals are wide.
#
# - **Several updates pay.** From the same rollouts, eight updates get more than twice the score of one.
# - **With two updates the clip hardly acts.** Less than 1 % of the tokens are held back, and the runs
#   with and without it are alike.
# - **With four it decides, with eight even more.** Without it the policy runs away. With four updates the KL is
#   three times as large and more, on every seed; with eight it is ten times as large and more. The score looks
#   just as good. In chapter 1 policies at such distances wrote piles of praise, and the score did not see it.
# - **With the clip the KL ends at 4 to 6 nats**, with four updates and with eight. At the eighth about one token in
#   seven is held back.
#
# The clip is no KL penalty. It limits how far *one batch* can push. From batch to batch the old
# policy moves along.
#
# And a ratio for the whole sequence? First two batches of four updates with your `sequence_ratio`, at the
# token's clip range and at a twentieth of it:

# %%
if not is_autograding():
    for epsilon in (0.2, 0.01):
        rows = off_policy.reuse(student, updates=4, level="sequence",
                                epsilon=epsilon, batches=2)
        print(f"sequence ratio, epsilon {epsilon:g}: "
              f"{rows[-1]['clipped']:.2f} of the tokens held back")

# %% [markdown]
# Then six batches of four updates, three seeds, beside the token ratio of before. Each point is where a run ended:

# %%
LEVELS = {"token ratio, epsilon 0.2": MEASURED["reuse"]["4 updates, clipped"],
          **MEASURED["levels"],
          "not clipped": MEASURED["reuse"]["4 updates, not clipped"]}
plots.show(plots.panels({
    ("Score by distance", "KL(pi||ref), nats (log)", "score, held out"): {
        name: tuple([rows[-1][key] for rows in seeds.values()]
                    for key in ("kl", "score"))
        for name, seeds in LEVELS.items()}}, style="o", xscale="log",
    alt="After six batches of four updates, a point a seed. " + "; ".join(
        f"{name}: score {statistics.fmean(r[-1]['score'] for r in of):.2f}, KL "
        f"{min(r[-1]['kl'] for r in of):.1f} to "
        f"{max(r[-1]['kl'] for r in of):.1f}"
        for name, seeds in LEVELS.items() for of in [seeds.values()])))
ends(LEVELS, "score", "kl", "clipped")

# %% [markdown]
# - **At 0.2 a sequence ratio is hardly clipped.** A mean over a dozen tokens seldom leaves 0.8 to 1.2: at most
#   4 % of the tokens are held back, and on every seed the policy ends further away than any of the token
#   ratio's, at 8 to 16 nats against 4 to 5.
# - **At 0.03 it holds as the token ratio does**: alike in score and distance, with more than a third of the tokens held
#   back, for it is whole texts that go.
# - **At 0.01 it holds back about three tokens in four.** The policy stays closest and scores least, on every seed.
#
# So each level wants a range of its own, and the range of one says nothing about that of the other. (The GSPO paper
# takes some 1e-4, for far longer texts.) That one level is *better* than the other these runs do not show.

# %% [markdown]
# ## 2. Another sampler
#
# Production systems sample with a separate engine, such as vLLM or SGLang. It has other kernels, it rounds
# otherwise, and often its weights have eight bits. It was given the *weights* of the policy, and still its
# *probabilities* are not quite the policy's. So the tokens come from a sampler $\mu$, and the loss takes them for
# tokens of $\pi_{\mathrm{old}}$. Nothing in the loss shows it, for $\rho$ compares the policy with itself a
# moment ago: the sampler does not occur in it. (You have met such a pair in chapter 2: the bug of the positions.)
#
# The remedy is old. Say a token has the probability 0.2 under the policy $\pi$ and 0.4 under the sampler $\mu$. Then
# among the samples it stands twice as often as it should. Let each of them count half, $w = \pi/\mu = 0.5$, and the
# average is right again. This is **importance sampling**, and for any $f$
#
# $$\sum_x \mu(x)\,\frac{\pi(x)}{\mu(x)}\,f(x) = \sum_x \pi(x)\,f(x).$$
#
# On the left is an average over samples of $\mu$, on the right the average under $\pi$. They are equal as long as
# $\mu$ can say all that $\pi$ can say.
#
# The trouble is the noise. A sample that $\mu$ finds very unlikely gets a huge weight, and then one token decides
# the batch. So weights are **truncated**: none may be larger than a cap $C$ (Ionides 2008). That buys a lot less
# noise for a little bias.
#
# Again there are two levels. A weight **a token** forgets the tokens before it, as in part 1, and is
# biased for that reason too. A weight **a sequence** is the product over the tokens of the text. It is exact before
# truncation, and far noisier. (It is the product and not GSPO's mean, because this weight is to be right, not
# tame.)
#
# ### Exercise 3: `truncated_weights` (20 points, medium, 25 minutes)
#
# **Task.** `train_logps` are the log-probs of the tokens under the policy that is trained, `sampler_logps`
# under the sampler, both (B, T), as is `mask`. Return $\min(w, C)$:
#
# - `level="token"`: a weight a token, shape (B, T). What stands where the mask is 0 does not matter.
# - `level="sequence"`: the product over the tokens with mask 1, shape (B, 1), so that it
#   multiplies a (B, T).
#
# They are weights, not something to train: no gradient may flow through them.
#
# <details><summary>Hint 1</summary>The product of ratios is <code>exp</code> of the masked sum of
# differences.</details>
# <details><summary>Hint 2</summary><code>.detach()</code> the difference. With
# <code>keepdim=True</code> the sum has shape (B, 1).</details>

# %% nbgrader={"grade": false, "grade_id": "ex3", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 3
def truncated_weights(train_logps, sampler_logps, mask, cap, level="token"):
    """Truncated importance weights of samples of another sampler.

    train_logps, sampler_logps, mask: (B, T). cap: float.
    Returns: (B, T) with level="token", (B, 1) with level="sequence".
    """
    ### BEGIN SOLUTION
    log_weights = (train_logps - sampler_logps).detach() * mask
    if level == "sequence":
        log_weights = log_weights.sum(1, keepdim=True)
    return log_weights.exp().clamp(max=cap)
    ### END SOLUTION

# %% check="ex3"
checks.truncated_weights(truncated_weights)

# %% nbgrader={"grade": true, "grade_id": "test_ex3", "locked": true, "points": 20, "schema_version": 3, "solution": false, "task": false}
_two = torch.zeros(2, 3)
assert truncated_weights(_two, _two, torch.ones(2, 3), 2.0).shape == (2, 3)
### BEGIN HIDDEN TESTS
import math as _math

_gen = torch.Generator().manual_seed(79)
for _b, _t, _cap in ((4, 4, 2.0), (3, 7, 1.2), (5, 2, 3.0)):
    _mu = -3 * torch.rand(_b, _t, generator=_gen, dtype=torch.float64)
    _pi = _mu + 0.8 * torch.randn(_b, _t, generator=_gen)
    _long = torch.randint(1, _t + 1, (_b, 1), generator=_gen)
    _mask = (torch.arange(_t) < _long).double()
    _tokens = truncated_weights(_pi, _mu, _mask, _cap)
    _wholes = truncated_weights(_pi, _mu, _mask, _cap, level="sequence")
    assert _tokens.shape == (_b, _t), "a weight a token"
    assert _wholes.shape == (_b, 1), "a weight a sequence, shape (B, 1)"
    assert torch.isfinite(_tokens).all(), "finite, also where the mask is 0"
    for _i in range(_b):
        _d = [float(_pi[_i, _j] - _mu[_i, _j]) for _j in range(int(_long[_i]))]
        for _j, _one in enumerate(_d):
            assert abs(float(_tokens[_i, _j]) - min(_math.exp(_one), _cap)) < 1e-6, (
                "min(policy / sampler, cap) for each token")
        assert abs(float(_wholes[_i]) - min(_math.exp(sum(_d)), _cap)) < 1e-6, (
            "the product over the tokens that count, then the cap")
for _level in ("token", "sequence"):
    _leaf = _pi.clone().requires_grad_()
    (truncated_weights(_leaf, _mu, _mask, _cap, level=_level) * _leaf).sum().backward()
    _weights = truncated_weights(_pi, _mu, _mask, _cap, level=_level) * torch.ones_like(_pi)
    assert torch.allclose(_leaf.grad, _weights, atol=1e-6), "no gradient flows through a weight"
    _far = torch.full((1, 3), -200.0)
    assert abs(float(truncated_weights(_far + 0.5, _far, torch.tensor([[1.0, 0, 0]]), 9.0,
                                       _level)[0, 0]) - _math.exp(0.5)) < 1e-3, (
        "probabilities underflow: subtract log-probs")
### END HIDDEN TESTS

# %% [markdown]
# ### Same tokens, another policy

# %%
predict(
    "A sampler draws at temperature 0.6, the policy is trained at 1. The "
    "text looks better that way. What happens without a correction?", {
    "Nothing: the ratio is 1, so the loss is right":
        "The ratio compares the policy with itself. It is 1, and it does "
        "not know where the tokens come from.",
    "The gradient is that of another question":
        "It averages over what the cold sampler says. Rare tokens are "
        "hardly drawn, so they are hardly ever compared.",
    "The gradient points the right way and is noisier":
        "Noise goes away with more samples, and this does not."},
    right="The gradient is that of another question")

# %% [markdown]
# How different are two policies that ought to be the same? Below are three samplers: the policy itself, its
# weights rounded to eight bits (the format e5m2, two bits behind the point), and the policy at temperature 0.6. A
# batch of each, on three seeds:

# %%
def compare_samplers(name, eight_bits=False, temperature=1.0):
    """How far a sampler is from the policy, on a batch of three seeds each."""
    off, wholes = [], []
    for seed in (1, 2, 3):
        learner = off_policy.Learner(seed)
        rollouts = learner.sample(
            learner.prompts(), temperature=temperature,
            sampler=off_policy.rounded(learner.policy) if eight_bits else None)
        three = rollouts.old_logps, rollouts.sampler_logps, rollouts.mask
        off.append(float(((three[0] - three[1]).abs() * three[2]).sum()
                         / three[2].sum()))
        wholes.append(truncated_weights(*three, 1e9, level="sequence"))
    print(f"{name:>22}: log-probs differ by {min(off):.3f} to {max(off):.3f} a "
          f"token; weights of whole texts from {torch.cat(wholes).min():.3f} "
          f"to {torch.cat(wholes).max():.2f}")


if not is_autograding():
    compare_samplers("the policy itself")
    compare_samplers("weights of eight bits", eight_bits=True)
    compare_samplers("temperature 0.6", temperature=0.6)

# %% [markdown]
# Eight bits move a token by hundredths of a nat. That is little, until it is added up over a text: the weights of
# whole texts spread. These texts have about 15 tokens. With 1,000 the weights would spread very much further.
#
# What does that do to the gradient? For the bandit of chapter 2 we can have the answer **exactly**, without a
# sample. There are six actions, and a rare one is rewarded. The sampler is the policy at temperature 0.6. The cell
# takes the mean of the policy gradient over all actions, each with the sampler's probability and your weight:

# %%
def mean_gradient(cap):
    """Cosine with the exact gradient, and length over its length.

    cap None: no weights.
    """
    logits = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0, -1.5])
    policy, sampler = logits.log_softmax(0), (logits / 0.6).log_softmax(0)
    worth, p = torch.tensor([0.0, 0, 0.2, 0, 0, 1]), policy.exp()
    weights = 1.0 if cap is None else truncated_weights(
        policy[:, None], sampler[:, None], torch.ones(6, 1), cap)[:, 0]
    right = p * (worth - p @ worth)
    pushes = sampler.exp() * weights * (worth - p @ worth)
    mean = pushes - pushes.sum() * p
    return (float(torch.cosine_similarity(mean, right, dim=0)),
            float(mean.norm() / right.norm()))


for cap in (None, 1e9, 3.0, 1.5):
    cosine, length = mean_gradient(cap)
    name = "no weights" if cap is None else f"cap {cap:g}"
    print(f"{name:>11}: cosine with the exact gradient {cosine:.3f}, "
          f"{length:.2f} of its length")

# %% [markdown]
# Without weights the mean of the estimate is another gradient: the rare action is seen too seldom. With
# weights and no cap it is the exact one. A low cap brings some of the bias back.
#
# And in a run of ten batches of reviews? The first picture has the cold sampler, the second the eight bits. Both have
# the policy's own samples beside it.

# %%
for sampler in ("temperature 0.6", "eight bits"):
    drawn = {"the policy's own samples": MEASURED["mismatch"][
        "same, no correction"]} | {
            name: seeds for name, seeds in MEASURED["mismatch"].items()
            if name.startswith(sampler)}
    scores, distances = (curves(drawn, "batch", key) for key in ("score", "kl"))
    plots.show(plots.seeds({
        (f"Score, {sampler}", "batch", "score, held out"): scores,
        (f"Distance, {sampler}", "batch", "KL(pi||ref), nats"): distances},
        alt="After ten batches, three seeds. " + "; ".join(
            f"{name}: " + ", ".join(
                f"{key} {min(ends):.2f} to {max(ends):.2f}"
                for key, of in (("score", scores), ("KL", distances))
                for ends in [[row[-1] for row in of[name][1]]])
            for name in scores)))
ends(MEASURED["mismatch"], "score", "kl")

# %% [markdown]
# In ten batches nothing breaks, with neither sampler.
#
# **At temperature 0.6** the score does not show the mismatch: without correction it is as good as that of the
# right sampler. The distance does show it. On every seed the uncorrected run has gone furthest from the reference,
# the one with token weights less far, the one with sequence weights least. Sampling cold shows the
# policy its own favourites, and it follows them. Sequence weights cost something too. Many texts get a weight near
# 0, so each step stands on fewer of them, and the score ends lower than with token weights, on every seed.
#
# **With weights of eight bits** all three runs of a seed end alike, at scores of 0.50 to 0.60 and KLs of 0.6 to
# 1.04. Those of the right sampler ended at 0.55 to 0.58 and 0.87 to 1.04. Three seeds tell no difference. Here the
# correction has nothing to do, and with weights as near 1 as these it costs little. That is a finding about 15
# tokens and ten updates. What a small mismatch does over thousands of updates this course cannot measure; nor what
# it does to texts of 1,000 tokens, whose weights multiply.

# %% [markdown]
# ## 3. Dynamic sampling
#
# A tied group teaches nothing (chapter 2), and still costs its tokens. DAPO (Yu et al. 2025,
# section 3.2) throws tied groups away and goes on sampling until the batch is full of live ones. The samples are
# the policy's own, so this is not off policy: it is the same wish to get more out of what is sampled. Every
# update then has its full size. Whether that is a *gain* is a question of the bill, for the discarded groups were
# generated too.
#
# ### Exercise 4: `select_alive` (15 points, medium, 20 minutes)
#
# **Task.** `rewards` has shape (N,), groups of `num_generations` side by side, in the order in which they were
# sampled. A group is **alive** unless all its rewards are equal. Return a tuple
#
# - the numbers of the first `need` live groups, a list of integers in order (fewer, if there are no more),
# - how many groups had to be sampled for them: up to and with the last one that was needed. If
#   there were not enough, all of them.
#
# <details><summary>Hint 1</summary>Compare the largest reward of a group with its smallest. The standard
# deviation of eight rewards of 0.7 is not exactly 0 in float32.</details>
# <details><summary>Hint 2</summary>If enough are alive, the answer to the second question is the number of
# the last one kept, plus 1.</details>

# %% nbgrader={"grade": false, "grade_id": "ex4", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 4
def select_alive(rewards, num_generations, need):
    """The first groups that are not tied, and how many groups it took.

    rewards: float tensor, shape (N,). need: int, at least 1.
    Returns: (list of at most need group numbers, number of groups sampled).
    """
    ### BEGIN SOLUTION
    groups = rewards.view(-1, num_generations).tolist()
    alive = [i for i, group in enumerate(groups) if max(group) > min(group)]
    sampled = alive[need - 1] + 1 if len(alive) >= need else len(groups)
    return alive[:need], sampled
    ### END SOLUTION

# %% check="ex4"
checks.select_alive(select_alive)

# %% nbgrader={"grade": true, "grade_id": "test_ex4", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
assert len(select_alive(torch.tensor([0.0, 1.0]), 2, 1)) == 2
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(83)
for _groups, _size, _need in ((6, 4, 2), (9, 3, 3), (4, 8, 4), (5, 2, 5), (12, 4, 1), (3, 3, 9)):
    for _rate in (0.05, 0.2, 0.5, 0.95):
        _r = (torch.rand(_groups * _size, generator=_gen) < _rate).float() * 0.7
        _rows = [_r[i * _size:(i + 1) * _size].tolist() for i in range(_groups)]
        _alive = [i for i, row in enumerate(_rows) if len(set(row)) > 1]
        _kept, _drawn = select_alive(_r, _size, _need)
        assert [int(i) for i in _kept] == _alive[:_need], "the first live groups, in order"
        assert int(_drawn) == (_alive[_need - 1] + 1 if len(_alive) >= _need else _groups), (
            "groups sampled, up to and with the last one needed")
_kept, _drawn = select_alive(torch.cat([torch.full((8,), 0.7), torch.arange(8.0)]), 8, 1)
assert [int(i) for i in _kept] == [1] and int(_drawn) == 2, "eight times 0.7 is a tied group"
for _size in (3, 5, 6, 7, 8, 9, 11):
    for _value in (0.1, 0.3, 0.7, 0.9):
        _same = torch.full((_size,), _value)
        assert len(select_alive(_same, _size, 1)[0]) == 0, "equal rewards are a tied group"
_small = torch.tensor([0.5, 0.5, 0.5, 0.5 + 1e-6, 1.0, 1.0, 1.0, 1.0])
assert [int(i) for i in select_alive(_small, 4, 2)[0]] == [0], "a small difference is a difference"
### END HIDDEN TESTS

# %% [markdown]
# ### An equal bill
#
# For this a reward has to tie often. Take a strict one: 1 where the classifier gives five stars more than 0.95,
# else 0. How many groups are alive, before any training? Your function counts, on 64 groups for each of three
# seeds:

# %%
if not is_autograding():
    for seed in (1, 2, 3):
        learner = off_policy.strict(seed)
        first = learner.sample(learner.prompts(64)).rewards
        alive, _ = select_alive(first, off_policy.GROUP, 64)
        print(f"seed {seed}: {len(alive)} of 64 groups are alive")

# %% [markdown]
# Now two kinds of run, with 20,000 generated tokens each. One uses every batch of eight groups, tied groups and all.
# The other goes on sampling until eight are alive.

# %%
predict(
    "Which of the two has the higher score when the tokens are spent?", {
    "Dynamic sampling: no update is wasted":
        "No update is, but many tokens are: it makes about half as many "
        "updates.",
    "Every group: it makes more updates":
        "So it is here, on every seed. See below for what that costs.",
    "The same: the live groups are the same":
        "They are nearly as many, but they are spread over more updates."},
    right="Every group: it makes more updates")

# %%
if not is_autograding():
    for dynamic in (True, False):
        name = "dynamic sampling" if dynamic else "every group"
        SHORT[name] = off_policy.budget({"select_alive": select_alive},
                                        dynamic=dynamic, tokens=3000)
        print(f"{name:>17}, 3,000 tokens: {told(SHORT[name][-1])}")

# %%
BILL = {key: {name: [rows[-1][key] for rows in seeds.values()]
              for name, seeds in MEASURED["budget"].items()}
        for key in ("score", "updates", "kl")}
plots.show(plots.seeds({
    ("Score", "tokens generated", "score, held out"): curves(
        MEASURED["budget"], "tokens", "score"),
    ("Distance (log above 1)", "tokens generated", "KL(pi||ref), nats"): curves(
        MEASURED["budget"], "tokens", "kl")}, log=["Distance (log above 1)"],
    alt="Three seeds, 20,000 tokens each. " + "; ".join(
        f"{name}: {min(BILL['updates'][name]):.0f} to "
        f"{max(BILL['updates'][name]):.0f} updates, score "
        f"{min(BILL['score'][name]):.2f} to {max(BILL['score'][name]):.2f}"
        for name in BILL["score"])))
ends(MEASURED["budget"], "updates", "score", "kl")

# %% [markdown]
# At an equal bill dynamic sampling loses here, on every seed. It made about half as many updates, and its score is
# lower. Why do the tied groups hurt so little? A batch with tied groups has a smaller gradient, but Adam divides by
# the gradient's usual size and makes a step of full size of it. And the more the policy learns, the more of its groups are
# alive: at the end of a run dynamic sampling paid about half as many tokens an update as at its beginning.
#
# Is the smaller distance a gain, then? No. With every group the policy passed through the same score at the same
# distance, after little more than half the tokens. Dynamic sampling is *behind* here, not more careful.
#
# This is one task, one learning rate, and a sampler that is as cheap as an update. Where an update is dear, or where
# the noise of a half-dead batch makes long runs fail, the bill may look different. So when somebody reports that
# dynamic sampling learns faster, ask for the axis: updates, or tokens?

# %% [markdown]
# ## 4. Why RL, and not fine-tuning on the good samples?
#
# The policy writes eight reviews, the classifier says which is best. Then why not simply train on the
# best one with the ordinary likelihood, as if a person had written it? That is **rejection-sampling
# fine-tuning** (also called best-of-n or RAFT; Dong et al. 2023). Or show the model two reviews, and train it to
# prefer the better one: that is **DPO**, direct preference optimization (Rafailov et al. 2023). Both need samples
# and rewards, and no ratio.
#
# ### Exercise 5: `keep_best` (10 points, easy, 15 minutes)
#
# **Task.** Return the indices into `rewards` (N,) of the k best completions of each group, a tensor of
# long integers, shape (k N / G,), in ascending order. Of equal rewards the earlier one counts as
# better.
#
# <details><summary>Hint</summary><code>argsort(dim=1, descending=True, stable=True)[:, :k]</code> gives
# places within the groups; group i begins at i G.</details>

# %% nbgrader={"grade": false, "grade_id": "ex5", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 5
def keep_best(rewards, num_generations, k):
    """Indices of the k best completions of each group, ascending.

    rewards: (N,), groups side by side. Returns: long, (k * N / G,).
    """
    ### BEGIN SOLUTION
    groups = rewards.view(-1, num_generations)
    best = groups.argsort(dim=1, descending=True, stable=True)[:, :k]
    starts = torch.arange(len(groups)).unsqueeze(1) * num_generations
    return (starts + best).flatten().sort().values
    ### END SOLUTION

# %% check="ex5"
checks.keep_best(keep_best)

# %% nbgrader={"grade": true, "grade_id": "test_ex5", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert keep_best(torch.tensor([0.0, 1.0]), 2, 1).tolist() == [1]
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(89)
for _groups, _size, _k in ((3, 4, 1), (1, 8, 3), (5, 2, 1), (4, 4, 2), (6, 3, 3)):
    for _levels in (3, 1000):
        _r = torch.randint(_levels, (_groups * _size,), generator=_gen).float()
        _right = []
        for _g in range(_groups):
            _places = range(_g * _size, (_g + 1) * _size)
            _right += sorted(sorted(_places, key=lambda i: (-float(_r[i]), i))[:_k])
        _got = keep_best(_r, _size, _k)
        assert not _got.is_floating_point() and _got.shape == (_groups * _k,), (
            "k whole numbers a group, in one row")
        assert _got.tolist() == _right, "the k best of each group, the earlier of equals, ascending"
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 6: `dpo_loss` (15 points, medium, 20 minutes)
#
# Chapter 1 had the optimum under a KL penalty: $\pi^*(x) \propto \pi_{\mathrm{ref}}(x)\,e^{r(x)/\beta}$. There a
# reward was given, and the policy was the answer. Read it backwards. Take the logarithm and solve for the reward:
#
# $$r(x) = \beta \log\frac{\pi^*(x)}{\pi_{\mathrm{ref}}(x)} + \text{a constant of the prompt}$$
#
# So *every* policy is the optimum for some reward. This one is called its **implicit reward**. DPO trains it as one
# trains any reward on pairs. The chosen text $x^+$ should get more than the rejected text $x^-$, and
# the probability that the model gives to this is taken to be $\sigma$ of the difference, with $\sigma$ for the
# logistic function. The loss is minus its logarithm:
#
# $$-\log\sigma\Big(\beta\Big[\log\frac{\pi(x^+)}{\pi_{\mathrm{ref}}(x^+)}
# - \log\frac{\pi(x^-)}{\pi_{\mathrm{ref}}(x^-)}\Big]\Big)$$
#
# Both texts answer the same prompt, so the constant cancels in the difference. The log-prob of a text is the
# **sum** over its tokens.
#
# **Task.** `chosen` and `rejected` are the summed log-probs under the policy, `ref_chosen` and
# `ref_rejected` under the reference, all of shape (B,). Return the mean loss over the pairs, shape ().
# It has to be stable: where the square bracket is -1000, the loss is $1000\,\beta$ and not infinity.
#
# <details><summary>Hint</summary><code>torch.nn.functional.logsigmoid</code>.</details>

# %% nbgrader={"grade": false, "grade_id": "ex6", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 6
def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    """DPO's loss of pairs.

    chosen, rejected, ref_chosen, ref_rejected: (B,) summed log-probs.
    Returns: shape ().
    """
    ### BEGIN SOLUTION
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    return -torch.nn.functional.logsigmoid(beta * margin).mean()
    ### END SOLUTION

# %% check="ex6"
checks.dpo_loss(dpo_loss)

# %% nbgrader={"grade": true, "grade_id": "test_ex6", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
_nil = torch.zeros(2)
assert abs(float(dpo_loss(_nil, _nil, _nil, _nil, 0.1)) - 0.6931472) < 1e-4
### BEGIN HIDDEN TESTS
import math as _math

_gen = torch.Generator().manual_seed(97)
for _b, _beta in ((1, 0.1), (4, 0.5), (7, 0.03)):
    _c, _r, _rc, _rr = (-20 * torch.rand(_b, generator=_gen, dtype=torch.float64)
                        for _ in range(4))
    _leaves = [x.clone().requires_grad_() for x in (_c, _r)]
    _loss = dpo_loss(*_leaves, _rc, _rr, _beta)
    assert _loss.shape == (), "one loss for all pairs"
    _loss.backward()
    _loss = _loss.detach()
    _m = [_beta * float((_c[i] - _rc[i]) - (_r[i] - _rr[i])) for i in range(_b)]
    _right = sum(_math.log1p(_math.exp(-m)) for m in _m) / _b
    assert abs(float(_loss) - _right) < 1e-6, "-log sigmoid(beta x margin), the mean over pairs"
    for _i, _one in enumerate(_m):
        _slope = -_beta / (1 + _math.exp(_one)) / _b
        assert abs(float(_leaves[0].grad[_i]) - _slope) < 1e-6, "the gradient of the chosen"
        assert abs(float(_leaves[1].grad[_i]) + _slope) < 1e-6, "the gradient of the rejected"
_nil = torch.zeros(1)
_far = dpo_loss(torch.tensor([-1000.0]), _nil, _nil, _nil, 1.0)
assert abs(float(_far) - 1000) < 1e-2, "a margin of -1000 must not overflow"
### END HIDDEN TESTS

# %% [markdown]
# ### Three uses of the same samples
#
# Each round the policy writes 64 reviews, eight a prompt. GRPO uses all of them, clipped at 0.2. *Best of 8*
# trains on the likelihood of the best of each group. DPO trains on best against worst, with beta 0.1. Each makes
# four updates a round, with the same learning rate. In the first round all three learn from the same 64 texts.

# %%
predict(
    "Which of the three has the best score after four rounds?", {
    "GRPO: it uses all 64 samples, up and down":
        "It does, but its clip and its small advantages keep the steps "
        "modest. It is not ahead in score.",
    "Best of 8, the plainest":
        "In score it is ahead or next to it on every seed. Now look at what "
        "it paid for it.",
    "DPO: pairs as far apart as can be":
        "It is ahead by a hair on one seed of three, and behind on the "
        "other two."},
    right="Best of 8, the plainest")

# %%
if not is_autograding():
    student = {"keep_best": keep_best, "dpo_loss": dpo_loss}
    for method in ("GRPO", "best of 8", "DPO"):
        SHORT[method] = off_policy.same_rollouts(student, method=method,
                                                 rounds=1)
        print(f"{method:>9}, one round: {told(SHORT[method][-1])}")

# %%
USED = {name: {key: [rows[-1][key] for rows in seeds.values()]
               for key in ("score", "kl")}
        for name, seeds in MEASURED["same_rollouts"].items()}
plots.show(plots.seeds({
    ("Score", "round", "score, held out"): curves(
        MEASURED["same_rollouts"], "round", "score"),
    ("Score by distance", "KL(pi||ref), nats", "score, held out"): curves(
        MEASURED["same_rollouts"], "kl", "score")},
    alt="Three seeds, after four rounds. " + "; ".join(
        f"{name}: score {min(of['score']):.2f} to {max(of['score']):.2f}, KL "
        f"{min(of['kl']):.1f} to {max(of['kl']):.1f}"
        for name, of in USED.items())))
ends(MEASURED["same_rollouts"], "score", "kl")

# %% [markdown]
# So the answer to the title's question is not "because RL learns faster". After four rounds the best of eight has more
# score than GRPO, on every seed. It has also gone further from the reference: 1.4 to 3 times as far as GRPO, seed by
# seed. Is it a better method, then, or a larger step?
#
# The picture on the right tells. Up to about one nat **the three lie on one curve**: for the same distance they get
# the same score. They do the same thing at different speeds. Further out, best of 8 gets little for its distance: in
# its last round less than 0.1 of score a nat, on every seed.
#
# That fits the formulas. On fresh samples the gradient of best of 8 is a policy gradient, with weight 1 for the best
# and 0 for the rest. There is no baseline, no negative example, and nothing that sees how *much* better the best
# was. It pulls the policy onto eight texts word by word, their accidents included. GRPO and DPO compare: what good
# and bad completions share cancels.
#
# This was one task, with four rounds, three seeds, one learning rate for all three methods, and no KL term. A method
# tuned for itself may do better than here.

# %% [markdown]
# ## Analysis questions (5 points each)
#
# A few sentences each, with figures and their intervals.

# %% [markdown] nbgrader={"grade": true, "grade_id": "q1", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 1.** A colleague raises `num_iterations` from 1 to 8, switches the clip off "because it throws
# gradient away", and reports a better score. What do you ask for, and what do you expect to see?
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Do I ask for a figure that the training did not maximise?</li>
# <li>Do I give score <em>and</em> KL of both runs, with their spread over seeds?</li>
# <li>Do I say on which side, and for which sign of the advantage, the clip takes gradient away?</li>
# <li>Would I have an answer for somebody who needs eight updates because sampling is dear?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# The KL to the reference, and samples. With the clip eight updates reach about the same score at about 5 nats;
# without it the KL is ten times that and more on every seed, and the text is hacked. The score cannot tell: it is what is
# maximised. The clip takes gradient away only where a token has gone far enough in the wanted direction.
#
# Rubric: 2 points for KL (or another measure that was not optimised) and samples. 2 points for the figures of both
# runs with their spread over seeds. 1 point for saying which tokens the clip holds back.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q2", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 2.** In a run with vLLM all ratios are 1, and yet the samples are not the policy's. Why does the ratio not
# show it? Compare the two levels of `truncated_weights`: which is biased, and by what?
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Do I name the two policies that the ratio compares, and the one that it leaves out?</li>
# <li>Do I say for each level what it forgets, and what it costs?</li>
# <li>Do I say what the cap does to the mean, and what to the noise?</li>
# <li>Do I know a figure of a running training that would show the mismatch?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# The ratio compares the training policy now with the same policy a moment ago; the sampler does not occur in it.
# Token weights correct the choice of each token and not how likely the tokens before it were, so they are biased;
# sequence weights are exact before the cap, and noisy: one text can decide a batch. The cap biases both.
#
# Rubric: 2 points for what the ratio compares. 2 points for the two levels (prefix forgotten; product, exact but noisy).
# 1 point for the bias of the cap.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q3", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 3.** A paper shows score against *updates*, and dynamic sampling wins. What would the same runs show
# against generated tokens, and when is each of the two axes the right one?
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Do I give tokens and updates of both runs?</li>
# <li>Do I compare the scores seed by seed, and at the same distance too?</li>
# <li>Do I say for each axis a situation in which it is the bill that I pay?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# Each of its updates costs more tokens, so its curve is stretched; here it made about half as many updates for the same
# tokens and ended lower on all three seeds; at less KL too, but at the same KL the other had the same score. Tokens (or hours) are right where generation is the bill;
# updates where they are dear, or to ask how good a step is.
#
# Rubric: 2 points for the stretched axis with the numbers of updates. 2 points for scores with their seeds. 1 point for
# when which axis is right.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q4", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 4.** Why RL, and not fine-tuning on the good samples? Answer with the three curves, and name a case in which
# you would take the simpler method.
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Do I say what best of 8 does with the other seven, and GRPO with them?</li>
# <li>Do I give score and KL together, with their spread over seeds?</li>
# <li>Do I read the curves at the same distance, and not only at their ends?</li>
# <li>Is my case for the simpler method one in which the difference does not matter?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# Not for speed: best of 8 reached 0.74 to 0.75 in four rounds, GRPO 0.65 to 0.74, at 3.2 to 4.2 nats against 1.4 to 2.3.
# Up to about one nat all three lie on one curve of score against distance; beyond, best of 8 pays more for less. It only pushes
# up, has no baseline, and copies the whole text; GRPO and DPO compare. The simpler method is enough where distance does
# not matter, or samples are cheap.
#
# Rubric: 2 points for what best-of-n leaves out (negative examples, a baseline). 2 points for score and KL with their
# spread. 1 point for a fitting case.
# ### END SOLUTION

# %% [markdown]
# ## What you have seen
#
# - Old samples are worth several updates, if something limits how far a batch can push.
# - The ratio sees how the policy has moved. It does not see who sampled.
# - A weight that is exact can be too noisy to use; truncation buys quiet with bias.
# - Tokens thrown away are on the bill. Say on which axis a method is faster.
# - Score and distance belong in one sentence.
