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
# # Chapter 6: TRL in the open, and a project of your own
#
# In five chapters you have written what GRPO computes, and a course has called it for you. A line
# such as `experiment("no_kl", ...)` hid some fifty settings, a trainer, a data set and a folder of files. Here
# all of that is opened. At the end of part 1 you have a script that needs nothing of this course, and at
# the end of the chapter a project.
#
# | exercise | you write | points | minutes |
# |---|---|---|---|
# | 1 | the settings of a run, from a description in words | 8 | 20 |
# | 2 | what a step is made of, or why TRL would refuse | 8 | 20 |
# | 3 | the learning rate of a step | 8 | 15 |
# | 4 | the newest checkpoint that is whole | 6 | 15 |
# | 5 | how many numbers LoRA trains | 10 | 25 |
# | 6 | the memory of a step | 8 | 20 |
# | | two analysis questions | 12 | 30 |
# | capstone | a reward that is graded by what it trains | 40 | 90 |

# %%
import math
import statistics

from lib import is_autograding, plots, preflight, settings_sweep
from lib.checks import project as checks
from lib.predict import predict
from lib.tiny.corpus import gold_score, make_reviews

TRAINED = {}  # name -> the trainer of a run made here
print(preflight.report("06_project"))

# %% [markdown]
# ## 1. A bare script
#
# What does it take to train a language model with GRPO, from an empty file? Seven things:
#
# 1. a **data set** with a column `prompt`;
# 2. **reward functions**: each takes lists, by name, and returns a float for each completion. TRL calls them with
#    `prompts`, `completions`, `completion_ids`, every other column of the data set and
#    `trainer_state`; keep `**kwargs` for what you do not use. Several of them are added up with
#    `reward_weights`;
# 3. a **`GRPOConfig`**: everything that is a number or a switch;
# 4. the **`GRPOTrainer`**, which loads the policy from a path or a Hub id (and once more as reference, if `beta` is not 0);
# 5. a **callback** for what you want to see meanwhile;
# 6. **`train()`**, and afterwards the **logs** in `trainer.state.log_history`, a dictionary a step;
# 7. **saving**, loading and asking.
#
# You write the third. The rest stands below it.
#
# ### Exercise 1: `grpo_settings` (8 points, medium, 20 minutes)
#
# **Task.** Return a dictionary of keyword arguments for `GRPOConfig`, for this run:
#
# > The run goes into the folder `output_dir`, and everything random in it follows from `seed`. It makes 24 updates. Each
# > update learns from 64 completions, eight for each of eight prompts, and each completion is used for one
# > update only. The work is shared by `processes` processes (1, 2 or 4); whatever their number, an update
# > has the same 64 completions, and no process takes more than 16 of them in one forward pass, nor fewer.
# >
# > A completion has at most 40 tokens, and is drawn from the policy as it is, at temperature 1. The KL term has the
# > weight 0.1. A ratio may earn gradient between 0.8 and 1.28.
# >
# > The learning rate rises over the first 3 updates to 0.0003 and then falls along a cosine. No weight decay; a
# > gradient longer than 1 is cut to 1. The first reward function counts once, the second half.
# >
# > Every step is logged, and reported to no tracker. Every 12 steps there is a checkpoint.
#
# Where the description says nothing, leave the default. The device and its precision are the script's business,
# as they depend on the machine. The check builds the `GRPOConfig` and reads the object, so it does not matter by which
# of TRL's names you say a thing.
#
# <details><summary>Hint 1: how is a step put together?</summary>A step has <code>processes</code> x
# <code>per_device_train_batch_size</code> x <code>gradient_accumulation_steps</code> completions. TRL counts
# completions here, not prompts.</details>
# <details><summary>Hint 2: names</summary><code>num_generations</code>, <code>max_steps</code>,
# <code>max_completion_length</code>, <code>epsilon</code> and <code>epsilon_high</code> (both are distances from 1),
# <code>lr_scheduler_type</code>, <code>warmup_steps</code>, <code>max_grad_norm</code>, <code>reward_weights</code>,
# <code>logging_steps</code>, <code>save_strategy</code>, <code>save_steps</code>, <code>report_to</code>. Of those
# you do not know, <code>help(GRPOConfig)</code> has a sentence each.</details>
# <details><summary>Hint 3: what has moved</summary>Write down what matters even where it is the default today. TRL's default
# learning rate is 1e-6, at which nothing moves here; <code>beta</code> was 0.04 once and is 0 now.</details>

# %% nbgrader={"grade": false, "grade_id": "ex1", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 1
def grpo_settings(output_dir, seed, processes=1):
    """Keyword arguments for GRPOConfig.

    output_dir: str. seed: int. processes: 1, 2 or 4. Returns: a dictionary of
    strings, numbers and lists.
    """
    ### BEGIN SOLUTION
    return {
        "output_dir": output_dir, "seed": seed, "max_steps": 24,
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 4 // processes,
        "num_generations": 8, "num_iterations": 1,
        "max_completion_length": 40, "temperature": 1.0,
        "beta": 0.1, "epsilon": 0.2, "epsilon_high": 0.28,
        "learning_rate": 3e-4, "lr_scheduler_type": "cosine",
        "warmup_steps": 3, "weight_decay": 0.0, "max_grad_norm": 1.0,
        "reward_weights": [1.0, 0.5], "logging_steps": 1,
        "report_to": "none", "save_strategy": "steps", "save_steps": 12}
    ### END SOLUTION

# %% check="ex1"
checks.grpo_settings(grpo_settings)

# %% nbgrader={"grade": true, "grade_id": "test_ex1", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
assert isinstance(grpo_settings("runs/bare", 1), dict)
### BEGIN HIDDEN TESTS
for _seed, _n in ((1, 1), (7, 2), (42, 4), (123, 1)):
    _c = checks.config_of(grpo_settings(f"runs/bare{_seed}", _seed, _n), _n)
    assert _c.output_dir == f"runs/bare{_seed}" and _c.seed == _seed, "folder and seed are arguments"
    assert _c.per_device_train_batch_size == 16, "16 completions a forward pass of a process"
    assert 16 * _c.gradient_accumulation_steps * _n == 64, "64 completions a step over all processes"
    assert _c.generation_batch_size == 64, "a batch of completions for each update"
    assert _c.num_generations == 8 and _c.num_iterations == 1, "groups of eight, used once"
    assert _c.max_steps == 24 and _c.save_steps == 12 and _c.logging_steps == 1, "steps of the run"
    assert _c.save_strategy == "steps" and _c.logging_strategy == "steps", "counted in steps"
    assert _c.max_completion_length == 40 and abs(_c.temperature - 1) < 1e-9, "how it is sampled"
    assert _c.top_p == 1 and not _c.top_k and _c.repetition_penalty == 1, "drawn without a filter"
    assert abs(_c.beta - 0.1) < 1e-9, "the weight of the KL term"
    assert abs(_c.epsilon - 0.2) < 1e-9, "the lower end of the clip range"
    assert abs(_c.epsilon_high - 0.28) < 1e-9, "the upper end of the clip range"
    assert abs(_c.learning_rate - 3e-4) < 1e-9, "the learning rate at its highest"
    assert _c.lr_scheduler_type == "cosine", "it falls along a cosine"
    assert _c.get_warmup_steps(24) == 3, "it rises over three updates"
    assert _c.weight_decay == 0 and abs(_c.max_grad_norm - 1) < 1e-9, "decay and clipping"
    assert len(_c.reward_weights) == 2 and all(
        abs(_w - _right) < 1e-9 for _w, _right in zip(_c.reward_weights, (1, 0.5))), "reward weights"
    assert not _c.report_to, "no tracker"
### END HIDDEN TESTS

# %% [markdown]
# ### The script
#
# Nothing in this cell is the course's, but for the path of its tiny models. Read it from top to bottom: it is the file
# that you will write elsewhere. What changes on a GPU with a real model stands in the comments.
#
# One thing in it looks odd and is not: **only prompts with the same number of tokens are kept**. Chapter 2 tells the
# story (*The bug that the reward does not show*). TRL 1.16 scores a completion without telling the model the
# positions, and GPT-2 then counts left padding as positions; where prompts differ in length, the shorter
# ones would be trained as another policy's. With prompts of one length nothing is padded on the left, and TRL is right as
# it is. A model with rotary positions (Qwen, Llama, Mistral) does not mind: it sees distances between tokens alone. With GPT-2 and prompts of
# all lengths you need chapter 2's mend, which is `lib/trl_overrides.py`.

# %%
# The bare script
import random
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer

from lib.tiny import WEIGHTS

# On a GPU: "gpt2", "Qwen/Qwen2.5-0.5B-Instruct".
POLICY = str(WEIGHTS / "review-policy")
# On a GPU: "nlptown/bert-base-multilingual-uncased-sentiment".
SCORER = str(WEIGHTS / "star-scorer")
CUDA = torch.cuda.is_available()

# The data set. An instruct model wants conversations in place of texts:
# [{"role": "user", "content": "Write a review that begins with ..."}].
PROMPTS = [f"{lead} {noun} was" for noun in (
    "acting", "plot", "pacing", "script", "music", "ending", "dialogue",
    "direction", "story", "cast", "humour", "editing", "chase", "film",
    "movie", "western", "comedy", "thriller", "drama", "sequel", "musical",
    "soundtrack") for lead in ("To me the", "Honestly, the", "I thought the")]
random.Random(0).shuffle(PROMPTS)

tokenizer = AutoTokenizer.from_pretrained(POLICY, padding_side="left")
tokenizer.pad_token = tokenizer.eos_token
# Prompts of one length only: see above. The tiny tokenizer keeps all 66.
lengths = [len(ids) for ids in tokenizer(PROMPTS)["input_ids"]]
usual = max(set(lengths), key=lengths.count)
PROMPTS = [prompt for prompt, n in zip(PROMPTS, lengths) if n == usual]
HELD_OUT, TRAIN = PROMPTS[:16], PROMPTS[16:]

judge_tokenizer = AutoTokenizer.from_pretrained(SCORER)
judge = AutoModelForSequenceClassification.from_pretrained(
    SCORER, dtype=torch.float32).to("cuda" if CUDA else "cpu").eval()


# The reward functions: one float a completion.
@torch.no_grad()
def stars(completions, **kwargs):
    """The classifier's expected stars: 0 for one star, 1 for five."""
    batch = judge_tokenizer(completions, padding=True, truncation=True,
                            return_tensors="pt").to(judge.device)
    p = judge(**batch).logits.float().softmax(-1).cpu()
    return (p @ torch.arange(5.0) / 4).tolist()


def short(completion_ids, **kwargs):
    """1 up to 12 tokens, then falling, 0 at 40."""
    return [1 - max(0, len(ids) - 12) / 28 for ids in completion_ids]


# The callback. For a progress bar leave disable_tqdm out instead.
class Lines(TrainerCallback):
    """A line every six steps."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "reward" in logs and state.global_step % 6 == 0:
            print(f"step {state.global_step:2}: stars "
                  f"{logs['rewards/stars/mean']:.2f}, short "
                  f"{logs['rewards/short/mean']:.2f}, KL {logs['kl']:.3f}")


def bare_script(settings, resume=None, **more):
    """Train, save; returns the trainer."""
    config = GRPOConfig(
        **settings, use_cpu=not CUDA,  # mixed precision where a GPU has it
        bf16=CUDA and torch.cuda.is_bf16_supported(including_emulation=False),
        fp16=CUDA and not torch.cuda.is_bf16_supported(
            including_emulation=False),
        model_init_kwargs={"dtype": "float32"},  # the weights that Adam moves
        # Off, or policy and reference differ before the first step.
        disable_dropout=True,
        gradient_checkpointing=False,  # for memory; costs time
        # The rows of the whole run, in one epoch and in an order of ours: so a
        # run that goes on from a checkpoint sees the rows that were to come.
        num_train_epochs=1, shuffle_dataset=False, disable_tqdm=True)
    order, rows = random.Random(config.seed), []
    while len(rows) < config.max_steps * 8:
        rows += order.sample(TRAIN, len(TRAIN))
    trainer = GRPOTrainer(
        model=POLICY, reward_funcs=[stars, short], args=config,
        train_dataset=Dataset.from_list([{"prompt": row} for row in rows]),
        processing_class=tokenizer, callbacks=[Lines()], **more)
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model(f"{config.output_dir}/final")  # the tokenizer too
    return trainer

# %%
if not is_autograding():
    TRAINED["full"] = bare_script(grpo_settings("runs/bare", seed=1))

# %% [markdown]
# ### Reading its logs
#
# `trainer.state.log_history` has a dictionary for each step. The keys worth knowing:
#
# | key | read it as |
# |---|---|
# | `reward`, `rewards/NAME/mean` | the weighted sum, and each function by itself: which of them rises? |
# | `frac_reward_zero_std` | the share of tied groups: they teach nothing. Look here, not at `reward_std` |
# | `kl` | nats a token away from the reference, as the samples of this step estimate it |
# | `completions/mean_length`, `completions/clipped_ratio` | lengths, and the share that was cut off before its end |
# | `entropy` | nats a token; near 0 the policy says one thing only |
# | `clip_ratio/region_mean` | the share of tokens that the clip holds back; 0 when each batch is used once |
# | `grad_norm` | before it is cut to `max_grad_norm` |
# | `learning_rate` | the rate of this update. It begins at 0: the first of the three warm-up steps moves nothing |
# | `loss` | not a measure of progress (chapter 2) |

# %%
if TRAINED:
    logs = [row for row in TRAINED["full"].state.log_history if "reward" in row]
    steps = [row["step"] for row in logs]
    shown = {("Rewards", "step", "mean of 64 completions"): {
        "stars": "rewards/stars/mean", "short": "rewards/short/mean"},
        ("Distance", "step", "KL estimate, nats a token"): {"kl": "kl"},
        ("Learning rate", "step", "of this update"): {
            "learning rate": "learning_rate"}}
    plots.show(plots.panels({
        title: {name: (steps, [row[key] for row in logs])
                for name, key in curves.items()}
        for title, curves in shown.items()}, style="o-",
        alt="The bare script. Stars go from "
        f"{logs[0]['rewards/stars/mean']:.2f} to "
        f"{logs[-1]['rewards/stars/mean']:.2f}, "
        f"short from {logs[0]['rewards/short/mean']:.2f} to "
        f"{logs[-1]['rewards/short/mean']:.2f}; the KL estimate ends at "
        f"{logs[-1]['kl']:.2f} nats a token; the learning rate begins at "
        f"{logs[0]['learning_rate']:g} and is {logs[3]['learning_rate']:g} at "
        f"step {logs[3]['step']}."))

# %% [markdown]
# ### Loading and asking
#
# What `save_model` wrote is an ordinary model folder. Eight answers each to the held-out prompts, before and after:

# %%
def ask(path, prompts, n=8, seed=0):
    """n completions of each prompt, as texts, and their token ids."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    batch = tokenizer(prompts * n, return_tensors="pt")
    torch.manual_seed(seed)
    out = model.generate(**batch, do_sample=True, top_k=0, max_new_tokens=40,
                         pad_token_id=tokenizer.pad_token_id)
    ids = [row[row != tokenizer.pad_token_id]
           for row in out[:, batch["input_ids"].shape[1]:]]
    return tokenizer.batch_decode(ids), [row.tolist() for row in ids]


if TRAINED:
    for name, path in {"base": POLICY, "trained": "runs/bare/final"}.items():
        texts, ids = ask(path, HELD_OUT)
        gold = [gold_score(prompt + text)
                for prompt, text in zip(HELD_OUT * 8, texts)]
        print(f"{name:>8}, n = {len(texts)}: stars "
              f"{statistics.fmean(stars(texts)):.2f}, length "
              f"{statistics.fmean(map(len, ids)):.1f} tokens, "
              f"gold {statistics.fmean(gold):.2f}; such as")
        for prompt, text in list(zip(HELD_OUT, texts))[:3]:
            print(f"{'':>10}{prompt}|{text}")

# %% [markdown]
# ## 2. What a step is made of
#
# The most common first error with GRPO in TRL is about arithmetic. The settings multiply:
#
# $$\text{completions a step} = \text{processes} \times \text{per-device batch} \times \text{accumulation}$$
#
# TRL generates for `steps_per_generation` forward passes at once, by default for as many as a step has. This
# *generation batch* has to hold whole groups, so it must divide by `num_generations`. If it is larger than a step, several
# updates are made from it, the later ones off policy (chapter 5); `num_iterations` goes over it several times.
#
# And one thing that TRL does *not* refuse: a data set with fewer prompts than a generation batch asks for. The last,
# partial batch of an epoch is dropped. If it is the only one, the run ends at once, without an error, and trains nothing.
#
# ### Exercise 2: `batch_plan` (8 points, medium, 20 minutes)
#
# **Task.** Return a dictionary with four whole numbers:
#
# - `completions`: of one optimizer step, over all processes;
# - `prompts`: different prompts in one generation batch;
# - `updates`: optimizer steps that are made from one generation batch, all iterations included;
# - `steps`: optimizer steps of one epoch over `num_prompts` prompts.
#
# Or, where that is no plan, one of these strings. The first that holds counts:
#
# - `"no group"`: fewer than two completions a prompt have no spread;
# - `"cut groups"`: the generation batch does not hold whole groups;
# - `"no step"`: there are fewer prompts than one generation batch asks.
#
# `steps_per_generation` is a multiple of `accumulation`, or None, which means the same number.
#
# <details><summary>Hint 1</summary>The generation batch has processes x per_device x
# steps_per_generation completions. Divided by num_generations that is its prompts.</details>
# <details><summary>Hint 2</summary>Partial batches are dropped: <code>num_prompts // prompts</code> generation batches an
# epoch, each with its updates.</details>

# %% nbgrader={"grade": false, "grade_id": "ex2", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 2
def batch_plan(processes, per_device, accumulation, num_generations,
               num_prompts, steps_per_generation=None, num_iterations=1):
    """What one step is made of, or why there is none.

    All arguments: int; steps_per_generation may be None. Returns: a
    dictionary of four ints, or "no group", "cut groups" or "no step".
    """
    ### BEGIN SOLUTION
    passes = steps_per_generation or accumulation
    batch = processes * per_device * passes
    if num_generations < 2:
        return "no group"
    if batch % num_generations:
        return "cut groups"
    prompts = batch // num_generations
    if num_prompts < prompts:
        return "no step"
    updates = passes * num_iterations // accumulation
    return {"completions": processes * per_device * accumulation,
            "prompts": prompts, "updates": updates,
            "steps": num_prompts // prompts * updates}
    ### END SOLUTION

# %% check="ex2"
checks.batch_plan(batch_plan)

# %% nbgrader={"grade": true, "grade_id": "test_ex2", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
assert batch_plan(1, 2, 1, 2, 1) == {"completions": 2, "prompts": 1,
                                     "updates": 1, "steps": 1}
### BEGIN HIDDEN TESTS
import random as _random

_dice = _random.Random(101)
for _ in range(200):
    _n, _b, _a, _g = (_dice.choice(_few) for _few in (
        (1, 2, 4, 8), (1, 2, 3, 4, 16), (1, 2, 4), (2, 3, 4, 8, 16)))
    _times, _it, _rows = _dice.choice((1, 1, 2, 3)), _dice.choice((1, 1, 2)), _dice.randint(1, 90)
    _generated = _n * _b * _a * _times
    _got = batch_plan(_n, _b, _a, _g, _rows, None if _times == 1 else _a * _times, _it)
    if _generated % _g:
        assert _got == "cut groups", "a generation batch holds whole groups"
        continue
    if _rows * _g < _generated:
        assert _got == "no step", "fewer prompts than a generation batch: nothing is trained"
        continue
    assert isinstance(_got, dict), "a plan that TRL takes is no refusal"
    assert set(_got) == {"completions", "prompts", "updates", "steps"}, "four numbers"
    assert all(type(_v) is int for _v in _got.values()), "whole numbers"
    assert _got["completions"] == _n * _b * _a, "completions of an optimizer step"
    assert _got["prompts"] * _g == _generated, "prompts of a generation batch"
    assert _got["updates"] == _times * _it, "updates from one generation batch"
    assert _got["steps"] == (_rows * _g - _rows * _g % _generated) // _generated * _times * _it, (
        "steps of an epoch, partial batches dropped")
for _g in (1, 0):
    assert batch_plan(1, 16, 4, _g, 100) == "no group", "fewer than two completions a prompt"
assert batch_plan(1, 3, 1, 1, 0) == "no group", "the first reason counts"
assert batch_plan(1, 3, 1, 2, 0) == "cut groups", "the first reason counts"
assert batch_plan(1, 4, 1, 2, 1) == "no step", "the first reason counts"
assert batch_plan(1, 4, 1, 2, 2)["steps"] == 1, "just enough prompts are enough"
### END HIDDEN TESTS

# %%
if not is_autograding():
    for what, plan in {
            "the script above": (1, 16, 4, 8, 192),
            "four GPUs, one forward pass each": (4, 16, 1, 8, 192),
            "batch 8, groups of 16": (1, 8, 1, 16, 192),
            "eight prompts in all": (1, 16, 8, 8, 8),
            "two updates on each batch": (1, 16, 2, 8, 192, 4)}.items():
        print(f"{what:>32}: {batch_plan(*plan)}")

# %% [markdown]
# The first two are the same step. Whether it is cut into forward passes or spread over processes changes the memory and
# the time, not the gradient, as long as the loss is divided by the tokens of the whole step (`loss_type="dapo"`
# does that; `"grpo"` averages each completion first, and is the same as well). You will see below
# whether "the same" means the same bits.

# %% [markdown]
# ## 3. Every setting, why
#
# These are all the options that the course's own trainer sets (`grpo_config` in `lib/training.py`), none left to a
# default that a release may move. *Here* is chapter 1's run on the tiny model. *gpt2* and *Qwen2.5-0.5B* are what the
# course sets for `train sentiment --model gpt2` and `train reasoning --model Qwen/Qwen2.5-0.5B-Instruct`; these are starting values, which
# come from the sources named and which we have not tuned. *24B* is what was published of training models of that size: Magistral
# (Mistral AI 2025, [2506.10910](https://arxiv.org/abs/2506.10910); its small model has 24 billion weights) as [M]; DAPO on a model of
# 32 billion (Yu et al. 2025, [2503.14476](https://arxiv.org/abs/2503.14476)) as [D] where the paper is meant, and as [V] where a figure stands in the
# script that repeated it, [`run_dapo_qwen2.5_32b.sh`](https://github.com/volcengine/verl/blob/03150d4fa825bcca1ec5c0a3f582cf6449148112/recipe/dapo/run_dapo_qwen2.5_32b.sh),
# or in the defaults of its trainer, verl; LoRA (Schulman et al. 2025,
# [*LoRA Without Regret*](https://thinkingmachines.ai/blog/lora/)) as [L]. A dash means that there is nothing to say, or that we know of no figure worth
# quoting. Where the last column says *measured*, a picture follows.
#
# **The batch**
#
# | option | here | gpt2 | Qwen 0.5B | 24B | what it does, why this value, and what you see when it is wrong |
# |---|---|---|---|---|---|
# | `per_device_train_batch_size` | 16 | 16 | 16 | - | Completions in a forward pass of one process. As many as fit; `python -m lib preflight MODEL` estimates it. Too many: out of memory. |
# | `gradient_accumulation_steps` | 4 | 4 | 4 | - | Forward passes before an update. It trades memory for time. *Measured:* the split does not change what is learnt. |
# | `num_generations` | 8 | 8 | 16 | 16 [V] | Completions a prompt, the group. More: fewer tied groups (chapter 3), and fewer prompts for the same bill. *Measured.* |
# | `num_iterations` | 1 | 1 | 1 | 1 [V] | Passes over each batch. Above 1 the later ones are off policy and the clip works (chapter 5). |
# | `steps_per_generation` | 4, as accumulation | same | same | 16 updates a batch [V] | Forward passes that one generation feeds. Larger than accumulation: several updates a batch, off policy, but fewer, larger calls of the sampler. |
# | `max_steps` | 50 | 50 | an epoch | - | Updates of the run; it overrides epochs. Watch `gold` or held-out figures, not the step count (chapter 1). |
# | `num_train_epochs` | 1 | 1 | 1 | 1 [V] | Ours is always 1: the rows of all passes are laid out beforehand, so that a resumed run sees the same ones. *Measured:* many passes over few prompts. |
# | `shuffle_dataset` | no | no | no | yes [V] | TRL would shuffle with a generator that no checkpoint holds. Wrong: a resumed run sees other prompts. |
# | `seed` | 42 | 42 | 42 | - | Everything random. A result of one seed is a story, not a figure. |
#
# **Generation**
#
# | option | here | gpt2 | Qwen 0.5B | 24B | what it does, why this value, and what you see when it is wrong |
# |---|---|---|---|---|---|
# | `max_completion_length` | 40 | 64 | 200 | 20,480, the last 4,096 at a price [V] | Tokens at most. Too short: `clipped_ratio` is high, and right answers are cut off before they count. Too long: time and memory for nothing. |
# | `temperature` | 1.0 | 1.0 | 1.0 | 1.0 [V] | Of sampling; TRL divides the trained logits by it too. Low: groups of equal texts, tied. *Measured.* |
# | `top_p` | 1.0 | 1.0 | 1.0 | 1.0 [V] | A filter draws from another distribution than the loss scores: off policy from the first token (chapter 5). |
# | `top_k` | 0 | 0 | 0 | off [V] | As `top_p`; 0 is off. |
# | `repetition_penalty` | 1.0 | 1.0 | 1.0 | - | As `top_p`. Against repetition use the reward. |
# | `mask_truncated_completions` | no | no | no | proposed [D], not in its best run [V] | Leaves cut texts out of the loss. Then nothing teaches the policy to end. |
#
# **The loss**
#
# | option | here | gpt2 | Qwen 0.5B | 24B | what it does, why this value, and what you see when it is wrong |
# |---|---|---|---|---|---|
# | `beta` | 0 | 0 | 0 | 0 [M], [V] | The weight of KL(pi‖ref). Chapter 1's proxy is hacked without it. A reward that cannot be hacked, such as a right answer, needs none, and saves the reference's memory. *Measured.* |
# | `use_bias_correction_kl` | yes | yes | yes | - | k3 times the ratio, so that its gradient is the KL's (DeepSeek-V3.2, [2512.02556](https://arxiv.org/abs/2512.02556); chapter 2). Off: another gradient. |
# | `loss_type` | dapo | dapo | dapo | token mean [M], [V] | How tokens are averaged: over all of the step (dapo), or each completion first (grpo), which favours short right and long wrong answers (Dr. GRPO, [2503.20783](https://arxiv.org/abs/2503.20783)). |
# | `epsilon` | 0.2 | 0.2 | 0.2 | 0.2 [V] | The clip range below 1 (PPO, [1707.06347](https://arxiv.org/abs/1707.06347)). On policy it never acts. |
# | `epsilon_high` | 0.2 | 0.2 | 0.2 | 0.28 [V], 0.26 to 0.28 [M] | Above 1. Larger than `epsilon`: rare tokens may rise faster, entropy lasts longer (DAPO). |
# | `importance_sampling_level` | token | token | token | token [M], [V] | One ratio a token, or one for the whole sequence (GSPO, [2507.18071](https://arxiv.org/abs/2507.18071)), which wants a far narrower clip range (chapter 5). |
# | `scale_rewards` | group | group | group | batch [M] | Divide by the group's spread. "none": hard and easy prompts push by their spread (Dr. GRPO). Wrong: little, on policy; the learning rate means something else. |
# | `multi_objective_aggregation` | sum then normalize | same | same | - | Several rewards are added, then normalised. The other way round each reward counts alike, however small its spread. |
# | `top_entropy_quantile` | 1.0 | 1.0 | 1.0 | - | Keep the most undecided tokens only ([2506.01939](https://arxiv.org/abs/2506.01939) takes 0.2). 1: all. |
# | `entropy_coef` | 0.0 | 0.0 | 0.0 | 0 [V] | Pay for entropy. Too much: word salad. |
# | `disable_dropout` | yes | yes | yes | yes [V] | On, policy and reference differ before the first step, and `kl` does not begin at 0. |
#
# **The optimizer**
#
# | option | here | gpt2 | Qwen 0.5B | 24B | what it does, why this value, and what you see when it is wrong |
# |---|---|---|---|---|---|
# | `learning_rate` | 2e-4 | 1e-5 | 5e-6 | 1e-6 [V], LoRA ten times as much [L] | The most important number. The larger the model, the smaller. TRL's default, 1e-6, was taken for 32B and moves nothing here. Too high: the KL jumps, texts fall apart. *Measured.* |
# | `optim` | adamw_torch | same | same | - | Adam: each weight's step is about the learning rate, however small the gradient is. |
# | `lr_scheduler_type` | constant | constant | cosine | constant [V] | Falling rates settle the last steps; a constant one lets a run be lengthened. Exercise 3. |
# | `warmup_steps` | 0 | 0 | a tenth | 10 [V] | Adam's first steps rest on few gradients. Below 1 it is a share of the run. *Measured.* |
# | `weight_decay` | 0 | 0 | 0.1 | 0.1 [V] | Pulls weights to 0: away from the base model. A run of some hundred steps hardly feels it at these rates. |
# | `adam_beta1` | 0.9 | 0.9 | 0.9 | - | How long the mean of gradients remembers: about 10 steps. |
# | `adam_beta2` | 0.999 | 0.999 | 0.99 | - | How long the mean of their squares does: 1,000 or 100 steps. Shorter forgets a wild step sooner. *Measured.* |
# | `max_grad_norm` | 1.0 | 1.0 | 0.1 | 1.0 [V] | Longer gradients are cut to this length. Adam divides by the size again, so that a constant factor changes nothing; it counts where one step is wilder than the others. *Measured.* |
#
# **Precision and memory**
#
# | option | here | gpt2 | Qwen 0.5B | 24B | what it does, why this value, and what you see when it is wrong |
# |---|---|---|---|---|---|
# | `use_cpu` | yes | no | no | no | Without it a Mac or a GPU is taken where there is one. |
# | `bf16` | no | from Ampere on | same | yes [V] | Half the bytes for activations, float32's range. On a CPU without the instructions many times slower. |
# | `fp16` | no | below | same | no | For a T4, which only emulates bf16. Smaller range, so the loss is scaled. |
# | `gradient_checkpointing` | no | no | no | yes [V] | Computes activations twice in place of keeping them. TRL's default is yes. |
# | `dataloader_pin_memory` | no | yes | yes | yes | Only where there is a GPU; else a warning. |
#
# **vLLM**
#
# | option | here | gpt2 | Qwen 0.5B | 24B | what it does, why this value, and what you see when it is wrong |
# |---|---|---|---|---|---|
# | `use_vllm` | no | `--use-vllm` | same | yes [V] | Another engine generates. Part 5. |
# | `vllm_mode` | - | colocate | colocate | server, if there are GPUs to spare | In this process, or on GPUs of its own. |
# | `vllm_gpu_memory_utilization` | - | 0.3 | 0.3 | 0.8 [V] | `--vllm-memory`. The share of the GPU that vLLM takes at the start. Too low: it does not start, or few texts at a time. Too high: training runs out. |
# | `vllm_importance_sampling_correction` | - | yes | yes | yes | vLLM's probabilities are not quite the policy's: weight by their quotient (chapter 5). |
# | `vllm_importance_sampling_mode` | - | sequence_mask | same | - | A weight for the whole text; texts beyond the bound are left out. |
# | `vllm_importance_sampling_clip_max` | - | 3.0 | 3.0 | - | The bound. Lower: more bias, less noise. |
# | `vllm_importance_sampling_clip_min` | - | none | none | - | No bound below. |
#
# **Files and logs**
#
# | option | here | gpt2 | Qwen 0.5B | 24B | what it does, why this value, and what you see when it is wrong |
# |---|---|---|---|---|---|
# | `output_dir` | `runs/...` | same | same | same | The folder. Two runs in one folder mix their checkpoints. |
# | `run_name` | name and time | same | same | same | In trackers. |
# | `project` | grpo-course | same | same | same | In trackers; `--wandb-project`. |
# | `report_to` | none | `--wandb`, `--trackio` | same | same | Nothing leaves the machine unasked. |
# | `logging_steps` | 1 | 1 | 1 | - | Each step is dear enough to be looked at. TRL's default is 10. |
# | `save_strategy` | steps | steps | steps | steps | "no" saves time, and a killed run. |
# | `save_steps` | 25 | 25 | 100 | 5 [V] | Steps between checkpoints: what you are willing to lose. |
# | `save_total_limit` | 3 | 3 | 3 | - | Older ones are deleted. A checkpoint is three times the weights (part 4). |
# | `disable_tqdm` | yes | yes | yes | yes | The course prints lines of its own. |
# | `remove_unused_columns` | no | no | no | no | Yes would drop the columns that reward functions ask for. |

# %% [markdown]
# ### What two cores can measure
#
# Reasons are good, curves are better. Below, chapter 1's run (the tiny review policy, the star score, no KL term,
# 30 steps) with **one setting changed at a time**: 2 cores, Intel Xeon, made by `python -m benchmarks.settings`, kept in
# `lib/settings_sweep.json`. Thin lines are seeds, the thick one is their mean; a picture's title says how many there are. Score and KL are of held-out prompts at temperature 1. What holds here is true of this model and this reward;
# what carries over is the *kind* of effect. Predict, then look.
#
# **The learning rate** is the first thing to get right.

# %%
predict("Five learning rates, from 1e-6 (TRL's default) to 1e-3. What does "
        "1e-6 do in 30 steps here?", {
            "It learns, only more slowly": "Adam's step is about the learning "
            "rate in every weight, whatever the gradient's size: 30 steps of "
            "1e-6 move a weight by 3e-5. That is nothing.",
            "Nothing": "30 steps of 1e-6 move a weight by 3e-5 at most. Such "
            "a run has a rising step counter, logs that look busy, and no "
            "effect. It is the most common way in which a first GRPO run "
            "fails.",
            "It learns best, since small steps are accurate": "Accurate "
            "steps that go nowhere. A large model needs small ones; this one "
            "is small."}, right="Nothing")

# %%
plots.show(settings_sweep.draw("learning_rate"))

# %% [markdown]
# The same on chapter 3's persona, which has to *find* something: at 1e-6 the curve is flat, with the rate that the course takes
# for it the new name takes over. An early guide to this very task took 1e-6, which suits a model of billions of weights, and nothing moved.

# %%
plots.show(settings_sweep.draw("persona"))

# %% [markdown]
# **Accumulation against batch.** 64 completions in one forward pass, in two, or in four: the same step by exercise 2.

# %%
predict("64 x 1, 32 x 2 and 16 x 4 with the same seed. How alike are the "
        "three runs?", {
            "The same bits": "In exact arithmetic they would be. Floating "
            "point sums depend on their order: (a + b) + c is not a + (b + c).",
            "The same at first, to rounding; not the same bits later":
            "A sum in another order differs in its last digits. Where a "
            "sample falls on the edge between two tokens it falls "
            "differently, and from there on the texts are others. Some seeds "
            "get there within 30 steps, some do not. The curves are of one "
            "kind all the same.",
            "More accumulation learns more slowly": "The number of "
            "updates and of completions in each is the same."},
        right="The same at first, to rounding; not the same bits later")

# %%
plots.show(settings_sweep.draw("split"))
for split, seeds in settings_sweep.measured("split").items():
    ends = [run["final"] for run in seeds.values()]
    if "apart" in ends[0]:  # 16 x 4 is what the others are compared with
        print(f"{split}: the weights differ from those of 16 x 4 by at most "
              f"{max(end['apart_after_1_step'] for end in ends):.0e} after "
              f"one step, {max(end['apart'] for end in ends):.0e} after 30")

# %% [markdown]
# **The group's size**, at an equal bill of 64 completions: 32 prompts of 2, or 4 prompts of 16.

# %%
predict("Groups of 2, 4, 8 or 16 at 64 completions a step. Which learns "
        "fastest on this dense reward?", {
            "16: it has the best baseline": "The baseline is better, but only "
            "4 prompts are asked. On a reward that always differs within a "
            "group there is little to gain.",
            "2: it asks the most prompts": "Many prompts, but of two "
            "completions one gets +0.7 and the other -0.7, however far apart "
            "they are: how much better is lost.",
            "From 4 on there is hardly a difference": "With a dense reward no "
            "group is tied, so that the size is a matter of noise. Where one "
            "answer in fifty is right it decides whether there is a signal at "
            "all (chapter 3)."},
        right="From 4 on there is hardly a difference")

# %%
plots.show(settings_sweep.draw("num_generations"))

# %% [markdown]
# **Temperature.** TRL samples at it and divides the logits of the loss by it, so that this is no mismatch of chapter 5.
# But the curves are measured at temperature 1, for all of them.

# %%
predict("Training at temperature 0.7, 1.0 or 1.3, measured at 1.0. What do "
        "the three runs look like after 30 steps?", {
            "0.7 is behind: its samples are too much alike": "They are more "
            "alike, but here there is spread enough in every group: the run "
            "is level with that at 1.0. A policy that is surer of itself "
            "would show tied groups.",
            "1.3 is behind, in score and in distance": "The loss sees logits "
            "divided by 1.3, so the same step of the weights changes what is "
            "trained by less; and hot samples are wilder, so that their "
            "rewards say less about any one word.",
            "All alike: temperature is about sampling only": "It is part of "
            "what is optimised: the policy at that temperature."},
        right="1.3 is behind, in score and in distance")

# %%
plots.show(settings_sweep.draw("temperature"))

# %% [markdown]
# **Beta**, the weight of the KL term: chapter 1's remedy against hacking, as a curve.

# %%
predict("Beta 0, 0.05 and 0.2. What do they change first?", {
    "The score: a KL term holds it down": "A little. What it holds down is "
    "the distance.",
    "The KL": "Score and distance part: the score reaches nearly the same "
    "height at a fraction of the KL. The last points of the score are the "
    "dear ones, and they are the hacked ones."}, right="The KL")

# %%
plots.show(settings_sweep.draw("beta"))

# %% [markdown]
# **Warm-up, clipping, Adam's betas**: the three that chapters 1 to 5 set without a word.

# %%
predict("Which of the three changes these runs most: warm-up over 0, 5 or 10 "
        "steps; a largest gradient norm of 0.1, 1 or none; beta2 of 0.9, 0.99 "
        "or 0.999?", {
            "Warm-up": "It takes updates away from a short run: with 10 of 30 "
            "steps the curve comes up later, by about half of the warm-up.",
            "Clipping": "Adam divides each gradient by its own typical size. "
            "A constant factor cancels, which is all that 0.1 does here; and "
            "at 1 nothing is cut, since no gradient of this run is that "
            "long: 1 and none are the same run.",
            "Beta2": "It sets how long Adam remembers sizes. Thirty steps are "
            "too few to see more than noise."}, right="Warm-up")

# %%
for setting in ("warmup_steps", "max_grad_norm", "adam_beta2"):
    plots.show(settings_sweep.draw(setting))

# %% [markdown]
# **Many passes over few prompts.** 30 steps of 8 prompts are 240 askings: of 168 different prompts, or 30 times the same 8.

# %%
predict("Training on 8 prompts only, 30 times each. What happens on the "
        "held-out ones?", {
            "Nothing is learnt for them": "Each asking samples new "
            "completions. Unlike in supervised training no text is repeated, "
            "so there is nothing to learn by heart but what is good after "
            "eight openings; that is much the same as after the others.",
            "About as much as with 168": "The prompt repeats, the completions "
            "do not. Here all prompts want the same, so that eight stand for "
            "all. Where they do not (sums, questions), few prompts are learnt "
            "by heart, and only held-out figures show it."},
        right="About as much as with 168")

# %%
plots.show(settings_sweep.draw("epochs"))

# %% [markdown]
# ### Exercise 3: `lr_at` (8 points, easy, 15 minutes)
#
# Warm-up and cosine are two lines of arithmetic. Write them, and you can draw a schedule before you pay for it.
#
# **Task.** Return the learning rate of the update number `step`, counted from 0, of a run of `total` updates:
#
# - during the warm-up it rises in equal parts from 0 to `peak`. The first update has the rate 0, and update number `warmup` the
#   rate `peak`;
# - then it falls along half a cosine, $\text{peak}\cdot\frac{1 + \cos(\pi p)}{2}$, where $p$ goes from 0 to 1 and is 1
#   at `step == total`.
#
# `warmup` from 1 on is a number of updates. Below 1 it is a share of `total`, rounded *up* (transformers reads
# `warmup_steps=0.1` so; the old `warmup_ratio` is gone).
#
# That is what `lr_scheduler_type="cosine"` does. To ask the library is fair: who gets a scheduler to tell the rate at a step has
# understood it too. The formula is shorter.
#
# <details><summary>Hint</summary><code>math.ceil</code> for the share. p is the steps after the warm-up over all steps
# after the warm-up; with a warm-up as long as the run there are none.</details>

# %% nbgrader={"grade": false, "grade_id": "ex3", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 3
def lr_at(step, peak, warmup, total):
    """The learning rate of an update.

    step: int, 0 to total. peak: float. warmup: int, or a share of total below
    1. total: int. Returns: float.
    """
    ### BEGIN SOLUTION
    if warmup < 1:
        warmup = math.ceil(warmup * total)
    if step < warmup:
        return peak * step / warmup
    done = (step - warmup) / max(1, total - warmup)
    return peak * (1 + math.cos(math.pi * done)) / 2
    ### END SOLUTION

# %% check="ex3"
checks.lr_at(lr_at)

# %% nbgrader={"grade": true, "grade_id": "test_ex3", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
assert abs(lr_at(0, 1.0, 0, 10) - 1) < 1e-9
### BEGIN HIDDEN TESTS
import cmath as _cmath
import random as _random

_dice = _random.Random(103)
for _ in range(60):
    _total, _peak = _dice.randint(2, 500), _dice.choice((1e-6, 2e-4, 0.1, 3.0))
    _share = _dice.random() < 0.4
    _warm = _dice.choice((0.1, 0.03, 0.25, 0.5)) if _share else _dice.randint(0, _total)
    _n = -int(-_warm * _total // 1) if _share else _warm
    for _step in {0, 1, _n - 1, _n, _n + 1, _total - 1, _total, _dice.randint(0, _total)}:
        if not 0 <= _step <= _total:
            continue
        _got = lr_at(_step, _peak, _warm, _total)
        assert isinstance(_got, float | int), "one number"
        if _step < _n:
            assert abs(_got * _n - _peak * _step) < 1e-7 * _peak * _n, "equal parts in the warm-up"
        elif _total > _n:
            _turn = _cmath.exp(1j * _cmath.pi * (_step - _n) / (_total - _n)).real
            assert abs(_got - _peak * (0.5 + 0.5 * _turn)) < 1e-7 * _peak, "half a cosine"
        else:
            assert abs(_got - _peak) < 1e-7 * _peak, "a warm-up as long as the run ends at the peak"
assert abs(lr_at(1, 8.0, 0.21, 10) - 8 / 3) < 1e-7, "a share is rounded up"
assert abs(lr_at(1, 8.0, 1, 10) - 8.0) < 1e-7, "a warm-up of 1 is one update, no share"
assert abs(lr_at(7, 8.0, 7, 7) - 8.0) < 1e-7, "a warm-up as long as the run ends at the peak"
assert abs(lr_at(7, 8.0, 6, 7)) < 1e-7, "the rate ends at 0"
assert abs(lr_at(0, 8.0, 1, 10)) < 1e-7, "the first update of a warm-up has the rate 0"
### END HIDDEN TESTS

# %%
if TRAINED:
    mine = [lr_at(step - 1, 3e-4, 3, 24) for step in steps]
    theirs = [row["learning_rate"] for row in logs]
    print("largest difference from the rates that the run logged: "
          f"{max(abs(a - b) for a, b in zip(mine, theirs)):.1e}")
plots.show(plots.panels({
    ("Schedules of 100 updates", "update", "share of the peak"): {
        f"warm-up {warmup}": (range(101), [
            lr_at(step, 1.0, warmup, 100) for step in range(101)])
        for warmup in (0, 10, 0.3)}},
    alt="Learning rates of 100 updates with a warm-up of 0, 10 and 30 updates: "
    "each rises in a line to its peak and falls along half a cosine to 0; at "
    f"update 50 they are {lr_at(50, 1.0, 0, 100):.2f}, "
    f"{lr_at(50, 1.0, 10, 100):.2f} and {lr_at(50, 1.0, 0.3, 100):.2f} of it."))

# %% [markdown]
# ## 4. What is in a checkpoint
#
# Every 12 steps the script has written a folder. What does each file hold, and what would be missing without it?

# %%
CHECKPOINT = Path("runs/bare/checkpoint-12")
WHAT = {
    "model.safetensors": "the weights: names, shapes, numbers; no code",
    "config.json": "the architecture: layers, heads, positions",
    "generation_config.json": "how the model wants to be sampled",
    "tokenizer.json": "text to ids and back",
    "tokenizer_config.json": "special tokens, side of padding",
    "optimizer.pt": "Adam's two running means for each weight",
    "scheduler.pt": "how far the learning rate's schedule has come",
    "rng_state.pth": "the random generators: the next dice",
    "trainer_state.json": "the step, and the logs so far",
    "training_args.bin": "the GRPOConfig, as a pickle"}


def sizes(folder):
    """Name of each file -> bytes."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


if CHECKPOINT.is_dir():
    for name, size in sizes(CHECKPOINT).items():
        print(f"{name:<24} {size:>9,} bytes  {WHAT.get(name, '?')}")

# %%
if CHECKPOINT.is_dir():
    adam = torch.load(CHECKPOINT / "optimizer.pt", weights_only=True)
    state = adam["state"][0]
    print(f"optimizer: {len(adam['state'])} tensors; the first has step "
          f"{int(state['step'])}, exp_avg {tuple(state['exp_avg'].shape)}, "
          f"exp_avg_sq {tuple(state['exp_avg_sq'].shape)}")
    print("scheduler:", {key: value for key, value in torch.load(
        CHECKPOINT / "scheduler.pt", weights_only=True).items()
        if key in ("last_epoch", "_last_lr")})
    # These two are pickles: unpickling runs code. Only of files of your own!
    dice = torch.load(CHECKPOINT / "rng_state.pth", weights_only=False)
    print("random state of:", ", ".join(dice))
    settings = torch.load(CHECKPOINT / "training_args.bin", weights_only=False)
    print(f"training_args: a {type(settings).__name__} with beta "
          f"{settings.beta} and epsilon_high {settings.epsilon_high}")

# %% [markdown]
# Three things to take from this:
#
# - `optimizer.pt` is **twice the weights**: Adam's mean of the gradients and the mean of their squares. A checkpoint of a model in
#   float32 is three times the model. To ask or to export a policy, you need none of it; to go on, all of it.
# - `trainer_state.json` does not hold the data. Which prompt comes next follows from the step, the seed and the order
#   of the rows, so they must be the same ones.
# - `.pt`, `.pth` and `.bin` may be **pickles**, which run code when they are opened. safetensors and JSON do not. Never load a
#   stranger's `training_args.bin` or `rng_state.pth`.
#
# Does a run that goes on end where the other ended?

# %%
predict("The script went 24 steps. Now it starts from checkpoint-12 and goes "
        "on to 24. How do the final weights compare?", {
            "The same bits": "Weights, Adam, schedule and dice are in the "
            "checkpoint; the rows come in the same order because the script "
            "lays out the whole run as one epoch, without shuffling. Nothing "
            "else decides a step.",
            "Alike, as two seeds are alike": "That is what happens without "
            "rng_state.pth, or with shuffle_dataset=True over several epochs: "
            "other texts, another path.",
            "Alike, but for rounding": "The same sums in the same order, on "
            "the same machine, round alike."}, right="The same bits")

# %%
if TRAINED:
    resumed = bare_script(grpo_settings("runs/bare_resumed", seed=1),
                          resume=str(CHECKPOINT))
    with torch.no_grad():
        apart = max(float((a - b).abs().max()) for a, b in zip(
            TRAINED["full"].model.parameters(), resumed.model.parameters()))
    print(f"largest difference of a weight: {apart}")

# %% [markdown]
# ### Exercise 4: `newest_complete` (6 points, medium, 15 minutes)
#
# Machines stop in the middle of a save. Then the newest folder is half a checkpoint, and a run that trusts it does not
# start, or worse, starts without Adam. The choice needs no more than the list of files.
#
# **Task.** `listing` is a dictionary: name of each folder in the run folder -> a dictionary of its files, name -> bytes. Return the name of
# the newest checkpoint that is complete, or None.
#
# - A checkpoint's folder is called `checkpoint-` and a number. All else (`final`, `checkpoint-best`,
#   `tmp-checkpoint-30`) is none.
# - Newest is the one with the largest number.
# - Complete means: `trainer_state.json`, `optimizer.pt`, `scheduler.pt`, the weights (`model.safetensors`, or
#   `adapter_model.safetensors` of a LoRA run), and the random state: `rng_state.pth` where `processes` is 1, else one for each
#   process, `rng_state_0.pth`, `rng_state_1.pth` and so on. A file of 0 bytes counts as missing.
#
# <details><summary>Hint</summary>As texts, "checkpoint-9" comes after "checkpoint-10".
# <code>name.removeprefix("checkpoint-").isdecimal()</code>, and <code>max(..., key=...)</code> with
# <code>default=None</code>.</details>

# %% nbgrader={"grade": false, "grade_id": "ex4", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 4
def newest_complete(listing, processes=1):
    """The folder to go on from.

    listing: {folder: {file: bytes}}. processes: int. Returns: the name of a
    folder, or None.
    """
    ### BEGIN SOLUTION
    needed = {"trainer_state.json", "optimizer.pt", "scheduler.pt"}
    needed |= {"rng_state.pth"} if processes == 1 else {
        f"rng_state_{i}.pth" for i in range(processes)}
    whole = {}
    for name, files in listing.items():
        number = name.removeprefix("checkpoint-")
        there = {file for file, size in files.items() if size}
        weights = there & {"model.safetensors", "adapter_model.safetensors"}
        named = name != number and number.isdecimal()
        if named and weights and needed <= there:
            whole[name] = int(number)
    return max(whole, key=whole.get, default=None)
    ### END SOLUTION

# %% check="ex4"
checks.newest_complete(newest_complete)

# %% nbgrader={"grade": true, "grade_id": "test_ex4", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
assert newest_complete({}) is None
### BEGIN HIDDEN TESTS
import random as _random

_dice = _random.Random(107)
_base = ("trainer_state.json", "optimizer.pt", "scheduler.pt")


def _folder(_n, _weights):
    _dice_files = [f"rng_state_{i}.pth" for i in range(_n)] if _n > 1 else ["rng_state.pth"]
    return {_file: _dice.randint(1, 9999) for _file in
            (*_base, _weights, *_dice_files, "config.json")}


for _ in range(60):
    _n, _weights = _dice.choice((1, 1, 2, 3)), _dice.choice(
        ("model.safetensors", "adapter_model.safetensors"))
    _steps, _list, _best = _dice.sample(range(1, 1200), 5), {"final": _folder(_n, _weights)}, None
    for _name in ("checkpoint-best", "tmp-checkpoint-2000", "checkpoint-", "old-checkpoint-9999x"):
        _list[_name] = _folder(_n, _weights)
    for _step in _steps:
        _files = _folder(_n, _weights)
        if _dice.random() < 0.6:
            _lost = _dice.choice([_f for _f in _files if _f != "config.json"])
            if _dice.random() < 0.5:
                del _files[_lost]
            else:
                _files[_lost] = 0
        elif _best is None or _step > _best:
            _best = _step
        _list[f"checkpoint-{_step}"] = _files
    _names = list(_list)
    _dice.shuffle(_names)
    _got = newest_complete({_name: _list[_name] for _name in _names}, _n)
    assert _got == (None if _best is None else f"checkpoint-{_best}"), (
        "the largest number whose folder is complete")
_ten = {"checkpoint-9": _folder(1, "model.safetensors"),
        "checkpoint-10": _folder(1, "model.safetensors")}
assert newest_complete(_ten) == "checkpoint-10", "numbers, not texts"
assert newest_complete({"12": _folder(1, "model.safetensors")}) is None, "a name of another kind"
assert newest_complete(_ten, 2) is None, "two processes have two random states"
for _lost in (*_base, "model.safetensors", "rng_state.pth"):
    _half = _folder(1, "model.safetensors")
    del _half[_lost]
    assert newest_complete({"checkpoint-9": _ten["checkpoint-9"], "checkpoint-11": _half}) == (
        "checkpoint-9"), "a checkpoint that lacks a file is passed over"
_two = _folder(2, "model.safetensors")
assert newest_complete({"checkpoint-5": _two}, 2) == "checkpoint-5", "one state a process"
_two["rng_state_0.pth"] = 0
assert newest_complete({"checkpoint-5": _two}, 2) is None, "a file of 0 bytes is missing"
### END HIDDEN TESTS

# %%
if CHECKPOINT.is_dir():
    listing = {path.name: sizes(path) for path in CHECKPOINT.parent.iterdir()
               if path.is_dir()}
    print("to go on from:", newest_complete(listing))
    listing["checkpoint-24"]["optimizer.pt"] = 0  # as a full disk leaves it
    print("with half a checkpoint-24:", newest_complete(listing))

# %% [markdown]
# A file may also be cut short, with some bytes but not all. The course's own runs therefore keep the checksum of every file
# beside them (`lib/runs.py`), and `--resume-from-checkpoint auto` passes over whatever does not match.

# %% [markdown]
# ## 5. LoRA
#
# Full training moves every weight, and keeps a gradient and two of Adam's means for each. **LoRA** (Hu et al. 2021,
# [2106.09685](https://arxiv.org/abs/2106.09685)) freezes the weights and adds to some matrices $W$ (out x in) a product of two thin ones,
#
# $$W + \frac{\alpha}{r}\,BA,\qquad A: r \times \text{in},\quad B: \text{out} \times r,$$
#
# and trains $A$ and $B$ alone. $B$ begins at 0, so that the adapted model begins as the base. The reference of the KL
# term costs nothing then: it is the model with the adapter switched off.
#
# **How many numbers is that?** Of each adapted matrix $r\,(\text{in} + \text{out})$. PEFT takes every layer whose name ends in one of the
# names in `target_modules`. The shapes are in the model's `config.json`:
#
# | GPT-2 (`n_embd` = d; `n_inner` = f, and where it is null 4 d; `n_layer` layers) | in | out |
# |---|---|---|
# | `c_attn` | d | 3 d |
# | `c_proj`: there are **two** of this name, of attention and of the MLP | d, and f | d, and d |
# | `c_fc` | d | f |
#
# | Qwen2 (`hidden_size` = d; `intermediate_size` = f; `num_hidden_layers` layers) | in | out |
# |---|---|---|
# | `q_proj` | d | heads x size |
# | `k_proj`, `v_proj` | d | **key-value** heads x size |
# | `o_proj` | heads x size | d |
# | `gate_proj`, `up_proj` | d | f |
# | `down_proj` | f | d |
#
# Qwen2 has fewer heads for keys and values than for queries (`num_key_value_heads` < `num_attention_heads`: grouped-query
# attention). A head's size is d / `num_attention_heads`. GPT-2 stores its matrices transposed (`Conv1D`); for the count that is
# all the same, for PEFT it is the switch `fan_in_fan_out`.
#
# ### Exercise 5: `lora_parameters` (10 points, medium, 25 minutes)
#
# **Task.** `config` is a dictionary with the keys above, and `model_type`, `"gpt2"` or `"qwen2"`. Return how many numbers LoRA of this rank trains in
# the modules named, a whole number. (To build the model and let PEFT count is fair, and slower.)
#
# <details><summary>Hint</summary>Make a dictionary: name -> list of (in, out). <code>c_proj</code> has two entries. Sum rank (in +
# out) over the modules, times the layers.</details>

# %% nbgrader={"grade": false, "grade_id": "ex5", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 5
def lora_parameters(config, rank, modules):
    """How many numbers LoRA trains.

    config: a dictionary as in config.json, of GPT-2 or Qwen2. rank: int.
    modules: list of names. Returns: int.
    """
    ### BEGIN SOLUTION
    if config["model_type"] == "gpt2":
        d, layers = config["n_embd"], config["n_layer"]
        f = config["n_inner"] or 4 * d
        shapes = {"c_attn": [(d, 3 * d)], "c_proj": [(d, d), (f, d)],
                  "c_fc": [(d, f)]}
    else:
        d, f = config["hidden_size"], config["intermediate_size"]
        layers = config["num_hidden_layers"]
        size = d // config["num_attention_heads"]
        keys = size * config["num_key_value_heads"]
        shapes = {"q_proj": [(d, d)], "k_proj": [(d, keys)],
                  "v_proj": [(d, keys)], "o_proj": [(d, d)],
                  "gate_proj": [(d, f)], "up_proj": [(d, f)],
                  "down_proj": [(f, d)]}
    return layers * rank * sum(
        i + o for name in modules for i, o in shapes[name])
    ### END SOLUTION

# %% check="ex5"
checks.lora_parameters(lora_parameters)

# %% nbgrader={"grade": true, "grade_id": "test_ex5", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert lora_parameters({"model_type": "gpt2", "n_embd": 2, "n_inner": None,
                        "n_layer": 1, "n_head": 1}, 1, ["c_attn"]) == 8
### BEGIN HIDDEN TESTS
import random as _random

_dice = _random.Random(109)
for _ in range(40):
    _h, _s, _l, _r = (_dice.randint(*_few) for _few in ((2, 9), (2, 40), (1, 30), (1, 64)))
    _d, _f = _h * _s, _dice.randint(10, 3000)
    _inner = _dice.choice((None, _f))
    _wide = 4 * _d if _inner is None else _f
    _count = {"c_attn": 4 * _d, "c_proj": 3 * _d + _wide, "c_fc": _d + _wide}
    _some = _dice.sample(sorted(_count), _dice.randint(1, 3))
    _got = lora_parameters({"model_type": "gpt2", "n_embd": _d, "n_inner": _inner, "n_layer": _l,
                            "n_head": _h}, _r, _some)
    assert type(_got) is int, "a whole number"
    assert _got == sum(_r * _l * _count[_one] for _one in _some), "of GPT-2"
    _k = _dice.randint(1, _h)
    _count = {"q_proj": 2 * _d, "o_proj": 2 * _d, "k_proj": _d + _k * _s, "v_proj": _d + _k * _s,
              "gate_proj": _d + _f, "up_proj": _d + _f, "down_proj": _d + _f}
    _some = _dice.sample(sorted(_count), _dice.randint(1, 7))
    _got = lora_parameters({
        "model_type": "qwen2", "hidden_size": _d, "intermediate_size": _f, "num_hidden_layers": _l,
        "num_attention_heads": _h, "num_key_value_heads": _k}, _r, _some)
    assert _got == sum(_r * _l * _count[_one] for _one in _some), "of Qwen2"
### END HIDDEN TESTS

# %%
QWEN = {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2}
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_inner": None, "n_layer": 12}
if not is_autograding():
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
             "down_proj"]
    for name, config, whole, modules in (
            ("gpt2, attention and MLP", GPT2, 124_439_808,
             ["c_attn", "c_proj", "c_fc"]),
            ("Qwen2.5-0.5B, queries and values", QWEN, 494_032_768,
             ["q_proj", "v_proj"]),
            ("Qwen2.5-0.5B, all linear layers", QWEN, 494_032_768, every)):
        n = lora_parameters(config, 8, modules)
        print(f"{name:>33}, rank 8: {n:>9,}, {n / whole:.2%} of the weights")

# %% [markdown]
# ### Full against LoRA, measured
#
# The same script with one more argument, `peft_config`, on the tiny policy: rank 8, all matrices. Once with the full run's learning
# rate, once with ten times that. The figures on the right: how well each still predicts 200 ordinary reviews of
# all ratings, that is, what has been **forgotten** (nats a token; base means nothing is).

# %%
predict("LoRA with the learning rate of the full run, and with ten times as "
        "much. Which comes close to the full run in 24 steps?", {
            "The same rate": "Its matrices A and B are multiplied: B begins at "
            "0, and as long as it is small the product hardly moves. In a "
            "short run it stays behind.",
            "Ten times as much": "The rule of thumb for LoRA (Schulman et al. "
            "2025; more still in short runs). The gradient reaches the "
            "weights through two thin matrices, one of which begins at 0.",
            "Neither: rank 8 is too little": "A policy gradient brings little "
            "information, about a bit a completion. Rank 1 has been enough "
            "in published runs."}, right="Ten times as much")

# %%
from peft import LoraConfig

LORA = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, task_type="CAUSAL_LM",
                  target_modules=["c_attn", "c_proj", "c_fc"],
                  fan_in_fan_out=True)  # GPT-2 alone: its matrices are Conv1D
if TRAINED:
    for name, factor in {"LoRA, same rate": 1, "LoRA, rate x 10": 10}.items():
        chosen = grpo_settings(f"runs/bare_lora_{factor}", seed=1)
        chosen["learning_rate"] *= factor
        TRAINED[name] = bare_script(chosen, peft_config=LORA)

# %%
ORDINARY = [review.text for review in make_reviews(200, seed=9)]


@torch.no_grad()
def surprise(model):
    """Mean nats a token of ordinary reviews."""
    batch = tokenizer(ORDINARY, return_tensors="pt", padding=True,
                      padding_side="right").to(model.device)
    logps = model(**batch).logits[:, :-1].log_softmax(-1)
    chosen = logps.gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    mask = batch["attention_mask"][:, 1:]
    return float(-(chosen * mask).sum() / mask.sum())


if TRAINED:
    curves = {name: [row for row in trainer.state.log_history
                     if "reward" in row] for name, trainer in TRAINED.items()}
    base = surprise(AutoModelForCausalLM.from_pretrained(
        POLICY, dtype=torch.float32))
    forgotten = {"base": base} | {name: surprise(trainer.model)
                                  for name, trainer in TRAINED.items()}
    plots.show(plots.panels({
        (title, "step", unit): {name: (
            [row["step"] for row in rows], [row[key] for row in rows])
            for name, rows in curves.items()}
        for title, unit, key in (
            ("Reward", "mean of 64 completions", "reward"),
            ("KL estimate", "nats a token", "kl"))},
        alt="Full training against LoRA, one seed; mean reward and KL of the "
        "last six steps, and nats a token on ordinary reviews: base "
        f"{base:.2f}; " + "; ".join(
            f"{name}: "
            f"{statistics.fmean(row['reward'] for row in rows[-6:]):.2f}, "
            f"{statistics.fmean(row['kl'] for row in rows[-6:]):.3f}, "
            f"{forgotten[name]:.2f}"
            for name, rows in curves.items())))
    for name, nats in forgotten.items():
        print(f"{name:>16}: {nats:.2f} nats a token on ordinary reviews")

# %% [markdown]
# At the full run's rate the adapter has hardly moved. At ten times the rate it gets the reward of full training, goes at least as far from
# the reference, and has forgotten at least as much. (A single point of the KL estimate may jump: one odd token is enough.) One seed, one
# rank, 24 steps: enough for the rule of thumb, not for the fine differences.
#
# **The risks of LoRA**, then: a learning rate carried over from full training (nothing seems to work); adapters on the queries
# and values alone, an old default (the MLP matters more: take all linear layers); a rank that is too small for *much*
# data, which RL seldom is; and a base model that is not kept together with the adapter. Forgetting it does not prevent: a rank-8
# change can ruin a model. It follows the distance, as always.
#
# **What is saved** is the adapter alone, with the name of its base. To hand the policy on, merge it:

# %%
if TRAINED:
    folder = Path("runs/bare_lora_10/final")
    print({name: size for name, size in sizes(folder).items()
           if "adapter" in name or "model" in name})
    trained = TRAINED["LoRA, rate x 10"].model
    logits = {}
    batch = tokenizer(HELD_OUT, return_tensors="pt").to(trained.device)
    with torch.no_grad():
        logits["adapted"] = trained(**batch).logits
        merged = trained.merge_and_unload()  # W + (alpha / r) B A, in place
        logits["merged"] = merged(**batch).logits
    print("merging moves a logit by at most "
          f"{float((logits['adapted'] - logits['merged']).abs().max()):.1e}")
    merged.save_pretrained("runs/bare_lora_10/merged")  # loads without PEFT

# %% [markdown]
# ## 6. Memory, and other machines
#
# What does a step need? Six things, all of 4 bytes a number here (float32):
#
# | | bytes |
# |---|---|
# | weights | 4 a parameter |
# | gradients | 4 a *trained* parameter |
# | Adam | 8 a trained parameter: two means |
# | reference | 4 a parameter, but only with a KL term, and only in full training: with LoRA the reference is the model without the adapter |
# | cache | keys and values: for each completion that is generated at once, each token of prompt and completion, each layer, 2 x key-value heads x size numbers |
# | logits | of one forward pass: a number for each completion in it, each completion token and each word of the vocabulary |
#
# Left out are the activations that are kept for the backward pass: they depend on the architecture, on the attention's kernel and
# on `gradient_checkpointing`. `python -m lib preflight MODEL` counts those too, tensor by tensor.
#
# ### Exercise 6: `memory_estimate` (8 points, medium, 20 minutes)
#
# **Task.** Return a dictionary name -> bytes (whole numbers) with the six names of the table in lower case.
#
# - `model` has `parameters`, `layers`, `kv_heads`, `head_size` and `vocabulary`.
# - `run` has `trained` (how many parameters are trained), `beta`, `batch` (completions a forward pass), `generated` (completions that
#   are generated at once), `prompt` and `completion` (tokens, at most).
#
# LoRA is when `trained` is less than `parameters`.
#
# <details><summary>Hint</summary>Six lines, a product each. The reference is the only one with a condition, and the
# cache has a factor 2 for keys <i>and</i> values.</details>

# %% nbgrader={"grade": false, "grade_id": "ex6", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 6
def memory_estimate(model, run):
    """Bytes of one training step in float32, without activations.

    model, run: dictionaries of numbers. Returns: a dictionary of ints.
    """
    ### BEGIN SOLUTION
    n, trained = model["parameters"], run["trained"]
    copied = run["beta"] > 0 and trained == n
    tokens = run["generated"] * (run["prompt"] + run["completion"])
    a_token = 2 * model["layers"] * model["kv_heads"] * model["head_size"]
    return {
        "weights": 4 * n, "gradients": 4 * trained, "adam": 8 * trained,
        "reference": 4 * n if copied else 0,
        "cache": 4 * tokens * a_token,
        "logits": 4 * run["batch"] * run["completion"] * model["vocabulary"]}
    ### END SOLUTION

# %% check="ex6"
checks.memory_estimate(memory_estimate)

# %% nbgrader={"grade": true, "grade_id": "test_ex6", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
assert memory_estimate(
    {"parameters": 1, "layers": 1, "kv_heads": 1, "head_size": 1,
     "vocabulary": 1},
    {"trained": 1, "beta": 0.0, "batch": 1, "generated": 1, "prompt": 1,
     "completion": 1})["weights"] == 4
### BEGIN HIDDEN TESTS
import random as _random

_dice = _random.Random(113)
for _ in range(40):
    _n, _l, _k, _s, _v, _b, _many, _p, _c = (_dice.randint(2, 60) for _ in range(9))
    _lora, _beta = _dice.random() < 0.5, _dice.choice((0.0, 0.04, 1.0))
    _t = _dice.randint(1, _n - 1) if _lora else _n
    _got = memory_estimate(
        {"parameters": _n, "layers": _l, "kv_heads": _k, "head_size": _s, "vocabulary": _v},
        {"trained": _t, "beta": _beta, "batch": _b, "generated": _many, "prompt": _p,
         "completion": _c})
    assert set(_got) == {"weights", "gradients", "adam", "reference", "cache", "logits"}, "six parts"
    assert all(type(_x) is int for _x in _got.values()), "whole bytes"
    assert _got["weights"] == _n << 2, "weights"
    assert (_got["gradients"], _got["adam"]) == (_t << 2, _t << 3), "what is trained has these"
    _other = 0 if _lora or not _beta else _n << 2
    assert _got["reference"] == _other, "the reference: with a KL term, and in full training"
    assert _got["cache"] == (_k * _s * _l << 3) * _many * (_p + _c), "keys and values"
    assert _got["logits"] == (_b * _c * _v) << 2, "logits of the completions of one forward pass"
### END HIDDEN TESTS

# %% [markdown]
# Is it true? Below it stands beside what the tensors of the run above really take:

# %%
def measured(trainer, prompt, completion, batch, generated):
    """Bytes of the real tensors."""
    def total(tensors):
        return sum(x.numel() * x.element_size() for x in tensors)

    model, weights = trainer.model, list(trainer.model.parameters())
    ids = torch.zeros(generated, prompt + completion, dtype=torch.long,
                      device=model.device)
    with torch.no_grad():
        out = model(ids, use_cache=True, logits_to_keep=1)
        logits = model(ids[:batch], logits_to_keep=completion).logits
    model(ids[:1, :2]).logits.sum().backward()
    gradients = [p.grad for p in weights if p.grad is not None]
    model.zero_grad()
    return {
        "weights": total(weights), "gradients": total(gradients),
        "adam": total(x for state in trainer.optimizer.state.values()
                      for key, x in state.items() if key != "step"),
        "reference": total(trainer.ref_model.parameters()),
        "cache": total(x for layer in out.past_key_values.layers
                       for x in (layer.keys, layer.values)),
        "logits": total([logits])}


if TRAINED:
    c = TRAINED["full"].model.config
    count = sum(p.numel() for p in TRAINED["full"].model.parameters())
    tiny = {"parameters": count, "layers": c.n_layer, "kv_heads": c.n_head,
            "head_size": c.n_embd // c.n_head, "vocabulary": c.vocab_size}
    run = {"trained": count, "beta": 0.1, "batch": 16, "generated": 64,
           "prompt": 5, "completion": 40}
    real = measured(TRAINED["full"], 5, 40, 16, 64)
    for name, size in memory_estimate(tiny, run).items():
        print(f"{name:>10}: estimated {size:>12,} bytes, "
              f"measured {real[name]:>12,}")

# %% [markdown]
# And what would larger models take, with 64 completions of 200 tokens to prompts of 200, 8 in a forward pass?

# %%
MODELS = {
    "gpt2": {"parameters": 124_439_808, "layers": 12, "kv_heads": 12,
             "head_size": 64, "vocabulary": 50_257},
    "Qwen2.5-0.5B": {"parameters": 494_032_768, "layers": 24, "kv_heads": 2,
                     "head_size": 64, "vocabulary": 151_936},
    "24 billion": {"parameters": 23_572_403_200, "layers": 40, "kv_heads": 8,
                   "head_size": 128, "vocabulary": 131_072}}
if not is_autograding():
    for name, model in MODELS.items():
        for kind, trained in (("full", model["parameters"]),
                              ("LoRA", model["parameters"] // 100)):
            parts = memory_estimate(model, {
                "trained": trained, "beta": 0.0, "batch": 8, "generated": 64,
                "prompt": 200, "completion": 200})
            print(f"{name:>12}, {kind}: "
                  f"{sum(parts.values()) / 2**30:6.1f} GiB: " + ", ".join(
                      f"{part} {size / 2**30:.1f}"
                      for part, size in parts.items()))

# %% [markdown]
# The last line but one says why nobody trains 24 billion weights in full float32 on one GPU. In bfloat16 the weights are half; with
# Adam's means spread over several GPUs (FSDP, DeepSpeed's ZeRO) each holds a share; LoRA makes gradients and Adam a hundredth.
#
# ### vLLM: a sampler of its own
#
# Writing a completion of 200 tokens takes 200 forward passes, one after another, each of which reads all weights to make one token a
# row. Training reads the 200 tokens in **one**. So generation dominates, and the more, the longer the texts. vLLM
# generates faster: it keeps the keys and values in pages, so that texts of any length fill the memory, and puts a new one
# into the batch as soon as one has ended.
#
# | | colocate (default) | server |
# |---|---|---|
# | where | in the training process, on the same GPU | a process of its own, on other GPUs |
# | start | `--use-vllm` | `vllm serve MODEL` beside it (TRL's page on vLLM has the flags), and `vllm_mode="server"` |
# | memory | `--vllm-memory 0.3`: that share of the GPU is taken at the start and kept | the server's own |
# | idle | nobody, but they take turns | the trainer while the server writes, and the other way round |
# | for | one GPU, models that fit twice | large models, many GPUs |
#
# Its kernels round otherwise than the trainer's, so its samples are those of a *slightly* different policy. That is
# chapter 5's mismatch, and the reason for the four `vllm_importance_sampling_...` settings. The log has
# `sampling/sampling_logp_difference/mean` and the ratios: look at them at the first step of any run with vLLM. A mean of hundredths of a
# nat is rounding; tenths are a bug (another template, a filter on, weights not synchronised).
#
# ### Several GPUs
#
# `accelerate launch` starts the same command once for each process. Each takes its share of the completions, the gradients are averaged, and the step is the
# one that exercise 2 counts. It works with two processes on a CPU, where you can try it:
#
# ```bash
# accelerate launch --num_processes 2 --cpu -m lib train sentiment --max-steps 20
# ```
#
# The course divides accumulation by the number of processes, so that a step is as many completions as with one, writes the run's folder
# once, and goes on from its checkpoints as one process does. In the bare script that is the argument `processes`.
#
# ### Trackers
#
# `report_to` names where logs go. A tracker is worth it from the second run on, when you begin to compare.
#
# ```bash
# python -m lib train sentiment --trackio                        # stays on this machine; `trackio show`
# WANDB_MODE=offline python -m lib train sentiment --wandb       # files; `wandb sync` sends them later
# ```
#
# Beside TRL's figures of each step these send validation curves and a table of samples of held-out prompts *while* the run trains. Read the
# table: a curve has never shown anybody that all texts end in "wonderful wonderful".
#
# ### Searching for settings
#
# `python -m lib search reasoning --trials 6` lets **Optuna** propose learning rates, group sizes and reward weights, and runs each for a
# short time (`lib/search.py`, 70 lines). Two warnings. The winner of twenty trials is partly luck: measure it anew, with other seeds. And
# searching on the held-out questions spends them.
#
# On a cluster **Ray Tune** does the same over many machines and stops poor trials early. This is the whole recipe; it is not run here:
#
# ```python
# from ray import tune                              # pip install "ray[tune]" optuna
# from ray.tune.schedulers import ASHAScheduler
# from ray.tune.search.optuna import OptunaSearch
#
# class Report(TrainerCallback):                    # each trial tells how it does ...
#     def on_log(self, args, state, control, logs=None, **kwargs):
#         if "reward" in logs:
#             tune.report({"reward": logs["reward"], "kl": logs["kl"]})
#
# def trial(chosen):                                # ... and is the bare script with other settings
#     name = tune.get_context().get_trial_id()
#     settings = grpo_settings(f"/shared/runs/{name}", seed=1) | chosen
#     bare_script(settings, callbacks=[Lines(), Report()])
#
# tune.Tuner(
#     tune.with_resources(trial, {"gpu": 1}),       # one GPU a trial, as many at once as there are
#     param_space={"learning_rate": tune.loguniform(1e-6, 1e-4), "beta": tune.choice([0.0, 0.04])},
#     tune_config=tune.TuneConfig(
#         metric="reward", mode="max", num_samples=20, search_alg=OptunaSearch(),
#         scheduler=ASHAScheduler(grace_period=10, max_t=200)),   # in reports, here steps
#     run_config=tune.RunConfig(storage_path="/shared/tune")).fit()
# ```
#
# Start `ray start --head` on one machine and `ray start --address=HEAD:6379` on the others; the script is run on the first. The folder
# must be one that all of them see. A scheduler that stops trials by the *training* reward favours those that hack first: report a held-out
# figure where you have one.

# %% [markdown]
# ## Analysis questions (6 points each)
#
# A few sentences each, with figures from this chapter.

# %% [markdown] nbgrader={"grade": true, "grade_id": "q1", "locked": false, "points": 6, "schema_version": 3, "solution": true, "task": false}
# **Question 1.** A colleague sends you this, for a model of half a billion weights with LoRA on one GPU of 16 GB, and says that "GRPO does not
# work": `per_device_train_batch_size=4, gradient_accumulation_steps=1, num_generations=4, max_steps=100`, and everything else left out; two hundred
# prompts, a reward of 1 for a right answer that the base model gives one time in fifty. Which three settings do you change first, to what, and
# which figure in the logs would have told each time?
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Have you worked out how many prompts a step has, and how many groups are tied?
# - Do you name the learning rate that is in force when none is set, and one for LoRA?
# - Is there a key of the logs beside each change?
# - Have you said what the change costs, in memory or time?
#
# </details>
#
# ### BEGIN SOLUTION
# One prompt a step, four completions, a hit one time in fifty: a group has a spread with probability 1 - .98^4 - .02^4, about 8 %; so in 92 of 100 steps
# nothing happens (frac_reward_zero_std is 1). Larger groups (16: 28 %) and more prompts a step by accumulation (16 x 4 or more), which costs time, not
# memory. The learning rate is TRL's 1e-6, ten times too small for full training of this model and a hundred times for LoRA: 5e-5 or so; the KL
# stays 0 and the rewards flat. An easier start (examples in the prompt, easier questions, a reward for parts of the answer), since the base rate is the
# root; rewards/.../mean tells. Also fine: max_completion_length (256) with clipped_ratio.
#
# Rubric: 2 points for the batch and the tied groups with a number and frac_reward_zero_std. 2 points for the learning rate in force, with one for LoRA,
# and a figure that shows it. 2 points for a third change that is to the point, with its figure and its cost.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q2", "locked": false, "points": 6, "schema_version": 3, "solution": true, "task": false}
# **Question 2.** Of the settings measured in part 3, which matters most here and which least, and which of these two findings would you expect to
# hold for a model of 24 billion weights? Use end values of score *and* KL, with the spread of the seeds.
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Have you given score and KL, for at least two values of each setting?
# - Is a difference between settings larger than that between seeds of one setting?
# - Does your reason for 24 billion come from what the setting does, not from the picture alone?
# - Have you named a setting whose effect this task cannot show?
#
# </details>
#
# ### BEGIN SOLUTION
# Most: the learning rate. At 1e-6 score and KL stay where they began, at 1e-3 the score is near 1 and the KL several times that of 2e-4; no two seeds
# overlap. Least: the split into passes, or beta2, whose seeds overlap entirely. That the rate matters most will hold, with another best value (it falls
# with size: 1e-6 was used for 32B); that the split does not matter will hold, as it is arithmetic. The group size is one that this
# dense reward cannot show: with a rare reward it decides whether there is a gradient.
#
# Rubric: 2 points for figures of score and KL with their spread. 2 points for comparing with the spread between seeds. 2 points for reasons of what carries
# over, one of them a setting that this task cannot show.
# ### END SOLUTION

# %% [markdown]
# ## A project of your own
#
# A task is one class in one file; `train`, `plot`, `compare`, `chat` and `export` then work for it. [docs/your_task.md](../docs/your_task.md)
# builds one from nothing, names three worked ideas with their first traps, and has the rubric by which a project is marked. Or take the bare
# script: you know now what every line of it does.
#
# ## What you have seen
#
# - A run is seven things, and all of them fit on a page.
# - The step is a product. Whether you reach it by batch, accumulation or processes is a matter of memory and time.
# - The learning rate first; then groups that are not tied; then a distance that you can afford. The rest is fine tuning.
# - A checkpoint is the weights twice more, and the dice.
# - LoRA: all linear layers, ten times the rate, and the base kept with it.
# - No curve replaces reading what the policy writes.

# %% [markdown]
# ## Capstone

# %% [markdown]
# Nobody tells you the formula this time. You get a goal in words, and whatever your reward *trains* is what
# is graded.
#
# **The goal.** A policy whose film reviews a reader would like to read. A good review is whole: it ends, and
# by itself. Each of its sentences is one that a person would write. It says nothing twice and does not
# contradict itself. Three sentences are enough. And it likes the film.
#
# **What you may look at.** For each completion: the text, the classifier's five star probabilities, and
# the reference's log-prob of each token. Nothing else: no grammar, no gold measure, no prompt.
#
# **How it is graded.** The grader trains the tiny policy on your function, as the cell below does: 50 steps
# of 64 completions, no KL term, a seed of its own. Then it samples reviews and asks a **gold measure**
# that lies on its side alone. It follows the goal above; it is not chapter 1's, and your reward cannot import
# either. The same function gets the same points each time.
#
# | part | what is measured of the trained policy | to reach | base | plain score | our answer | points |
# |---|---|---|---|---|---|---|
# | 7 | the function itself: form, pure, finite | | | | | 5 |
# | 7b | gold score on held-out openings | 0.65 | 0.49 | 0.00 | 0.92 | 8 |
# | 7c | the same, well above | 0.75 | 0.49 | 0.00 | 0.92 | 7 |
# | 7d | variety: share of these reviews that are good and unlike any other of them | 0.40 | 0.32 | 0.00 | 0.67 | 6 |
# | 7e | gold score on openings whose subject no training prompt has | 0.60 | 0.28 | 0.07 | 0.77 | 6 |
# | | question 3 | | | | | 8 |
#
# 7c to 7e ask for 7b as well. "Plain score" is chapter 1's reward, the expected stars: it hacks. The
# figures are of the grader's seed on two cores of an Intel Xeon; on three seeds our answer stays above each
# goal by 0.16 or more.
#
# A reward that raises an error, hangs, gives NaN at step 20 or counts its calls trains nothing: it loses the
# points of 7b to 7e, and you are told which of these it was.

# %%
from lib import evaluation, widgets
from lib.checks import capstone as capstone_checks
from lib.tasks.project import TASK as PROJECT
from lib.training import experiment

RUNS = {}  # name -> folder of a run of your reward

# %% [markdown]
# ### Exercise 7: a reward that holds (5 + 8 + 7 + 6 + 6 points, hard, 90 minutes)
#
# **Task.** Write `project_reward(completions, star_probs, ref_logps, **kwargs)`.
#
# - `completions`: N strings. A completion that was cut off at 40 tokens has no end.
# - `star_probs`: N lists of 5 floats, the probabilities of one to five stars.
# - `ref_logps`: N lists, one log-prob a token, never empty. The last token of a completion that ends by itself
#   is the end-of-text token, which the text does not show.
#
# Return N floats; N may be any number, also 0 or 1. A **pure** function: the same arguments, the same rewards,
# whatever it was asked before; arguments stay as they are. It sees the 64 completions of a step at once, so it
# may compare them.
#
# <details><summary>Hint 1</summary>Train on the plain score first and read the samples. Each hole that you see
# is one condition.</details>
# <details><summary>Hint 2</summary>A mean over tokens hides one absurd joint in a long text. Which function of
# the log-probs does not?</details>
# <details><summary>Hint 3</summary>A condition is a gate (reward or nothing), a price (less reward) or a cap (no
# more than enough). Gates are hard to get around, but a group in which nobody passes teaches
# nothing.</details>
# <details><summary>Hint 4</summary>Variety: what do two equal reviews in one batch tell you?</details>

# %% nbgrader={"grade": false, "grade_id": "ex7", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 7
def project_reward(completions, star_probs, ref_logps, **kwargs):
    """The reward of each completion of a batch.

    completions: list of N strings. star_probs: N lists of 5 floats.
    ref_logps: N non-empty lists of floats.
    Returns: list of N floats, same order.
    """
    ### BEGIN SOLUTION
    rewards = []
    for text, stars, logps in zip(completions, star_probs, ref_logps, strict=True):
        score = sum(star * p for star, p in enumerate(stars)) / 4
        whole = text.rstrip().endswith(".") and len(logps) <= 30 and min(logps) > -6
        said = [part.strip() for piece in text.lower().split(".") for part in piece.split(" and ")]
        said = [part for part in said if part]
        rewards.append(score * whole - 0.3 * (len(said) - len(set(said))))
    return rewards
    ### END SOLUTION

# %% check="ex7"
capstone_checks.project_reward(project_reward)

# %% nbgrader={"grade": true, "grade_id": "test_ex7", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert len(project_reward([" fine."], [[0.2] * 5], [[-3.9, -0.1]])) == 1
### BEGIN HIDDEN TESTS
import random as _random

from lib.checks.numbers import finite as _finite

_rng = _random.Random(66)
_texts = ["", ".", " fine.", " é\n. .", " a a a a a a." * 20, " good", " good", " The the."]
_stars = [[float(i == n % 5) for i in range(5)] for n in range(8)]
_logps = [[-60 * _rng.random() ** 3 for _ in range(n)] for n in (1, 40, 3, 7, 40, 2, 2, 1)]
_first = _finite(project_reward(list(_texts), _stars, _logps), 8)
project_reward(_texts[2:4], _stars[2:4], _logps[2:4])
assert _finite(project_reward(list(_texts), _stars, _logps), 8) == _first, (
    "the same completions get the same rewards, whatever it was asked before")
assert all(-1e6 <= _value <= 1e6 for _value in _first), "no reward is beyond a million"
for _i in range(8):
    _finite(project_reward(_texts[_i:_i + 1], _stars[_i:_i + 1], _logps[_i:_i + 1]), 1)
assert list(project_reward([], [], [])) == [], "no completions, no rewards"
### END HIDDEN TESTS

# %% [markdown]
# Before you train:

# %%
predict(
    "In 50 steps the policy finds a hole in your reward, if there is one. "
    "Which figure will tell?",
    {"the mean reward: it falls":
     "It rises. It is what is maximised, by way of the hole or not.",
     "the classifier's score: it falls":
     "A hole is a place where the score is high and the text is bad.",
     "none for certain; reading the samples does":
     "Length, self-ending share, reference perplexity and distinct-2 each see "
     "one kind of hole, and a new reward has a new kind."},
    right="none for certain; reading the samples does")

# %%
RUNS["yours"] = experiment("capstone", {"project_reward": project_reward},
                           task="project", max_steps=50)

# %%
if RUNS.get("yours"):
    widgets.show_table(evaluation.side_by_side(RUNS), PROJECT)
    widgets.sample_browser(RUNS["yours"])

# %% [markdown]
# All of these figures are proxies. Read the last step's samples and ask of each: would you have written it?
# Then close the hole that you see, and train again. The same from a terminal, with the function in a file:
# `python -m lib train project --answers FILE.py --max-steps 50 --seed 1`.
#
# The four cells below are graded by what the function trains; in this notebook they only call it.

# %% nbgrader={"grade": true, "grade_id": "test_ex7b", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
# Exercise 7b: the gold score on held-out openings
assert len(project_reward([" fine."], [[0.2] * 5], [[-3.9, -0.1]])) == 1
### BEGIN HIDDEN TESTS
from grading.capstone import judge as _judge

_judged = globals().get("_judged") or _judge(project_reward)
MEASURED = _judged.measured
assert not _judged.fault, _judged.fault
assert _judged.reaches("gold"), "the policy that it trains does not reach the goal for gold"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "test_ex7c", "locked": true, "points": 7, "schema_version": 3, "solution": false, "task": false}
# Exercise 7c: the gold score, well above
assert len(project_reward([" fine."], [[0.2] * 5], [[-3.9, -0.1]])) == 1
### BEGIN HIDDEN TESTS
from grading.capstone import judge as _judge

_judged = globals().get("_judged") or _judge(project_reward)
assert not _judged.fault, _judged.fault
assert _judged.reaches("fine"), "the policy that it trains does not reach the second goal for gold"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "test_ex7d", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Exercise 7d: variety
assert len(project_reward([" fine."], [[0.2] * 5], [[-3.9, -0.1]])) == 1
### BEGIN HIDDEN TESTS
from grading.capstone import judge as _judge

_judged = globals().get("_judged") or _judge(project_reward)
assert not _judged.fault, _judged.fault
assert _judged.reaches("variety"), "the policy that it trains does not reach the goals for variety and gold"
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "test_ex7e", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Exercise 7e: the gold score on openings with other subjects
assert len(project_reward([" fine."], [[0.2] * 5], [[-3.9, -0.1]])) == 1
### BEGIN HIDDEN TESTS
from grading.capstone import judge as _judge

_judged = globals().get("_judged") or _judge(project_reward)
assert not _judged.fault, _judged.fault
assert _judged.reaches("elsewhere"), "the policy that it trains does not reach the goals for other openings and gold"
### END HIDDEN TESTS

# %% [markdown]
# **The leaderboard.** Your instructor may put a page together: a name, gold, variety, KL and one review of
# each policy. You are on it if you write a name into the quotes, any name, and not if you leave
# them empty.

# %%
leaderboard_name = ""

# %% [markdown] nbgrader={"grade": true, "grade_id": "q3", "locked": false, "points": 8, "schema_version": 3, "solution": true, "task": false}
# **Question 3.** Tell how your reward came about: the first version, the hole that the policy found in it (quote
# a sample), what you changed, and what this cost. Which hole do you think is still there, and how would you
# look for it?
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Is there a sample that shows the hole, and not only a figure?
# - Do you say why the first reward paid for it?
# - Is the cost a number: score, variety, length, KL?
# - Could somebody else try out the hole that you suspect?
# </details>
#
# ### BEGIN SOLUTION
# With the plain score the policy piled up praise until it was cut off: more praise is more evidence, and
# nothing asked for an end. Paying only for ended texts under 30 tokens gave short texts with absurd joints
# ("The whole. I loved."), for the mean log-prob hides one bad token; so the worst token decides. Then
# the same sentence came twice, so a repetition has a price. The cost: less score than the plain reward, and
# fewer different openings of a review. Still open: nothing looks at contradictions, or at two
# completions that are equal; I would count equal reviews in a batch.
#
# Rubric: 2 points for a first version with a sample of its hole. 2 for the reason why the reward paid
# for it. 2 for the change with its cost in numbers. 2 for a plausible remaining hole and a way to test it.
# ### END SOLUTION

# %% [markdown]
# **Further.** A task of your own, with your own texts and goal, is a file of fifty lines:
# [Your own task](../docs/your_task.md) builds one and has three ideas, and a rubric for a project.
