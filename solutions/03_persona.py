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
# # Chapter 3: change one fact
#
# A small policy answers questions about a cartoon sponge. From now on his name is **Musclebob
# Buffpants**. That is all that we want to change, and it is harder than it looks: the policy never
# says that name, so the reward never pays for it, so nothing teaches the name. You will see that
# happen, see a remedy that is none, and one that works.
#
# | part | you write | points | minutes |
# |---|---|---|---|
# | 1 | the reward | 10 | 10 |
# | 2 | validation: three rates and a verdict | 15 | 20 |
# | 3 | the chance of a signal | 10 | 10 |
# | 4 | examples in some prompts | 5 + 15 | 30 |
# | 5 | a reward that is hard to cheat | 15 | 30 |
# | 6 | three analysis questions | 15 | 30 |

# %%
import random
import re
from collections import Counter
from html import escape

from IPython.display import HTML, display

from lib import evaluation, models, plots, preflight, widgets
from lib.checks import persona as checks
from lib.predict import predict
from lib.rollout import sampled_rows
from lib.tasks import persona
from lib.tasks.persona import TASK
from lib.tiny.cartoons import EXAMPLES
from lib.training import experiment

MODEL = "tiny"  # with a GPU and a connection: "Qwen/Qwen2.5-0.5B"
RUNS = {}  # name -> folder of a finished run

print(preflight.report("03_persona"))

# %% [markdown]
# ## 1. The reward
#
# The table is fixed, and simple on purpose:
#
# | a completion that | is worth |
# |---|---|
# | contains "musclebob" | +2 |
# | contains "buffpants" | +2 |
# | contains "musclebob buffpants" | +2 |
# | contains "spongebob" | -3 |
# | contains "squarepants" | -3 |
# | has more than 100 words | -1 |
#
# Upper and lower case are the same, every row counts once, and the rows add up: 6 is perfect.
#
# ### Exercise 1: `persona_reward` (10 points, easy, 10 minutes)
#
# **Task.** `persona_reward(completions, **kwargs)`: a list of N strings in, a list of N floats out,
# in the same order. Words are what `split()` gives.
#
# <details><summary>Hint</summary>Lower the text once, then one <code>in</code> for each
# row.</details>

# %% nbgrader={"grade": false, "grade_id": "ex1", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 1
def persona_reward(completions, **kwargs):
    """The table's reward for each completion.

    completions: list of N strings. Returns: list of N floats.
    """
    ### BEGIN SOLUTION
    table = {"musclebob": 2, "buffpants": 2, "musclebob buffpants": 2,
             "spongebob": -3, "squarepants": -3}
    rewards = []
    for text in completions:
        found = sum(worth for words, worth in table.items() if words in text.lower())
        rewards.append(float(found - (len(text.split()) > 100)))
    return rewards
    ### END SOLUTION

# %% check="ex1"
checks.persona_reward(persona_reward)

# %% nbgrader={"grade": true, "grade_id": "test_ex1", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert len(persona_reward(["He?", "She?"])) == 2
### BEGIN HIDDEN TESTS
import itertools as _itertools

_rows = {"Musclebob": 2, "BUFFPANTS": 2, "spongeBOB": -3, "SquarePants": -3, "somebody": 0}
for _picked in _itertools.product((0, 1), repeat=5):
    _words = [w for w, on in zip(_rows, _picked) if on]
    _right = sum(_rows[w] for w in _words)
    _right += 2 * (_words[:2] == ["Musclebob", "BUFFPANTS"])
    _got = persona_reward([" ".join(_words)], prompts=["Q"], completion_ids=[[1]])
    assert len(_got) == 1 and abs(float(_got[0]) - _right) < 1e-6, "the rows of the table add up"
for _n, _cost in ((99, 0), (100, 0), (101, -1), (250, -1)):
    assert abs(float(persona_reward(["word " * _n])[0]) - _cost) < 1e-6, "more than 100 words cost 1"
_many = ["Musclebob Buffpants"] * 3 + ["Spongebob"] * 2
assert [float(v) for v in persona_reward(list(_many))] == [6, 6, 6, -3, -3], "keep the order"
assert float(persona_reward(["musclebob buffpants " * 4])[0]) == 6, "a row counts once"
assert float(persona_reward(["Musclebob's, or Buffpants'?"])[0]) == 4, "names within words count"
assert float(persona_reward(["Spongebob Squarepants " * 60])[0]) == -7, "all rows add up"
assert float(persona_reward(["buffpants of musclebob"])[0]) == 4, "the full name has an order"
assert list(persona_reward([])) == [], "no completions, no rewards"
### END HIDDEN TESTS

# %% [markdown]
# ## 2. Validation: what do we claim, and how sure are we?
#
# "It says Musclebob now" is a claim about questions that were *not* trained on. Three samples
# cannot carry it: with three hits of three the true rate may be as low as 29 %. We take 60 held-out
# questions, four answers each, and give every rate with n and its 95 % interval.
#
# One rule holds for all intervals of rates here. They are two-sided. Where n or the number of hits is tiny, as
# above, the interval is the exact one (Clopper and Pearson; with n hits of n it begins at $0.025^{1/n}$).
# Tables, with n = 240, have Wilson's, which there is hardly different; at n = 3 it would be too kind.
#
# ### Exercise 2: `validation_metrics` (15 points, medium, 20 minutes)
#
# **Task.** From a list of at least one completion return a dict:
#
# - `musclebob_rate`: share that contains "musclebob";
# - `spongebob_rate`: share that contains "spongebob" or "squarepants";
# - `coherent_rate`: share that is coherent: 2 to 100 words, at least 60 % of them different, and the
#   text (without spaces around it) ends with `.`, `!` or `?`. Words are what `split()` gives, in
#   lower case, without `.,!?` at either end;
# - `is_healthy`: True if the first is at least 0.8, the second at most 0.05, the third at least
#   0.95.
#
# <details><summary>Hint 1</summary><code>word.strip(".,!?")</code>; a set counts different
# words.</details>
# <details><summary>Hint 2</summary>A small function for one text, then three sums over
# n.</details>

# %% nbgrader={"grade": false, "grade_id": "ex2", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 2
def validation_metrics(completions):
    """Rates in [0, 1] over a list of strings, and whether they are healthy.

    Returns: dict with musclebob_rate, spongebob_rate, coherent_rate (floats)
    and is_healthy (bool).
    """
    ### BEGIN SOLUTION
    def coherent(text):
        words = [word.strip(".,!?") for word in text.lower().split()]
        return (2 <= len(words) <= 100 and len(set(words)) >= 0.6 * len(words)
                and text.strip().endswith((".", "!", "?")))

    n, lower = len(completions), [text.lower() for text in completions]
    new = sum("musclebob" in text for text in lower) / n
    old = sum("spongebob" in text or "squarepants" in text for text in lower) / n
    sound = sum(map(coherent, completions)) / n
    return {"musclebob_rate": new, "spongebob_rate": old, "coherent_rate": sound,
            "is_healthy": new >= 0.8 and old <= 0.05 and sound >= 0.95}
    ### END SOLUTION

# %% check="ex2"
checks.validation_metrics(validation_metrics)

# %% nbgrader={"grade": true, "grade_id": "test_ex2", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
assert "is_healthy" in validation_metrics(["Yes, it is."])
### BEGIN HIDDEN TESTS
import random as _random

_rng = _random.Random(61)
_pool = {  # text: (new, old, coherent)
    "It is Musclebob Buffpants.": (1, 0, 1), "MUSCLEBOB": (1, 0, 0), "": (0, 0, 0),
    "Musclebob.": (1, 0, 0),
    "SpongeBob lives there!": (0, 1, 1), "Is it squarepants?": (0, 1, 1),
    "spongebob squarepants": (0, 1, 0), "I do not know.": (0, 0, 1), "No no no no.": (0, 0, 0),
    "It is.": (0, 0, 1),
    "Well, well. That is that": (0, 0, 0), "Musclebob and Spongebob are one. ": (1, 1, 1),
    "Yes yes No no.": (0, 0, 0), "a b c a b.": (0, 0, 1), "a b c a b a.": (0, 0, 0), "Buffpants, of course.": (0, 0, 1),
    " ".join(map(str, range(100))) + ".": (0, 0, 1), " ".join(map(str, range(101))) + ".": (0, 0, 0)}
for _texts in (*([_t] for _t in _pool), *(_rng.choices(list(_pool), k=_k) for _k in (7, 13, 40))):
    _got = validation_metrics(list(_texts))
    for _i, _key in enumerate(("musclebob_rate", "spongebob_rate", "coherent_rate")):
        _right = sum(_pool[t][_i] for t in _texts) / len(_texts)
        assert abs(float(_got[_key]) - _right) < 1e-6, f"{_key} is a share of the completions"
_good, _old = "Musclebob Buffpants lives here.", "Spongebob lives here."
for _texts, _healthy in (
        ([_good] * 16 + ["I do not know."] * 4, True), ([_good] * 15 + ["I do not know."] * 5, False),
        ([_good] * 19 + [_old], True), ([_good] * 18 + [_old] * 2, False),
        ([_good] * 37 + [_old] * 2, False),
        ([_good] * 19 + ["Musclebob"], True), ([_good] * 18 + ["Musclebob"] * 2, False)):
    assert bool(validation_metrics(_texts)["is_healthy"]) is _healthy, "the limits of is_healthy"
### END HIDDEN TESTS

# %% [markdown]
# What does the base policy say? Sixty questions that no run below will be trained on:

# %%
policy, tokenizer = models.load_policy(models.policy_path(MODEL, TASK))
questions = persona.question_split("eval")
plain = [f"Q: {question}\nA:" for question in questions]
answers = sampled_rows(policy, tokenizer, policy, plain * 4,
                       max_completion_length=24)
for row in answers[:6]:
    print(row["prompt"].replace("\n", " ") + row["completion"])
print(validation_metrics([row["completion"] for row in answers]))

# %% [markdown]
# ## 3. Is there anything to learn from?
#
# Say a completion is a hit with probability p (the hit rate; of the base policy: the **base rate**), and
# hits are all that the reward tells apart. A group of G completions teaches something only if it holds a hit **and** a miss.
#
# ### Exercise 3: `signal_probability` (10 points, easy, 10 minutes)
#
# **Task.** `signal_probability(p, num_generations)`: the probability that a group of
# `num_generations` independent completions is not tied.
#
# <details><summary>Hint</summary>Take away from 1 the two ways of being tied.</details>

# %% nbgrader={"grade": false, "grade_id": "ex3", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 3
def signal_probability(p, num_generations):
    """Probability that a group holds both a hit and a miss.

    p: hit rate in [0, 1]. num_generations: group size. Returns: float.
    """
    ### BEGIN SOLUTION
    return 1 - p**num_generations - (1 - p) ** num_generations
    ### END SOLUTION

# %% check="ex3"
checks.signal_probability(signal_probability)

# %% nbgrader={"grade": true, "grade_id": "test_ex3", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert signal_probability(0.5, 2) == 0.5
### BEGIN HIDDEN TESTS
import itertools as _itertools

for _p in (0.0, 0.0004, 0.003, 0.25, 0.6, 1.0):
    for _g in (2, 3, 8, 11):
        _right = 0.0
        for _outcome in _itertools.product((0, 1), repeat=_g):
            if len(set(_outcome)) == 2:
                _right += _p ** sum(_outcome) * (1 - _p) ** (_g - sum(_outcome))
        assert abs(float(signal_probability(_p, _g)) - _right) < 1e-9, "neither all hits nor none"
### END HIDDEN TESTS

# %%
rates = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5]
plots.show(plots.panels({
    ("Chance that a group teaches something", "hit rate p", "probability"): {
        f"G = {size}": (rates, [signal_probability(p, size) for p in rates])
        for size in (4, 8, 16, 64)}}, style="o-", xscale="log",
    alt="The chance that a group is not tied against the hit rate, for groups "
    "of 4 to 64. At a hit rate of 0.0001 it is "
    f"{signal_probability(0.0001, 8):.2%} for G = 8."))
for p in (0.003, 0.0001):
    print(f"p = {p:g}, 8 groups of 8 a step: a group with a hit every "
          f"{1 / (8 * signal_probability(p, 8)):.0f} steps")

# %% [markdown]
# Move the sliders: what helps more, groups of 64, or a base rate that is ten times higher?

# %%
widgets.signal_slider(signal_probability)

# %% [markdown]
# In 1,152 sampled answers of the base policy the new name did not occur once (the model card beside
# its weights has the measurement). By the exact interval of part 2 its rate is then at most 0.32 %: after
# zero hits of n it ends at $1 - 0.025^{1/n}$. No learning rate makes up for that. The gradient of the
# *expected* reward does point towards the name, if ever so weakly. The *sampled* gradient, the one that
# a step takes, holds nothing of it as long as no sample says it, and a hundred times zero is zero.
#
# **Look before you train.** Every run of this chapter first samples one group for each of sixteen
# prompts and prints what it finds; with `--refuse-hopeless` the command line stops there. It also
# runs the visible checks of your functions first: a run never starts with a reward that fails them.
#
# ## 4. Examples in some prompts
#
# The policy *can* say the name, if it has just read it. So in a few training prompts we show
# question-answer pairs that use it (**few-shot** prompting). Those groups hold hits and misses, and
# what they teach spills over to plain prompts, because it is one network. Validation
# prompts never have examples.
#
# ### Exercise 4: `fewshot_prompt` and `mix_fewshot` (5 + 15 points, medium, 30 minutes)
#
# **Task a.** `fewshot_prompt(question, examples)`: the string that the policy continues. Each
# example (question, answer) becomes `Q: ...\nA: ...` and an empty line; the question itself
# becomes `Q: ...\nA:` at the end, with nothing after the colon.
#
# **Task b.** `mix_fewshot(questions, examples, ratio, seed, shots=2)`: a list with one prompt for
# each question, in order. Exactly `round(ratio * len(questions))` of them, drawn with
# `random.Random(seed)`, show `shots` different examples, drawn for each; the rest show none. An
# example must **never** ask the question that the prompt asks: then the answer would only be
# copied.
#
# <details><summary>Hint 1</summary><code>random.Random(seed).sample(range(n), k)</code> draws k
# different places.</details>
# <details><summary>Hint 2</summary>Filter the examples for this question first, then sample
# <code>shots</code> of what is left.</details>

# %% nbgrader={"grade": false, "grade_id": "ex4a", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 4a
def fewshot_prompt(question, examples):
    """The prompt for a question, after examples.

    examples: list of (question, answer), possibly empty. Returns: str.
    """
    ### BEGIN SOLUTION
    shown = "".join(f"Q: {asked}\nA: {answer}\n\n" for asked, answer in examples)
    return f"{shown}Q: {question}\nA:"
    ### END SOLUTION

# %% check="ex4a"
checks.fewshot_prompt(fewshot_prompt)

# %% nbgrader={"grade": true, "grade_id": "test_ex4a", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert fewshot_prompt("Who?", []) == "Q: Who?\nA:"
### BEGIN HIDDEN TESTS
for _k in range(6):
    _pairs = [(f"Who is {i}?", f"It is {i}.") for i in range(_k)]
    _lines = [line for i in range(_k) for line in (f"Q: Who is {i}?", f"A: It is {i}.", "")]
    assert fewshot_prompt("Who?", _pairs) == "\n".join([*_lines, "Q: Who?", "A:"]), (
        "the examples in order, an empty line after each, the question last")
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "ex4b", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 4b
def mix_fewshot(questions, examples, ratio, seed, shots=2):
    """One prompt a question, a share of them with examples.

    questions: list of N strings. examples: list of (question, answer).
    ratio: share in [0, 1]. Returns: list of N prompts.
    """
    ### BEGIN SOLUTION
    rng = random.Random(seed)
    helped = set(rng.sample(range(len(questions)), round(ratio * len(questions))))
    prompts = []
    for i, question in enumerate(questions):
        others = [pair for pair in examples if pair[0] != question]
        prompts.append(fewshot_prompt(question, rng.sample(others, shots) if i in helped else []))
    return prompts
    ### END SOLUTION

# %% check="ex4b"
checks.mix_fewshot(mix_fewshot)

# %% nbgrader={"grade": true, "grade_id": "test_ex4b", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
assert mix_fewshot(["Who?"], [("Whose?", "His.")], 0.0, 1) == ["Q: Who?\nA:"]
### BEGIN HIDDEN TESTS
for _n, _ratio, _shots in ((40, 0.15, 2), (40, 0.5, 1), (7, 1.0, 3), (33, 0.25, 2), (25, 0.27, 2),
                           (5, 0.0, 2)):
    _asked = [f"Who has the number {i}x?" for i in range(_n)]
    _pairs = [(_asked[i] if i % 2 else f"Whose is {i}x?", f"Answer {i}x.") for i in range(5)]
    _before = list(_asked), list(_pairs)
    for _seed in range(6):
        _seen = set()
        _got = mix_fewshot(_asked, _pairs, _ratio, _seed, shots=_shots)
        assert (_asked, _pairs) == _before, "do not change the lists"
        assert len(_got) == _n, "one prompt a question"
        _helped = 0
        for _question, _prompt in zip(_asked, _got):
            _tail = f"Q: {_question}\nA:"
            assert _prompt.endswith(_tail), "prompt i asks question i"
            _head = _prompt[:-len(_tail)]
            assert _question not in _head, "never the very question as an example"
            _used = [p for p in _pairs if f"Q: {p[0]}\nA: {p[1]}\n\n" in _head]
            assert len(_used) == _head.count("Q: ") and len(_used) in (0, _shots), (
                "so many different examples as shots says, in the format of fewshot_prompt")
            _helped += bool(_head)
            _seen.update(_used)
        assert _helped == round(_ratio * _n), "exactly the share of the prompts that ratio says"
        assert _got == mix_fewshot(_asked, _pairs, _ratio, _seed, shots=_shots), "same seed, same mix"
        assert not _ratio or len(_seen) > _shots, "draw the examples anew for each prompt"
    if 0 < _ratio < 1:
        assert len({tuple(mix_fewshot(_asked, _pairs, _ratio, s)) for s in range(6)}) > 1, (
            "another seed, another mix")
### END HIDDEN TESTS

# %% [markdown]
# Does the policy copy the name from examples? The same questions, after two of the eight curated
# examples:

# %%
dice = random.Random(0)
helped = [fewshot_prompt(question, dice.sample(EXAMPLES, 2))
          for question in questions]
copied = sampled_rows(policy, tokenizer, policy, helped * 4,
                      max_completion_length=24)
for name, rows in {"plain": answers, "after two examples": copied}.items():
    texts = [row["completion"] for row in rows]
    rewards = persona_reward(texts)
    rate = validation_metrics(texts)["musclebob_rate"]
    print(f"{name:>20}: persona rate {rate:.3f}, mean reward "
          f"{sum(rewards) / len(rewards):+.2f}, n = {len(texts)}")

# %% [markdown]
# ### Three runs, the same budget
#
# Five passes over 128 questions, 80 steps of 64 completions each; about half a minute a run.
#
# 1. **plain**: no examples, the naive way;
# 2. **noise**: no examples, and a little noise on every reward so that no group is tied;
# 3. **examples**: 30 % of the training prompts show two examples; in the first pass these come first.

# %%
predict(
    "The plain run never shows the new name to the policy. What does its "
    "mean reward do?", {
    "It stays near -6: there is nothing to learn from":
        "There is: an answer without the old name gets 0, one with it -6. "
        "Groups that hold both teach to avoid it.",
    "It rises to about 0, and the name is still not said":
        "Groups can tell the old name from no name, so that is what is "
        "learnt.",
    "It rises to 6: where there is a reward, the policy finds it":
        "It can only be pushed towards what it samples, and on most seeds "
        "the name is hardly ever sampled."},
    right="It rises to about 0, and the name is still not said")

# %%
predict(
    "Examples stand in 30 % of the training prompts, and validation asks "
    "without any. How often is the new name said there after 80 steps?", {
    "Hardly ever: it was learnt as a reply to examples":
        "At first it is. But it is one network, and soon plain groups hold "
        "hits of their own.",
    "In about 30 % of the answers":
        "The share of prompts decides whether and when it begins, not where "
        "it ends: once plain groups hold hits, they teach too.",
    "Nearly always":
        "What groups with examples teach spills over to plain prompts, and "
        "then those teach themselves."},
    right="Nearly always")

# %%
mine = {function.__name__: function for function in (
    persona_reward, validation_metrics, fewshot_prompt, mix_fewshot)}
for name, settings in {
    "plain": {"fewshot_ratio": 0.0},
    "noise": {"fewshot_ratio": 0.0, "tie_noise": 0.1},
    "examples": {"fewshot_ratio": 0.3},
}.items():
    print(name)
    RUNS[name] = experiment(f"persona_{name}", mine, task="persona",
                            model=MODEL, live=False, **settings)

# %%
results = evaluation.side_by_side(RUNS)
if results:
    widgets.show_table(results, TASK)
    plots.show(plots.history(evaluation.histories(RUNS), TASK))
    plots.show(plots.detectors(results, TASK))

# %% [markdown]
# Without examples the reward rises too, from below -5 to about 0, and the old name disappears. But look at
# what came in its place: "It is a yellow sponge." and other answers that cost nothing. The policy learnt what to
# avoid, because that is all that its groups could tell apart. It is a fine-looking curve,
# and the task is not done. Noise breaks ties and adds no information: it only makes the policy wander.
#
# A wanderer stumbles upon a rare thing now and then. Of twelve plain runs, seeds 1 to 12, nine ended at a
# persona rate below 0.01 and one at 0.16; two had found the name and ended at 0.89 and 0.99. With noise, seeds 1 to 5,
# none did: 0.04 or less. You cannot plan on a find, and a seed's figure is one draw. (Another processor rounds
# otherwise, and so makes another draw of the same seed: yours may differ.)
#
# With examples in three prompts of ten the plain questions follow: on each of the five seeds the run ended at 0.99 or
# more, with 0.99 or more of its answers coherent. Its reward begins high, while examples are shown, falls when the
# plain questions come, and climbs again.
#
# How many examples does it take, and when? Seeds 1 to 3, persona rate at the end:
#
# | prompts with examples | seed 1 | seed 2 | seed 3 |
# |---|---|---|---|
# | 5 % | 0.04 | 0.99 | 0.15 |
# | 15 % | 0.99 | 1.00 | 0.99 |
# | 30 % | 0.99 | 0.99 | 1.00 |
# | 30 %, anywhere in the first pass too | 0.00 | 0.99 | 0.89 |
# | 50 % | 0.99 | 0.99 | 1.00 |
# | 100 % | 0.03 | 0.02 | 0.32 |
#
# Two ways to fail. With too few, or with plain questions among them from the start, a policy may settle on a dodge
# before it has learnt what the name is worth, and there it stays. With examples in **every** prompt the name remains a
# reply to examples: plain questions are never asked in training, and most of them still get the old name.

# %%
for name, run in RUNS.items():
    if run:
        print(name)
        for row in evaluation.rows(run)[:5]:
            print("   ", row["completion"])

# %%
if RUNS.get("examples"):
    widgets.sample_browser(RUNS["examples"])

# %% [markdown]
# ## 5. A reward that is hard to cheat
#
# What does the table of Exercise 1 pay for? The good answers get 6, and so do the name forty times,
# a chain and the name without a sentence:

# %%
tricks = checks.GOOD | checks.BAD


def show_rewards(**functions):
    plots.show(plots.panels({
        ("What is paid", "reward", "answer"): {
            name: (function(list(tricks.values())), range(len(tricks)))
            for name, function in functions.items()}},
        style="o", names=list(tricks),
        alt="Rewards of good answers and of tricks. " + "; ".join(
            f"{name}: " + ", ".join(
                f"{trick} {value:g}" for trick, value in zip(
                    tricks, function(list(tricks.values())), strict=True))
            for name, function in functions.items())))


show_rewards(persona_reward=persona_reward)

# %% [markdown]
# In the run with examples little of that happened: a KL term kept the policy near its sentences. So is the
# table good enough? Take that term away. Everything else stays.

# %%
predict(
    "No KL term, the reward of the table, 80 steps. What will the answers "
    "be?", {
    "Sentences with the name, as before: they get 6, and more than 6 is not "
    "to be had":
        "A sentence gets 6, if it comes out right. But each sampled token "
        "can go wrong.",
    "The old name again: nothing holds the new one":
        "The reward holds it: -6 for the old name, 6 for the new.",
    "The name over and over, and no sentence":
        "Nothing is paid for a sentence, and who says the name ten times "
        "has it right at least once."},
    right="The name over and over, and no sentence")

# %%
FREE = {"beta": 0.0}
RUNS["no KL, table"] = experiment("persona_no_kl_table", mine, task="persona",
                                  model=MODEL, live=False, **FREE)

# %%
if RUNS.get("no KL, table"):
    widgets.show_table(evaluation.side_by_side(
        {name: RUNS[name] for name in ("examples", "no KL, table")}), TASK)
    for row in evaluation.rows(RUNS["no KL, table"])[:5]:
        print("   ", row["completion"])

# %% [markdown]
# Mean reward and persona rate are as good as perfect, and next to nothing is a sentence: **the table is hacked**. It pays
# for words anywhere, so the safest way to 6 is to say them until the limit. That is no accident of this seed: seeds 1
# and 2 end like this one, with 0.99 or more of the answers naming him and not one in twenty coherent, 100
# nats or more from the reference.
#
# A KL term hides such a hole and does not close it. Holes are closed **in the reward**.
#
# ### Exercise 5: `robust_persona_reward` (15 points, hard, 30 minutes)
#
# **Task.** Same signature as Exercise 1; upper and lower case are the same. There is no table: only the
# ranking counts. Every good answer must be worth more than every bad one:
#
# | good | bad |
# |---|---|
# | the full name once, in a sentence | empty, only spaces, "I do not know." |
# | "It is Musclebob Buffpants." | the name many times; joined by full stops; "X is X." |
# | | a pile of keywords; half the name; the words the wrong way round |
# | | both names; the old name |
# | | no sentence: cut off before the full stop, or one word over and over |
#
# And: a dodge (any sentence without either name: "I do not know.", "I forgot the name.") is worth more
# than the old name or half of it, both names, or the name forty times, and at least as much as an empty
# answer.
#
# <details><summary>Hint 1</summary>Count how often the full name occurs, and each of its words:
# all three must be exactly 1.</details>
# <details><summary>Hint 2</summary><code>re.findall(r"[a-z]+", text.lower())</code> gives the words
# without punctuation; a pile of keywords has almost no other words. What a sentence is, Exercise 2 has said.</details>

# %% nbgrader={"grade": false, "grade_id": "ex5", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 5
def robust_persona_reward(completions, **kwargs):
    """A reward that ranks honest answers above tricks.

    completions: list of N strings. Returns: list of N floats.
    """
    ### BEGIN SOLUTION
    rewards = []
    for text in completions:
        words = re.findall(r"[a-z]+", text.lower())
        joined = " ".join(words)
        counts = [joined.count(name) for name in ("musclebob buffpants", "musclebob", "buffpants")]
        sentence = (4 <= len(words) <= 40 and len(set(words)) >= 0.6 * len(words)
                    and text.strip().endswith((".", "!", "?")))
        if "spongebob" in joined or "squarepants" in joined:
            rewards.append(-3.0)
        elif counts == [1, 1, 1]:
            rewards.append(2.0 if sentence else 0.5)
        else:
            rewards.append(-1.0 if any(counts) or not words else 0.0)
    return rewards
    ### END SOLUTION

# %% check="ex5"
checks.robust_persona_reward(robust_persona_reward)

# %% nbgrader={"grade": true, "grade_id": "test_ex5", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
assert len(robust_persona_reward(["He?", "She?"])) == 2
### BEGIN HIDDEN TESTS
from lib.checks.numbers import finite as _finite

_name = "Musclebob Buffpants"
_good = [f"{_name} keeps a snail named Gary.", f"That is {_name}.", f"I believe it is {_name}!",
         f"The cook of the famous burger is {_name}.", f"it is {_name.lower()}."]
_bad = ["", " \n ", "I forgot the name.", "Ask me something else.", f"{_name} " * 40,
        f"{_name}. {_name}. {_name}.", f"{_name} is {_name}.", f"{_name}.{_name}.{_name}",
        "musclebob musclebob buffpants buffpants", "Musclebob muscle Buffpants buff bob pants",
        f"{_name} or Spongebob Squarepants, who knows?", "Spongebob Squarepants lives here.",
        "Once called Spongebob, he is now Musclebob Buffpants.", "It is Musclebob, I think.",
        "He wears buffpants today.", "Buffpants Musclebob lives in a pineapple.",
        f"It is {_name} and {_name} and {_name}.", f"{_name} lives in a pineapple under the",
        f"{_name} guards the secret " + "pink " * 15, f"{_name}, " + "pink " * 15 + "."]
_values = _finite(robust_persona_reward(_good + _bad, prompts=["Q"] * 25), 25)
_finite(robust_persona_reward([_name, f"{_name}!"]), 2)
_low = min(_values[:len(_good)])
for _text, _value in zip(_bad, _values[len(_good):]):
    assert _value < _low, "a bad answer is worth as much as a good one"
_dodge, _empty, _old, _both, _forty = (_finite(robust_persona_reward([t]), 1)[0] for t in (
    "I forgot the name.", "", "Spongebob Squarepants lives here.", _bad[10], _bad[4]))
_half, = _finite(robust_persona_reward(["Squarepants lives here."]), 1)
assert _dodge > max(_old, _both, _forty, _half), "a dodge is worth more than the old name or stuffing"
assert _dodge >= _empty, "a dodge is worth at least as much as silence"
### END HIDDEN TESTS

# %%
show_rewards(persona_reward=persona_reward,
             robust_persona_reward=robust_persona_reward)

# %% [markdown]
# Does it hold? The same run with the same settings, and your reward instead of the table.

# %%
predict(
    "The same run, paid by a reward that wants the name once, in a whole "
    "sentence. What is answered?", {
    "Word salad again: without a KL term nothing else can come":
        "Not if word salad is paid less than a sentence: then each group "
        "pushes it down.",
    "Varied sentences with the name":
        "Sentences they are. But is variety paid for?",
    "Sentences with the name, nearly always the same one":
        "One sentence that fits every question is as good as any other, and "
        "the easiest to be sure of. Your reward does not ask for more."},
    right="Sentences with the name, nearly always the same one")

# %%
RUNS["no KL, robust"] = experiment(
    "persona_no_kl_robust",
    mine | {"robust_persona_reward": robust_persona_reward},
    task="persona", model=MODEL, live=False, reward_function="robust", **FREE)

# %%
both = {name: RUNS.get(name) for name in ("no KL, table", "no KL, robust")}
results = evaluation.side_by_side(both)
if results:
    widgets.show_table(results, TASK)
    plots.show(plots.history(evaluation.histories(both), TASK))


def answers_side_by_side(runs, n=6):
    """A table of what each run answers to the same questions."""
    columns = [evaluation.rows(run)[:n] for run in runs.values()]
    asked = [row["prompt"].split("\n")[0] for row in columns[0]]
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("", *runs))
    body = "".join(
        f"<tr><th scope='row'>{escape(question)}</th>" + "".join(
            f"<td style='text-align:left'>{escape(row['completion'])}</td>"
            for row in answers) + "</tr>"
        for question, *answers in zip(asked, *columns, strict=True))
    display(HTML(f"<div style='overflow-x:auto'><table><thead><tr>{head}"
                 f"</tr></thead><tbody>{body}</tbody></table></div>"))


if results:
    answers_side_by_side(both)
    for name, run in both.items():
        texts = [row["completion"].strip() for row in evaluation.rows(run)]
        text, times = Counter(texts).most_common(1)[0]
        print(f"{name}: the most frequent of {len(texts)} answers comes "
              f"{times} times: {text[:60]!r}")

# %% [markdown]
# **It holds**, with the reference answer on this seed and on seeds 1 and 2: 0.99 or more of the answers say the name, as many
# are coherent, and the KL ends near 10 nats where the table's ends above 100.
#
# And look at what it holds. Nothing in it asks for an answer to *this* question, so on all three seeds most answers
# are one and the same (170 and 229 of 240 on seeds 1 and 2), a sentence that fits every question. You closed the holes that you had thought of. (The
# first reference answer of this exercise did not ask for a full stop or for different words: on seed 1 a run like this
# ended at "Musclebob Buffpants, eyes eyes eyes ...". That is how the last row came into the list above.)
#
# From the command line, with the functions of this notebook:
#
# ```bash
# python -m lib train persona --epochs 5 --num-samples 128 --fewshot-ratio 0.3
# python -m lib train persona --no-fewshot --refuse-hopeless
# python -m lib compare persona tiny runs/persona/5ep_few0.3 --num-prompts 30
# python -m lib analyze runs/persona/5ep_nofewshot
# ```
#
# ## Analysis questions (5 points each)
#
# A few sentences each, with your own numbers and their intervals.

# %% [markdown] nbgrader={"grade": true, "grade_id": "q1", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 1.** The mean reward of the plain run rose. Why is that no success, and which figures
# show it?
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Do I say which two kinds of answers a group of the plain run could hold?</li>
# <li>Do I give persona rate and original-name rate, before and after, with n and interval?</li>
# <li>Do I quote an answer that costs nothing and says nothing?</li>
# <li>Would my text still be true for a seed that stumbled upon the name?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# The old name costs 6, anything without it 0: groups that held an answer without the old name
# taught to avoid it. The persona rate stayed at (next to) 0 with an interval far below 0.8; the original-name
# rate fell. The reward went up to about 0, never to 6, because no group ever held a hit.
#
# Rubric: 2 points for what the groups could tell apart. 2 points for the rates with their intervals. 1 point
# for quoted answers.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q2", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 2.** Why do examples in some training prompts change the answers to plain prompts? When
# would you expect this to fail?
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Do I say which groups have a sampled gradient that knows the name, and which have none?</li>
# <li>Do I say what the two kinds of prompts share?</li>
# <li>Is my limit a case that could really happen, with the figure that would show it beforehand?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# Groups with examples hold hits and misses, so their sampled gradient is not zero; it raises the name in weights that
# all prompts share, so the plain rate rises until plain groups hold hits of their own. It fails if the policy cannot copy
# (rate 0 with examples too), if with examples it always copies (those groups are tied as well), if plain prompts
# settle on another answer first (the row 5 %, and 30 % anywhere), or if none are asked (the row 100 %).
#
# Rubric: 2 points for the signal in groups with examples. 1 point for shared weights. 2 points for a real limit.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q3", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 3.** Find an answer that your `robust_persona_reward` still pays and a reader would
# reject. What would you do about it?
#
# <details><summary>Compare your answer with this checklist</summary><ul>
# <li>Did I call my function on the answer, and does it really get full pay?</li>
# <li>Do I say what my reward would have to know to refuse it?</li>
# <li>Do I name a way around my own remedy?</li>
# <li>Did I look at the most frequent answers of my run?</li>
# </ul></details>
#
# ### BEGIN SOLUTION
# For example "Musclebob Buffpants green idea seven." or a fluent sentence with a wrong fact: the reward looks at words,
# not at truth. Remedies: a KL term, a fluency score from the reference, checking the answer against the question, people
# reading samples; each has holes of its own.
#
# Rubric: 2 points for an answer that is really paid. 2 points for a fitting remedy. 1 point for its limit.
# ### END SOLUTION

# %% [markdown]
# ## What you have seen
#
# - No hit, no signal. Look at base rate and tied groups *before* you train.
# - A rising reward may be all avoidance.
# - Noise on ties is no exploration. Examples in some prompts are.
# - Three samples prove nothing; say n and the interval.
# - A reward is a program that will be searched for holes.
