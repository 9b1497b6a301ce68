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
# A policy solves word problems. We want two things of it: a **right** answer, and a **form** that a
# program can read. Both are checked by short functions, and no human judges anything: this is how
# reasoning models are trained, in small.
#
# Short functions have bugs. In one widely copied version of these five rewards, one never paid, one
# paid only reasoning of a single line, and a right "3380" scored nothing against "3,380". Nobody
# noticed, because training went on all the same. You will write them, test them on awkward answers, and
# measure on questions that no training saw.
#
# | part | you write | points | minutes |
# |---|---|---|---|
# | 1 | reading answers: tags, GSM8K's mark, numbers | 8 + 7 + 10 | 30 |
# | 2 | rewards for content | 10 + 5 | 20 |
# | 3 | rewards for form | 8 + 10 + 12 | 40 |
# | 4 | a baseline, two training runs, what each reward does | | 15 |
# | 5 | three analysis questions | 15 | 30 |

# %%
import re

from lib import evaluation, models, plots, preflight, rewards, widgets
from lib.checks import reasoning as checks
from lib.intervals import rate_interval
from lib.rollout import sampled_rows
from lib.tasks import reasoning
from lib.tasks.reasoning import (
    SYSTEM_PROMPT, TASK, XML_COT_FORMAT, get_gsm8k_questions, messages)
from lib.training import experiment

MODEL = "tiny"  # with a GPU and a connection: "Qwen/Qwen2.5-0.5B-Instruct"
RUNS = {}  # name -> folder of a finished run

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
# ### Exercise 1a: `extract_xml_answer` (8 points, easy, 5 minutes)
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

# %% nbgrader={"grade": true, "grade_id": "test_ex1a", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
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
}.items():
    assert extract_xml_answer(_text) == _right, "the stripped text of the last answer block"
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 1b: `extract_hash_answer` (7 points, easy, 5 minutes)
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

# %% nbgrader={"grade": true, "grade_id": "test_ex1b", "locked": true, "points": 7, "schema_version": 3, "solution": false, "task": false}
assert extract_hash_answer("2+2=4\n#### 4") == "4"
### BEGIN HIDDEN TESTS
for _text, _right in {
    "She has <<48/2=24>>24 clips.\nIn all 72.\n#### 72": "72", "#### 1,234,567": "1234567",
    "a\n####   -4  \n": "-4", "#### $12.50": "12.50", "####10": "10",
}.items():
    assert extract_hash_answer(_text) == _right, "the stripped result, without commas and dollars"
for _text in ("no mark 5", "", "### 5", "# 5"):
    assert extract_hash_answer(_text) is None, "None where there is no mark"
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 1c: `parse_number` (10 points, medium, 20 minutes)
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

# %% nbgrader={"grade": true, "grade_id": "test_ex1c", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert parse_number("72") == 72
### BEGIN HIDDEN TESTS
for _text, _right in {
    "3,380": 3380, "$5": 5, "4.0": 4, "-4": -4, "-$4": -4, "38 kg": 38, "0": 0, "x = 7.": 7,
    "$1,234,567.50": 1234567.5, "about 12 apples": 12, "(9)": 9, "0.25": 0.25, "$-6": -6,
    "5%": 5, "12,000 m": 12000, "100000": 100000, ".5": 0.5, "-.25": -0.25, "$.50": 0.5,
}.items():
    assert parse_number(_text) == _right, "the one number of the text"
for _text in ("", "four", "-", "$", "3 or 4", "1/2", "3,4", "2 + 2 = 4", "."):
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
# ### Exercise 2a: `correctness_reward_func` (10 points, medium, 10 minutes)
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

# %% nbgrader={"grade": true, "grade_id": "test_ex2a", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
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
    ("<answer>four</answer>", "four", 0), ("<reasoning>7</reasoning><answer>8</answer>", "7", 0)]
_got = [float(v) for v in correctness_reward_func(
    prompts=[[{"role": "user", "content": "Q"}]] * len(_cases),
    completions=_said(*(c[0] for c in _cases)), answer=[c[1] for c in _cases], trainer_state=None)]
assert len(_got) == len(_cases), "one reward a completion"
for _value, (_text, _right, _worth) in zip(_got, _cases):
    assert _value == _worth, "2 for the same number, else 0"
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 2b: `int_reward_func` (5 points, easy, 10 minutes)
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

# %% nbgrader={"grade": true, "grade_id": "test_ex2b", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
assert int_reward_func([]) == []
### BEGIN HIDDEN TESTS
_answers = {"5": 1, "-4": 1, "1,000": 1, "12,345,678": 1, "007": 1, "0": 1, "4.0": 0, "38 kg": 0,
            "$5": 0, "": 0, "four": 0, "3 4": 0, "²": 0, "--4": 0, "4-": 0, "1,00": 0, "-": 0,
            "+5": 0, "1_000": 0}
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
# ### Exercise 3a: `soft_format_reward_func` (8 points, medium, 10 minutes)
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

# %% nbgrader={"grade": true, "grade_id": "test_ex3a", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
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
    "<reasoning>1</reasoning><answer>3": 0, "<reasoning>1<answer>3</answer>": 0, "3": 0, "": 0}
_got = soft_format_reward_func(
    completions=[[{"role": "assistant", "content": _t}] for _t in _texts],
    prompts=["Q"] * len(_texts), answer=["3"] * len(_texts))
assert [float(v) for v in _got] == [0.5 * _w for _w in _texts.values()], (
    "a reasoning block first, then an answer block, over any number of lines")
### END HIDDEN TESTS

# %% [markdown]
# ### Exercise 3b: `strict_format_reward_func` (10 points, medium, 10 minutes)
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

# %% nbgrader={"grade": true, "grade_id": "test_ex3b", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert strict_format_reward_func([]) == []
### BEGIN HIDDEN TESTS
_perfect = "<reasoning>\n1+1=2\n2+1=3\n</reasoning>\n<answer>\n3\n</answer>\n"
_texts = {
    _perfect: 1, _perfect[:-1]: 1, "<reasoning>\n1\n</reasoning>\n<answer>\nno idea\n</answer>": 1,
    "<reasoning>\n1\n\n2\n</reasoning>\n<answer>\n3\n4\n</answer>\n": 1,
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
# ### Exercise 3c: `xmlcount_reward_func` (12 points, medium, 20 minutes)
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

# %% nbgrader={"grade": true, "grade_id": "test_ex3c", "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
assert xmlcount_reward_func([]) == []
### BEGIN HIDDEN TESTS
_perfect = "<reasoning>\n1+1=2\n2+1=3\n</reasoning>\n<answer>\n3\n</answer>\n"
_texts = {
    _perfect: 0.5, _perfect[:-1]: 0.5, _perfect + "12345": 0.495, _perfect + " \n Bye. \n": 0.496,
    _perfect[:-1] + "x" * 600: -0.1, "<reasoning>\n1\n</reasoning>\n<answer>\n3\n": 0.375,
    "<reasoning>\n1\n<answer>\n3\n</answer>\n": 0.375, "<reasoning>1</reasoning><answer>3</answer>": 0,
    "3": 0, "": 0, "x" * 300: 0, "<reasoning>\n<reasoning>\n1\n</reasoning>\n": 0.125,
    _perfect + _perfect: 0, "a\n<answer>\n3\n</answer>": 0.25, _perfect + "Bye now": 0.493,
    _perfect + "<answer>4</answer>!": 0.499}
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
# ## 4. Baseline, training, what each reward does
#
# Two runs of 150 steps, 64 completions each, in groups of 8; five minutes in all.
#
# 1. **all five** rewards;
# 2. **content only**: the three format rewards get weight 0.
#
# Validation is on 240 held-out questions, none of them in the training set nor in the text that the base
# policy was made from. *Sampled* draws at temperature 1, as training does; *greedy* always takes the most
# likely token. Both are pass@1: one try a question.

# %%
mine = {function.__name__: function for function in (
    extract_xml_answer, extract_hash_answer, parse_number, *FIVE)}
for name, settings in {
    "all five": {},
    "content only": {"reward_weights": (1.0, 1.0, 0.0, 0.0, 0.0)},
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
# Form and correctness climb together, from the first steps: no group is tied yet, for each holds readable
# and unreadable, right and wrong answers. Sampled accuracy climbs most of the way to greedy accuracy and
# stops there.
#
# And the run that is paid for content only? It becomes just as accurate. But an answer can be read
# once `<answer>` is open, closed or not. Content asks for that much, and answers without any tag die out;
# it never asks for the rest, so the rest comes along only in part.

# %%
def curves(history):
    steps = [row["step"] for row in history]
    return {name.removesuffix("_reward_func"): (
        steps, [row[name] / full for row in history])
            for name, full in reasoning.REWARDS.items()}


histories = evaluation.histories(RUNS)
if histories:
    plots.show(plots.panels(
        {(name, "step", "share of the full reward"): curves(history)
         for name, history in histories.items()},
        alt="Share of each reward by step. " + "; ".join(
            f"{name}: " + ", ".join(
                f"{key} {y[0]:.2f} to {y[-1]:.2f}"
                for key, (_, y) in curves(history).items())
            for name, history in histories.items())))

# %% [markdown]
# Where are the mistakes that are left? Problems of one step against problems of two:

# %%
steps = {row["question"]: row["answer"].count("<<")
         for row in get_gsm8k_questions(
             "eval", reasoning.source(MODEL, None))}
for name, run in RUNS.items():
    rows = evaluation.rows(run) if run else []
    for n in sorted({steps[row["prompt"]] for row in rows}):
        hits = [row["right"] for row in rows if steps[row["prompt"]] == n]
        rate = rate_interval(sum(hits), len(hits))
        print(f"{name:>13}, {n} step{'s' * (n > 1)}: {rate['value']:.2f} "
              f"[{rate['low']:.2f}, {rate['high']:.2f}] n={len(hits)}")

# %%
if RUNS.get("all five"):
    widgets.sample_browser(RUNS["all five"])

# %% [markdown]
# **A hole in our own reward.** What is this answer worth, if the number is right?
#
# ```
# <reasoning>
# 4-1=3
# </reasoning>
# <answer>
# 3
# </answer>
#
# </answer>
#
# </answer>
# ```
#
# and so on to the limit: 3.375 of 4. The fine of Exercise 3c looks behind the **last** `</answer>`,
# where there is nothing; and once all answers of a group are so, nothing pulls them back. It is no
# invention: while we made this chapter, an earlier base policy, trained without a KL term, ended there
# with some seeds. The present one did not in the runs that we made, with `beta = 0.04` or without. You
# know two ways to close the hole: in the reward, or with the KL term.

# %% [markdown]
# From the command line, with the functions of this notebook:
#
# ```bash
# python -m lib train reasoning
# python -m lib train reasoning --data train.jsonl --model Qwen/Qwen2.5-0.5B-Instruct --use-vllm
# python -m lib chat runs/reasoning/1ep "Ada has 5 pens and finds 3 more. How many pens is that?" \
#     --temperature 0 --jsonl answers.jsonl
# python -m lib export runs/reasoning/1ep --zip reasoner.zip
# python -m lib search reasoning --trials 6
# ```
#
# ## Analysis questions (5 points each)
#
# A few sentences each, with your own numbers and their intervals.

# %% [markdown] nbgrader={"grade": true, "grade_id": "q1", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 1.** Compare accuracy sampled and greedy, before and after training. What did training add,
# and what was there before?
#
# ### BEGIN SOLUTION
# Greedy accuracy was (nearly) 1 before training and did not rise; it fell by a point or two. Sampled accuracy was about a
# third, because two thirds of the probability went to guesses, forgotten steps and unreadable forms; training moved most of it
# to what the policy could do already. It sharpens; new ability is not seen here, and could not be with so good a greedy baseline.
#
# Rubric: 2 points for both comparisons with intervals. 2 points for sharpening against new ability. 1 point for the limit
# of the claim (this policy, this budget).
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q2", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 2.** Suppose your `strict_format_reward_func` lacked `re.DOTALL`. Which curve would show it, and
# why might nobody notice?
#
# ### BEGIN SOLUTION
# It pays reasoning of one line and never that of two lines ("." is no line break), so its curve levels off at the share of
# one-step problems, while the others go on. The sum still rises through the other four, and answers still become well-formed
# through the soft and the counting reward; within a group of a two-step problem it is a constant, and drops out of the advantages.
# So the total looks healthy: look at every reward by itself, and unit-test on a multi-line completion.
#
# Rubric: 2 points for the curve that stops short (two-line reasoning is never paid; "flat at 0" counts if the student's own
# completions all have two lines). 2 points for why the total hides it (constants cancel in the group). 1 point for a remedy.
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "q3", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# **Question 3.** All rewards look at the answer, none at the reasoning. Find a completion that earns 4.0 with
# wrong or empty reasoning. When does that matter, and what could be done?
#
# ### BEGIN SOLUTION
# For example "<reasoning>\nbecause\n</reasoning>" with the right number: 4.0. It matters when people read the reasoning as an
# explanation, or when guessing pays often. Remedies: check the equations by program, a reward model on steps,
# penalise reasoning whose result differs from the answer; each can be gamed in turn.
#
# Rubric: 2 points for a completion that is really paid. 2 points for when it matters. 1 point for a remedy with its limit.
# ### END SOLUTION

# %% [markdown]
# ## What you have seen
#
# - A reward that never pays looks like nothing at all. Test each on multi-line, awkward completions.
# - Compare numbers as numbers, and decide what hedging is worth.
# - Baseline, held-out questions, intervals: without them there is no result.
# - Lenient, counted and exact format rewards do different work.
# - Training here sharpens what the base policy could do now and then.
