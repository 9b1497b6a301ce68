"""Film reviews: prompts, disjoint splits, and what we measure of a policy."""

import random

from lib.tiny.corpus import openings

PROMPT_SEED = 20  # fixes the split for everyone: training never sees an evaluation prompt
EVAL_PROMPTS = 40


def prompts(split: str) -> list[str]:
    """The openings of one split, ``"train"`` (168) or ``"eval"`` (40), shuffled, disjoint."""
    everything = openings()
    random.Random(PROMPT_SEED).shuffle(everything)
    return everything[:EVAL_PROMPTS] if split == "eval" else everything[EVAL_PROMPTS:]
