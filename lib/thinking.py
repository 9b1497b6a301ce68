"""Chapter 4's experiments: what a policy can do when it is made to, what its answers owe to its
reasoning, and the controls of its training.

The chapter and ``benchmarks.reasoning`` call the same functions with the student's own.
"""

import itertools
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, get_cosine_schedule_with_warmup

from lib import models
from lib.files import read_json
from lib.logprobs import right_padded
from lib.prompts import prompt_ids
from lib.rollout import sample, sampled_rows
from lib.tasks.reasoning import (
    ANSWER_AT_ONCE,
    ANSWER_NOW,
    ReasoningTask,
    begun,
    messages,
    steps_written,
)
from lib.tiny import problems

RESULTS = Path(__file__).with_name("reasoning.json")  # what benchmarks.reasoning measured
PROBED = ("accuracy", "accuracy_greedy", "format_rate", "worked_rate", "worked_greedy", "length")
TRIES = 32  # at a question, for pass@k
ASKED_AT_ONCE = 32  # questions, a group of answers to each
BEYOND = 80  # held-out problems of a length that was never trained


def rows_of(problems: list[problems.Problem]) -> list[dict]:
    """Problems as the rows that a policy is asked."""
    return [problem.row() | {"prompt": messages(problem.question), "steps": len(problem.steps)}
            for problem in problems]


def held_out(task: ReasoningTask) -> list[dict]:
    """The questions of a validation, each with its number of steps."""
    return [row | {"steps": steps_written(row["answer"])} for row in task.prompts("eval")]


def beyond() -> list[dict]:
    """Problems of five steps, which neither the base policy's text nor any training holds."""
    return rows_of(problems.make_problems(BEYOND, 5, "eval", problems.BEYOND))


def starts_of(rows: list[dict]) -> dict[str, list[str]]:
    """Three ways to ask, each as what is put into the policy's mouth: nothing; an empty reasoning
    block, so that only the answer is left to say; the question's first number, which begins an
    equation."""
    firsts = [(re.findall(r"[0-9]+", row["question"]) or [""])[0] for row in rows]
    return {"free": [""] * len(rows), "at once": [ANSWER_AT_ONCE] * len(rows),
            "worked out": [f"<reasoning>\n{first}" for first in firsts]}


def by_steps(rows: list[dict], hits: list[bool]) -> dict[int, float]:
    """The share of hits for each number of steps."""
    return {n: fmean(hit for hit, row in zip(hits, rows, strict=True) if row["steps"] == n)
            for n in sorted({row["steps"] for row in rows})}


def worked(rows: list[dict], texts: list[str]) -> list[bool]:
    """Which texts write down as many steps as their questions have."""
    return [steps_written(text) >= row["steps"] for row, text in zip(rows, texts, strict=True)]


def from_first(text: str) -> int:
    """Where the steps written in text lead when the result of the first is 1 more."""
    (_, _, result), *later = re.findall(r"([-+*]) *([0-9]+) *= *([0-9]+)", text)
    value = int(result) + 1
    for operation, operand, _ in later:
        value = problems.solve((value, operation, int(operand)))
    return value


@dataclass(frozen=True)
class Exam:
    """Questions to a policy, judged by the student's functions.

    student: by name; what is called need be there by then.
    """

    student: Mapping[str, Callable]
    tokenizer: PreTrainedTokenizerBase
    max_completion_length: int

    def said(self, policy, rows: list[dict], starts: list[str] | None = None, *,
             temperature: float = 0.0, seed: int = 0) -> list[str]:
        """What the policy says to each row, with the start that was put into its mouth."""
        starts = starts or [""] * len(rows)
        ids = sample(policy, self.tokenizer, begun(rows, starts), temperature=temperature,
                     seed=seed, max_completion_length=self.max_completion_length)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [start + text for start, text in zip(starts, texts, strict=True)]

    def numbers(self, texts: list[str]) -> list[float | None]:
        """The number that each text answers."""
        return [self.student["parse_number"](self.student["extract_xml_answer"](text))
                for text in texts]

    def right(self, rows: list[dict], texts: list[str]) -> list[bool]:
        wanted = [self.student["parse_number"](self.student["extract_hash_answer"](row["answer"]))
                  for row in rows]
        return [got == number for got, number in zip(self.numbers(texts), wanted, strict=True)]

    def ways(self, policy, rows: list[dict]) -> dict[str, dict[int, float]]:
        """Greedy accuracy by the number of steps, for each of the three ways to ask."""
        return {way: by_steps(rows, self.right(rows, self.said(policy, rows, starts)))
                for way, starts in starts_of(rows).items()}

    def passes(self, policy, rows: list[dict]) -> dict[int, float]:
        """Mean pass@k of the rows for k = 1, 2, 4 ... TRIES, from TRIES samples of each."""
        many = [row for row in rows for _ in range(TRIES)]
        hits = self.right(many, self.said(policy, many, temperature=1.0, seed=7))
        counts = [sum(hits[i : i + TRIES]) for i in range(0, len(hits), TRIES)]
        return {k: fmean(self.student["pass_at_k"](TRIES, count, k) for count in counts)
                for k in (2**i for i in range(TRIES.bit_length()))}

    def operated(self, policy, rows: list[dict]) -> dict[str, float]:
        """What becomes of answers when their reasoning is operated on; greedy.

        The policy is made to work out, so that there is something to operate on, and only right
        answers with all steps are taken, n of them, so that we know what should follow. none,
        half, all: right when so many of the lines are kept. last, first: the share of answers that
        follow when that result is raised by 1.
        """
        texts = self.said(policy, rows, starts_of(rows)["worked out"])
        good = [(row, text) for row, text, hit, full in zip(
            rows, texts, self.right(rows, texts), worked(rows, texts), strict=True)
            if hit and full and "</reasoning>" in text]
        rows, texts = map(list, zip(*good, strict=True))
        cut, corrupt = self.student["cut_reasoning"], self.student["corrupt_step"]
        kept = {name: fmean(self.right(rows, self.said(policy, rows, [
            cut(text, row["steps"] * part // 2) for row, text in good])))
            for part, name in enumerate(("none", "half", "all"))}
        before = self.numbers(texts)

        def follows(starts, expected):
            after = self.numbers(self.said(policy, rows, starts))
            return self.student["faithful_rate"](before, after, expected)

        return {"n": len(rows), **kept,
                "last": follows([corrupt(text, -1, 1) + ANSWER_NOW for text in texts],
                                [value + 1 for value in before]),
                "first": follows([corrupt(text, 0, 1) for text in texts],
                                 list(map(from_first, texts)))}


class RandomReward(ReasoningTask):
    """A control: the reward is a coin, 2 or 0, whatever a completion says."""

    def parts(self, completions: list, **kwargs) -> dict[str, list[float]]:
        return super().parts(completions, **kwargs) | {
            "reward": [2.0 * COIN.getrandbits(1) for _ in completions]}


COIN = random.Random(0)


class Probes(TrainerCallback):
    """The validation on a few questions every so many steps, as columns: ``step`` and PROBED."""

    def __init__(self, measure: Callable[[object], dict], every: int):
        self.measure, self.every = measure, every
        self.columns = {key: [] for key in ("step", *PROBED)}

    def look(self, policy, step: int) -> None:
        metrics = self.measure(policy)["metrics"]
        for key, values in self.columns.items():
            values.append(step if key == "step" else metrics[key]["value"])

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.look(model, 0)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every == 0:
            self.look(model, state.global_step)


def measure(task: ReasoningTask, student: Mapping[str, Callable], tokenizer, reference, policy,
            every: int = 1) -> dict:
    """The task's validation of policy, on every so-manieth held-out question."""
    return task.measure(student, partial(sampled_rows, policy, tokenizer, reference),
                        task.prompts("eval")[::every])


def imitate(task: ReasoningTask, student: Mapping[str, Callable], tokens: int, probes: Probes):
    """A control: the base policy learns from its own right answers, by likelihood; returns it.

    It samples groups, as GRPO would, until it has generated so many tokens, and keeps what is
    right. Then it takes as many steps as the task, on as many completions each, with the task's
    optimizer.
    """
    policy, tokenizer = models.load_policy(models.policy_path(task.model, task))
    questions = itertools.cycle(task.train_rows(
        student, task.prompts("train"), task.max_steps * task.prompts_per_step))
    kept, spent, dice = [], 0, random.Random(task.seed)
    while spent < tokens:
        rows = [row for row in itertools.islice(questions, ASKED_AT_ONCE)
                for _ in range(task.num_generations)]
        asked = prompt_ids(tokenizer, rows)
        ids = sample(policy, tokenizer, rows, temperature=task.temperature,
                     seed=dice.getrandbits(32), max_completion_length=task.max_completion_length)
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        spent += sum(map(len, ids))
        kept += [pair for *pair, hit in zip(asked, ids, task.successes(student, rows, texts),
                                            strict=True) if hit]
    settings = task.optimizer()
    optimizer = torch.optim.AdamW(policy.parameters(), task.learning_rate,
                                  betas=(0.9, settings["adam_beta2"]),
                                  weight_decay=settings["weight_decay"])
    schedule = get_cosine_schedule_with_warmup(
        optimizer, int(settings["warmup_steps"] * task.max_steps), task.max_steps)
    probes.look(policy, 0)
    for step in range(1, task.max_steps + 1):
        pairs = dice.sample(kept, task.step_batch)
        ids, mask = right_padded([[*asked, *said] for asked, said in pairs],
                                 tokenizer.pad_token_id)
        labels = ids.masked_fill(mask == 0, -100)
        for row, (asked, _) in zip(labels, pairs, strict=True):
            row[: len(asked)] = -100
        optimizer.zero_grad()
        policy(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), settings["max_grad_norm"])
        optimizer.step()
        schedule.step()
        if step % probes.every == 0:
            probes.look(policy, step)
    return policy


def measured() -> dict:
    """What ``benchmarks.reasoning`` wrote: "base" and "runs", {variant: {seed: figures}}."""
    return read_json(RESULTS)
