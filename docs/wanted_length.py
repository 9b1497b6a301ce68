"""A task of one's own: film reviews of a wanted number of words. docs/your_task.md explains it.

    python -m lib train docs/wanted_length.py --words 12 --max-steps 50
    python -m lib compare docs/wanted_length.py tiny runs/wanted_length/12words
"""

from dataclasses import dataclass
from typing import ClassVar

from lib.tasks import sentiment
from lib.tasks.base import Metric, Task, option


@dataclass(frozen=True, kw_only=True)
class WantedLength(Task):
    """The reward falls by one for every word that is missing, or too many."""

    summary: ClassVar[str] = "reviews of a wanted length"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("exact", "of that length", log_key="exact", panel=("of that length", "share")),)
    detectors: ClassVar[tuple[str, ...]] = (
        "reward", "exact", "reference_perplexity", "distinct_2", "self_ending", "kl")

    words: int = option(12, "the wanted number of words", low=1, high=30)

    def name(self) -> str:
        return f"{self.words}words" + self.unusual("beta")

    def prompts(self, split: str) -> list[str]:
        """The openings of reviews, so that the bundled review policy knows how to go on."""
        return sentiment.prompts(split)

    def parts(self, completions: list[str], **kwargs) -> dict[str, list[float]]:
        off = [abs(len(text.split()) - self.words) for text in completions]
        return {"reward": [-float(n) for n in off], "exact": [float(n == 0) for n in off]}

    def successes(self, answers, rows, completions: list[str]) -> list[bool]:
        return [exact == 1 for exact in self.parts(completions)["exact"]]
