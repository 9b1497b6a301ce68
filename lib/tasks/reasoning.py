"""A small math reasoner: GSM8K's questions, a result between XML tags, five rewards.

Prompts are conversations, so that the tokenizer's chat template frames them; the same
functions train the tiny policy and Qwen2.5-0.5B-Instruct.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lib import CourseError
from lib.files import read_lines
from lib.intervals import rate_interval, text_metrics
from lib.rewards import call_student, conversations, validate_rewards
from lib.tasks.base import Metric, Task, option
from lib.tiny import WEIGHTS
from lib.tiny.problems import SYSTEM_PROMPT, XML_COT_FORMAT, make_problems, split_of

__all__ = ["REWARDS", "SYSTEM_PROMPT", "TASK", "XML_COT_FORMAT", "ReasoningTask",
           "get_gsm8k_questions", "messages"]

HUB_DATA = "openai/gsm8k"
EVAL_QUESTIONS = 240
TINY_QUESTIONS = {"train": 1200, "eval": EVAL_QUESTIONS}
TINY_SEED = 40
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


def _read_jsonl(path: Path) -> list[dict]:
    rows = []
    for number, line in enumerate(read_lines(path, "data"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CourseError(f"{path}, line {number}: no JSON: {getattr(error, 'msg', error)}"
                              ) from None
        if not isinstance(row, dict) or not all(
                isinstance(row.get(key), str) and row[key].strip()
                for key in ("question", "answer")):
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
        Metric("accuracy", "accuracy, sampled"), Metric("accuracy_greedy", "accuracy, greedy"),
        Metric("format_rate", "well-formed"), Metric("unclosed_rate", "unclosed tags"))
    detectors: ClassVar[tuple[str, ...]] = (
        "accuracy", "accuracy_greedy", "format_rate", "unclosed_rate", "reference_perplexity",
        "kl")
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

    @classmethod
    def defaults(cls, tiny: bool, lora: bool) -> dict:
        return {"num_generations": 8 if tiny else 16, "save_steps": 40 if tiny else 100,
                "beta": 0.04 if tiny else 0.0,  # an earlier base policy hacked the format without
                "max_completion_length": 48 if tiny else 200,
                "learning_rate": (5e-4 if tiny else 5e-6) * (5 if lora else 1)}

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
        return name + self.unusual("beta")

    def needed_answers(self) -> list[str]:
        return ["extract_xml_answer", "extract_hash_answer", "parse_number", *REWARDS]

    def test_answers(self, answers) -> None:
        from lib.checks import reasoning

        for name in self.needed_answers():
            getattr(reasoning, name)(answers[name])

    def prompts(self, split: str) -> list[dict]:
        rows = get_gsm8k_questions(split, source(self.model, self.data))
        return [row | {"prompt": messages(row["question"])}
                for row in (rows[:EVAL_QUESTIONS] if split == "eval" else rows)]

    def eval_rows(self, answers, prompts: list[dict]) -> list[dict]:
        return [{"prompt": row["prompt"],
                 "answer": call_student(answers["extract_hash_answer"], row["answer"])}
                for row in prompts]

    @classmethod
    def chat_prompt(cls, question: str, conversational: bool) -> list[dict]:
        return messages(question)

    def parts(self, completions: list, *, answers: Mapping[str, Callable], ref_logps,
              **kwargs) -> dict[str, list[float]]:
        """Each of REWARDS, and their weighted sum as the reward."""
        parts = {name: validate_rewards(name, call_student(
            answers[name], completions=completions, **kwargs), len(completions))
            for name in REWARDS}
        return {"reward": [sum(w * v for w, v in zip(self.reward_weights, values, strict=True))
                           for values in zip(*parts.values(), strict=True)], **parts}

    def successes(self, answers, rows: list[dict], completions: list[str]) -> list[bool]:
        return [value > 0 for value in _scores(answers, "correctness_reward_func", rows,
                                               completions)]

    def measure(self, answers, sampler, prompts, seed=0) -> dict:
        """One sampled and one greedy completion a question, judged by the student's rewards.

        ``accuracy`` and ``accuracy_greedy`` are pass@1; the other figures are of the sampled.
        """
        rows = self.eval_rows(answers, prompts)

        def completions(temperature):
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
                    "greedy": best["completion"]}
        share = {"accuracy": [row["right"] for row in sampled],
                 "accuracy_greedy": [row["right"] for row in greedy],
                 "format_rate": [row["well_formed"] for row in sampled],
                 "unclosed_rate": [row["unclosed"] for row in sampled]}
        return {"metrics": {name: rate_interval(sum(hits), len(hits))
                            for name, hits in share.items()}
                | text_metrics(sampled), "rows": sampled}

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


def _scores(answers: Mapping, name: str, rows: list[dict], completions: list[str]) -> list[float]:
    """What one of the student's reward functions gives, called as TRL does."""
    return call_student(answers[name], prompts=[row["prompt"] for row in rows],
                completions=conversations(completions),
                answer=[row["answer"] for row in rows])


TASK = ReasoningTask
