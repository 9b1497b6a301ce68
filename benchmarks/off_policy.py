"""Chapter 5's experiments on three seeds, into lib/off_policy.json. Not a test.

    .venv/bin/python -m benchmarks.off_policy  # about a quarter of an hour on one core
    .venv/bin/python -m benchmarks.off_policy --only reuse  # the others stay
"""

import argparse
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from grading.release import write_source
from lib import off_policy
from lib.answers import load_answers
from lib.files import read_json, write_json
from lib.scoring import use_scorer
from lib.tasks import sentiment

SEEDS = (1, 2, 3)
FUNCTIONS = ["sequence_ratio", "clip_fraction", "truncated_weights", "select_alive", "keep_best",
             "dpo_loss"]
EXPERIMENTS = {  # name -> (function, {variant: its settings})
    "reuse": (off_policy.reuse, {"1 update": {"updates": 1}} | {
        f"{updates} updates, {name}": {"updates": updates, "epsilon": epsilon}
        for updates in (2, 4, 8)
        for name, epsilon in (("clipped", 0.2), ("not clipped", off_policy.NO_CLIP))}),
    "same_rollouts": (off_policy.same_rollouts, {
        method: {"method": method} for method in ("GRPO", "best of 8", "DPO")}),
    "levels": (off_policy.reuse, {
        f"sequence ratio, epsilon {epsilon:g}": {
            "updates": 4, "level": "sequence", "epsilon": epsilon}
        for epsilon in (0.2, 0.03, 0.01)}),
    "mismatch": (off_policy.mismatch, {"same, no correction": {"level": None}} | {
        f"{name}, {level or 'no correction'}": {**sampler, "level": level}
        for name, sampler in (
            ("temperature 0.6", {"temperature": 0.6}),
            ("eight bits", {"eight_bits": True}))
        for level in (None, "token", "sequence")}),
    "budget": (off_policy.budget, {
        "dynamic sampling": {"dynamic": True}, "every group": {"dynamic": False}})}


def rounded(rows: list[dict]) -> list[dict]:
    """Four digits are more than three seeds can tell."""
    return [{key: float(f"{value:.4g}") for key, value in row.items()} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=EXPERIMENTS)
    args = parser.parse_args()
    use_scorer(sentiment.scorer_path("tiny"))
    with tempfile.TemporaryDirectory() as folder:
        student = load_answers(write_source(Path(folder), "05_off_policy"), FUNCTIONS)
    for name in [args.only] if args.only else EXPERIMENTS:
        function, variants = EXPERIMENTS[name]
        found: dict = {}
        for variant, settings in variants.items():
            for seed in SEEDS:
                start = time.perf_counter()
                rows = rounded(function(student, seed=seed, **settings))
                found.setdefault(variant, {})[str(seed)] = rows
                print(f"{name}: {variant}, seed {seed}: {time.perf_counter() - start:.0f} s, "
                      f"{rows[-1]}", flush=True)
        before = read_json(off_policy.RESULTS) if off_policy.RESULTS.exists() else {}
        write_json(off_policy.RESULTS, {
            "versions": {lib: version(lib) for lib in ("torch", "transformers", "trl")},
            "experiments": before.get("experiments", {}) | {name: found}})


if __name__ == "__main__":
    main()
