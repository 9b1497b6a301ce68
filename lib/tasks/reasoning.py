"""A small math reasoner: GSM8K's questions, a result between XML tags, five rewards.

Prompts are conversations, so that the tokenizer's chat template frames them; the same
functions train the tiny policy and Qwen2.5-0.5B-Instruct.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lib import CourseError, evaluation, models
from lib.files import read_lines
from lib.rewards import WeightedRewards, call, conversations
from lib.settings import Settings, prompt_rows
from lib.tiny.problems import SYSTEM_PROMPT, XML_COT_FORMAT, make_problems, split_of

__all__ = ["REWARDS", "RUN", "SYSTEM_PROMPT", "XML_COT_FORMAT", "ReasoningRun",
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
        if not re.search(r"####[^#]*\d", row["answer"]):
            raise CourseError(f'{path}, line {number}: "answer" must end in "####" and a number')
        rows.append({key: row[key] for key in ("question", "answer")})
    return rows


def _from_hub(split: str) -> list[dict]:
    from datasets import load_dataset

    hint = "; work offline with --model tiny, or with --data FILE.jsonl in the same format"
    if not models.hub_reachable():
        raise CourseError(f"the Hub's data set {HUB_DATA} cannot be reached{hint}")
    try:
        return list(load_dataset(HUB_DATA, "main", split=split))
    except Exception as error:  # the client's errors have no common class
        raise CourseError(f"cannot load {HUB_DATA}: {str(error).splitlines()[0]}{hint}") from None


def messages(question: str) -> list[dict]:
    """The conversation that asks a question: system prompt and question."""
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}]


@dataclass(frozen=True)
class ReasoningRun(Settings):
    """Settings of chapter 4's task.

    num_generations: None for 8 with tiny, else 16. epochs: passes over the training questions.
    data: a JSONL file in GSM8K's format; None for the model's own (generated problems for tiny,
    GSM8K from the Hub for any other).
    reward_weights: one for each of REWARDS, in that order.
    """

    task: ClassVar[str] = "reasoning"
    judged_by_answers: ClassVar[bool] = True
    remedy: ClassVar[str] = "begin with easier questions, or with a stronger base policy"

    epochs: int = 1
    data: str | None = None
    num_generations: int | None = None
    reward_weights: tuple[float, ...] = (1.0,) * len(REWARDS)

    def __post_init__(self):
        if self.num_generations is None:  # before anything is divided by it
            object.__setattr__(self, "num_generations", 8 if self.model == "tiny" else 16)

    def check(self) -> None:
        self._at_least(1, "epochs")
        if len(self.reward_weights) != len(REWARDS):
            raise CourseError(f"--reward-weights wants {len(REWARDS)} numbers, for "
                              f"{', '.join(REWARDS)}")
        self._not_negative("reward_weights")
        if not any(self.reward_weights):
            raise CourseError("--reward-weights are all 0: there is nothing to learn from")

    @property
    def source(self) -> str | None:
        return self.data or ("tiny" if self.model == "tiny" else None)

    def defaults(self) -> dict:
        tiny = self.model == "tiny"
        steps = 1 if self.max_steps else len(self.prompts("train")) // self.prompts_per_step
        return {"max_steps": max(1, self.epochs * steps), "save_steps": 40 if tiny else 100,
                "beta": 0.04 if tiny else 0.0,  # an earlier base policy hacked the format without
                "max_completion_length": 48 if tiny else 200,
                "learning_rate": (5e-4 if tiny else 5e-6) * (5 if self.use_peft else 1),
                "run_name": self.name()}

    def optimizer(self) -> dict:
        """The chapter's reference configuration, for any model."""
        return super().optimizer() | {
            "lr_scheduler_type": "cosine", "warmup_steps": 0.1, "weight_decay": 0.1,
            "adam_beta2": 0.99, "max_grad_norm": 0.1}

    def name(self) -> str:
        """``{epochs}ep_lr{learning rate}``, then what is off its default."""
        name = f"{self.epochs}ep" + (f"_lr{self.learning_rate:g}" if self.learning_rate else "")
        if set(self.reward_weights) != {1.0}:
            name += "_w" + "-".join(f"{weight:g}" for weight in self.reward_weights)
        return name + (f"_beta{self.beta:g}" if self.beta is not None else "")

    def needed_answers(self) -> list[str]:
        return ["extract_xml_answer", "extract_hash_answer", "parse_number", *REWARDS]

    def test_answers(self, answers) -> None:
        from lib.checks import reasoning

        for name in self.needed_answers():
            getattr(reasoning, name)(answers[name])

    def prompts(self, split: str) -> list[dict]:
        rows = get_gsm8k_questions(split, self.source)
        return [row | {"prompt": messages(row["question"])}
                for row in (rows[:EVAL_QUESTIONS] if split == "eval" else rows)]

    def rows(self, answers, prompts: list[dict], n: int) -> list[dict]:
        return self.plain(answers, prompt_rows(prompts, n, self.seed))

    def plain(self, answers, prompts: list[dict]) -> list[dict]:
        return [{"prompt": row["prompt"],
                 "answer": call(answers["extract_hash_answer"], row["answer"])}
                for row in prompts]

    def reward(self, answers, reference, tokenizer) -> WeightedRewards:
        return WeightedRewards({name: answers[name] for name in REWARDS}, self.reward_weights)

    def wanted(self, answers, rows: list[dict], completions: list[str]) -> list[bool]:
        return [value > 0 for value in _scores(answers, "correctness_reward_func", rows,
                                               completions)]

    def measure(self, answers, policy, tokenizer, reference, prompts, seed=0) -> dict:
        """One sampled and one greedy completion a question, judged by the student's rewards.

        ``accuracy`` and ``accuracy_greedy`` are pass@1; the other figures are of the sampled.
        """
        rows = self.plain(answers, prompts)
        texts = [models.prompt_text(tokenizer, row) for row in rows]

        def completions(temperature):
            found = evaluation.sampled_rows(
                policy, tokenizer, reference, texts, seed=seed, temperature=temperature,
                max_completion_length=self.max_completion_length)
            right = self.wanted(answers, rows, [row["completion"] for row in found])
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
        return {"metrics": {name: evaluation.rate_interval(sum(hits), len(hits))
                            for name, hits in share.items()}
                | evaluation.text_metrics(sampled), "rows": sampled}

    @staticmethod
    def findings(before: dict, after: dict) -> list[str]:
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


def unclosed(text: str) -> bool:
    """Whether a tag was opened more often than closed."""
    return any(text.count(f"<{tag}>") > text.count(f"</{tag}>") for tag in ("reasoning", "answer"))


def _scores(answers: Mapping, name: str, rows: list[dict], completions: list[str]) -> list[float]:
    """What one of the student's reward functions gives, called as TRL does."""
    return call(answers[name], prompts=[row["prompt"] for row in rows],
                completions=conversations(completions),
                answer=[row["answer"] for row in rows])


RUN = ReasoningRun
