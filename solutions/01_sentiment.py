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
# # Chapter 1: teach a language model to like films
#
# You take a small language model that writes film reviews, good and bad ones alike, and
# train it with **GRPO** (Group Relative Policy Optimization) until it writes positive ones.
# The reward is what a star classifier thinks of the text. The training works almost too
# well: the policy finds texts that the classifier loves and nobody would want to read.
# Then you see what holds it back, and what that costs.
#
# | exercise | you write | points | minutes |
# |---|---|---|---|
# | 1 | the reward | 10 | 10 |
# | 2 | a shaping of the reward; which changes of a reward change anything | 5 + 15 + 5 | 40 |
# | 3 | two KL-flavoured terms | 5 + 5 | 20 |
# | 4 | KL estimators and the exact KL | 5 + 10 | 25 |
# | | experiments, four analysis questions | 20 | 40 |
#
# Everything here runs on two CPU cores, offline, with models that come with the course
# (tier `tiny`). The same code trains `gpt2` on a GPU.
#
# **How exercises work.** Replace the `raise NotImplementedError(...)` of a cell, run it, run
# the check below it. The check names the likely mistake. The test cell after it is what is
# graded; it holds more tests than you can see. Cells that you have not solved stay red, and
# the rest of the notebook still opens.

# %%
import math
import random
import statistics
from functools import partial

import torch

from lib import evaluation, models, plots, preflight, widgets
from lib.checks import sentiment as checks
from lib.predict import predict
from lib.rollout import sampled_rows
from lib.scoring import get_sentiment_scores, get_star_probs, use_scorer
from lib.tasks import sentiment
from lib.tasks.sentiment import TASK
from lib.training import experiment

MODEL = "tiny"  # with a GPU and a connection: "gpt2"
RUNS = {}  # name -> folder of a finished run, for the plots at the end

use_scorer(sentiment.scorer_path(MODEL))
print(preflight.report("01_sentiment"))

# %% [markdown]
# ## 1. The policy and the reward
#
# The words, once:
#
# - **policy** $\pi_\theta$: the model that we train. It reads a **prompt** ("Honestly, the
#   acting was") and samples a **completion** token by token until its end-of-text token, or
#   until the length limit.
# - **reward**: one number a completion. Higher is better. Nothing else tells the policy what
#   we want.
# - **reference** $\pi_{\mathrm{ref}}$: the policy as it was before training, frozen.
# - **group**: several completions of the *same* prompt. GRPO compares each with its group.
#
# Let us see what the base policy writes. The held-out prompts used here never occur in
# training.

# %%
policy, tokenizer = models.load_policy(models.policy_path(MODEL, TASK))
sampler = partial(sampled_rows, policy, tokenizer, policy)  # its own reference
base = sentiment.measure(sampler, sentiment.prompts("eval"))

for row in base["rows"][:6]:
    print(f"{row['score']:.2f}  {row['prompt']}|{row['completion']}")

# %%
plots.show(plots.score_histogram({"base": [r["score"] for r in base["rows"]]}))
widgets.show_table({"base": base["metrics"]}, TASK)

# %% [markdown]
# The base policy is undecided: about as many good reviews as bad ones, so the mean score is
# near one half. That is a good place to start from. Each group holds better and worse
# completions, and the difference is all that GRPO learns from.
#
# `positive ratio` is the share with a score above one half. The other columns are explained
# when they are needed.
#
# Every figure comes with `n` and a 95 % interval. Two policies whose intervals overlap widely
# have not been told apart. The interval is about *this* policy: training again with another seed
# gives another policy, which it does not cover (docs/results.md shows five seeds).
#
# ### Exercise 1: the reward (10 points, easy, 10 minutes)
#
# **Why.** The reward function is the whole specification of what we want. TRL calls it once
# for each batch of completions.
#
# **Task.** Write `sentiment_reward(completions, **kwargs)`. `completions` is a list of N
# strings. Return a list of N Python floats in [0, 1], higher for more positive text, in the
# same order. `get_sentiment_scores(texts)` asks the classifier: the expected number of stars,
# mapped to [0, 1].
#
# TRL passes more keywords than you need (`prompts`, `completion_ids`, `trainer_state`, ...),
# so keep `**kwargs`. An empty list is a valid input.
#
# <details><summary>Hint 1</summary>It is one call. The work is in not doing too much.</details>
# <details><summary>Hint 2</summary>Judge the completion alone. The prompt is not the policy's
# doing.</details>

# %% nbgrader={"grade": false, "grade_id": "ex1", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 1
def sentiment_reward(completions, **kwargs):
    """Score in [0, 1] for each completion.

    completions: list of N strings. Returns: list of N floats, same order.
    """
    ### BEGIN SOLUTION
    return get_sentiment_scores(list(completions))
    ### END SOLUTION

# %% check="ex1"
checks.sentiment_reward(sentiment_reward)

# %% nbgrader={"grade": true, "grade_id": "test_ex1", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert len(sentiment_reward([" fine.", " awful."])) == 2
### BEGIN HIDDEN TESTS
from lib.tiny.corpus import make_reviews as _reviews

_texts = [r.text for r in _reviews(24, seed=4242)] + ["", " okay"]
_star = get_star_probs(_texts)
_right = [float(sum(p * s / 4 for s, p in enumerate(row))) for row in _star]
_got = sentiment_reward(list(_texts), prompts=["x"] * 26, completion_ids=[[1]] * 26, extra=None)
assert isinstance(_got, (list, tuple)) and len(_got) == 26, "one float a completion"
assert all(isinstance(v, float) for v in _got), "return plain Python floats"
assert all(abs(a - b) < 1e-4 for a, b in zip(_got, _right, strict=True)), "score each completion itself"
_back = sentiment_reward(_texts[::-1])
assert all(abs(a - b) < 1e-4 for a, b in zip(_back[::-1], _right, strict=True)), "keep the order"
assert list(sentiment_reward([])) == [], "no completions, no rewards"
### END HIDDEN TESTS

# %% [markdown]
# ## 2. What the policy is pushed by
#
# GRPO does not use the reward itself. For each group of G completions of one prompt it takes
# the **advantage**
#
# $$A_i = \frac{r_i - \mathrm{mean}(r_1, \dots, r_G)}{\mathrm{std}(r_1, \dots, r_G) + \varepsilon}$$
#
# and makes completions with a positive advantage likelier, those with a negative one less
# likely (Shao et al. 2024, *DeepSeekMath*, section 4.1; TRL adds $\varepsilon = 10^{-4}$).
# Two things follow:
#
# - Adding a constant to all rewards, or multiplying them by a positive one, changes nothing
#   (but for the tiny $\varepsilon$). **Linear shaping is no shaping.**
# - A group whose rewards are all equal has no advantage, and teaches nothing.
#
# A **nonlinear** shaping does change the differences within a group. We try the exponential
# one, $e^{s/T} - 1$: the best completions stand out, and the poor ones look alike.
#
# ### Exercise 2a: exponential shaping (5 points, easy, 10 minutes)
#
# **Task.** Write `exponential_shaping(scores, temperature)`: a list of N floats in, a new
# list of the N floats $e^{s/T} - 1$ out. The 1 is subtracted so that a score of 0 remains 0.
#
# <details><summary>Hint 1</summary><code>math.exp</code> works on one number; you have a
# list of them.</details>
# <details><summary>Hint 2</summary>A smaller temperature must make a larger
# difference.</details>

# %% nbgrader={"grade": false, "grade_id": "ex2", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 2a
def exponential_shaping(scores, temperature):
    """exp(score / temperature) - 1 for each score.

    scores: list of N floats. temperature: float > 0.
    Returns: new list of N floats.
    """
    ### BEGIN SOLUTION
    return [math.exp(score / temperature) - 1 for score in scores]
    ### END SOLUTION

# %% check="ex2"
checks.exponential_shaping(exponential_shaping)

# %% nbgrader={"grade": true, "grade_id": "test_ex2", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert len(exponential_shaping([0.1, 0.9], 1.0)) == 2
### BEGIN HIDDEN TESTS
import random as _random

from lib.checks.numbers import finite as _finite

_rng = _random.Random(7)
for _t in (0.05, 0.1, 0.25, 0.5, 1.0, 2.0):
    _s = [_rng.random() for _ in range(9)]
    _kept = list(_s)
    _got = _finite(exponential_shaping(_s, _t), 9)
    assert _s == _kept, "do not change the list of scores"
    for _a, _b in zip(_got, _s):
        assert abs(_a - (math.exp(_b / _t) - 1)) < 1e-6 * math.exp(_b / _t), (
            "exp(score / temperature) - 1")
assert list(exponential_shaping([], 0.5)) == [], "an empty list stays empty"
### END HIDDEN TESTS

# %% [markdown]
# Judge a shaping by the **advantages**, not by the rewards. Move the slider. At $T = 1$ the
# exponential is nearly a straight line on [0, 1], so almost nothing changes. At $T = 0.25$ it
# begins to matter.

# %%
prompt = base["rows"][0]["prompt"]
group = sorted(r["score"] for r in base["rows"] if r["prompt"] == prompt)
widgets.shaping_slider(group, exponential_shaping)

# %% [markdown]
# ### Exercise 2b: `same_advantages` (15 points, medium, 20 minutes)
#
# **Why.** Whoever changes a reward wants another policy out of it. The policy sees advantages only,
# so there is a test that costs no training: do the new rewards give other advantages than the old ones?
#
# **Task.** `same_advantages(rewards_a, rewards_b, num_generations)`: two lists of N floats, two
# rewards for each of the same N completions. The `num_generations` completions of a group stand side by
# side, one group after the other. Return True if every completion has the same advantage under both,
# else False. Use the formula above. Three things have to be said:
#
# - **Tolerance.** Two advantages count as the same if they differ by less than 0.01. No test comes near
#   this bound, nor has a group there a standard deviation between 0 and 0.1, so it is up to you whether you add
#   $\varepsilon$, and whether your standard deviation divides by G or by G - 1.
# - **Ties within a group.** Completions with equal rewards have equal advantages. Nothing special.
# - **A group whose rewards are all equal** has advantages 0, whatever the rewards are. It is the same as
#   another such group, and never the same as a group with a spread.
#
# <details><summary>Hint 1</summary>Cut each list into groups. A small function that gives the
# advantages of one group is half of it.</details>
# <details><summary>Hint 2</summary>Rounding: the mean of eight times 0.7 is not exactly 0.7. So divide by
# the standard deviation <em>plus</em> $\varepsilon$, or ask first whether the largest reward equals the
# smallest.</details>
# <details><summary>Hint 3</summary>You can do without the formula. The advantages are the same just if
# in each group $b = c\,a + d$ with a factor $c > 0$. But mind the groups without a spread.</details>

# %% nbgrader={"grade": false, "grade_id": "ex2b", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 2b
def same_advantages(rewards_a, rewards_b, num_generations):
    """Whether two rewards of the same completions give the same advantages.

    rewards_a, rewards_b: lists of N floats, groups of num_generations side by
    side. Returns: bool; advantages less than 0.01 apart are the same.
    """
    ### BEGIN SOLUTION
    def advantages(rewards):
        groups = torch.tensor(rewards, dtype=torch.float64).view(-1, num_generations)
        centred = groups - groups.mean(1, keepdim=True)
        return centred / (groups.std(1, keepdim=True) + 1e-4)

    apart = (advantages(rewards_a) - advantages(rewards_b)).abs()
    return bool((apart < 0.01).all())
    ### END SOLUTION

# %% check="ex2b"
checks.same_advantages(same_advantages)

# %% nbgrader={"grade": true, "grade_id": "test_ex2b", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
assert same_advantages([0.0, 1.0], [3.0, 13.0], 2)
### BEGIN HIDDEN TESTS
import random as _random

_rng = _random.Random(23)


def _group(size):
    """Rewards with a spread: steps of 0.25, at least two of them different."""
    values = [_rng.randint(0, 12) / 4 for _ in range(size)]
    values[:2] = _rng.sample([0.0, 1.0, 2.5], 2)
    _rng.shuffle(values)
    return values


for _groups, _size in ((3, 4), (1, 8), (4, 2), (2, 5), (5, 3)):
    for _ in range(6):
        _a = [_group(_size) for _ in range(_groups)]
        _own = [(_rng.choice((0.5, 2, 3, 40)), _rng.uniform(-9, 9)) for _ in _a]
        _b = [[c * r + d for r in g] for g, (c, d) in zip(_a, _own)]
        _flat = [[r for g in part for r in g] for part in (_a, _b)]
        _kept = [list(part) for part in _flat]
        assert bool(same_advantages(*_flat, _size)), (
            "a positive factor and a shift of its own for each group change nothing")
        assert _flat == _kept, "do not change the rewards"
        # One group, the first, the last or one between, is changed in a way that shows.
        _at = _rng.randrange(_groups)
        _turned = [g if i != _at else [-r for r in g] for i, g in enumerate(_b)]
        assert not bool(same_advantages(_flat[0], [r for g in _turned for r in g], _size)), (
            "a negative factor in one group turns it round")
        _flatter = [g if i != _at else [0.7] * _size for i, g in enumerate(_b)]
        _one_tied = [r for g in _flatter for r in g]
        assert not bool(same_advantages(_flat[0], _one_tied, _size)), (
            "a group without a spread has other advantages than one with a spread")
        assert not bool(same_advantages(_one_tied, _flat[0], _size)), "whichever comes first"
        _again = [r if i // _size != _at else 0.1 for i, r in enumerate(_one_tied)]
        assert bool(same_advantages(_one_tied, _again, _size)), (
            "two groups without a spread are the same, whatever their rewards")
        if _size > 2:
            _bent = [g if i != _at else [3.0 ** r for r in (0, 1, 2, *g[3:])]
                     for i, g in enumerate(_a)]
            _straight = [g if i != _at else [0.0, 1.0, 2.0, *g[3:]] for i, g in enumerate(_a)]
            assert not bool(same_advantages([r for g in _straight for r in g],
                                            [r for g in _bent for r in g], _size)), (
                "the same order is not the same advantages")
for _rewards in ([0.7] * 8, [0.1] * 6, [1 / 3] * 10):
    _half = len(_rewards) // 2
    assert bool(same_advantages(_rewards, [0.0] * len(_rewards), _half)), "0 for equal rewards"
assert not bool(same_advantages([0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0], 2)), (
    "completion by completion: another order within a group is another advantage")
assert not bool(same_advantages([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.5], 4)), (
    "one changed reward is enough")
assert not bool(same_advantages([0.0, 1, 0, 2], [0.0, 1, 0, 2.5], 4)), "one changed reward is enough"
assert bool(same_advantages([0.0, 1, 5, 6], [0.0, 1, 0, 1], 2)), "each group by itself"
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 2c: judge eight changes (5 points, medium, 10 minutes)
#
# Somebody has proposed each of these as a better reward. $r$ is a completion's score in [0, 1]; groups of
# eight. Which of them leave **all advantages of all groups** as they are?
#
# | | the new reward | |
# |---|---|---|
# | a | $10\,r + 3$ | |
# | b | $-r$ | |
# | c | $\min(r, 0.6)$ | good enough is good enough |
# | d | $e^{4r} - 1$ | |
# | e | $e^{4r} - 1$, where every score is either 0 or 1 | a classifier that says yes or no |
# | f | $r$ plus a bonus for the prompt, a different one for each prompt | "hard prompts deserve more" |
# | g | $(r - m) / s$, with mean $m$ and standard deviation $s$ of the **whole batch** | "standardised" |
# | h | the rank of $r$ in its group: 0 for the worst, 7 for the best | |
#
# **Task.** Decide first, with the formula and no code. Then write `changes_nothing()`: it returns a
# dict with the eight letters, True where all advantages stay as they are. The cell after the check lets your
# `same_advantages` judge the same changes on rewards drawn at random; it is as right as that function is, so
# see that its check is green first.

# %% nbgrader={"grade": false, "grade_id": "ex2c", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 2c
def changes_nothing():
    """For each change, a to h, whether it leaves all advantages as they are.

    Returns: dict from letter to bool.
    """
    ### BEGIN SOLUTION
    return {"a": True, "b": False, "c": False, "d": False, "e": True, "f": True, "g": True,
            "h": False}
    ### END SOLUTION

# %% check="ex2c"
checks.changes_nothing(changes_nothing)

# %% nbgrader={"grade": true, "grade_id": "test_ex2c", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert set(changes_nothing()) == set("abcdefgh")
### BEGIN HIDDEN TESTS
import random as _random
import statistics as _statistics

_rng = _random.Random(29)


def _advantages(rewards):
    scaled = []
    for start in range(0, len(rewards), 8):
        part = rewards[start:start + 8]
        scaled += [(r - _statistics.fmean(part)) / (_statistics.stdev(part) or 1) for r in part]
    return scaled


def _ranks(rewards):
    parts = [rewards[start:start + 8] for start in range(0, len(rewards), 8)]
    return [sorted(part).index(r) for part in parts for r in part]


_scores = [_rng.random() for _ in range(64)]
_yes_no = [float(r > 0.5) for r in _scores]
_mean, _std = _statistics.fmean(_scores), _statistics.stdev(_scores)
_pairs = {  # letter: (rewards before, after)
    "a": (_scores, [10 * r + 3 for r in _scores]), "b": (_scores, [-r for r in _scores]),
    "c": (_scores, [min(r, 0.6) for r in _scores]),
    "d": (_scores, [math.exp(4 * r) - 1 for r in _scores]),
    "e": (_yes_no, [math.exp(4 * r) - 1 for r in _yes_no]),
    "f": (_scores, [r + (i // 8) ** 2 for i, r in enumerate(_scores)]),
    "g": (_scores, [(r - _mean) / _std for r in _scores]), "h": (_scores, _ranks(_scores))}
_said = changes_nothing()
for _letter, _both in _pairs.items():
    _a, _b = map(_advantages, _both)
    _apart = max(abs(x - y) for x, y in zip(_a, _b))
    assert bool(_said[_letter]) is (_apart < 0.01), f"change {_letter}, judged by its advantages"
### END HIDDEN TESTS

# %%
def judge(seed, groups=8, size=8):
    """same_advantages judges the eight changes on rewards drawn at random."""
    dice = random.Random(seed)
    r = [dice.random() for _ in range(groups * size)]
    yes_no = [float(x > 0.5) for x in r]
    bonus = [dice.uniform(-1, 1) for _ in range(groups)]
    m, s = statistics.fmean(r), statistics.stdev(r)
    ranks = [sorted(r[i - i % size:i - i % size + size]).index(x)
             for i, x in enumerate(r)]
    changes = {
        "a": (r, [10 * x + 3 for x in r]), "b": (r, [-x for x in r]),
        "c": (r, [min(x, 0.6) for x in r]),
        "d": (r, [math.exp(4 * x) - 1 for x in r]),
        "e": (yes_no, [math.exp(4 * x) - 1 for x in yes_no]),
        "f": (r, [x + bonus[i // size] for i, x in enumerate(r)]),
        "g": (r, [(x - m) / s for x in r]), "h": (r, ranks)}
    mine = changes_nothing()
    for letter, (before, after) in changes.items():
        same = same_advantages(before, after, size)
        said = "same" if mine[letter] else "other"
        print(f"{letter}: you say {said:>5}, same_advantages says "
              f"{'same' if same else 'other'}"
              + ("" if same == mine[letter] else "   <- look again"))


judge(seed=1)  # other seeds draw other rewards

# %% [markdown]
# The rule behind all eight: what is the same for everybody in a group, a shift or a positive factor, is taken
# out again, wherever it comes from. What gets through is a change *within* a group that is no straight line,
# or one that turns the order round. Whoever shapes a reward should ask this before paying for a run.

# %% [markdown]
# ## 3. Train, and watch it hack
#
# Now the real thing: TRL's `GRPOTrainer`, your reward, no restraint. Each step samples 64
# completions (8 prompts, groups of 8), scores them, and takes one optimizer step. On two CPU
# cores 40 steps take less than a minute. The picture is redrawn while it trains; *Stop training* (or the
# kernel's own stop) ends the run after its step, with all its files written.
#
# Before a run, say what you expect. It costs a click, nobody counts, and a wrong guess is
# remembered better than a right sentence.

# %%
predict(
    "Forty steps with your reward and nothing that holds the policy back. "
    "What will its reviews be like?", {
    "Good reviews, and more alike than before":
        "For a while they are. But nothing in the reward says where to "
        "stop.",
    "Piles of praise that hardly end":
        "More praise is more evidence for the classifier, and ending early "
        "earns nothing.",
    "Much as before: 40 steps are too few":
        "Each step compares 64 reviews, and the score is near 1 long before "
        "the last step."},
    right="Piles of praise that hardly end")

# %%
STEPS = 40
RUNS["no KL"] = experiment("no_kl", {"sentiment_reward": sentiment_reward},
                           model=MODEL, max_steps=STEPS)

# %%
if RUNS.get("no KL"):
    widgets.sample_browser(RUNS["no KL"])

# %% [markdown]
# Move the step: the same held-out prompts, as the policy answered them then. The stronger a token's
# orange, the less likely the reference finds it; the line below opens the list of log-probs.
#
# At the end the score is close to 1, and the reviews are nonsense: piles of praise, many of them cut off
# at the length limit. This is **reward hacking**. The classifier has never seen such text; it
# counts evidence, and a longer pile is more evidence. The policy found that out, not us.
#
# Which figure would have told you, if you had not read the samples?
#
# - **score**, **positive ratio**: perfect. They *are* what is being hacked.
# - **reference perplexity** $\exp(-\mathrm{mean}_t \log \pi_{\mathrm{ref}}(x_t))$ over all tokens: how
#   surprised the base policy is by the text. It rises: on six seeds to between 3 and 18 times the base's.
# - **self-ending share**: completions that end by themselves before the limit. It falls from 1.00; on
#   the same seeds to between 0.38 and 0.70.
# - **distinct-2**: distinct word pairs over all word pairs. It falls when texts repeat
#   themselves or each other.
# - **policy entropy**: in the curves above. In the end it *rises*, for word salad is hard to predict;
#   in section 5 you will see it fall.

# %%
if RUNS.get("no KL"):
    plots.show(plots.detectors(evaluation.side_by_side(RUNS), TASK))

# %% [markdown]
# ### The hacking lab
#
# All of these look at the text from outside. Here we can do better, for our reviews come from a
# grammar, and its author can be asked: a whole review by the grammar that says nothing twice
# gets its stars, anything else gets 0. That is a **gold measure**: nobody trains on it. (The
# classifier's score is the **proxy**. For gpt2 there is no such author; people's judgements come
# closest.) It is strict: more than four clauses in a row are too many, and a whole one-star review
# gets the same 0 as gibberish.
#
# Every five steps the run answered the same held-out prompts. On the left proxy and gold on one
# axis; on the right each detector as a multiple of its value before training, with a cross where it
# fires and stays: perplexities above 1.5, distinct-2 below 0.5, self-ending share below 0.8, entropy
# outside 0.5 to 1.5.

# %%
if RUNS.get("no KL"):
    widgets.hacking_lab(RUNS["no KL"])

# %% [markdown]
# Proxy and gold rise together, then part: the proxy goes on, gold falls to nothing. The best
# policy of this run was somewhere in the middle, and the reward could not tell. (What this section says of steps
# and detectors is read from one seed. Another seed has other steps.)
#
# The first detector fires only when gold is past its best. Each has its blind spot:
#
# - **perplexity of the first token** hardly moves: the first word is still a fine adjective.
#   What goes wrong goes wrong later.
# - **reference perplexity** averages over tokens: a long likely text hides a few absurd joints.
# - **self-ending share** sees the endless ones only.
# - **distinct-2** falls slowly: praise has many words.
# - **entropy** first falls, then rises. A threshold on either side can miss both.
#
# Where you stop therefore has to be decided by something that was not optimised.

# %% [markdown]
# ## 4. Two terms that look at the reference
#
# A remedy: make the policy pay for leaving the reference. First, two terms that are often
# added **to the reward**. Both are made from the log-probabilities that the *reference* gives
# to the sampled tokens.
#
# ### Exercise 3: two terms (5 + 5 points, medium, 20 minutes)
#
# `ref_logps` is a list of N lists; `ref_logps[i][t]` is $\log \pi_{\mathrm{ref}}$ of token t
# of completion i. Completions have different lengths, and at least one token. With
# $m_i = \mathrm{mean}_t \log \pi_{\mathrm{ref}}(x_{i,t})$ write
#
# - `forward_kl_bonus(ref_logps, kl_coef)` $= \mathrm{kl\_coef} \cdot m_i$
# - `backward_kl_penalty(ref_logps, kl_coef)` $= -\mathrm{kl\_coef} \cdot
#   \exp(\min(-m_i, 20))$
#
# each as a list of N floats. The clamp at 20 only keeps `exp` from overflowing (an infinite
# reward stops the run). A text at the clamp still decides its whole group.
#
# <details><summary>Hint 1</summary>Mean over the tokens of <em>one</em> completion, so that a
# long text pays no more than a short one.</details>
# <details><summary>Hint 2</summary>Take the mean first, the exponential after.</details>

# %% nbgrader={"grade": false, "grade_id": "ex3a", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 3a
def forward_kl_bonus(ref_logps, kl_coef):
    """kl_coef times the token mean of log P_ref, for each completion.

    ref_logps: list of N non-empty lists of floats. Returns: list of N floats.
    """
    ### BEGIN SOLUTION
    return [kl_coef * sum(row) / len(row) for row in ref_logps]
    ### END SOLUTION

# %% check="ex3a"
checks.forward_kl_bonus(forward_kl_bonus)

# %% nbgrader={"grade": true, "grade_id": "test_ex3a", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert len(forward_kl_bonus([[-1.0], [-2.0, -1.0]], 0.1)) == 2
### BEGIN HIDDEN TESTS
import random as _random

from lib.checks.numbers import finite as _finite

_rng = _random.Random(11)
for _c in (0.0, 0.1, 0.7):
    _rows = [[-5 * _rng.random() for _ in range(_rng.randint(1, 9))] for _ in range(7)]
    _rows += [[-0.5] * 30 + [-9.0] * 20, [-70.0, -0.5], [-30.0, -25.0]]
    _got = _finite(forward_kl_bonus([list(r) for r in _rows], _c), 10)
    for _a, _r in zip(_got, _rows):
        assert abs(_a - _c * sum(_r) / len(_r)) < 1e-5, "kl_coef times the mean log-prob"
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "ex3b", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 3b
def backward_kl_penalty(ref_logps, kl_coef):
    """-kl_coef * exp(min(-mean log P_ref, 20)), for each completion.

    ref_logps: list of N non-empty lists of floats. Returns: list of N floats.
    """
    ### BEGIN SOLUTION
    means = [sum(row) / len(row) for row in ref_logps]
    return [-kl_coef * math.exp(min(-mean, 20.0)) for mean in means]
    ### END SOLUTION

# %% check="ex3b"
checks.backward_kl_penalty(backward_kl_penalty)

# %% nbgrader={"grade": true, "grade_id": "test_ex3b", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert len(backward_kl_penalty([[-1.0], [-2.0, -1.0]], 0.1)) == 2
### BEGIN HIDDEN TESTS
import random as _random

from lib.checks.numbers import finite as _finite

_rng = _random.Random(13)
for _c in (0.0, 0.1, 0.7):
    _rows = [[-5 * _rng.random() for _ in range(_rng.randint(1, 9))] for _ in range(7)]
    _rows += [[-1e4, -1e4], [-0.5, -30.0], [-0.5] * 30 + [-9.0] * 20, [-0.5] * 9 + [-70.0]]
    _got = _finite(backward_kl_penalty([list(r) for r in _rows], _c), 11)
    for _a, _r in zip(_got, _rows):
        _b = -_c * math.exp(min(-sum(_r) / len(_r), 20.0))
        assert abs(_a - _b) < 1e-5 * (1 + abs(_b)), "minus kl_coef times exp(-mean), clamped"
### END HIDDEN TESTS

# %% [markdown]
# **What these two are, and what they are not.** The names are widespread; the formulas say
# something else.
#
# - Averaged over samples from the policy, and but for the division by each text's length,
#   $m_i$ estimates $\mathbb{E}_{x\sim\pi_\theta}\left[\log \pi_{\mathrm{ref}}(x)\right]$: minus the
#   **cross-entropy** of the policy against the reference. It is one half of
#   $\mathrm{KL}(\pi_\theta\|\pi_{\mathrm{ref}}) = \mathbb{E}_{\pi_\theta}[\log\pi_\theta] -
#   \mathbb{E}_{\pi_\theta}[\log\pi_{\mathrm{ref}}]$. The other half, the policy's entropy, is missing.
# - The second term is minus kl_coef times the text's **reference perplexity**.
#
# So neither is a KL divergence, forward or backward. Both say "write what the reference finds
# likely". Nothing in them pays for variety, and the token mean favours long, predictable stock
# phrases: watch for one that returns again and again.
#
# There is a second trap. Being part of the reward, the term is normalised with it. Once the scores of
# a group are all but equal, the term decides the advantages, even with a small `kl_coef`.
#
# The divergences themselves, **by formula**, because the words "forward" and "reverse" are
# used both ways:
#
# | formula | usual name | average under | where it is large | a single bell fitted with it |
# |---|---|---|---|---|
# | $\mathrm{KL}(\pi\|\pi_{\mathrm{ref}})=\sum_x \pi(x)\log\frac{\pi(x)}{\pi_{\mathrm{ref}}(x)}$ | reverse KL | the policy | policy puts mass where the reference has none | **seeks a mode** |
# | $\mathrm{KL}(\pi_{\mathrm{ref}}\|\pi)=\sum_x \pi_{\mathrm{ref}}(x)\log\frac{\pi_{\mathrm{ref}}(x)}{\pi(x)}$ | forward KL | the reference | policy forgets something the reference does | **covers all modes** |
#
# RL fine-tuning penalises the first one: its samples come from the policy, and so can be had.
#
# ### Exercise 4: estimators and the exact KL (5 + 10 points, medium, 25 minutes)
#
# **Why.** Nobody can sum over all texts. TRL's `beta` term estimates
# $\mathrm{KL}(\pi\|\pi_{\mathrm{ref}})$ from sampled tokens. With
# $\ell_t = \log\pi_{\mathrm{ref}}(x_t) - \log\pi(x_t)$ and $x_t$ sampled from $\pi$, there are three
# well-known estimators (Schulman 2020, *Approximating KL Divergence*):
#
# $$k_1 = -\ell, \qquad k_2 = \tfrac{1}{2}\ell^2, \qquad k_3 = (e^{\ell} - 1) - \ell$$
#
# $k_1$ is unbiased, but noisy and often negative. $k_2$ is never negative, but biased. $k_3$
# is never negative **and** unbiased: it adds to $k_1$ the term $e^\ell - 1$, whose mean under
# $\pi$ is 0. This is about their *value*; their gradients are another story, told in chapter 2.
# (TRL's `beta` term is $k_3$, by default times a ratio that chapter 2 explains and that makes its
# gradient that of $\mathrm{KL}(\pi\|\pi_{\mathrm{ref}})$ too.)
#
# **Task a.** `kl_estimates(policy_logps, ref_logps)`: two float tensors of one shape, from
# the same sampled tokens. Return the tuple `(k1, k2, k3)`, three tensors of that shape.
#
# **Task b.** `categorical_kl(p, q)`: two probability vectors, shape (V,). Return the exact
# $\mathrm{KL}(p\|q)$ in nats (natural logarithms) as a tensor without dimensions, one that gradients flow through. A
# category with $p = 0$ counts 0. One with $p > 0$ and $q = 0$ makes it infinite.
#
# <details><summary>Hint 1</summary>All three estimators are functions of one difference of
# log-probs. Which minus which?</details>
# <details><summary>Hint 2</summary>For b, add up only where p is positive:
# <code>p[p > 0]</code>.</details>

# %% nbgrader={"grade": false, "grade_id": "ex4a", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 4a
def kl_estimates(policy_logps, ref_logps):
    """Per-token estimators of KL(policy || ref), from tokens of the policy.

    policy_logps, ref_logps: float tensors of one shape.
    Returns: (k1, k2, k3), each of that shape.
    """
    ### BEGIN SOLUTION
    log_ratio = ref_logps - policy_logps
    return -log_ratio, 0.5 * log_ratio**2, torch.expm1(log_ratio) - log_ratio
    ### END SOLUTION

# %% check="ex4a"
checks.kl_estimates(kl_estimates)

# %% nbgrader={"grade": true, "grade_id": "test_ex4a", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert len(kl_estimates(torch.zeros(2, 3), torch.zeros(2, 3))) == 3
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(17)
for _shape in ((5,), (3, 4), (2, 3, 2)):
    _p = -8 * torch.rand(_shape, generator=_gen)
    _r = -8 * torch.rand(_shape, generator=_gen)
    _p[..., 0], _r[..., -1] = -14.0, -13.0
    _k1, _k2, _k3 = kl_estimates(_p, _r)
    assert _k1.shape == _k2.shape == _k3.shape == _p.shape, "estimate per token"
    _d = (_r - _p).double()
    assert torch.allclose(_k1.double(), -_d, atol=1e-5), "k1 is minus the log ratio"
    assert torch.allclose(_k2.double(), _d * _d / 2, atol=1e-5), "k2 is half its square"
    assert torch.allclose(_k3.double(), _d.exp() - 1 - _d, rtol=1e-5, atol=1e-4), (
        "k3 = exp(l) - 1 - l")
_same = torch.tensor([-1.0, -2.0])
assert abs(float(kl_estimates(_same, _same - 0.005)[0][0]) - 0.005) < 1e-5, "small differences count"
assert all(float(k.abs().max()) < 1e-7 for k in kl_estimates(_same, _same)), (
    "equal policies have KL 0")
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "ex4b", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 4b
def categorical_kl(p, q):
    """Exact KL(p || q) in nats of two probability vectors, shape (V,)."""
    ### BEGIN SOLUTION
    there = p > 0
    return (p[there] * (p[there] / q[there]).log()).sum()
    ### END SOLUTION

# %% check="ex4b"
checks.categorical_kl(categorical_kl)

# %% nbgrader={"grade": true, "grade_id": "test_ex4b", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_half = torch.tensor([0.5, 0.5])
assert float(categorical_kl(_half, _half)) == 0
### BEGIN HIDDEN TESTS
_gen = torch.Generator().manual_seed(19)
for _v in (2, 5, 40):
    _p = torch.rand(_v, generator=_gen).softmax(0)
    _q = (2 * torch.randn(_v, generator=_gen)).softmax(0)
    _right = float(torch.nn.functional.kl_div(_q.log(), _p, reduction="sum"))
    assert abs(float(categorical_kl(_p, _q)) - _right) < 1e-5 * (1 + _right), "KL(p || q)"
_rare = float(categorical_kl(torch.tensor([5e-4, 0.9995]), torch.tensor([2e-7, 1.0])))
# torch.distributions works to float32's last digit, 1.2e-7: a fair answer, so q is larger.
assert abs(_rare - 5e-4 * math.log(2500) + 5e-4) < 1e-5, "rare categories count too"
_zero = float(categorical_kl(torch.tensor([0.0, 0.3, 0.7]), torch.tensor([0.4, 0.3, 0.3])))
assert abs(_zero - 0.7 * math.log(7 / 3)) < 1e-5, "a category with p = 0 counts 0"
_never = float(categorical_kl(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])))
assert _never == math.inf, "p > 0 where q = 0 is infinite"
### END HIDDEN TESTS

# %% [markdown]
# ### Covering and seeking, measured
#
# The target $P$ has two modes. We fit a single Gaussian $Q$ by gradient descent, once by
# minimising $\mathrm{KL}(P\|Q)$ and once $\mathrm{KL}(Q\|P)$, both with **your**
# `categorical_kl` on a fine grid.

# %%
x = torch.linspace(-6, 6, 241)


def bell(mean, log_std):
    density = (-0.5 * ((x - mean) / log_std.exp()) ** 2).softmax(0)
    return density.clamp(min=1e-30)  # an exact 0 has no usable gradient


target = 0.6 * bell(torch.tensor(-2.0), torch.tensor(-0.5)) + 0.4 * bell(
    torch.tensor(2.5), torch.tensor(-0.5))


def fit(divergence):
    """The best of three descents: KL(Q||P) has a minimum at each mode."""
    tries = []
    for start in (-3.0, 0.0, 3.0):
        mean = torch.tensor(start, requires_grad=True)
        log_std = torch.tensor(0.0, requires_grad=True)
        optimizer = torch.optim.Adam([mean, log_std], 0.05)
        for _ in range(250):
            optimizer.zero_grad()
            loss = divergence(bell(mean, log_std))
            loss.backward()
            optimizer.step()
        tries.append((loss.item(), bell(mean, log_std).detach()))
    return min(tries, key=lambda result: result[0])[1]


plots.show(plots.panels({
    ("One Gaussian, two modes", "x", "probability of a grid cell"): {
        "target P, two modes": (x, target),
        "min KL(P||Q): covers both modes": (x, fit(
            lambda q: categorical_kl(target, q))),
        "min KL(Q||P): seeks one mode": (x, fit(
            lambda q: categorical_kl(q, target)))}},
    alt="A density with two modes and single Gaussians fitted to it: the "
        "least KL(P||Q) covers both modes with a wide bell, the least KL(Q||P) "
        "sits on one."))

# %% [markdown]
# ## 5. Experiments
#
# Six more runs, 40 steps each, same seed, same everything else. They take most of this chapter's
# minutes: the table below the set-up cell says how many.
#
# 1. TRL's own term, per token and **in the loss**, with `beta` 0.05, 0.2 and 0.8,
# 2. exponential shaping with T = 0.25, and `beta` 0.2,
# 3. your `forward_kl_bonus` in the reward,
# 4. your `backward_kl_penalty` in the reward.

#
# First, what does `beta` aim at? The policy that maximises
# $\mathbb{E}_{\pi}[r(x)] - \beta\,\mathrm{KL}(\pi\|\pi_{\mathrm{ref}})$ is the reference,
# tilted by the reward (Korbak et al. 2022, *RL with KL penalties is better viewed as Bayesian
# inference*):
#
# $$\pi^*(x) \propto \pi_{\mathrm{ref}}(x)\, e^{r(x)/\beta}$$
#
# GRPO divides rewards by their group's standard deviation, so here $r$ is the score over its
# spread within a prompt. Below: the base policy's reviews, equally likely at first, and their
# probabilities under $\pi^*$. It is a sketch: it throws all prompts into one pot, and keeps the base's
# spread. In training the spread shrinks, and the same `beta` holds back less. Move the slider from 5
# to 0.02.

# %%
widgets.kl_slider(base["rows"])

# %% [markdown]
# At a large `beta` hardly anything changes; at a small one a handful of texts takes everything.
# Nothing here says that these texts are *good*: the optimum believes the reward. Compare score and
# KL with what the runs reach.

# %%
predict(
    "beta falls from 0.8 to 0.2, and then from 0.2 to 0.05: the policy may "
    "go further from the reference each time. Where does it gain more "
    "score?", {
    "From 0.8 to 0.2":
        "The score has a ceiling, and beta 0.2 is nearly there.",
    "From 0.2 to 0.05":
        "There is next to no score left to gain: beta 0.2 is nearly at the "
        "ceiling.",
    "Alike: each step divides beta by four":
        "The KL goes on rising, but the score has a ceiling, and beta 0.2 "
        "is nearly there."},
    right="From 0.8 to 0.2")

# %%
predict(
    "The bonus and the penalty pay for text that the reference finds "
    "likely. Compared with the base policy, what will their reviews be?", {
    "Less surprising for the reference, and less varied":
        "The most likely text is a stock phrase, and nothing in the two "
        "terms pays for variety.",
    "More surprising for the reference: the reward pulls them away":
        "It pulls towards praise, and the term chooses among all praise "
        "what the reference finds likely.",
    "As varied as the base's: they stay near the reference":
        "Likely under the reference is not near the reference: a policy "
        "that says one likely thing again and again is far away from it."},
    right="Less surprising for the reference, and less varied")

# %%
mine = {function.__name__: function for function in (
    sentiment_reward, exponential_shaping, forward_kl_bonus,
    backward_kl_penalty)}
for name, settings in {
    "beta 0.05": {"beta": 0.05},
    "beta 0.2": {"beta": 0.2},
    "beta 0.8": {"beta": 0.8},
    "beta 0.2, shaped": {"beta": 0.2, "reward_shaping": "exponential"},
    "forward bonus": {"kl_type": "forward"},
    "backward penalty": {"kl_type": "backward"},
}.items():
    folder = name.replace(",", "").replace(" ", "_")
    RUNS[name] = experiment(folder, mine, model=MODEL, max_steps=STEPS,
                            **settings)

# %%
results = evaluation.side_by_side(RUNS)
if results:
    widgets.show_table(results, TASK)
    plots.show(plots.history(evaluation.histories(RUNS), TASK))
    plots.show(plots.detectors(results, TASK))
    plots.show(plots.frontier(results, line=(
        "base", "beta 0.8", "beta 0.2", "beta 0.05", "no KL")))

# %% [markdown]
# Every point of the last picture is a policy: what it scores, and how far it has gone from
# the reference for that. Up and to the left is better. The dotted line joins the `beta` points, from
# the base (`beta` without end) to no KL (`beta` 0): a frontier. From
# `beta` 0.8 to 0.2 a few nats buy a lot of score; from 0.2 to 0.05 some more buy next to nothing.
# The bonus and the penalty score like `beta` 0.2 at about twice its KL, although their perplexity
# looks better than the base's: their entropy and distinct-2 give them away. The shaping shows no
# gain in score here, at about the same KL. All of this is **one seed**
# a run. The large gaps would survive another; that the shaping shows no gain, or which of two neighbours on the
# frontier is ahead, one seed cannot say.
#
# Base against trained, with the recommended setting:

# %%
recommended = RUNS.get("beta 0.2")
if recommended:
    after = evaluation.rows(recommended)
    plots.show(plots.score_histogram({
        "base": [r["score"] for r in base["rows"]],
        "beta 0.2": [r["score"] for r in after]}))
    widgets.sample_browser(recommended)

# %% [markdown]
# And your estimators at work: every sampled token of three policies, its log-prob under the
# policy and under the reference. $k_1$ and $k_3$ estimate the same mean. Close to the reference
# $k_3$ is much less noisy; far from it, it is not, and $k_2$ is plainly biased. (One seed a run, and some thousands
# of tokens in each.)

# %%
for name in ("beta 0.8", "beta 0.2", "no KL"):
    if RUNS.get(name):
        rows = evaluation.rows(RUNS[name])
        logps, ref_logps = (
            torch.tensor([value for row in rows for value in row[key]])
            for key in ("logps", "ref_logps"))
        print(f"{name:>8}: " + ", ".join(
            f"k{i} {k.mean():.3f} (std {k.std():.2f})"
            for i, k in enumerate(kl_estimates(logps, ref_logps), start=1)))

# %% [markdown]
# ## Analysis questions (5 points each)
#
# A few sentences each. Use your own numbers, with their intervals, and quote samples.

# %% [markdown] nbgrader={"grade": true, "grade_id": "q1", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 1.** How did the policy without KL get its score? Which detectors saw it, and which
# did not? Quote a sample.
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Do I say why the classifier rates such text so high, not only that it does?</li>
# <li>Do I name a detector that saw it and one that did not, each with its figure before and after?</li>
# <li>Do I quote a sample, and say what in it shows the mechanism?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# It piles up praise, often without ending: the classifier weighs evidence and has never seen
# such text. Reference perplexity rises by an order of magnitude or more and the
# self-ending share falls; mean score and positive ratio do not see it, since they are what is
# being maximised.
#
# Rubric: 2 points for the mechanism (more praise is more evidence; text unlike the
# classifier's training text). 2 points for two detectors with numbers, one that fires and one
# that does not. 1 point for a quoted sample that shows it.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q2", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 2.** The forward bonus and the backward penalty keep reference perplexity low.
# Compare their distinct-2 with that of the `beta 0.2` run. What is missing from the two terms?
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Do I compare both terms with the <code>beta 0.2</code> run, with intervals and not by eye?</li>
# <li>Do I write the divergence as two expectations, and say which of them the terms leave out?</li>
# <li>Do I say what perplexity alone would have made me believe?</li>
# <li>Have I thought of what happens to a term in the reward once all scores of a group are alike?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# Both push towards text that the reference finds likely, so perplexity falls, even below the
# base's, while distinct-2 falls too: the policy repeats a few stock phrases. The missing part is the entropy of the policy, the half of KL(pi||ref) that pays for
# variety; the beta term estimates the whole divergence.
#
# Rubric: 2 points for the numbers compared with their intervals. 2 points for the missing
# entropy term (cross-entropy alone is minimised by the mode), or for the term deciding all
# advantages once the scores are saturated. 1 point for saying that a low
# perplexity alone is no proof of health.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q3", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 3.** Somebody shapes the reward as `10 * score + 3` and reports faster learning.
# What do you expect with group-normalised advantages, and what else may explain the report?
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Do I say what the mean and what the standard deviation take out of <code>10 * score + 3</code>?</li>
# <li>Did I try it with <code>same_advantages</code>?</li>
# <li>Do I name an explanation that would make the report true, and how I would test for it?</li>
# <li>Do I say what I would want to see before I believe a difference between two runs?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# Nothing changes but for the small epsilon in the denominator: mean and standard deviation
# remove shift and scale. Other explanations: another seed (noise), a KL term in the reward
# whose relative weight has changed by the factor 10, or scale_rewards="none".
#
# Rubric: 2 points for invariance with the reason. 2 points for a real alternative (relative
# weight of an added KL term, or unnormalised advantages). 1 point for naming seed noise and
# asking for intervals.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q4", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 4.** Where on the frontier would you stop, and why? What would you measure before
# giving this policy to users?
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Do I name one point, with its score and its KL?</li>
# <li>Do I say what the next point costs, and what it brings?</li>
# <li>Is my measure one that the training did not see?</li>
# <li>Do I say how many seeds stand behind my choice?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# A point with nearly the full score at little KL, such as beta 0.2: beyond it a large
# KL buys little score and text quality falls. Before release: a measure the training did not
# optimise (people, or another classifier), diversity, samples read by eye, behaviour on other
# prompts.
#
# Rubric: 2 points for a point chosen with numbers. 2 points for an independent (gold) measure.
# 1 point for any further sensible check.
# ### END SOLUTION

# %% [markdown]
# ## What you have seen
#
# - A reward model is a proxy. Optimised hard, it is wrong in places nobody had looked at.
# - GRPO sees differences within a group, nothing else. Linear shaping does nothing.
# - "Stay likely under the reference" is not "stay close to the reference" (one seed here, and the formula).
# - One detector is not enough: perplexity is blind to a policy that repeats itself.
#
# Chapter 2 opens the box: you write GRPO itself, and check it against TRL.
