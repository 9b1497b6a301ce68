"""Chapter 4's experiments, five seeds and three a control, into lib/reasoning.json. Not a test.

    .venv/bin/python -m benchmarks.reasoning  # about 40 minutes on one core; goes on where it was
    .venv/bin/python -m benchmarks.reasoning --again "random reward"  # measures it anew
    .venv/bin/python -m benchmarks.reasoning --table  # docs/results.md's, from what is stored
"""

import argparse
import contextlib
import io
import platform
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from grading.release import write_source
from lib import evaluation, models, thinking
from lib.answers import load_answers
from lib.files import read_json, write_json
from lib.progress import close, progress
from lib.runs import FINAL, POLICY
from lib.tasks.reasoning import ReasoningTask
from lib.training import train

MAIN = "all five"
VARIANTS = {  # name -> (the task's class, its settings, seeds); None: no GRPO
    MAIN: (ReasoningTask, {}, (1, 2, 3, 4, 5)),
    "correctness only": (ReasoningTask, {"reward_weights": (1.0, 0.0, 0.0, 0.0, 0.0)}, (1, 2, 3)),
    "form only": (ReasoningTask, {"reward_weights": (0.0, 0.0, 1.0, 1.0, 1.0)}, (1, 2, 3)),
    "random reward": (thinking.RandomReward, {}, (1, 2, 3)),
    "random reward, beta 0.02": (thinking.RandomReward, {"beta": 0.02}, (1, 2, 3)),
    "own right answers": (None, {}, (1, 2, 3)),
    "0.05 a token": (ReasoningTask, {"token_cost": 0.05}, (1, 2, 3))}
COLUMNS = {"accuracy": "accuracy, sampled", "accuracy_greedy": "accuracy, greedy",
           "format_rate": "well-formed", "worked_rate": "all steps written, sampled",
           "worked_greedy": "greedy", "length": "length"}


def rounded(value):
    """Four digits are more than five seeds can tell."""
    if isinstance(value, dict):
        return {str(key): rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def figures(task, exam, policy, final: dict, whole: bool) -> dict:
    """What is stored of a policy; whole: pass@k and the operations too, which take longest."""
    asked, few = thinking.held_out(task), 4
    found = {"final": {key: final["metrics"][key] for key in thinking.PROBED},
             "ways": exam.ways(policy, asked + thinking.beyond()),
             "worked_by_steps": thinking.by_steps(asked, thinking.worked(
                 asked, [row["completion"] for row in final["rows"]]))}
    return found | ({"passes": exam.passes(policy, asked[::few]),
                     "operated": exam.operated(policy, asked)} if whole else {})


def one_run(variant: str, seed: int, student, tokens: float | None) -> dict:
    """Train one policy and measure it; tokens: the budget of "own right answers"."""
    kind, changes, _ = VARIANTS[variant]
    task = (kind or ReasoningTask).of(seed=seed, **changes)
    base, tokenizer = models.load_policy(models.policy_path(task.model, task))
    exam = thinking.Exam(student, tokenizer, task.max_completion_length)
    measure = partial(thinking.measure, task, student, tokenizer, base)
    probes = thinking.Probes(partial(measure, every=4), 10 if variant == MAIN else 50)
    start = time.perf_counter()
    thinking.COIN.seed(seed)
    if kind is None:
        trained = thinking.imitate(task, student, tokens, probes)
        final = measure(trained)
    else:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            run = train(task, student, Path(folder) / "run", callbacks=[probes])
            trained = models.load_policy(str(run / POLICY))[0]
            final = read_json(run / FINAL)
            tokens = sum(row["completion_length"] for row in evaluation.histories({"": run})[""])
            tokens *= task.step_batch
    return {"seconds": time.perf_counter() - start, "tokens": tokens, "curve": probes.columns,
            **figures(task, exam, trained, final, variant == MAIN)}


def base_figures(student) -> dict:
    task = ReasoningTask.of()
    base, tokenizer = models.load_policy(models.policy_path(task.model, task))
    exam = thinking.Exam(student, tokenizer, task.max_completion_length)
    return figures(task, exam, base, thinking.measure(task, student, tokenizer, base, base), True)


def table(stored: dict) -> str:
    """The rows of docs/results.md: each figure with its 95 % interval."""
    def row(name, final):
        cells = [f"{m['value']:.1f}" if key == "length" else
                 f"{m['value']:.2f} [{m['low']:.2f}, {m['high']:.2f}]"
                 for key, m in ((key, final[key]) for key in COLUMNS)]
        return f"| {name} | {' | '.join(cells)} |"

    lines = [f"| run | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|",
             row("base", stored["base"]["final"])]
    return "\n".join(lines + [row(f"{variant}, seed {seed}", run["final"])
                              for variant, seeds in stored["runs"].items()
                              for seed, run in seeds.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", choices=VARIANTS, help="forget what is stored of this one")
    parser.add_argument("--table", action="store_true", help="print the table and measure nothing")
    args = parser.parse_args()
    path = thinking.RESULTS
    stored = read_json(path) if path.exists() else {"runs": {}}
    if args.table:
        print(table(stored))
        return
    stored["runs"].pop(args.again, None)
    with tempfile.TemporaryDirectory() as folder:
        student = load_answers(write_source(Path(folder), "04_reasoning"),
                               ReasoningTask.of(pass_at=1, token_cost=1.0).needed_answers())

    def keep():
        write_json(path, rounded({
            "command": "python -m benchmarks.reasoning",
            "date": datetime.now(UTC).date().isoformat(), "processor": processor(),
            "threads": torch.get_num_threads(),
            "versions": {lib: version(lib) for lib in ("torch", "transformers", "trl")},
            "base": stored["base"], "runs": stored["runs"]}))

    if "base" not in stored:
        stored["base"] = base_figures(student)
    left = [(variant, seed) for variant, (_, _, seeds) in VARIANTS.items() for seed in seeds
            if str(seed) not in stored["runs"].get(variant, {})]
    left.sort(key=lambda run: run[1] - 3 * (run[0] == MAIN))  # a stop leaves some of each
    bar = progress(total=len(left), desc="runs", unit="run", delay=0)
    for variant, seed in left:
        bar.set_postfix_str(f"{variant}, seed {seed}")
        budget = stored["runs"].get(MAIN, {}).get(str(seed), {}).get("tokens")
        found = one_run(variant, seed, student, budget)
        stored["runs"].setdefault(variant, {})[str(seed)] = found
        keep()
        bar.update()
    close(bar)


def processor() -> str:
    """The name of this machine's processor."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines()
             if line.startswith("model name")] if cpuinfo.exists() else []
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
