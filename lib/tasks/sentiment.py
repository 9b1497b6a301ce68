"""Film reviews that please a star classifier: settings, prompts, reward, validation."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lib import CourseError, evaluation, models
from lib.files import read_lines
from lib.rewards import SentimentReward
from lib.scoring import use_scorer
from lib.settings import Settings, prompt_rows
from lib.tiny.corpus import gold_score, openings

PRESETS = {"quick": 50, "medium": 150, "full": 300}  # optimizer steps
SHAPINGS, KL_TYPES = ("none", "exponential"), ("none", "forward", "backward")
DEFAULT_KL_COEF = 0.1
RECOMMENDED_BETA = 0.2  # measured on the tiny tier: docs/results.md

PROMPT_SEED = 20  # fixes the split for everyone: training never sees an evaluation prompt
EVAL_PROMPTS = 40


def prompts(split: str, file: str | Path | None = None) -> list[str]:
    """The prompts of one split, ``"train"`` or ``"eval"``, shuffled, distinct, disjoint.

    Without a file: 208 openings of film reviews, 40 of them held out. A file has one prompt a
    line; a fifth of them is held out. Raises CourseError when it is missing or too short.
    """
    everything, held_out = openings(), EVAL_PROMPTS
    if file:
        everything = _read(Path(file))
        held_out = min(EVAL_PROMPTS, len(everything) // 5)
    random.Random(PROMPT_SEED).shuffle(everything)
    return everything[:held_out] if split == "eval" else everything[held_out:]


def _read(path: Path) -> list[str]:
    distinct = sorted({line.strip() for line in read_lines(path, "prompts")} - {""})
    if len(distinct) < 10:
        raise CourseError(f"{path} has {len(distinct)} distinct prompts, at least 10 are needed; "
                          "write one a line")
    return distinct


@dataclass(frozen=True)
class SentimentRun(Settings):
    """Settings of chapter 1's task.

    scorer: the star classifier, None for the one that belongs to the model.
    prompt_file: a file with one prompt a line, instead of the task's own.
    kl_type, kl_coef: the student's sequence-level term, added to the reward.
    """

    task: ClassVar[str] = "sentiment"

    preset: str = "quick"
    scorer: str | None = None
    prompt_file: str | None = None
    reward_shaping: str = "none"
    shaping_temperature: float = 0.25
    kl_type: str = "none"
    kl_coef: float = DEFAULT_KL_COEF

    def check(self) -> None:
        for name, value, allowed in (("preset", self.preset, PRESETS),
                                     ("reward shaping", self.reward_shaping, SHAPINGS),
                                     ("KL type", self.kl_type, KL_TYPES)):
            if value not in allowed:
                raise CourseError(f"unknown {name} '{value}'; choose one of {', '.join(allowed)}")
        self._positive("shaping_temperature")
        self._not_negative("kl_coef")

    def defaults(self) -> dict:
        tiny = self.model == "tiny"
        return {"max_steps": PRESETS[self.preset], "save_steps": 25, "beta": 0.0,
                "learning_rate": (2e-4 if tiny else 1e-5) * (5 if self.use_peft else 1),
                "max_completion_length": 40 if tiny else 64, "run_name": self.name()}

    def name(self) -> str:
        """``{preset}_{shaping}``, ``_kl-{type}`` with a KL term, ``_c{coef}`` off the default.

        TRL's own KL term, which the preset and shaping do not show, adds ``_beta{beta}``.
        """
        name = f"{self.preset}_{self.reward_shaping}"
        if self.kl_type != "none":
            name += f"_kl-{self.kl_type}"
            if self.kl_coef != DEFAULT_KL_COEF:
                name += f"_c{self.kl_coef:g}"
        return name + (f"_beta{self.beta:g}" if self.beta else "")

    def needed_answers(self) -> list[str]:
        return ["sentiment_reward", *["exponential_shaping"] * (self.reward_shaping != "none"),
                *{"forward": ["forward_kl_bonus"], "backward": ["backward_kl_penalty"],
                  "none": []}[self.kl_type]]

    def prompts(self, split: str) -> list[str]:
        return prompts(split, self.prompt_file)

    def rows(self, answers, prompts: list[str], n: int) -> list[dict]:
        return [{"prompt": prompt} for prompt in prompt_rows(prompts, n, self.seed)]

    def plain(self, answers, prompts: list[str]) -> list[dict]:
        return [{"prompt": prompt} for prompt in prompts]

    def gold(self, row: dict) -> float | None:
        """The grammar's own opinion, where prompts and policy come from the grammar."""
        if self.model != "tiny" or self.prompt_file:
            return None
        return gold_score(row["prompt"] + row["completion"])

    def reward(self, answers, reference, tokenizer) -> SentimentReward:
        use_scorer(models.scorer_path(self.model, self.scorer))
        return SentimentReward(
            answers, shaping=self.reward_shaping, temperature=self.shaping_temperature,
            kl_type=self.kl_type, kl_coef=self.kl_coef, reference=reference, tokenizer=tokenizer)

    def measure(self, answers, policy, tokenizer, reference, prompts, seed=0) -> dict:
        use_scorer(models.scorer_path(self.model, self.scorer))
        result = evaluation.measure(policy, tokenizer, reference, prompts=prompts, seed=seed,
                                    temperature=self.temperature,
                                    max_completion_length=self.max_completion_length)
        for row in result["rows"]:
            row["gold"] = self.gold(row)
        if result["rows"][0]["gold"] is not None:
            result["metrics"]["gold"] = evaluation.mean_interval(
                [row["gold"] for row in result["rows"]])
        return result

    @staticmethod
    def findings(before: dict, after: dict) -> list[str]:
        found = []
        if after["score"]["low"] <= before["score"]["high"]:
            found.append("no clear gain in score: the intervals overlap. Train longer, or raise "
                         "--learning-rate")
        if after["reference_perplexity"]["low"] > 1.5 * before["reference_perplexity"]["value"]:
            found.append("reward hacking: the base policy finds these texts unlikely (perplexity "
                         "over 1.5 x the base's). Raise --beta, or train for fewer steps")
        if after["self_ending"]["high"] < 0.8 * before["self_ending"]["value"]:
            found.append("completions stopped ending by themselves. Raise --beta, or train for "
                         "fewer steps")
        if after["distinct_2"]["high"] < 0.5 * before["distinct_2"]["value"]:
            found.append("mode collapse: the completions repeat one another. A KL term with an "
                         "entropy part helps: --beta, in place of --kl-type")
        return found


RUN = SentimentRun
