"""Chapter 5's experiments on three seeds, and chapter 2's with the positions, into
lib/off_policy.json. Not a test.

    .venv/bin/python -m benchmarks.off_policy  # about half an hour on one core
    .venv/bin/python -m benchmarks.off_policy --only reuse  # the others stay
"""

import argparse
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from unittest import mock

from grading.release import write_source
from lib import models, off_policy, thinking
from lib.answers import load_answers
from lib.files import read_json, write_json
from lib.runs import FINAL, HISTORY
from lib.scoring import use_scorer
from lib.tasks import sentiment
from lib.tasks.reasoning import ReasoningTask
from lib.training import train
from lib.trl_overrides import Trainer

SEEDS = (1, 2, 3)
FUNCTIONS = ["sequence_ratio", "clip_fraction", "truncated_weights", "select_alive", "keep_best",
             "dpo_loss"]


def padding_counted(student, *, seed: int) -> list[dict]:
    """Chapter 4's main run, but for the log-probs, which are TRL's own: it counts padding as
    positions. A row every tenth step.

    accuracy: sampled, of 60 held-out questions as in ``benchmarks.reasoning``, in the last row of
    all 240. largest_kl: the largest KL term that the run has logged by then.
    """
    task = ReasoningTask.of(seed=seed)
    base, tokenizer = models.load_policy(models.policy_path(task.model, task))
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Trainer, "_placed", False):
        answers = load_answers(write_source(Path(folder), "04_reasoning"), task.needed_answers())
        probes = thinking.Probes(
            partial(thinking.measure, task, answers, tokenizer, base, every=4), 10)
        run = train(task, answers, Path(folder) / "run", callbacks=[probes])
        return positions_rows(probes.columns, read_json(run / FINAL), read_json(run / HISTORY))


def positions_rows(columns: dict, final: dict, history: list[dict]) -> list[dict]:
    rows = [{"step": step, "accuracy": accuracy,
             "largest_kl": max((row["kl"] for row in history[:step]), default=0.0)}
            for step, accuracy in zip(columns["step"], columns["accuracy"], strict=True)]
    return [*rows[:-1], rows[-1] | {"accuracy": final["metrics"]["accuracy"]["value"]}]


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
        "dynamic sampling": {"dynamic": True}, "every group": {"dynamic": False}}),
    "positions": (padding_counted, {"padding counted": {}})}


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
