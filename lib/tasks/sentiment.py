"""Film reviews: prompts and their disjoint splits."""

import random
from pathlib import Path

from lib import CourseError
from lib.tiny.corpus import openings

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
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise CourseError(f"cannot read the prompts file {path}: {error}") from None
    distinct = sorted({line for line in lines if line})
    if len(distinct) < 10:
        raise CourseError(f"{path} has {len(distinct)} distinct prompts, at least 10 are needed; "
                          "write one a line")
    return distinct
