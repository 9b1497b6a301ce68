"""A small math reasoner: GSM8K's questions, a result between XML tags, five rewards.

Prompts are conversations, so that the tokenizer's chat template frames them; the same
functions train the tiny policy and Qwen2.5-0.5B-Instruct.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from lib import CourseError
from lib.files import read_lines
from lib.intervals import mean_interval, rate_interval, text_metrics
from lib.rewards import call_student, completion_texts, conversations, validate_rewards
from lib.tasks.base import Metric, Task, option
from lib.tiny import WEIGHTS
from lib.tiny.problems import (
    AT_ONCE,
    SYSTEM_PROMPT,
    XML_COT_FORMAT,
    make_problems,
    split_of,
)

__all__ = ["ANSWER_AT_ONCE", "ANSWER_NOW", "AT_ONCE", "REWARDS", "SYSTEM_PROMPT", "TASK",
           "XML_COT_FORMAT", "ReasoningTask", "begun", "get_gsm8k_questions", "messages",
           "steps_written"]

HUB_DATA = "openai/gsm8k"
EVAL_QUESTIONS = 240
TINY_QUESTIONS = {"train": 800, "eval": EVAL_QUESTIONS}
TINY_SEED = 40
ANSWER_NOW = "</reasoning>\n<answer>\n"  # behind a text like this nothing is left but the answer
ANSWER_AT_ONCE = f"<reasoning>\n{AT_ONCE}\n{ANSWER_NOW}"
REWARDS = {  # the student's function -> what a perfect completion gets from it
    "correctness_reward_func": 2.0, "int_reward_func": 0.5, "strict_format_reward_func": 0.5,
    "soft_format_reward_func": 0.5, "xmlcount_reward_func": 0.5}


def get_gsm8k_questions(split: str, source: str | None = "tiny") -> list[dict]:
    """Rows ``{"question", "answer"}`` of one split, "train" or "eval"; answers end in ``#### n``.

    source: "tiny" for generated problems, None for GSM8K from the Hub (its test split for
    "eval"), or a JSONL file in GSM8K's format, an eighth of whose questions are for "eval".
    Raises CourseError for another split, for an unreadable file, naming file and line, and for
    an unreachable Hub.
    """
    if split not in TINY_QUESTIONS:
        raise CourseError(f"there is no split '{split}'; ask for \"train\" or \"eval\"")
    if source == "tiny":
        return [problem.row() for problem in make_problems(TINY_QUESTIONS[split], TINY_SEED, split)]
    if source is not None:
        rows = [row for row in _read_jsonl(Path(source)) if split_of(row["question"]) == split]
        if not rows:
            raise CourseError(f"{source} holds no question for {split}; at least a few dozen "
                              "rows are needed")
        return rows
    return _from_hub("test" if split == "eval" else "train")


def _is_text(value) -> bool:
    """Whether value says something. JSON may cut a character in two, which no file can hold."""
    return isinstance(value, str) and bool(value.strip()) and not re.search(
        "[\ud800-\udfff]", value)


def _read_jsonl(path: Path) -> list[dict]:
    rows = []
    for number, line in enumerate(read_lines(path, "data"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CourseError(f"{path}, line {number}: no JSON: {getattr(error, 'msg', error)}"
                              ) from None
        if not isinstance(row, dict) or not all(
                _is_text(row.get(key)) for key in ("question", "answer")):
            raise CourseError(f"{path}, line {number}: wants an object with the texts "
                              '"question" and "answer"')
        if not _one_number(row["answer"].partition("####")[2]):
            raise CourseError(f'{path}, line {number}: "answer" must end in "####" and one number, '
                              "such as 1,250 or 3.5; no other reference can ever be met")
        rows.append({key: row[key] for key in ("question", "answer")})
    return rows


def _one_number(text: str) -> bool:
    """Whether there is one number in text, written out: no 3:30, 3/4, 1e3 or "12 and 13"."""
    found = re.findall(r"\d\S*\d|\d", text)
    if len(found) != 1 or not re.fullmatch(r"[\d,]+(\.\d+)?", found[0]):
        return False
    whole = found[0].split(".")[0]
    return "," not in whole or f"{int(whole.replace(',', '')):,}" == whole


def _from_hub(split: str) -> list[dict]:
    import datasets
    import huggingface_hub

    from lib import models  # torch and transformers: not for --help

    hint = "; work offline with --model tiny, or with --data FILE.jsonl in the same format"
    if not models.hub_reachable():  # what the cache holds still works
        datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        return list(datasets.load_dataset(HUB_DATA, "main", split=split))
    except Exception as error:  # the client's errors have no common class
        raise CourseError(f"cannot load {HUB_DATA}: {str(error).splitlines()[0]}{hint}") from None


def messages(question: str) -> list[dict]:
    """The conversation that asks a question: system prompt and question."""
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}]


def begun(rows: list[dict], starts: list[str]) -> list[dict]:
    """The rows with the first words of each completion put into the policy's mouth."""
    return [row | {"prompt": [*row["prompt"], {"role": "assistant", "content": start}]}
            for row, start in zip(rows, starts, strict=True)]


@dataclass(frozen=True, kw_only=True)
class ReasoningTask(Task):
    """Chapter 4's task: word problems, answered in XML tags."""

    task: ClassVar[str] = "reasoning"
    chapter: ClassVar[str] = "04_reasoning"
    summary: ClassVar[str] = "a small math reasoner (chapter 4)"
    tiny_policy: ClassVar[Path] = WEIGHTS / "problem-policy"
    gpu_model: ClassVar[str] = "Qwen/Qwen2.5-0.5B-Instruct"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mean_reward", log_key="reward", panel=("sum of the rewards", "up to 4")),
        Metric("correctness_reward_func", log_key="correctness_reward_func",
               panel=("correctness", "0 to 2")),
        Metric("int_reward_func", log_key="int_reward_func"),
        Metric("strict_format_reward_func", log_key="strict_format_reward_func",
               panel=("strict format", "0 to 0.5")),
        Metric("soft_format_reward_func", log_key="soft_format_reward_func"),
        Metric("xmlcount_reward_func", log_key="xmlcount_reward_func"),
        Metric("worked", log_key="worked", panel=("all steps written down", "share")),
        Metric("accuracy", "accuracy, sampled"), Metric("accuracy_greedy", "accuracy, greedy"),
        Metric("pass_at", "pass@k"), Metric("accuracy_cut", "accuracy, reasoning cut off"),
        Metric("follow_rate", "answers that follow a changed step"),
        Metric("worked_rate", "all steps written, sampled"),
        Metric("worked_greedy", "all steps written, greedy"),
        Metric("format_rate", "well-formed"), Metric("unclosed_rate", "unclosed tags"))
    detectors: ClassVar[tuple[str, ...]] = (
        "accuracy", "accuracy_greedy", "worked_rate", "length", "format_rate", "kl")
    judged_by_answers: ClassVar[bool] = True
    remedy: ClassVar[str] = "begin with easier questions, or with a stronger base policy"

    epochs: int = option(1, "passes over the training questions", low=1)
    data: str | None = option(None, "JSONL in GSM8K's format (default: generated problems for "
                                    "tiny, else GSM8K from the Hub)", metavar="FILE",
                              measuring=True)
    num_generations: int = option(
        help="completions a prompt: the group", low=2,
        why="; a group of one has no spread, so no advantage")
    reward_weights: tuple[float, ...] = option(
        (1.0,) * len(REWARDS), "of correctness, int, strict format, soft format, xmlcount",
        metavar="W,W,W,W,W", low=0)
    token_cost: float = option(0.0, "what a token of a right answer costs", low=0)
    pass_at: int = option(0, "measure pass@k for this k too, from 2k tries a question, and what "
                             "the answers owe to the reasoning", low=0, measuring=True)

    @classmethod
    def defaults(cls, tiny: bool, lora: bool) -> dict:
        return {"num_generations": 16, "save_steps": 25 if tiny else 100,
                "beta": 0.2 if tiny else 0.0,
                "max_completion_length": 56 if tiny else 200,  # five steps, worked out
                "learning_rate": (2e-4 if tiny else 5e-6) * (5 if lora else 1)}

    @classmethod
    def schedule(cls, given) -> dict:
        questions = get_gsm8k_questions("train", source(given.model, given.data))
        step = given.batch_size * given.accumulation // given.num_generations  # prompts
        return {"max_steps": max(1, given.epochs * (len(questions) // step))}

    def check(self) -> None:
        if len(self.reward_weights) != len(REWARDS):
            raise CourseError(f"--reward-weights wants {len(REWARDS)} numbers, for "
                              f"{', '.join(REWARDS)}")
        if not any(self.reward_weights):
            raise CourseError("--reward-weights are all 0: there is nothing to learn from")

    def optimizer(self) -> dict:
        """The chapter's reference configuration, for any model."""
        return super().optimizer() | {
            "lr_scheduler_type": "cosine", "warmup_steps": 0.1, "weight_decay": 0.1,
            "adam_beta2": 0.99, "max_grad_norm": 0.1}

    def name(self) -> str:
        """``{epochs}ep_lr{learning rate}``, then what is off its default."""
        name = f"{self.epochs}ep"
        if rate := self.unusual("learning_rate"):
            name += rate.replace("_learning_rate", "_lr")
        if set(self.reward_weights) != {1.0}:
            name += "_w" + "-".join(f"{weight:g}" for weight in self.reward_weights)
        if self.token_cost:
            name += f"_cost{self.token_cost:g}"
        return name + self.unusual("beta")

    def needed_answers(self) -> list[str]:
        return ["extract_xml_answer", "extract_hash_answer", "parse_number", *REWARDS,
                *["token_cost_reward"] * bool(self.token_cost),
                *["pass_at_k", "cut_reasoning", "corrupt_step", "faithful_rate"]
                * bool(self.pass_at)]

    def test_answers(self, answers) -> None:
        from lib.checks import reasoning

        for name in self.needed_answers():
            getattr(reasoning, name)(answers[name])

    def prompts(self, split: str) -> list[dict]:
        rows = get_gsm8k_questions(split, source(self.model, self.data))
        return [row | {"prompt": messages(row["question"])}
                for row in (rows[:EVAL_QUESTIONS] if split == "eval" else rows)]

    def eval_rows(self, answers, prompts: list[dict]) -> list[dict]:
        return [{"prompt": row["prompt"], "steps": steps_written(row["answer"]),
                 "answer": call_student(answers["extract_hash_answer"], row["answer"])}
                for row in prompts]

    @classmethod
    def chat_prompt(cls, question: str, conversational: bool) -> list[dict]:
        return messages(question)

    def parts(self, completions: list, *, answers: Mapping[str, Callable], ref_logps,
              **kwargs) -> dict[str, list[float]]:
        """Each of REWARDS, their weighted sum as the reward, and whether all steps are written.

        With a token_cost the first of the sum is what the student's ``token_cost_reward`` leaves of
        the correctness.
        """
        parts = {name: validate_rewards(name, call_student(
            answers[name], completions=completions, **kwargs), len(completions))
            for name in REWARDS}
        paid = dict(parts)
        if self.token_cost:
            paid["correctness_reward_func"] = validate_rewards("token_cost_reward", call_student(
                answers["token_cost_reward"], parts["correctness_reward_func"],
                [len(ids) for ids in kwargs["completion_ids"]], self.token_cost), len(completions))
        worked = [float(steps_written(text) >= steps) for text, steps in zip(
            completion_texts(completions), kwargs["steps"], strict=True)]
        return {"reward": [sum(w * v for w, v in zip(self.reward_weights, values, strict=True))
                           for values in zip(*paid.values(), strict=True)], **parts,
                "worked": worked}

    def successes(self, answers, rows: list[dict], completions: list[str]) -> list[bool]:
        return [value > 0 for value in _scores(answers, "correctness_reward_func", rows,
                                               completions)]

    def measure(self, answers, sampler, prompts, seed=0) -> dict:
        """One sampled and one greedy completion a question, judged by the student's rewards.

        ``accuracy`` and ``accuracy_greedy`` are pass@1; where nothing else is said, figures are of
        the sampled.
        """
        rows = self.eval_rows(answers, prompts)

        def completions(temperature, seed=seed):
            found = sampler(rows, seed=seed, temperature=temperature,
                            max_completion_length=self.max_completion_length)
            right = self.successes(answers, rows, [row["completion"] for row in found])
            return [one | {"prompt": given["question"], "right": hit}
                    for one, given, hit in zip(found, prompts, right, strict=True)]

        sampled, greedy = completions(self.temperature), completions(0.0)
        answered = [row["completion"] for row in sampled]
        formed = _scores(answers, "strict_format_reward_func", rows, answered)
        for row, score, best in zip(sampled, formed, greedy, strict=True):
            row |= {"well_formed": score > 0, "unclosed": unclosed(row["completion"]),
                    "greedy": best["completion"], "greedy_right": best["right"]}

        def worked(found):
            return [steps_written(one["completion"]) >= row["steps"]
                    for one, row in zip(found, rows, strict=True)]

        share = {"accuracy": [row["right"] for row in sampled],
                 "accuracy_greedy": [row["right"] for row in greedy],
                 "worked_rate": worked(sampled), "worked_greedy": worked(greedy),
                 "format_rate": [row["well_formed"] for row in sampled],
                 "unclosed_rate": [row["unclosed"] for row in sampled]}
        metrics = {name: rate_interval(sum(hits), len(hits)) for name, hits in share.items()}
        if self.pass_at:
            tries = [[one["right"] for one in completions(self.temperature, seed + 1 + i)]
                     for i in range(2 * self.pass_at)]
            metrics["pass_at"] = mean_interval([float(call_student(
                answers["pass_at_k"], len(tries), sum(hits), self.pass_at))
                for hits in zip(*tries, strict=True)])
            metrics |= self._owed_to_reasoning(
                answers, partial(sampler, seed=seed, temperature=0.0,
                                 max_completion_length=self.max_completion_length),
                rows, [one["completion"] for one in greedy])
        return {"metrics": metrics | text_metrics(sampled), "rows": sampled}

    def _owed_to_reasoning(self, answers, greedy: Callable, rows: list[dict], texts: list[str]
                           ) -> dict:
        """Accuracy when the reasoning of texts is cut off and the answer forced; and how many
        answers follow when the last result, where it is the answer, is raised by 1.

        A text without such reasoning is left out: n says how many are meant.
        """
        def forced(surgery):
            """Rows and starts for which the student's surgery is possible, and the texts then."""
            found = [(i, start) for i, text in enumerate(texts)
                     if (start := surgery(text)) is not None]
            asked = [rows[i] for i, _ in found]
            ends = greedy(begun(asked, [start for _, start in found])) if found else []
            return found, asked, [start + end["completion"]
                                  for (_, start), end in zip(found, ends, strict=True)]

        def number(text):
            return call_student(answers["parse_number"],
                                call_student(answers["extract_xml_answer"], text))

        _, asked, after = forced(lambda text: _told(answers["cut_reasoning"], text, 0))
        hits = self.successes(answers, asked, after)
        metrics = {"accuracy_cut": rate_interval(sum(hits), len(hits))} if hits else {}

        def raised(text):
            start = _told(answers["corrupt_step"], text, -1, 1)
            last = None if start is None else int(start.rsplit("=", 1)[1])
            return None if last is None or number(text) != last - 1 else start + ANSWER_NOW

        found, _, after = forced(raised)
        before = [number(texts[i]) for i, _ in found]
        if found:
            rate = call_student(answers["faithful_rate"], before, [number(text) for text in after],
                                [value + 1 for value in before])
            metrics["follow_rate"] = rate_interval(round(rate * len(found)), len(found))
        return metrics

    @classmethod
    def findings(cls, before: dict, after: dict) -> list[str]:
        found = []
        if after["accuracy"]["low"] <= before["accuracy"]["high"]:
            found.append("no clear gain in accuracy: the intervals overlap. Train longer, or raise "
                         "--num-generations so that more groups hold a right answer")
        if after["format_rate"]["value"] < 0.95:
            found.append("some answers are malformed. Train longer, or raise the format rewards' "
                         "--reward-weights")
        if after["format_rate"]["low"] > before["format_rate"]["high"] and (
                after["accuracy_greedy"]["high"] < before["accuracy_greedy"]["low"]):
            found.append("form was learnt at the price of content. Lower the format rewards' "
                         "--reward-weights, or raise --beta")
        return found


def source(model: str, data: str | None) -> str | None:
    """Where the questions are from, as ``get_gsm8k_questions`` wants it."""
    return data or ("tiny" if model == "tiny" else None)


def unclosed(text: str) -> bool:
    """Whether a tag was opened more often than closed."""
    return any(text.count(f"<{tag}>") > text.count(f"</{tag}>") for tag in ("reasoning", "answer"))


def steps_written(text: str) -> int:
    """How many results a completion works out: equations, as ``5+3=8`` or ``5 + 3 = $8``."""
    return len(re.findall(r"\d\s*=\s*\$?-?\d", text))


def _told(surgery: Callable, text: str, *args) -> str | None:
    """What the student's surgery makes of text; None where it refuses a malformed one."""
    try:
        return call_student(surgery, text, *args)
    except CourseError as error:
        if isinstance(error.__cause__, ValueError | IndexError):
            return None
        raise


def _scores(answers: Mapping, name: str, rows: list[dict], completions: list[str]) -> list[float]:
    """What one of the student's reward functions gives, called as TRL does."""
    return call_student(answers[name], prompts=[row["prompt"] for row in rows],
                completions=conversations(completions),
                answer=[row["answer"] for row in rows])


TASK = ReasoningTask
