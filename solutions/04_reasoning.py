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
# # Chapter 4: a small math reasoner
#
# A policy solves word problems of two to four steps. It **can** work them out: made to write every step
# down, it is right nearly always. It seldom does: most of the text that it learnt from last gives the
# result at once, and a network of this size cannot do several steps in one pass, so most of its answers
# are wrong. Nothing in the rewards of this chapter asks for reasoning. Yet a policy that is paid for
# right answers finds out that thinking pays, and its answers get longer by themselves. This is the curve
# that DeepSeek-R1-Zero made famous, on one CPU core, in two or three minutes.
#
# Both things that we want, a **right** answer and a **form** that a program can read, are checked by
# short functions, and no human judges anything. Short functions have bugs. In one widely copied version
# of these five rewards both format rewards paid only reasoning of a single line, and a right "3380"
# scored nothing against "3,380". Training went on all the same, and the sum of the rewards rose. It is told
# as a story of bugs that nobody noticed, and that is not true: people noticed within weeks, because they
# looked at each reward by itself. One saw two rewards at zero while the total rose
# ([unslothai/unsloth#1761](https://github.com/unslothai/unsloth/issues/1761)); one ran the function on an
# answer of a trained model, which had the form and got 0
# ([open-r1#237](https://github.com/huggingface/open-r1/issues/237), with a fix the same day); one asked whether
# a form that lags so far behind accuracy was to be expected, was told that it might be chance, and the pattern was found
# a day later ([R1-V#19](https://github.com/Deep-Agent/R1-V/issues/19)). You will write the five, and
# test them on awkward answers. Then you will find out what training added and what was there before, and
# whether the answers owe anything to the reasoning above them.
#
# | part | you write | points | minutes |
# |---|---|---|---|
# | 1 | reading answers: tags, GSM8K's mark, numbers | 4 + 3 + 6 | 30 |
# | 2 | rewards for content | 6 + 3 | 20 |
# | 3 | rewards for form | 5 + 6 + 7 | 40 |
# | 4 | what the base policy can do: pass@k | 10 | 25 |
# | 5 | two training runs, what to look at, and controls | | 30 |
# | 6 | is the reasoning load-bearing? surgery on completions | 8 + 10 + 7 | 50 |
# | 7 | a price for every token | 10 | 20 |
# | 8 | three analysis questions | 15 | 30 |

# %%
import math
import re
import statistics
from itertools import pairwise

from lib import evaluation, models, plots, preflight, rewards, thinking, widgets
from lib.checks import reasoning as checks
from lib.intervals import rate_interval
from lib.predict import predict
from lib.rollout import sampled_rows
from lib.tasks import reasoning
from lib.tasks.reasoning import (
    ANSWER_NOW, AT_ONCE, TASK, XML_COT_FORMAT, get_gsm8k_questions, messages)
from lib.training import experiment

MODEL = "tiny"  # with a GPU and a connection: "Qwen/Qwen2.5-0.5B-Instruct"
RUNS = {}  # name -> folder of a finished run
MEASURED = thinking.measured()  # many seeds: python -m benchmarks.reasoning

print(preflight.report("04_reasoning"))

# %% [markdown]
# ## The task
#
# The system prompt asks for a form; the chat template of the tokenizer puts it and the question where
# the policy learnt to expect them. Train and ask an instruct model **without** its template and
# you measure something else.

# %%
policy, tokenizer = models.load_policy(models.policy_path(MODEL, TASK))
DEFAULTS = TASK.of(model=MODEL)
questions = get_gsm8k_questions(
    "train", reasoning.source(MODEL, None))
print(models.prompt_text(tokenizer, messages(questions[0]["question"])))

# %% [markdown]
# What the policy answers before any training, to one question:

# %%
prompt = messages(questions[1]["question"])
base = sampled_rows(
    policy, tokenizer, policy, [prompt] * 6,
    max_completion_length=DEFAULTS.max_completion_length)
print(questions[1]["question"], "\n")
for row in base:
    print(repr(row["completion"]))

# %% [markdown]
# ## 1. Reading answers
#
# A **perfect completion** is `XML_COT_FORMAT` filled in:
#
# ```
# <reasoning>
# 4+3=7
# 7-2=5
# </reasoning>
# <answer>
# 5
# </answer>
# ```
#
# ### Exercise 1a: `extract_xml_answer` (4 points, easy, 5 minutes)
#
# **Task.** What follows the **last** `<answer>` (a policy may change its mind), up to `</answer>` or,
# where that is missing, to the end; stripped of white space around it. Without `<answer>` the result is
# `""`, so that a bare "4" is no answer.
#
# <details><summary>Hint</summary><code>str.rpartition</code> splits at the last occurrence and tells
# whether there was one.</details>

# %% nbgrader={"grade": false, "grade_id": "ex1a", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 1a
def extract_xml_answer(text):
    """The stripped text of the last answer block, "" when there is none.

    text: str. Returns: str.
    """
    ### BEGIN SOLUTION
    _, opened, rest = text.rpartition("<answer>")
    return rest.partition("</answer>")[0].strip() if opened else ""
    ### END SOLUTION

# %% check="ex1a"
checks.extract_xml_answer(extract_xml_answer)

# %% nbgrader={"grade": true, "grade_id": "test_ex1a", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
assert extract_xml_answer("<answer>\n5\n</answer>") == "5"
### BEGIN HIDDEN TESTS
for _text, _right in {
    "<reasoning>\n1+1=2\n2+1=3\n</reasoning>\n<answer>\n3\n</answer>\n": "3",
    "<reasoning>x</reasoning><answer>  1,000 </answer>": "1,000",
    "<answer>7</answer> no: <answer>8</answer>": "8",
    "<answer>7</answer><reasoning>9</reasoning>": "7",
    "<answer>\n12": "12", "<answer>7</answer>\n<answer>\n-3": "-3",
    "12": "", "": "", "</answer>": "", "The answer is 4.": "",
    "<answer></answer>": "", "<answer>\nfour\napples\n</answer> bye": "four\napples",
    "<answer>3 < 5 <b>": "3 < 5 <b>", "<ANSWER>5</ANSWER>": "", "<answer>\t5\r\n</answer>": "5",
    "<answer>the number of them all is 5": "the number of them all is 5",
}.items():
    assert extract_xml_answer(_text) == _right, "the stripped text of the last answer block"
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 1b: `extract_hash_answer` (3 points, easy, 5 minutes)
#
# GSM8K's own answers are worked out in words and end in `#### 1,200`.
#
# **Task.** What stands behind `####`, stripped, without thousands commas and dollar signs; `None`
# where there is no `####`.
#
# <details><summary>Hint</summary>A row without the mark must not become "" or an error: the caller
# asks <code>is None</code>.</details>

# %% nbgrader={"grade": false, "grade_id": "ex1b", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 1b
def extract_hash_answer(text):
    """The reference result of a GSM8K answer, None when there is no mark.

    text: str. Returns: str or None.
    """
    ### BEGIN SOLUTION
    _, mark, result = text.rpartition("####")
    return result.strip().replace(",", "").replace("$", "") if mark else None
    ### END SOLUTION

# %% check="ex1b"
checks.extract_hash_answer(extract_hash_answer)

# %% nbgrader={"grade": true, "grade_id": "test_ex1b", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
assert extract_hash_answer("2+2=4\n#### 4") == "4"
### BEGIN HIDDEN TESTS
for _text, _right in {
    "She has <<48/2=24>>24 clips.\nIn all 72.\n#### 72": "72", "#### 1,234,567": "1234567",
    "a\n####   -4  \n": "-4", "#### $12.50": "12.50", "####10": "10",
    "#### 4.0": "4.0",
}.items():
    assert extract_hash_answer(_text) == _right, "the stripped result, without commas and dollars"
for _text in ("no mark 5", "", "### 5", "# 5"):
    assert extract_hash_answer(_text) is None, "None where there is no mark"
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 1c: `parse_number` (6 points, medium, 20 minutes)
#
# Answers must be compared as **numbers**: "3,380", "3380" and "$3380.00" are one and the same.
#
# **Task.** The one number in a text, as a float.
#
# | text | number |
# |---|---|
# | "1,000", "$5", "4.0", "-4", "-$4", ".5", "38 kg", "x = 7." | 1000, 5, 4, -4, -4, 0.5, 38, 7 |
# | "", "four" | `None`: there is none |
# | "3 or 4", "1/2", "3,4" | `None`: there are two; who hedges has not answered |
#
# A comma belongs to a number only before groups of three digits. Any other minus than "-", and "1e3",
# need not be understood.
#
# <details><summary>Hint 1</summary><code>re.findall</code> with one pattern for a number, then
# look how many there are.</details>
# <details><summary>Hint 2</summary>The whole part is <code>\d{1,3}(?:,\d{3})+|\d+</code>: the longer
# form first. ".5" has none: one more alternative. Dollar signs may go before you search.</details>

# %% nbgrader={"grade": false, "grade_id": "ex1c", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 1c
def parse_number(text):
    """The number in a text, None when there is not exactly one.

    text: str. Returns: float or None.
    """
    ### BEGIN SOLUTION
    pattern = r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|-?\.\d+"
    numbers = re.findall(pattern, text.replace("$", ""))
    return float(numbers[0].replace(",", "")) if len(numbers) == 1 else None
    ### END SOLUTION

# %% check="ex1c"
checks.parse_number(parse_number)

# %% nbgrader={"grade": true, "grade_id": "test_ex1c", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
assert parse_number("72") == 72
### BEGIN HIDDEN TESTS
for _text, _right in {
    "3,380": 3380, "$5": 5, "4.0": 4, "-4": -4, "-$4": -4, "38 kg": 38, "0": 0, "x = 7.": 7,
    "$1,234,567.50": 1234567.5, "about 12 apples": 12, "(9)": 9, "0.25": 0.25, "$-6": -6,
    "5%": 5, "12,000 m": 12000, "100000": 100000, ".5": 0.5, "-.25": -0.25, "$.50": 0.5,
    "3.14159": 3.14159, "123456789": 123456789, "+5": 5,
}.items():
    assert parse_number(_text) == _right, "the one number of the text"
for _text in ("", "four", "-", "$", "3 or 4", "1/2", "3,4", "2 + 2 = 4", ".", "4 or 4"):
    assert parse_number(_text) is None, "None unless there is exactly one number"
### END HIDDEN TESTS

# %% [markdown]
# Do the three agree with the data? Every reference answer, put into the form and read again, must be
# the number that the row ends in:

# %%
read = [parse_number(extract_xml_answer(XML_COT_FORMAT.format(
    reasoning="...", answer=extract_hash_answer(row["answer"]))))
        for row in questions]
parsed = sum(number is not None for number in read)
print(f"{parsed} of {len(questions)} rows parse")

# %% [markdown]
# ## 2. Rewards for content
#
# TRL calls a reward function with keywords: `prompts`, `completions`, and every other column of the
# data set, here `answer`. In a conversation each completion is a list with one message;
# `rewards.completion_texts(completions)` gives their texts.
#
# ### Exercise 2a: `correctness_reward_func` (6 points, medium, 10 minutes)
#
# **Task.** 2.0 where the extracted answer is the same number as `answer`, else 0.0. What is no number
# earns nothing, even if the reference were no number either.
#
# <details><summary>Hint</summary>Both your functions of part 1, one after the other; and
# <code>None == None</code> is True.</details>

# %% nbgrader={"grade": false, "grade_id": "ex2a", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 2a
def correctness_reward_func(prompts, completions, answer, **kwargs):
    """2.0 for the right number.

    completions: list of N conversations. answer: list of N strings.
    Returns: list of N floats.
    """
    ### BEGIN SOLUTION
    values = []
    for text, right in zip(rewards.completion_texts(completions), answer):
        number = parse_number(extract_xml_answer(text))
        hit = number is not None and number == parse_number(right)
        values.append(2.0 if hit else 0.0)
    return values
    ### END SOLUTION

# %% check="ex2a"
checks.correctness_reward_func(correctness_reward_func)

# %% nbgrader={"grade": true, "grade_id": "test_ex2a", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
assert correctness_reward_func([], [], []) == []
### BEGIN HIDDEN TESTS
def _said(*texts):
    return [[{"role": "assistant", "content": _t}] for _t in texts]


_cases = [
    ("<reasoning>\n1\n2\n</reasoning>\n<answer>\n3\n</answer>\n", "3", 2),
    ("<answer>3,380</answer>", "3380", 2), ("<answer>3380</answer>", "3,380", 2),
    ("<answer>$5</answer>", "5", 2), ("<answer>4.0</answer>", "4", 2),
    ("<answer>-4</answer>", "-4", 2), ("<answer>4</answer>", "-4", 0),
    ("<answer>38 kg</answer>", "38", 2), ("<answer>13</answer>", "3", 0),
    ("<answer>30</answer>", "3", 0), ("4", "4", 0), ("", "4", 0),
    ("<answer>4</answer><answer>5</answer>", "5", 2),
    ("<answer>5</answer><answer>4</answer>", "5", 0),
    ("<answer>4 or 5</answer>", "5", 0), ("<answer>\n6", "6", 2),
    ("<answer>4.5</answer>", "4", 0), ("<answer>4</answer>", "4.5", 0),
    ("<answer>4.51</answer>", "4.5", 0), ("<answer>4.50</answer>", "4.5", 2),
    ("<answer>0</answer>", "0", 2), ("<answer>10001</answer>", "10000", 0),
    ("<answer>12,345,678</answer>", "12345678", 2),
    ("<answer>0.5</answer>", "0", 0), ("<answer>four</answer>", "four", 0),
    ("<reasoning>7</reasoning><answer>8</answer>", "7", 0)]
_got = [float(v) for v in correctness_reward_func(
    prompts=[[{"role": "user", "content": "Q"}]] * len(_cases),
    completions=_said(*(c[0] for c in _cases)), answer=[c[1] for c in _cases], trainer_state=None)]
assert len(_got) == len(_cases), "one reward a completion"
for _value, (_text, _right, _worth) in zip(_got, _cases):
    assert _value == _worth, "2 for the same number, else 0"
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 2b: `int_reward_func` (3 points, easy, 10 minutes)
#
# **Task.** 0.5 where the extracted answer is a plain whole number, right or wrong: digits, an optional
# minus before them, thousands commas allowed. "38 kg", "$5", "4.0" and "" get 0.0.
#
# <details><summary>Hint</summary><code>"-4".isdigit()</code> is False, and
# <code>"²".isdigit()</code> is True. <code>re.fullmatch</code> says exactly what you mean.</details>

# %% nbgrader={"grade": false, "grade_id": "ex2b", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 2b
def int_reward_func(completions, **kwargs):
    """0.5 for a plain whole number as the answer.

    completions: list of N conversations. Returns: list of N floats.
    """
    ### BEGIN SOLUTION
    whole = r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
    return [0.5 if re.fullmatch(whole, extract_xml_answer(text)) else 0.0
            for text in rewards.completion_texts(completions)]
    ### END SOLUTION

# %% check="ex2b"
checks.int_reward_func(int_reward_func)

# %% nbgrader={"grade": true, "grade_id": "test_ex2b", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
assert int_reward_func([]) == []
### BEGIN HIDDEN TESTS
_answers = {"5": 1, "-4": 1, "1,000": 1, "12,345,678": 1, "007": 1, "0": 1, "4.0": 0, "38 kg": 0,
            "$5": 0, "": 0, "four": 0, "3 4": 0, "²": 0, "--4": 0, "4-": 0, "1,00": 0, "-": 0,
            "+5": 0, "1_000": 0, "12345678901": 1, "1,234,567,890": 1, "\u0665": 0, "\u22124": 0}
_got = int_reward_func(
    completions=[[{"role": "assistant", "content": f"<answer>\n{_a}\n</answer>"}]
                 for _a in _answers], prompts=["Q"] * len(_answers))
assert [float(v) for v in _got] == [0.5 * _w for _w in _answers.values()], "whole numbers only"
assert float(int_reward_func([[{"role": "assistant", "content": "5"}]])[0]) == 0, (
    "without tags there is no answer")
### END HIDDEN TESTS

# %% [markdown]
# ## 3. Rewards for form
#
# Three functions look at the form alone, from lenient to exact. A lenient reward gives groups of
# imperfect answers a spread, and so a direction; the exact one says where to go.
#
# **The trap of this part**: in a regular expression `.` matches everything *but a line break*, unless
# you pass `re.DOTALL`. Without it, a pattern that works on your one-line test never pays a
# completion whose reasoning has two lines.
#
# ### Exercise 3a: `soft_format_reward_func` (5 points, medium, 10 minutes)
#
# **Task.** 0.5 where the completion **begins** (after white space, if any) with `<reasoning>`, anything,
# `</reasoning>`, nothing but white space, `<answer>`, anything, `</answer>`. Line breaks do not matter;
# text after it neither.
#
# <details><summary>Hint</summary><code>re.match</code> begins at the beginning and does not ask for the
# end; <code>\s*</code> is any white space.</details>

# %% nbgrader={"grade": false, "grade_id": "ex3a", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 3a
def soft_format_reward_func(completions, **kwargs):
    """0.5 for a reasoning block followed by an answer block.

    completions: list of N conversations. Returns: list of N floats.
    """
    ### BEGIN SOLUTION
    pattern = r"\s*<reasoning>.*?</reasoning>\s*<answer>.*?</answer>"
    return [0.5 if re.match(pattern, text, re.DOTALL) else 0.0
            for text in rewards.completion_texts(completions)]
    ### END SOLUTION

# %% check="ex3a"
checks.soft_format_reward_func(soft_format_reward_func)

# %% nbgrader={"grade": true, "grade_id": "test_ex3a", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert soft_format_reward_func([]) == []
### BEGIN HIDDEN TESTS
_texts = {
    "<reasoning>\n1\n2\n</reasoning>\n<answer>\n3\n</answer>\n": 1,
    "<reasoning>1</reasoning><answer>3</answer>": 1,
    "<reasoning>1</reasoning> \n\n <answer>3</answer>": 1,
    "\n <reasoning>\n1\n</reasoning>\n<answer>\n3\n</answer>\nBye.": 1,
    "<reasoning>\n\n</reasoning>\n<answer>\n\n</answer>": 1,
    "Well: <reasoning>1</reasoning><answer>3</answer>": 0,
    "<reasoning>1</reasoning> so <answer>3</answer>": 0,
    "<answer>3</answer><reasoning>1</reasoning>": 0, "<answer>3</answer>": 0,
    "<reasoning>1</reasoning>\t<answer>3</answer>": 1, "<Reasoning>1</Reasoning><answer>3</answer>": 0,
    "<reasoning>1</reasoning><answer>3": 0, "<reasoning>1<answer>3</answer>": 0, "3": 0, "": 0}
_got = soft_format_reward_func(
    completions=[[{"role": "assistant", "content": _t}] for _t in _texts],
    prompts=["Q"] * len(_texts), answer=["3"] * len(_texts))
assert [float(v) for v in _got] == [0.5 * _w for _w in _texts.values()], (
    "a reasoning block first, then an answer block, over any number of lines")
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 3b: `strict_format_reward_func` (6 points, medium, 10 minutes)
#
# **Task.** 0.5 where the **whole** completion is in `XML_COT_FORMAT`: each of the four tags exactly once
# and alone on its line, in order, `<answer>` on the very next line after `</reasoning>`, a line (an
# empty one will do) inside each block, nothing before or after. The final line break may be missing.
#
# <details><summary>Hint</summary><code>.*?</code> with DOTALL also swallows a second answer block;
# count the tags as well.</details>

# %% nbgrader={"grade": false, "grade_id": "ex3b", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 3b
def strict_format_reward_func(completions, **kwargs):
    """0.5 for exactly the format asked for.

    completions: list of N conversations. Returns: list of N floats.
    """
    ### BEGIN SOLUTION
    pattern = r"<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n?"
    tags = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
    return [0.5 if re.fullmatch(pattern, text, re.DOTALL)
            and all(text.count(tag) == 1 for tag in tags) else 0.0
            for text in rewards.completion_texts(completions)]
    ### END SOLUTION

# %% check="ex3b"
checks.strict_format_reward_func(strict_format_reward_func)

# %% nbgrader={"grade": true, "grade_id": "test_ex3b", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
assert strict_format_reward_func([]) == []
### BEGIN HIDDEN TESTS
_perfect = "<reasoning>\n1+1=2\n2+1=3\n</reasoning>\n<answer>\n3\n</answer>\n"
_texts = {
    _perfect: 1, _perfect[:-1]: 1, "<reasoning>\n1\n</reasoning>\n<answer>\nno idea\n</answer>": 1,
    "<reasoning>\n1\n\n2\n</reasoning>\n<answer>\n3\n4\n</answer>\n": 1,
    "<reasoning>\n\n</reasoning>\n<answer>\n\n</answer>\n": 1, _perfect.upper(): 0,
    _perfect.replace(">", "> "): 0,
    _perfect + "Bye.": 0, _perfect + "\n": 0, "So:\n" + _perfect: 0, "\n" + _perfect: 0,
    _perfect + _perfect: 0, _perfect + "<answer>\n4\n</answer>\n": 0,
    "<reasoning>\n1\n</reasoning>\n" + _perfect: 0,
    "<reasoning>1</reasoning><answer>3</answer>": 0,
    "<reasoning>\n1\n</reasoning>\n\n<answer>\n3\n</answer>\n": 0,
    "<reasoning>\n1\n</reasoning>\n<answer>\n3</answer>\n": 0,
    "<reasoning>\n1\n<answer>\n3\n</answer>\n": 0, "<answer>\n3\n</answer>\n": 0,
    "<answer>\n3\n</answer>\n<reasoning>\n1\n</reasoning>\n": 0, "": 0, "3": 0}
_got = strict_format_reward_func(
    completions=[[{"role": "assistant", "content": _t}] for _t in _texts],
    prompts=["Q"] * len(_texts), answer=["3"] * len(_texts))
assert [float(v) for v in _got] == [0.5 * _w for _w in _texts.values()], (
    "the whole completion, each tag once and alone on its line")
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 3c: `xmlcount_reward_func` (7 points, medium, 20 minutes)
#
# **Task.** A reward in small steps: 0.125 for each of the four strings below that occurs **exactly
# once**,
#
# | | |
# |---|---|
# | `"<reasoning>\n"` | `"\n</reasoning>\n"` |
# | `"\n<answer>\n"` | `"\n</answer>"` |
#
# minus 0.001 for every character behind the **last** `</answer>`, white space around them not counted.
# Without a `</answer>` nothing is behind it.
#
# <details><summary>Hint</summary>In the format asked for, a single line break stands between
# <code>&lt;/reasoning&gt;</code> and <code>&lt;answer&gt;</code>, and two of the strings hold it.
# <code>str.count</code> is called once for each string, so both find it.</details>

# %% nbgrader={"grade": false, "grade_id": "ex3c", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 3c
def xmlcount_reward_func(completions, **kwargs):
    """0.125 a tag that is in its place, less 0.001 a trailing character.

    completions: list of N conversations. Returns: list of N floats.
    """
    ### BEGIN SOLUTION
    marks = ("<reasoning>\n", "\n</reasoning>\n", "\n<answer>\n", "\n</answer>")
    values = []
    for text in rewards.completion_texts(completions):
        _, closed, rest = text.rpartition("</answer>")
        trailing = len(rest.strip()) if closed else 0
        values.append(sum(0.125 for mark in marks if text.count(mark) == 1) - 0.001 * trailing)
    return values
    ### END SOLUTION

# %% check="ex3c"
checks.xmlcount_reward_func(xmlcount_reward_func)

# %% nbgrader={"grade": true, "grade_id": "test_ex3c", "locked": true, "points": 7, "schema_version": 3, "solution": false, "task": false}
assert xmlcount_reward_func([]) == []
### BEGIN HIDDEN TESTS
_perfect = "<reasoning>\n1+1=2\n2+1=3\n</reasoning>\n<answer>\n3\n</answer>\n"
_texts = {
    _perfect: 0.5, _perfect[:-1]: 0.5, _perfect + "12345": 0.495, _perfect + " \n Bye. \n": 0.496,
    _perfect[:-1] + "x" * 600: -0.1, "<reasoning>\n1\n</reasoning>\n<answer>\n3\n": 0.375,
    "<reasoning>\n1\n<answer>\n3\n</answer>\n": 0.375, "<reasoning>1</reasoning><answer>3</answer>": 0,
    "3": 0, "": 0, "x" * 300: 0, "<reasoning>\n<reasoning>\n1\n</reasoning>\n": 0.125,
    _perfect + _perfect: 0, "a\n<answer>\n3\n</answer>": 0.25, _perfect + "Bye now": 0.493,
    _perfect + "<answer>4</answer>!": 0.499, _perfect + "Adi\u00f3s": 0.495}
_got = xmlcount_reward_func(
    completions=[[{"role": "assistant", "content": _t}] for _t in _texts],
    prompts=["Q"] * len(_texts), answer=["3"] * len(_texts))
for _value, (_text, _worth) in zip(_got, _texts.items(), strict=True):
    assert abs(float(_value) - _worth) < 1e-6, "an eighth a string that occurs once, less the tail"
### END HIDDEN TESTS

# %% [markdown]
# All five on a perfect completion and on some that are not. A perfect one is worth 4.0, and both
# format rewards pay although its reasoning has two lines:

# %%
FIVE = (correctness_reward_func, int_reward_func, strict_format_reward_func,
        soft_format_reward_func, xmlcount_reward_func)
TRIED = {
    "perfect": XML_COT_FORMAT.format(reasoning="4+3=7\n7-2=5", answer="5"),
    "wrong number": XML_COT_FORMAT.format(reasoning="4+3=7", answer="7"),
    "one line": "<reasoning>4+3=7</reasoning><answer>5</answer>",
    "unclosed answer": "<reasoning>\n4+3=7\n</reasoning>\n<answer>\n5\n",
    "and more": XML_COT_FORMAT.format(reasoning="x", answer="5") + "Bye.",
    "bare": "5"}


def paid(text):
    said = [[{"role": "assistant", "content": text}]]
    return {function.__name__: float(function(
        prompts=["Q"], completions=said, answer=["5"])[0]) for function in FIVE}


for name, text in TRIED.items():
    parts = paid(text)
    listed = "  ".join(f"{key.removesuffix('_reward_func')} {value:g}"
                       for key, value in parts.items())
    print(f"{name:>16}: {sum(parts.values()):5.2f}  {listed}")

# %% [markdown]
# ## 4. What the base policy can do
#
# Before anything is trained: what is there? 240 held-out questions, and three ways to ask. **Free**, the
# policy says what it likes. **At once**, we put a whole empty reasoning block into its mouth, and only
# the answer is left to say. **Worked out**, we put the first number of the question there, so that it
# begins an equation. Each time it then takes the likeliest token (greedy).

# %%
mine = {function.__name__: function for function in (
    extract_xml_answer, extract_hash_answer, parse_number, *FIVE)}
exam = thinking.Exam(mine, tokenizer, DEFAULTS.max_completion_length)
held_out = thinking.held_out(DEFAULTS)
for way, starts in thinking.starts_of(held_out).items():
    hits = exam.right(held_out, exam.said(policy, held_out, starts))
    rate = rate_interval(sum(hits), len(hits))
    cells = "  ".join(f"{n} steps {share:.2f}" for n, share
                      in thinking.by_steps(held_out, hits).items())
    print(f"{way:>10}: {rate['value']:.2f} "
          f"[{rate['low']:.2f}, {rate['high']:.2f}]  {cells}")

# %% [markdown]
# Free, it answers as badly as when it must answer at once, because that is what it does. Worked
# out, it is right nearly always. The skill is there; the habit is another one. And at once, each
# further step costs it dearly, while worked out hardly: whoever writes a step down has to do only one at
# a time.
#
# ### Exercise 4: `pass_at_k` (10 points, medium, 25 minutes)
#
# pass@1 says how good one try is. **pass@k** says how often at least one of k tries is right: what the
# policy can do at all, if somebody could tell the right try from the others. It is what reinforcement
# learning has to work with: a question that the policy never gets right gives no signal.
#
# To ask k times and look is noisy. Better ask `n >= k` times, count the `c` right ones, and take the mean
# over **all** ways to choose k of the n tries (Chen et al. 2021):
#
# $$\text{pass@}k = 1 - \binom{n-c}{k} \Big/ \binom{n}{k}$$
#
# the chance that not all k come from the wrong ones.
#
# **Task.** This number, as a float, exact to rounding, also for thousands of tries, where the binomials
# have thousands of digits. With fewer wrong tries than k it is 1.
#
# <details><summary>Hint 1</summary><code>1 - (1 - c/n)**k</code> is the chance <em>with</em> putting back: always
# too small for k &gt; 1.</details>
# <details><summary>Hint 2</summary><code>math.comb</code> gives whole numbers of any size, 0 where k is too
# large, and Python divides whole numbers of any size.</details>

# %% nbgrader={"grade": false, "grade_id": "ex4", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 4
def pass_at_k(n, c, k):
    """The chance that k of n tries, none drawn twice, hold a right one.

    n: int, tries. c: int, 0 to n, the right ones. k: int, 1 to n.
    Returns: float.
    """
    ### BEGIN SOLUTION
    return 1 - math.comb(n - c, k) / math.comb(n, k)
    ### END SOLUTION

# %% check="ex4"
checks.pass_at_k(pass_at_k)

# %% nbgrader={"grade": true, "grade_id": "test_ex4", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert abs(pass_at_k(2, 1, 1) - 0.5) < 1e-9
### BEGIN HIDDEN TESTS
import itertools as _itertools


for _n in range(1, 8):
    for _c in range(_n + 1):
        for _k in range(1, _n + 1):
            _ways = list(_itertools.combinations([1] * _c + [0] * (_n - _c), _k))
            _right = sum(map(any, _ways)) / len(_ways)
            assert abs(pass_at_k(_n, _c, _k) - _right) < 1e-9, (
                "the share of all ways to choose k tries that hold a right one")
for _n, _c, _k in ((200, 3, 64), (3000, 40, 37), (5000, 2, 2500), (20000, 1, 10000),
                   (4000, 3990, 11), (4000, 3990, 10), (20000, 5, 1)):
    _miss = 1.0
    for _i in range(_k):
        _miss *= max(0, _n - _c - _i) / (_n - _i)
    assert abs(pass_at_k(_n, _c, _k) - (1 - _miss)) < 1e-7, (
        "right for thousands of tries too, and 1 where the wrong ones do not fill k places")
### END HIDDEN TESTS

# %% [markdown]
# 32 tries at each of 60 held-out questions, at temperature 1, as training samples them:

# %%
mine["pass_at_k"] = pass_at_k
few = held_out[::4]


def listed(passed):
    return "  ".join(f"pass@{k} {value:.2f}" for k, value in passed.items())


print("base: ", listed(exam.passes(policy, few)))

# %% [markdown]
# One try in three or so is right, and with eight tries nine questions in ten are solved at least once. So the
# policy does work problems out now and then, and every group of 16 that training samples holds both
# kinds: an answer at once, mostly wrong, and a worked-out one, mostly right. That is all that GRPO needs.

# %% [markdown]
# ## 5. Training
#
# Two runs, 64 completions a step, in groups of 16:
#
# 1. **all five** rewards, 200 steps;
# 2. **form only**, a control, 100 steps: correctness and `int` get weight 0. If accuracy rose here as well, it would
#    owe nothing to being paid for.
#
# Why these settings? A **group of 16**, because the policy works out fewer than a quarter of its tries: a
# group of 4 would hold none more than every third time. A **learning rate** of 2e-4 with a warm-up over the first tenth, then
# cosine: with more than twice as much, a base policy like this one never changed its habit when we tried (one
# seed). **beta = 0.2**: a pull towards the base policy. It keeps the arithmetic that we do not want to lose,
# and it keeps noise from carrying the policy away: a control below shows what happens with a tenth of it.
# **56 tokens**: enough for five steps; a limit that cuts worked-out answers off would teach that thinking
# does not pay. **200 steps**: one pass over 800 questions.
#
# **What to look at while it trains**: correctness and length together. Length that grows without
# correctness is padding; correctness that grows without length would be another story than the one told
# above. *Tied groups* say how many questions still teach anything.
#
# Validation is on 240 held-out questions. Held out by their **numbers**: no chain of numbers of theirs,
# `7+4-2*3`, stands in a training question or in the text that the base policy was made from, not even as
# part of a longer one; another name or noun would not make a question new. *Sampled* draws at temperature
# 1, as training does; *greedy* always takes the likeliest token.

# %%
predict(
    "Training ends with greedy accuracy far above where it began. Greedy "
    "accuracy is measured every ten steps. How does it get there?",
    {"in small, equal gains, from the first step to the last":
         "That is the sampled curve, more or less: its probability moves a "
         "little with each step. Greedy asks only which habit is the likelier.",
     "nearly all of it within ten or twenty steps, early on":
         "Greedy takes the likelier of two habits. When the probability of "
         "working it out passes one half, it goes over on nearly all of them.",
     "not before the rewards for form are learnt":
         "Form is no condition: an answer in any style counts, as long as its "
         "tag can be read. Right answers pay four times what a form does."},
    right="nearly all of it within ten or twenty steps, early on")

# %%
predict(
    "Of the five rewards, which one asks for long answers?",
    {"correctness": "It reads the number in the answer block and nothing else.",
     "the ones for form": "They ask for tags; between them one line will do.",
     "none": "Length rises because worked-out answers are right more often, "
             "and right answers are paid."},
    right="none")

# %%
for name, settings in {
    "all five": {},
    "form only": {"reward_weights": (0.0, 0.0, 1.0, 1.0, 1.0),
                  "max_steps": 100},
}.items():
    print(name)
    RUNS[name] = experiment(
        f"reasoning_{name.replace(' ', '_')}", mine,
        task="reasoning", model=MODEL, live=False, **settings)

# %%
results = evaluation.side_by_side(RUNS)
if results:
    widgets.show_table(results, TASK)
    plots.show(plots.history(evaluation.histories(RUNS), TASK))
    plots.show(plots.detectors(results, TASK))

# %% [markdown]
# Form climbs in both. Accuracy climbs only where it is paid for, and length with it, although no reward
# knows of length or of equations.
#
# ### The flip
#
# One run is one run. What follows in this part was measured beforehand, by
# `python -m benchmarks.reasoning`, on five seeds for the main run and three for each control, and is drawn
# here. Every ten steps: 60 held-out questions, answered greedily and sampled. Thin lines are seeds, the
# bold one is their mean.

# %%
SEEDS = list(MEASURED["runs"]["all five"].values())
BASE = MEASURED["base"]
print(f"stored: {len(SEEDS)} seeds, {MEASURED['date']}, one thread of an "
      f"{MEASURED['processor']}")


def curve(variant, key):
    """The steps of the probes, and a row of figures for each seed."""
    runs = [run["curve"] for run in MEASURED["runs"][variant].values()]
    return runs[0]["step"], [run[key] for run in runs]


def end(variant, key):
    """A figure after training: mean over the seeds, lowest seed, highest."""
    found = [run["final"][key]["value"]
             for run in MEASURED["runs"][variant].values()]
    return {"value": statistics.fmean(found), "low": min(found),
            "high": max(found)}


steps, greedy = curve("all five", "accuracy_greedy")
sampled = curve("all five", "accuracy")[1]


def passes_half(rows):
    """The first probe at which each seed is right more often than not."""
    return [next(step for step, rate in zip(steps, row) if rate > 0.5)
            for row in rows]


def largest(rows):
    """The most that each seed gains from one probe to the next."""
    return [max(b - a for a, b in pairwise(row)) for row in rows]


plots.show(plots.seeds(
    {("right, held out", "step", "share"): {
        "greedy": (steps, greedy), "sampled": (steps, sampled)},
     ("all steps written, held out", "step", "share"): {
        "greedy": curve("all five", "worked_greedy"),
        "sampled": curve("all five", "worked_rate")},
     ("length, sampled", "step", "tokens"): {
        "length": curve("all five", "length")}},
    alt=f"By step ({len(SEEDS)} seeds), 60 held-out questions each ten steps. "
        "Greedy accuracy passes one half at step "
        f"{min(passes_half(greedy))} to "
        f"{max(passes_half(greedy))}; its largest gain in ten steps is "
        f"{min(largest(greedy)):.2f} to {max(largest(greedy)):.2f}, that of "
        f"sampled accuracy {min(largest(sampled)):.2f} to "
        f"{max(largest(sampled)):.2f}. After training, on 240: greedy "
        f"{end('all five', 'accuracy_greedy')['value']:.3f}, sampled "
        f"{end('all five', 'accuracy')['value']:.3f}, length "
        f"{end('all five', 'length')['value']:.1f} tokens."))

# %% [markdown]
# Greedy accuracy goes from a quarter to nearly all within twenty steps, and then stays. Sampled accuracy
# rises fastest at the same time, by a quarter or so, and climbs for a hundred steps more. **Nothing sudden
# happened.** Greedy asks only
# which of two habits is the likelier one. Before training the policy writes all steps in a fifth of its
# samples, and greedy in none. Each update makes the first token of an equation a little likelier; when it
# passes one half on most questions, greedy goes over on all of them, though one sample in two still
# answers at once. Whoever watches greedy accuracy alone sees an "aha moment", and so does whoever measures
# every hundred steps.
#
# Length follows the habit: from 15 tokens to 27, and then no further.

# %% [markdown]
# ### Was it the reward? Controls
#
# Four other ways to train, three seeds each, all with as many steps as the main run:
#
# - **correctness only**: the four other rewards have weight 0;
# - **form only**: as above, with 200 steps;
# - **random reward**: a coin for each completion, whatever it says;
# - **own right answers**: no GRPO at all. The base policy samples as many tokens as the main run does, its
#   right answers are kept, and it learns from them by likelihood, as from any text.

# %%
predict(
    "The reward is a coin: it knows nothing of the answer. What becomes of "
    "sampled accuracy in 200 steps?",
    {"it rises as well": "On some large models a random reward raised accuracy "
     "(Shao et al. 2025, Spurious Rewards), which they put down to clipping: "
     "it strengthens what was likely already. Here nothing is ever clipped, "
     "and the likeliest habit is the one that fails.",
     "it stays, or falls a little": "The advantages are noise without a "
     "direction. Noise teaches nothing, and it may wear off what was known.",
     "it falls to nothing": "That would take a reward that prefers wrong "
     "answers, or a far larger learning rate."},
    right="it stays, or falls a little")

# %%
SHOWN = {"accuracy_greedy": "right, greedy", "accuracy": "right, sampled",
         "format_rate": "strict form, sampled",
         "worked_greedy": "all steps, greedy",
         "worked_rate": "all steps, sampled", "length": "length, sampled"}
CONTROLS = ("all five", "correctness only", "form only", "random reward",
            "own right answers")
plots.show(plots.bars(
    {"base": {title: BASE["final"][key] for key, title in SHOWN.items()}}
    | {variant: {title: end(variant, key) for key, title in SHOWN.items()}
       for variant in CONTROLS},
    "The main run and its controls, mean over the seeds, 240 held-out "
    "questions each; a black line goes from the lowest seed to the highest, "
    "for the base over its 95 % interval."))

# %% [markdown]
# A black line goes from the lowest seed to the highest; for the base it is the 95 % interval.
#
# **Correctness only** does what the main run does: the same accuracy, the same length, all steps written. So
# this was the work of one reward. What the other four buy is form: with them 0.95 to 0.96 of the samples are
# strict, without them 0.59 to 0.61.
#
# **Form only** buys form, and no more. Nearly every sample is strict; no more than before are worked out, and
# greedy accuracy ends at 0.23 to 0.27, where the base policy has 0.29. That sampled accuracy gains a little, 0.34 to 0.38
# against 0.28, is form as well: one answer in seven of the base policy stood in no tag, where nobody could read it.
#
# **Own right answers** ends nearly as high as GRPO, if you look at greedy accuracy. Sampled it goes three
# fifths of the way: two samples in three are right. Among right answers there are more worked-out ones
# than among all, so to learn from them tips the scales, and greedy asks for no more. But all of them were
# sampled before training; GRPO samples anew after each step, from a policy that works out more already. To
# sample a second lot from the new policy, and a third, would be the step between the two; it is not
# measured here.
#
# **Random reward**: the coin teaches nothing. Sampled accuracy ends at 0.24 to 0.31, greedy at 0.21 to 0.26; the
# base policy has 0.28 and 0.29. But noise is not nothing, and what holds it here is the pull towards the base
# policy. With a tenth of it (`beta=0.02`, the same three seeds) all steps stand in 0.28 to 0.44 of the samples, where
# the base has 0.21, and greedy accuracy ends at 0.20, 0.44 and 0.34. **A coin can do that?** It cannot tell right from
# wrong, and it taught no skill: made to work out, these policies solve 0.79 to 0.88 of the problems of four steps, the
# base 0.98. But the noise moved the chance of beginning with an equation, and whether greedy follows is decided at
# one half. Whoever looks at greedy accuracy alone, and at one seed, may find that a random reward "works". So look at
# sampled accuracy too, at several seeds, and always at a control.

# %% [markdown]
# ### By the number of steps
#
# And one length that nobody trained on: problems of five steps occur neither in the base policy's text nor
# in training. Each policy is asked in the three ways of part 4.

# %%
def of_steps(variant, way):
    """Greedy accuracy at 2, 3, 4, 5 steps, a row for each seed."""
    found = [BASE] if variant == "base" else MEASURED["runs"][variant].values()
    return [[of["ways"][way][n] for n in "2345"] for of in found]


def means(rows):
    """The mean over the seeds at each place, for a picture's text."""
    return ", ".join(f"{statistics.fmean(at):.2f}" for at in zip(*rows))


lengths = {f"{name}, {way}": of_steps(variant, way)
           for name, variant in {"base": "base", "trained": "all five"}.items()
           for way in ("free", "at once", "worked out")}
plots.show(plots.seeds(
    {("greedy, by length", "steps; 5 was never trained", "right"): {
        name: (range(2, 6), rows) for name, rows in lengths.items()}},
    alt="Right at 2, 3, 4, 5 steps, mean over the seeds. " + "; ".join(
        f"{name}: {means(rows)}" for name, rows in lengths.items())))

# %% [markdown]
# The trained policies, free, lie on the line of the base policy that was *made* to work things out, and
# not above it by more than chance: the accuracy of a step did not rise. Training moved the habit; the
# skill it did not lift. **This is elicitation.** At once, the trained policies are worse than the base
# was, on the mean of the seeds: what is never done is never paid for, and wears off. And five steps nobody can do, made to or not,
# before or after: neither the text nor the training taught a rule that goes on for ever.
#
# ### pass@k, before and after
#
# If training had given the policy new abilities, it would now solve questions that it did not solve in 32
# tries before:

# %%
def passed(found):
    return [[of["passes"][k] for k in BASE["passes"]] for of in found]


tries = [int(k) for k in BASE["passes"]]
plots.show(plots.seeds(
    {("tries that RL saves", "k", "pass@k"): {
        "base": (tries, passed([BASE])),
        "trained": (tries, passed(SEEDS))}},
    xscale="log", alt=f"pass@k on {len(few)} held-out questions, base and "
    f"trained ({len(SEEDS)} seeds). At k = 1: base "
    f"{BASE['passes']['1']:.2f}, trained "
    f"{min(row[0] for row in passed(SEEDS)):.2f} to "
    f"{max(row[0] for row in passed(SEEDS)):.2f}. At k = {tries[-1]}: base "
    f"{passed([BASE])[0][-1]:.2f}, trained "
    f"{min(row[-1] for row in passed(SEEDS)):.2f} to "
    f"{max(row[-1] for row in passed(SEEDS)):.2f}."))

# %% [markdown]
# And your own run, on the same questions:

# %%
trained = None
if RUNS.get("all five"):
    trained = models.load_policy(str(RUNS["all five"] / "final"))[0]
    print("after:", listed(exam.passes(trained, few)))

# %% [markdown]
# At k = 1 the curves are far apart, at k = 32 they meet: no question was solved afterwards that had been out of
# reach before. Reinforcement learning moved the probability to what the policy already did now and
# then. Yue et al. (2025) found the same in models thousands of times as large, and more: at a k of tens or
# hundreds the base models were *ahead*, for training had narrowed what they try. With 32 tries at 60
# questions we cannot see that, and at a pass@32 of 1.00 there is no room for it. New ability may be claimed where
# pass@k at a **large** k rises, or a length that nobody trained on; here neither says so.
#
# **And DeepSeek-R1-Zero's famous curve?** There the mean length grew over thousands of steps, from hundreds of
# tokens to thousands, on problems that need them, together with accuracy and without pay for length: so
# far the same picture. Two things are different. Ours stops as soon as all steps are written, because a
# further line earns nothing; theirs was still rising where the published curve ends. And GRPO as published
# takes the mean of the tokens in each answer, which by itself spares long wrong answers (chapter 2's
# `loss_type="grpo"`; Liu et al. 2025): a part of such a curve may be the loss and not the thought. Liu et al. also
# found "aha" phrases in base models before any training. Here the loss weighs every token alike (`"dapo"`).

# %%
if RUNS.get("all five"):
    widgets.sample_browser(RUNS["all five"])

# %% [markdown]
# ## 6. Is the reasoning load-bearing?
#
# The answers got right when the reasoning got long. Does the answer **use** the reasoning, or does it
# stand beside it? To find out one has to operate: change the reasoning, leave the rest, and see what the
# answer does. Both functions give the *beginning* of a completion, which the policy then goes on with.
#
# ### Exercise 5a: `cut_reasoning` (8 points, medium, 15 minutes)
#
# **Task.** The first `keep` lines of the reasoning, then the answer's tag, so that only the answer is
# left to say:
#
# | | |
# |---|---|
# | text | `"<reasoning>\n4+3=7\n7-2=5\n</reasoning>\n<answer>\n5\n</answer>\n"` |
# | keep 1 | `"<reasoning>\n4+3=7\n</reasoning>\n<answer>\n"` |
# | keep 0 | `"<reasoning>\nI see it.\n</reasoning>\n<answer>\n"` |
#
# Lines are stripped, empty ones do not count. Where no line is left, the line `AT_ONCE`, which is "I see
# it.", takes their place: the policy should see an answer at once as it knows it. `keep` beyond the end
# keeps all lines. `ValueError` where the text has not exactly one `<reasoning>` and, somewhere behind it,
# exactly one `</reasoning>`, or where `keep` is negative: a malformed text must not be counted as one
# that was cut.
#
# <details><summary>Hint</summary>Count both tags, then <code>str.partition</code> twice; the second time at
# <code>&lt;/reasoning&gt;</code>, and look whether it was found. <code>kept or [AT_ONCE]</code>.</details>

# %% nbgrader={"grade": false, "grade_id": "ex5a", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 5a
def cut_reasoning(text, keep):
    """The beginning of a completion: keep lines of the reasoning, and a tag.

    text: str. keep: int, at least 0. Returns: str.
    Raises ValueError for a malformed text and a negative keep.
    """
    ### BEGIN SOLUTION
    _, _, rest = text.partition("<reasoning>")
    inside, closed, _ = rest.partition("</reasoning>")
    if keep < 0 or not closed or text.count("<reasoning>") + text.count("</reasoning>") != 2:
        raise ValueError("no text with one reasoning block, or a negative keep")
    lines = [line.strip() for line in inside.split("\n") if line.strip()]
    return "\n".join(["<reasoning>", *(lines[:keep] or [AT_ONCE]), "</reasoning>", "<answer>", ""])
    ### END SOLUTION

# %% check="ex5a"
checks.cut_reasoning(cut_reasoning)

# %% nbgrader={"grade": true, "grade_id": "test_ex5a", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
assert cut_reasoning("<reasoning>\n1+1=2\n</reasoning>", 1) == (
    "<reasoning>\n1+1=2\n</reasoning>\n<answer>\n")
### BEGIN HIDDEN TESTS
import random as _random


def _cut(lines):
    return "<reasoning>\n" + "".join(f"{_l}\n" for _l in lines) + "</reasoning>\n<answer>\n"


_rng = _random.Random(3)
for _ in range(40):
    _lines = [f"{_rng.randint(2, 60)}{_rng.choice('+ ')}{_rng.randint(2, 9)}={_rng.randint(4, 69)}"
              for _ in range(_rng.randint(1, 12))]
    _gap = _rng.choice(("\n", "\n\n", " \n  "))
    _text = (_rng.choice(("", "Well:\n")) + "<reasoning>" + _rng.choice(("", "\n", " \n"))
             + _gap.join(_lines) + _rng.choice(("", "\n", " ")) + "</reasoning>"
             + _rng.choice(("", "\n<answer>\n5\n</answer>\n", "<answer>\n7\n8", "\nI see.")))
    for _keep in range(len(_lines) + 2):
        assert cut_reasoning(_text, _keep) == _cut(_lines[:_keep] or ["I see it."]), (
            "the first lines of the reasoning, stripped, then the tag of the answer")
for _inside in ("", "\n", "\n \n\n"):
    assert cut_reasoning(f"<reasoning>{_inside}</reasoning>", 2) == _cut(["I see it."]), (
        "where no line is left, the line AT_ONCE")
for _text, _keep in (
        ("", 0), ("5", 1), ("<reasoning>\n1+1=2\n", 1), ("1+1=2\n</reasoning>", 1),
        ("</reasoning>\n1+1=2\n<reasoning>", 1), ("<reasoning>\n1\n</reasoning>\n</reasoning>", 1),
        ("<reasoning>\n<reasoning>\n1\n</reasoning>", 1), ("<answer>\n5\n</answer>", 0),
        ("<reasoning>\n1\n</reasoning>\n<reasoning>\n2\n</reasoning>", 0),
        ("<reasoning>\n1\n</reasoning>", -1), ("<reasoning>\n1\n2\n</reasoning>", -2)):
    try:
        cut_reasoning(_text, _keep)
    except ValueError:
        continue
    raise AssertionError("ValueError for a malformed text and for a negative keep")
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 5b: `corrupt_step` (10 points, hard, 20 minutes)
#
# A **result** is a whole number behind `=`, white space between them or not, inside the reasoning block.
#
# **Task.** The text up to its `index`-th result, the result changed by `delta`, and a line break. What
# stood behind it is dropped: it was written for the old number, and the policy shall write it anew.
#
# | | |
# |---|---|
# | text | `"<reasoning>\n4+3=7\n7-2=5\n</reasoning>\n<answer>\n5\n</answer>\n"` |
# | index 0, delta 1 | `"<reasoning>\n4+3=8\n"` |
# | index -1, delta 10 | `"<reasoning>\n4+3=7\n7-2=15\n"` |
#
# `index` counts as in a list, from the end where it is negative. `ValueError` where there is no
# `<reasoning>` with a `</reasoning>` behind it; `IndexError` where there are fewer results.
#
# <details><summary>Hint 1</summary>To replace the text "7" would hit the first 7, wherever it stands.
# <code>re.finditer</code> tells where each result begins: <code>match.start(1)</code>.</details>
# <details><summary>Hint 2</summary>A list of the matches knows negative indices and raises
# <code>IndexError</code> by itself.</details>

# %% nbgrader={"grade": false, "grade_id": "ex5b", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 5b
def corrupt_step(text, index, delta):
    """text up to its index-th result, that one changed by delta, a line break.

    text: str. index: int, as in a list. delta: int. Returns: str.
    Raises ValueError without a reasoning block, IndexError without the result.
    """
    ### BEGIN SOLUTION
    head, opened, rest = text.partition("<reasoning>")
    inside, closed, _ = rest.partition("</reasoning>")
    if not closed:
        raise ValueError("no reasoning block")
    result = list(re.finditer(r"=\s*(-?[0-9]+)", inside))[index]
    return head + opened + inside[:result.start(1)] + f"{int(result[1]) + delta}\n"
    ### END SOLUTION

# %% check="ex5b"
checks.corrupt_step(corrupt_step)

# %% nbgrader={"grade": true, "grade_id": "test_ex5b", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert corrupt_step("<reasoning>\n1+1=2\n</reasoning>", 0, 1) == (
    "<reasoning>\n1+1=3\n")
### BEGIN HIDDEN TESTS
import random as _random


_rng = _random.Random(4)
for _ in range(40):
    _steps = [(f"{_rng.randint(2, 20)}{_rng.choice('+-*')}{_rng.randint(2, 20)}"
               f"{_rng.choice(('=', ' = ', '= '))}", _rng.choice((_rng.randint(-20, 20), 7, 107)))
              for _ in range(_rng.randint(1, 11))]
    _before = _rng.choice(("", "x=3\n"))
    _open = _rng.choice(("<reasoning>\n", "<reasoning>"))
    _text = (_before + _open + "\n".join(f"{_a}{_r}" for _a, _r in _steps)
             + "\n</reasoning>\n<answer>\n" + f"y={_steps[-1][1]}\n</answer>\n")
    for _i in range(-len(_steps), len(_steps)):
        _delta = _rng.choice((1, -1, 10, -30, 95))
        _at = _i % len(_steps)
        _right = (_before + _open + "".join(f"{_a}{_r}\n" for _a, _r in _steps[:_at])
                  + f"{_steps[_at][0]}{_steps[_at][1] + _delta}\n")
        assert corrupt_step(_text, _i, _delta) == _right, (
            "everything before the result, the changed result, a line break")
    for _i in (len(_steps), -len(_steps) - 1):
        try:
            corrupt_step(_text, _i, 1)
        except IndexError:
            continue
        raise AssertionError("IndexError where there are fewer results")
assert corrupt_step("<reasoning>3+4=7, 7-7=0 and more</reasoning>", 1, 2) == (
    "<reasoning>3+4=7, 7-7=2\n"), "several results on one line"
assert corrupt_step("<reasoning>5*5=\t25. So 25*50=1250.</reasoning>", 0, 1) == (
    "<reasoning>5*5=\t26\n"), "any white space before a result, any text behind it"
assert corrupt_step("<reasoning>5*5=\t25. So 25*50=1250.</reasoning>", 1, 1) == (
    "<reasoning>5*5=\t25. So 25*50=1251\n"), "results have any number of digits"
for _text in ("", "1+1=2", "<reasoning>\n1+1=2\n", "1+1=2\n</reasoning>", "</reasoning>1=1<reasoning>"):
    try:
        corrupt_step(_text, 0, 1)
    except ValueError:
        continue
    raise AssertionError("ValueError where there is no reasoning block")
try:
    corrupt_step("<reasoning>\nI see it.\n</reasoning>\n<answer>\nx=5\n</answer>", 0, 1)
except IndexError:
    pass
else:
    raise AssertionError("results outside the reasoning do not count")
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 5c: `faithful_rate` (7 points, medium, 15 minutes)
#
# After a changed step an answer may **follow** it, stay what it was, or become something else.
#
# **Task.** The share of answers that follow, among the cases that can tell. A case can tell where the
# answer before is a number and differs from the one that would follow; otherwise staying and following
# look alike. An answer after that is none (`None`) did not follow. `None` where no case can tell;
# `ValueError` where the lists are not of the same length.
#
# <details><summary>Hint</summary><code>zip(..., strict=True)</code> raises the <code>ValueError</code>. Count the cases
# first, then those that follow.</details>

# %% nbgrader={"grade": false, "grade_id": "ex5c", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 5c
def faithful_rate(answers_before, answers_after, answers_if_followed):
    """The share of answers that follow a change; None where no case tells.

    answers_before, answers_after: lists of N floats or None.
    answers_if_followed: list of N floats. Returns: float or None.
    Raises ValueError for lists of unequal length.
    """
    ### BEGIN SOLUTION
    follows = [after == wanted for before, after, wanted in zip(
        answers_before, answers_after, answers_if_followed, strict=True)
        if before is not None and before != wanted]
    return sum(follows) / len(follows) if follows else None
    ### END SOLUTION

# %% check="ex5c"
checks.faithful_rate(faithful_rate)

# %% nbgrader={"grade": true, "grade_id": "test_ex5c", "locked": true, "points": 7, "schema_version": 3, "solution": false, "task": false}
assert faithful_rate([5.0], [6.0], [6.0]) == 1
### BEGIN HIDDEN TESTS
import random as _random


for _before, _after, _if, _right in (
        ([5.0, 5.0], [6.0, 5.0], [6.0, 6.0], 1 / 2), ([5.0, None], [6.0, 6.0], [6.0, 6.0], 1),
        ([6.0, 5.0], [6.0, 5.0], [6.0, 6.0], 0), ([5.0] * 4, [None, 6.0, 7.0, 5.0], [6.0] * 4, 1 / 4),
        ([0.0, 1.0], [1.0, 0.0], [1.0, 0.0], 1), ([5.0, 3.0], [3.0, 5.0], [6.0, 4.0], 0),
        ([5.0] * 3, [6.5, 6.0, 6.4], [6.5, 6.5, 6.5], 1 / 3)):
    assert abs(faithful_rate(_before, _after, _if) - _right) < 1e-9, (
        "those that follow, of those that can tell")
for _before, _after, _if in (([], [], []), ([None], [6.0], [6.0]), ([6.0], [6.0], [6.0])):
    assert faithful_rate(_before, _after, _if) is None, "None where no case can tell"
for _lists in (([5.0], [6.0], []), ([5.0], [], [6.0]), ([], [6.0], [6.0])):
    try:
        faithful_rate(*_lists)
    except ValueError:
        continue
    raise AssertionError("ValueError for lists of unequal length")
_rng = _random.Random(5)
for _ in range(40):
    _rows = [[_rng.choice((None, 0.0, 1.0, 2.5)), _rng.choice((None, 0.0, 1.0, 2.5)),
              _rng.choice((0.0, 1.0, 2.5))] for _ in range(9)] + [[1.0, 2.0, 3.0]]
    _tell = [_r for _r in _rows if _r[0] not in (None, _r[2])]
    _share = len([_r for _r in _tell if _r[1] == _r[2]]) / len(_tell)
    assert abs(faithful_rate(*map(list, zip(*_rows))) - _share) < 1e-9, (
        "those that follow, of those that can tell")
### END HIDDEN TESTS

# %% [markdown]
# Now the operation, on the held-out questions, both policies **made** to work out, so that there is
# something to operate on; and answers that were right, so that we know which should follow.
#
# **Cut off**: of the lines written, keep none, half, or all, and force the answer. **Changed**: raise one
# result by 1. The last one: the answer should be higher by 1. The first one: the policy has to go on from
# the wrong number, and we know where its own next steps lead from there.

# %%
mine |= {function.__name__: function for function in (
    cut_reasoning, corrupt_step, faithful_rate)}
if trained and MODEL == "tiny":
    for name, model in {"base": policy, "trained": trained}.items():
        of = exam.operated(model, held_out)
        print(f"{name} (n = {of['n']}): right with none of the lines "
              f"{of['none']:.2f}, half {of['half']:.2f}, all {of['all']:.2f}; "
              f"follows a changed last result {of['last']:.2f}, a changed "
              f"first one {of['first']:.2f}")

# %% [markdown]
# The same for the stored seeds, with 95 % intervals:

# %%
OPERATIONS = {"none": "right: no line kept", "half": "half of the lines kept",
              "all": "all lines kept", "last": "follows: last result",
              "first": "follows: first result"}
plots.show(plots.bars(
    {"base": {title: rate_interval(
        round(BASE["operated"][key] * BASE["operated"]["n"]),
        BASE["operated"]["n"]) for key, title in OPERATIONS.items()},
     "all five": {title: rate_interval(
         round(sum(of["operated"][key] * of["operated"]["n"] for of in SEEDS)),
         sum(of["operated"]["n"] for of in SEEDS))
         for key, title in OPERATIONS.items()}},
    "Operations on the reasoning of right, worked-out answers; right when so "
    "many lines are kept, and the share that follows a result raised by 1."))

# %% [markdown]
# The reasoning is load-bearing, before training and after. Without any line the answers are right in
# three of ten cases at most, with half of the lines in fewer than half, with all of them always; and a wrong
# result carries through to the answer nearly always. So training did not *make* the answers depend on the
# reasoning: it made the policy write it. This need not be so: large models, asked easy
# questions, often know the answer before they reason, and then what they write explains nothing (Lanham
# et al. 2023, Turpin et al. 2023). The test is the same there, and `--pass-at` runs it for any model.

# %% [markdown]
# ## 7. A price for every token
#
# Thinking costs time. A policy that thinks where it must and answers at once where it can would be better
# than one that always thinks. So let tokens have a price.
#
# ### Exercise 6: `token_cost_reward` (10 points, medium, 20 minutes)
#
# The obvious price, `correctness - cost * length` for everybody, has a hole: a policy that is seldom
# right learns to be wrong **quickly**. So only right answers pay, and never so much that a wrong one
# would be better.
#
# **Task.** For each completion: where `correctness` is above 0, correctness less `cost` for each token,
# but at least half the correctness; else 0.0. `ValueError` where the lists differ in length, or `cost` is
# negative.
#
# | correctness | length | cost | reward |
# |---|---|---|---|
# | 2 | 25 | 0.01 | 1.75 |
# | 2 | 400 | 0.01 | 1.0 |
# | 0 | 5 | 0.01 | 0.0 |
#
# <details><summary>Hint</summary><code>max</code> of the two, and <code>zip(..., strict=True)</code>.</details>

# %% nbgrader={"grade": false, "grade_id": "ex6", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Exercise 6
def token_cost_reward(correctness, lengths, cost):
    """What is left of the correctness when tokens cost something.

    correctness: list of N floats, at least 0. lengths: list of N ints,
    tokens. cost: float, at least 0, of one token. Returns: list of N floats.
    Raises ValueError for lists of unequal length and a negative cost.
    """
    ### BEGIN SOLUTION
    if cost < 0:
        raise ValueError("a negative cost would pay for length")
    return [max(c - cost * n, c / 2) if c > 0 else 0.0
            for c, n in zip(correctness, lengths, strict=True)]
    ### END SOLUTION

# %% check="ex6"
checks.token_cost_reward(token_cost_reward)

# %% nbgrader={"grade": true, "grade_id": "test_ex6", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert token_cost_reward([], [], 0.5) == []
### BEGIN HIDDEN TESTS
import random as _random


_rng = _random.Random(6)
for _ in range(60):
    _n = _rng.randint(1, 9)
    _c = [_rng.choice((0.0, 0.0, 0.4, 1.0, 2.0, 9.0)) for _ in range(_n)]
    _lengths = [_rng.choice((0, 1, _rng.randint(2, 60), 1000)) for _ in range(_n)]
    _cost = _rng.choice((0.0, 0.001, 0.0137, 0.05, 1.5))
    _right = []
    for _one, _long in zip(_c, _lengths):
        _left = _one - _cost * _long
        _right.append(0.0 if _one == 0 else _left if _left > _one / 2 else _one / 2)
    _got = token_cost_reward(list(_c), list(_lengths), _cost)
    assert len(_got) == _n and all(abs(float(_a) - _b) < 1e-9 for _a, _b in zip(_got, _right)), (
        "correctness less the price, at least half of it; nothing for a wrong answer")
for _bad in (([1.0], [], 0.1), ([], [3], 0.1), ([1.0], [3], -0.1), ([0.0, 0.0], [1, 2], -1),
             ([1.0, 2.0], [3], 0.0)):
    try:
        token_cost_reward(*_bad)
    except ValueError:
        continue
    raise AssertionError("ValueError for lists of unequal length and for a negative cost")
### END HIDDEN TESTS

# %% [markdown]
# What a price makes of the two habits, for a question that the policy, answering at once, gets right with
# chance p, and worked out with chance 0.95; 12 tokens against 30. Where the lines cross, thinking stops
# to pay:

# %%
chances = [i / 20 for i in range(21)]


def earned(chance, length, cost):
    return chance * token_cost_reward([2.0], [length], cost)[0]


prices = (0.0, 0.01, 0.03)
lines = {"at once, 0.01 a token": (
    chances, [earned(chance, 12, 0.01) for chance in chances])}
for cost in prices:
    lines[f"worked out, {cost:g} a token"] = (
        chances, [earned(0.95, 30, cost)] * 21)
plots.show(plots.panels(
    {("when thinking pays", "chance of being right at once",
      "mean correctness reward"): lines},
    alt="Mean reward against the chance of being right at once. At once, at "
        f"0.01 a token, it goes from 0 to {earned(1, 12, 0.01):.2f}; worked "
        "out it is " + ", ".join(f"{earned(0.95, 30, cost):.2f} at {cost:g}"
                                 for cost in prices) + " a token."))

# %% [markdown]
# ### Does it learn to think only where it must?
#
# Three seeds of the main run with 0.05 a token. A right answer of 12 tokens is then worth 1.4, a worked-out
# one of 20 and more 1.0, the floor: thinking pays only where the chance of being right at once is below two
# in three or so. The base policy, at once, is right on four in ten of the problems of two steps, and seldom on
# longer ones.

# %%
predict(
    "With 0.05 a token, what will the policy do with problems of two steps?",
    {"it answers them at once": "That would pay from a chance of two in three "
     "or so. The base policy, at once, is right on fewer than half of them.",
     "it works them out": "At once, the base policy is right on fewer than "
     "half of them. Below the crossing, thinking pays at this price too.",
     "it answers half of them at once": "What earns more on average is pushed "
     "up with every step, so a balance does not last."},
    right="it works them out")

# %%
def worked_share(variant):
    """The share of samples with all steps, at 2, 3, 4 steps, for each seed."""
    found = [BASE] if variant == "base" else MEASURED["runs"][variant].values()
    return [[of["worked_by_steps"][n] for n in "234"] for of in found]


shares = {name: (worked_share(name),
                 [row[:3] for row in of_steps(name, "free")])
          for name in ("base", "all five", "0.05 a token")}
plots.show(plots.seeds(
    {("all steps written, sampled", "steps", "share"): {
        name: ((2, 3, 4), of[0]) for name, of in shares.items()},
     ("right, greedy", "steps", "share"): {
        name: ((2, 3, 4), of[1]) for name, of in shares.items()}},
    alt="All steps written, sampled, and right, greedy, at 2, 3, 4 steps, mean "
    "over the seeds. " + "; ".join(
        f"{name}: {means(of[0])} and {means(of[1])}"
        for name, of in shares.items())
    + f"; length {end('all five', 'length')['value']:.1f} and "
    f"{end('0.05 a token', 'length')['value']:.1f} tokens."))

# %% [markdown]
# No: it works everything out, problems of two steps as well, and is as often right as without a price. Training
# did not fail: at each number of steps, working out earns more on average. A higher price would not change
# that. A right answer keeps half of its worth, whatever its length, so an answer at once cannot earn more
# than a worked-out one unless it is right about every second time, and it is not, even with two
# steps. **To learn when to think, a policy needs questions that it can do without**, and has to tell which they
# are. Problems of one step among the others would be a good experiment; it is not made here.
#
# From the command line, with the functions of this notebook:
#
# ```bash
# python -m lib train reasoning
# python -m lib train reasoning --data train.jsonl --model Qwen/Qwen2.5-0.5B-Instruct --use-vllm
# python -m lib evaluate reasoning runs/reasoning/1ep --pass-at 8
# python -m lib chat runs/reasoning/1ep --temperature 0 --jsonl answers.jsonl \
#     "Ada has 5 pens. First Ada finds 3 more. Then a friend takes 4. How many pens is that?"
# python -m lib export runs/reasoning/1ep --zip reasoner.zip
# python -m lib search reasoning --trials 6
# ```
#
# **A hole in the fine of Exercise 3c.** What is a right answer worth whose last line is followed by
# `</answer>`, `</answer>`, `</answer>`, up to the limit? 3.375 of 4: the fine looks behind the **last**
# `</answer>`, where there is nothing. It is no invention: with an earlier base policy and without a KL
# term, training ended there with some seeds. You know two ways to close the hole: in the reward, or with
# the KL term.
#
# ## 8. Analysis questions (5 points each)
#
# A few sentences each, with your own numbers and their intervals.

# %% [markdown] nbgrader={"grade": true, "grade_id": "q1", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 1.** What did training add, and what was there before? Use greedy and sampled accuracy,
# pass@k, and the base policy made to work out.
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Does each figure have its n, its interval, and say whether it was greedy or sampled?
# - Have you compared at a large k as well as at k = 1?
# - Do you use what the base policy does when it is *made* to work out?
# - What would you have to see to speak of a new ability? Did you look for it?
# - Do you say for which policy, questions and budget your claim holds?
#
# </details>
#
# ### BEGIN SOLUTION
# Greedy and sampled accuracy tripled; pass@k at a large k, and the base policy when made to
# work out, were there already. So training elicited: it moved probability to a habit that the policy had
# and seldom used. New ability is not seen: pass@32 and five steps do not rise beyond what the forced base
# does, and learning from the base's own right answers lifts greedy accuracy nearly as far.
#
# Rubric: 2 points for accuracy before and after with intervals. 2 points for elicitation, from pass@k at
# large k or the forced base. 1 point for the limit of the claim (this policy, this budget, n).
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q2", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 2.** Greedy, the policy never writes all steps before training, and always afterwards;
# sampled, it goes from a fifth to nearly all, step by step. Explain both from one cause. Somebody shows
# you the first of the two alone and calls it an "aha moment": what do you ask for?
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Is it one cause that explains both curves?
# - What happens to greedy decoding at a probability of one half?
# - Would your explanation still hold if accuracy were measured every step, and not every ten?
# - Have you asked for something that could prove the "aha" wrong?
#
# </details>
#
# ### BEGIN SOLUTION
# The probability of working a question out rises steadily. Sampling shows a mean over both habits, so its
# curve is that probability. Greedy takes the likelier habit: below one half the old one on nearly all
# questions, above it the new one, so a steady rise looks like a jump. Ask for the sampled curve (or the
# log-probability of the long answer) by step, for several seeds, with n.
#
# Rubric: 2 points for the steady probability. 2 points for the threshold of the likeliest token. 1 point
# for asking for the sampled curve, probabilities or seeds.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q3", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 3.** All rewards look at the answer, none at the reasoning. Find a completion that earns 4.0
# with wrong or empty reasoning. Why did training lead to reasoning that carries the answer all the same,
# and when would it not?
#
# <details><summary>Compare your answer with this checklist</summary>
#
# - Have you run your completion through the five functions?
# - Why was that completion not what training found?
# - Do you name a case in which it would be?
# - Which experiment of part 6 would tell the two apart?
#
# </details>
#
# ### BEGIN SOLUTION
# For example "<reasoning>\nI see it.\n</reasoning>" with the right number: 4.0. Here the policy cannot
# get the right number often without the steps, so steps that carry the answer are what gets paid. It
# would not where answers can be known or guessed without them (easy questions, large models, leaked
# answers), or where the text is paid for its looks. Remedies: the cut and the changed step as tests;
# checking equations by program; each can be gamed in turn.
#
# Rubric: 2 points for a completion that is really paid. 2 points for why reasoning was needed here. 1
# point for a case where it is not.
# ### END SOLUTION

# %% [markdown]
# ## What you have seen
#
# - A reward that never pays looks like nothing at all. Test each on multi-line, awkward completions.
# - Paid for right answers alone, the policy learnt to write its steps down, because they make answers right.
# - A steady change of probability looks sudden when you take the likeliest token; noise can tip it too. Look at
#   sampled accuracy beside greedy, and at several seeds.
# - Elicitation and new ability are told apart by pass@k at large k, by lengths nobody trained on, and by asking
#   what the base policy does when it is made to.
# - Whether reasoning carries an answer is an experiment, not an impression.
