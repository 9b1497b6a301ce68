"""Film reviews that please a star classifier: settings, prompts, reward, validation."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lib import CourseError
from lib.files import read_lines
from lib.intervals import mean_interval, rate_interval, text_metrics
from lib.rewards import call_student, validate_rewards
from lib.tasks.base import Metric, Task, option
from lib.tiny import WEIGHTS

PRESETS = {"quick": 50, "medium": 150, "full": 300}  # optimizer steps
SHAPINGS, KL_TYPES = ("none", "exponential"), ("none", "forward", "backward")
KL_TERMS = {"forward": "forward_kl_bonus", "backward": "backward_kl_penalty"}
DEFAULT_KL_COEF = 0.1
RECOMMENDED_BETA = 0.2  # measured on the tiny tier: docs/results.md

PROMPT_SEED = 20  # fixes the split for everyone: training never sees an evaluation prompt
EVAL_PROMPTS = 40
SAMPLES_PER_PROMPT = 6

HUB_SCORER = "nlptown/bert-base-multilingual-uncased-sentiment"


def scorer_path(model: str, scorer: str | None = None) -> str:
    """Where the star classifier is: the one named, else the one that belongs to the policy.

    ``tiny`` has its own; a run folder (or its ``final/``) remembers the one it was trained
    with; any other policy is judged by the Hub's five-star classifier.
    """
    from lib import models, scoring  # torch and transformers: not for --help

    if "tiny" in (scorer, model if not scorer else ""):
        return scoring.TINY_SCORER
    if scorer:
        return scorer
    if run := models.trained_with(model):
        return scorer_path(run["settings"]["model"], run["settings"]["scorer"])
    return HUB_SCORER


def prompts(split: str, file: str | Path | None = None) -> list[str]:
    """The prompts of one split, ``"train"`` or ``"eval"``, shuffled, distinct, disjoint.

    Without a file: 208 openings of film reviews, 40 of them held out. A file has one prompt a
    line; a fifth of them is held out. Raises CourseError when it is missing or too short.
    """
    from lib.tiny.corpus import openings  # not in the jail, which this module is in

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


@dataclass(frozen=True, kw_only=True)
class SentimentTask(Task):
    """Chapter 1's task. The student's sequence-level KL term, where asked for, is added to the
    reward; TRL's own term in the loss is ``beta``.
    """

    task: ClassVar[str] = "sentiment"
    chapter: ClassVar[str] = "01_sentiment"
    summary: ClassVar[str] = "positive film reviews (chapter 1)"
    tiny_policy: ClassVar[Path] = WEIGHTS / "review-policy"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mean_reward", log_key="reward", panel=("mean reward", "shaped, with its terms")),
        Metric("score", "mean score", "score", ("mean score", "0 to 1")),
        Metric("kl_term", log_key="kl_term"),
        Metric("clipped_ratio", log_key="completions/clipped_ratio",
               panel=("completions cut off", "share")),
        Metric("gold", "gold score"),
        Metric("positive_ratio", "positive ratio"))
    detectors: ClassVar[tuple[str, ...]] = (
        "score", "positive_ratio", "reference_perplexity", "distinct_2", "self_ending", "kl")
    histogram: ClassVar[str] = "score"

    preset: str = option("quick", "optimizer steps: " + ", ".join(
        f"{name} {steps}" for name, steps in PRESETS.items()), choices=tuple(PRESETS))
    scorer: str | None = option(None, "five-star classifier (default: the model's)",
                                metavar="tiny|ID|PATH", measuring=True)
    prompt_file: str | None = option(None, "one prompt a line (default: the task's)",
                                     flag="--prompts", metavar="FILE", measuring=True)
    reward_shaping: str = option("none", "of exercise 2", choices=SHAPINGS)
    shaping_temperature: float = option(0.25, "its temperature", above=0, metavar="T")
    kl_type: str = option("none", "your term in the reward", choices=KL_TYPES)
    kl_coef: float = option(DEFAULT_KL_COEF, "its coefficient", low=0)

    @classmethod
    def schedule(cls, given) -> dict:
        return {"max_steps": PRESETS[given.preset]}

    def name(self) -> str:
        """``{preset}_{shaping}``, ``_kl-{type}`` with a KL term, ``_c{coef}`` off the default.

        TRL's own KL term, which the preset and shaping do not show, adds ``_beta{beta}``.
        """
        name = f"{self.preset}_{self.reward_shaping}"
        if self.kl_type != "none":
            name += f"_kl-{self.kl_type}"
            if self.kl_coef != DEFAULT_KL_COEF:
                name += f"_c{self.kl_coef:g}"
        return name + self.unusual("beta")

    def needed_answers(self) -> list[str]:
        return ["sentiment_reward", *["exponential_shaping"] * (self.reward_shaping != "none"),
                *(name for kl_type, name in KL_TERMS.items() if kl_type == self.kl_type)]

    def prompts(self, split: str) -> list[str]:
        return prompts(split, self.prompt_file)

    def gold(self, row: dict) -> float | None:
        """The grammar's own opinion, where prompts and policy come from the grammar."""
        if self.model != "tiny" or self.prompt_file:
            return None
        from lib.tiny.corpus import gold_score  # not in the jail, which this module is in

        return gold_score(row["prompt"] + row["completion"])

    def parts(self, completions: list[str], *, answers: Mapping[str, Callable], ref_logps,
              **kwargs) -> dict[str, list[float]]:
        """score -> shaped -> with the KL term added, the reward."""
        from lib import scoring  # torch and transformers: not for --help

        n = len(completions)

        def asked(name: str, *args, **keywords) -> list[float]:
            return validate_rewards(name, call_student(answers[name], *args, **keywords), n)

        with scoring.default_scorer(scorer_path(self.model, self.scorer)):
            scores = asked("sentiment_reward", completions, **kwargs)
        shaped = scores if self.reward_shaping == "none" else asked(
            "exponential_shaping", list(scores), self.shaping_temperature)
        terms = [0.0] * n if self.kl_type == "none" else asked(
            KL_TERMS[self.kl_type], ref_logps(), self.kl_coef)
        return {"score": scores, "shaped": shaped, "kl_term": terms,
                "reward": [s + t for s, t in zip(shaped, terms, strict=True)]}

    def measure(self, answers, sampler, prompts, seed=0) -> dict:
        result = measure(sampler, prompts, scorer=scorer_path(self.model, self.scorer), seed=seed,
                         temperature=self.temperature,
                         max_completion_length=self.max_completion_length)
        for row in result["rows"]:
            row["gold"] = self.gold(row)
        if result["rows"][0]["gold"] is not None:
            result["metrics"]["gold"] = mean_interval([row["gold"] for row in result["rows"]])
        return result

    @classmethod
    def findings(cls, before: dict, after: dict) -> list[str]:
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


def measure(sampler: Callable, prompts: list[str], *, scorer: str | None = None,
            **sampling) -> dict:
    """Sample a policy, six completions a prompt: ``{"metrics": ..., "rows": ...}``.

    sampler: ``lib.rollout.sampled_rows`` with the policy and its reference filled in. scorer: the
    classifier's path, None for the notebook's. sampling: temperature, max_completion_length, seed.
    The score is the proxy that training maximises; the other figures are detectors of what a high
    score may hide.
    """
    from lib import scoring  # torch and transformers: not for --help

    rows = sampler(prompts * SAMPLES_PER_PROMPT, **sampling)
    scores = scoring.get_sentiment_scores([row["completion"] for row in rows], scorer=scorer)
    for row, score in zip(rows, scores, strict=True):
        row["score"] = score
    return {"metrics": {
        "score": mean_interval(scores),
        "positive_ratio": rate_interval(sum(score > 0.5 for score in scores), len(rows)),
        **text_metrics(rows)}, "rows": rows}


TASK = SentimentTask
