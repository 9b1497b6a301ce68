"""Chapter 6's capstone: film reviews by a reward of one's own, which the grader trains on too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lib.rewards import call_student, validate_rewards
from lib.tasks import sentiment
from lib.tasks.base import Metric, Task


@dataclass(frozen=True, kw_only=True)
class ProjectTask(Task):
    """Chapter 1's policy, prompts and validation; ``project_reward`` is the whole reward.

    Has no gold measure: that of the capstone is the grader's.
    """

    task: ClassVar[str] = "project"
    chapter: ClassVar[str] = "06_project"
    summary: ClassVar[str] = "film reviews by a reward of your own (chapter 6)"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mean_reward", log_key="reward", panel=("mean reward", "as you wrote it")),
        Metric("score", "mean score", "score", ("mean score", "the classifier's, 0 to 1")),
        Metric("positive_ratio", "positive ratio"))
    detectors: ClassVar[tuple[str, ...]] = sentiment.SentimentTask.detectors
    histogram: ClassVar[str] = "score"

    def needed_answers(self) -> list[str]:
        return ["project_reward"]

    def prompts(self, split: str) -> list[str]:
        return sentiment.prompts(split)

    def parts(self, completions: list[str], *, answers: Mapping[str, Callable], ref_logps,
              **kwargs) -> dict[str, list[float]]:
        """score: the classifier's, to look at. reward: what ``project_reward`` makes of the texts,
        their star probabilities (5 each) and the reference's log-probs (one a token)."""
        from lib import scoring  # torch and transformers: not for --help

        stars = scoring.get_star_probs(completions, scorer=sentiment.scorer_path(self.model))
        rewards = call_student(answers["project_reward"], list(completions), stars.tolist(),
                               ref_logps())
        return {"score": scoring.scores_of(stars),
                "reward": validate_rewards("project_reward", rewards, len(completions))}

    def measure(self, answers, sampler, prompts, seed=0) -> dict:
        return sentiment.measure(sampler, prompts, scorer=sentiment.scorer_path(self.model),
                                 seed=seed, temperature=self.temperature,
                                 max_completion_length=self.max_completion_length)

    @classmethod
    def findings(cls, before: dict, after: dict) -> list[str]:
        return sentiment.SentimentTask.findings(before, after)


TASK = ProjectTask
