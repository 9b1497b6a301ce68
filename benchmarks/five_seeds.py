"""Expected results of chapter 1 on the tiny tier: five seeds, with and without KL.

    .venv/bin/python benchmarks/five_seeds.py            # preset quick, about 10 minutes
    .venv/bin/python benchmarks/five_seeds.py --preset full --seeds 1

Prints the README's table. Not a test: the training tier checks one seed of it.
"""

import argparse
import tempfile
import time
from pathlib import Path

from grading.release import write_source
from lib import evaluation
from lib.answers import load_answers
from lib.tasks.sentiment import RECOMMENDED_BETA, SentimentRun
from lib.training import train

COLUMNS = ("score", "positive_ratio", "reference_perplexity", "distinct_2", "self_ending", "kl")


def row(name: str, metrics: dict, seconds: float | None = None) -> str:
    cells = [f"{metrics[key]['value']:.{0 if metrics[key]['value'] > 99 else 2}f}"
             for key in COLUMNS]
    return f"| {name} | {' | '.join(cells)} | {f'{seconds:.0f}' if seconds else ''} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    labels = " | ".join(evaluation.LABELS[key] for key in COLUMNS)
    print(f"| run | {labels} | seconds |".replace("||ref", "‖ref"))  # a bar ends a table cell
    print("|---" * (len(COLUMNS) + 2) + "|")
    with tempfile.TemporaryDirectory() as folder:
        answers = load_answers(write_source(Path(folder), "01_sentiment"), ["sentiment_reward"])
        for beta in (0.0, RECOMMENDED_BETA):
            for seed in range(1, args.seeds + 1):
                start = time.perf_counter()
                run = train(SentimentRun(preset=args.preset, seed=seed, beta=beta), answers,
                            Path(folder) / f"{beta}-{seed}")
                name = f"beta {beta:g}" if beta else "no KL"
                results = evaluation.side_by_side({f"{name}, seed {seed}": run})
                for title, metrics in results.items():
                    if title != "base":
                        print(row(title, metrics, time.perf_counter() - start), flush=True)
                    elif not beta and seed == 1:
                        print(row(title, metrics))


if __name__ == "__main__":
    main()
