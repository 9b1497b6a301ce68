"""What rewards train, as the grader of chapter 6's capstone measures it. Not a test.

    .venv/bin/python -m benchmarks.capstone [SEED ...]       # default: 0 1 2; about 7 minutes

The base policy, the plain score, the chapter's answer, and the good rewards of the fault bank. The
seconds are processor time of one training with its measuring.
"""

import sys

from grading import capstone
from grading.faults import reference, substitute, variants

CHAPTER, STEPS = "06_project", capstone.STEPS
COLUMNS = ("gold", "variety", "elsewhere", "kl")


def untrained(completions, star_probs, ref_logps):
    """Equal rewards: no advantage, no step away from the base."""
    return [0.0] * len(completions)


def plain(completions, star_probs, ref_logps):
    """The expected stars, from 0 to 1."""
    return [sum(i * p for i, p in enumerate(stars)) / 4 for stars in star_probs]


def main(seeds: list[int]) -> None:
    rewards = {"plain score": plain, "our answer": reference(CHAPTER)["project_reward"]}
    rewards |= {v.name: substitute(CHAPTER, v)["project_reward"] for v in variants(CHAPTER)
                if (v.exercise, v.kind) == ("ex7", "right")}
    print(f"| reward, seed | {' | '.join(COLUMNS)} | seconds |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    print(row("base", untrained, 0, steps=1))
    for name, reward in rewards.items():
        for seed in seeds:
            print(row(f"{name}, {seed}", reward, seed, STEPS), flush=True)


def row(name: str, reward, seed: int, steps: int) -> str:
    capstone.STEPS, capstone.SEED = steps, seed
    judged = capstone.judge(reward)
    figures = " | ".join(f"{judged.measured[key]:.2f}" for key in COLUMNS)
    return f"| {name} | {figures} | {judged.seconds:.0f} |"


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [0, 1, 2])
