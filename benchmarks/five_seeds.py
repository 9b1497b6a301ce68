"""Expected results on the tiny tier, five seeds: the tables of docs/results.md. Not a test.

    .venv/bin/python -m benchmarks.five_seeds                          # chapter 1, about 7 minutes
    .venv/bin/python -m benchmarks.five_seeds --preset full --seeds 1
    .venv/bin/python -m benchmarks.five_seeds --task persona           # chapter 3, about 15 minutes
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from grading.release import write_source
from lib import evaluation
from lib.answers import load_answers
from lib.tasks import task_class
from lib.tasks.sentiment import RECOMMENDED_BETA
from lib.training import train

COLUMNS = {
    "sentiment": ("score", "positive_ratio", "reference_perplexity", "distinct_2", "self_ending",
                  "kl"),
    "persona": ("musclebob_rate", "spongebob_rate", "coherent_rate", "reference_perplexity",
                "self_ending", "kl")}
VARIANTS = {
    "sentiment": {"no KL": {}, f"beta {RECOMMENDED_BETA:g}": {"beta": RECOMMENDED_BETA}},
    "persona": {"examples": {}, "plain": {"fewshot_ratio": 0.0},
                "plain, noise on ties": {"fewshot_ratio": 0.0, "tie_noise": 0.1}}}


def row(name: str, columns, metrics: dict, seconds: float | None = None) -> str:
    cells = [f"{metrics[key]['value']:.{0 if metrics[key]['value'] > 99 else 2}f}"
             for key in columns]
    return f"| {name} | {' | '.join(cells)} | {f'{seconds:.0f}' if seconds else ''} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="sentiment", choices=COLUMNS)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", metavar="RUN", help="one kind of run, as the table names it")
    args = parser.parse_args()
    columns, kind = COLUMNS[args.task], task_class(args.task)
    labels = " | ".join(kind.all_metrics()[key].label for key in columns)
    print(f"| run | {labels} | seconds |".replace("||ref", "‖ref"))  # a bar ends a table cell
    print("|---" * (len(columns) + 2) + "|")
    with tempfile.TemporaryDirectory() as folder:
        notebook = write_source(Path(folder), kind.chapter)
        base_shown = False
        for name, changes in VARIANTS[args.task].items():
            if args.only not in (None, name):
                continue
            for seed in range(1, args.seeds + 1):
                start = time.perf_counter()
                preset = {"preset": args.preset} if args.task == "sentiment" else {}
                task = kind.of(seed=seed, **preset, **changes)
                answers = load_answers(notebook, task.needed_answers())
                with contextlib.redirect_stdout(sys.stderr):
                    run = train(task, answers, Path(folder) / f"{name}-{seed}")
                base, trained = evaluation.side_by_side({name: run}).values()
                if not base_shown:
                    print(row("base", columns, base))
                    base_shown = True
                print(row(f"{name}, seed {seed}", columns, trained, time.perf_counter() - start),
                      flush=True)


if __name__ == "__main__":
    main()
