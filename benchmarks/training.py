"""Seconds a training step costs: TRL's own trainer against ours, on a CPU. Not a test.

    .venv/bin/python -m benchmarks.training                    # about half an hour
    .venv/bin/python -m benchmarks.training --only sentiment --rounds 1
    .venv/bin/python -m benchmarks.training --neighbour        # with one core taken away
    .venv/bin/python -m benchmarks.training --commands         # whole commands

Both train the same weights on the same prompts with the same reward, in turn, in one process;
figures are medians over steps, in CPU-seconds and in seconds. Stock is TRL at its defaults but for
what would be another computation (length, group, batch, learning rate, beta).

A whole command also starts, measures, asks probes and writes files; what a step of it costs is the
difference between one of LONG and one of SHORT steps.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

from grading.release import write_source
from lib import models
from lib.scoring import get_sentiment_scores
from lib.tasks import task_class
from lib.training import grpo_config
from lib.trl_overrides import Trainer

STEPS = 10
LONG, SHORT = 40, 10
PHASES = {"generation": "_generate_single_turn", "scorer": "_calculate_rewards",
          "forward": "_get_per_token_logps_and_entropies"}


class Clock(TrainerCallback):
    """CPU-seconds and seconds of every step but the first, which warms up."""

    def __init__(self):
        self.steps: list[tuple[float, float]] = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.start = time.process_time(), time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step > 1:
            self.steps.append((time.process_time() - self.start[0],
                               time.perf_counter() - self.start[1]))


BUNDLED = ("sentiment", "persona")


def case(name: str, beta: float, steps: int = STEPS) -> dict:
    """What is trained: a bundled policy on its task, or a random one with full completions."""
    if name in BUNDLED:
        task = task_class(name).of(beta=beta, max_steps=steps)
        policy, tokenizer = models.load_policy(models.policy_path("tiny", task))
        prompts = [p if name == "sentiment" else f"Q: {p}\nA:" for p in task.prompts("train")]
    else:
        layers, width, length = map(int, name.split("x"))
        task = task_class("sentiment").of(beta=beta, max_steps=steps,
                                          max_completion_length=length)
        _, tokenizer = models.load_policy(models.policy_path("tiny", task))
        set_seed(0)
        policy = GPT2LMHeadModel(GPT2Config(
            vocab_size=len(tokenizer), n_positions=256, n_embd=width, n_layer=layers,
            n_head=width // 32, activation_function="gelu_pytorch_tanh",
            bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id))
        prompts = task.prompts("train")

    def reward(completions, **kwargs):
        return get_sentiment_scores(completions) if name != "persona" else [
            float(len(text) % 7) for text in completions]

    return {"task": task, "policy": policy, "tokenizer": tokenizer, "prompts": prompts,
            "reward": reward}


def trained(stock: bool, what: dict, folder: Path) -> tuple[Clock, dict[str, float]]:
    """Train the task's steps: the clock, and the CPU-seconds of each phase."""
    task, clock, spent = what["task"], Clock(), defaultdict(float)
    what["policy"].save_pretrained(folder / "policy")
    what["tokenizer"].save_pretrained(folder / "policy")
    policy = models.load_policy(str(folder / "policy"))[0]
    if stock:
        config = GRPOConfig(
            output_dir=str(folder / "stock"), use_cpu=True, bf16=False, report_to="none",
            max_steps=task.max_steps, per_device_train_batch_size=task.batch_size,
            gradient_accumulation_steps=task.accumulation,
            num_generations=task.num_generations, learning_rate=task.learning_rate,
            max_completion_length=task.max_completion_length, beta=task.beta,
            save_strategy="no", disable_tqdm=True, logging_steps=1)
    else:
        config = grpo_config(task, folder / "ours", torch.device("cpu"), "ours")
        config.save_strategy = "no"
    rows = (what["prompts"] * 20)[:task.max_steps * task.prompts_per_step]
    trainer = (GRPOTrainer if stock else Trainer)(
        model=policy, reward_funcs=[what["reward"]], processing_class=what["tokenizer"],
        args=config, train_dataset=Dataset.from_dict({"prompt": rows}), callbacks=[clock])

    def timed(name, function):
        def run(*args, **kwargs):
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += time.process_time() - start
        return run

    for phase, method in PHASES.items():
        setattr(trainer, method, timed(phase, getattr(trainer, method)))
    trainer.accelerator.backward = timed("backward", trainer.accelerator.backward)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    return clock, spent


def measured(name: str, beta: float, rounds: int) -> str:
    """A row of the table."""
    seconds = {True: [], False: []}
    shares: dict[str, float] = defaultdict(float)
    for _ in range(rounds):
        for stock in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                clock, spent = trained(stock, case(name, beta), Path(folder))
            seconds[stock] += clock.steps
            if not stock:
                for phase, value in spent.items():
                    shares[phase] += value
    cpu_stock, wall_stock, cpu, wall = (
        statistics.median(step[i] for step in seconds[stock])
        for stock, i in ((True, 0), (True, 1), (False, 0), (False, 1)))
    total = sum(shares.values())
    parts = ", ".join(f"{phase} {100 * value / total:.0f}" for phase, value in shares.items())
    return (f"| {name} | {beta:g} | {cpu_stock:.3f} | {cpu:.3f} | **{cpu / cpu_stock:.2f}** | "
            f"{wall_stock:.3f} | {wall:.3f} | {parts} |")


def command_seconds(stock: bool, name: str, beta: float, steps: int) -> float:
    """CPU-seconds of a whole command that trains so many steps."""
    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    with tempfile.TemporaryDirectory() as folder:
        answers = write_source(Path(folder), task_class(name).chapter)
        command = ["benchmarks.training", "--stock", name, str(beta), str(steps)] if stock else [
            "lib", "train", name, "--beta", str(beta), "--max-steps", str(steps), "--answers",
            str(answers), "--output-dir", f"{folder}/run",
            *["--no-fewshot"] * (name == "persona")]
        before = spent()
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
        return spent() - before


def commands(name: str, beta: float, rounds: int) -> str:
    """A row of the table of whole commands."""
    steps = {stock: statistics.median(
        (command_seconds(stock, name, beta, LONG) - command_seconds(stock, name, beta, SHORT))
        / (LONG - SHORT) for _ in range(rounds)) for stock in (True, False)}
    return (f"| {name} | {beta:g} | {steps[True]:.3f} | {steps[False]:.3f} | "
            f"**{steps[False] / steps[True]:.2f}** |")


def spin() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="one case")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--neighbour", action="store_true", help="another process keeps a core")
    parser.add_argument("--commands", action="store_true", help="whole commands, not steps")
    parser.add_argument("--stock", nargs=3, metavar=("CASE", "BETA", "STEPS"),
                        help="only train with TRL's own trainer, as --commands does")
    args = parser.parse_args()
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    if args.stock:
        name, beta, steps = args.stock
        with tempfile.TemporaryDirectory() as folder:
            trained(True, case(name, float(beta), int(steps)), Path(folder))
        return
    neighbour = multiprocessing.Process(target=spin, daemon=True)
    if args.neighbour:
        neighbour.start()
    print(f"threads {torch.get_num_threads()}, OMP_WAIT_POLICY "
          f"{os.environ.get('OMP_WAIT_POLICY', 'unset')}")
    cases, row = [*BUNDLED, "2x128x32", "2x128x64", "4x256x32", "4x256x64", "6x384x32",
                  "6x384x64"], measured
    columns = ("stock, CPU-s a step", "ours", "ratio", "stock, s", "ours, s", "ours, % of")
    if args.commands:
        cases, row, columns = BUNDLED, commands, columns[:3]
    print("\n".join([f"| {' | '.join(('case', 'beta', *columns))} |",
                     "|" + "---|" * (2 + len(columns))]))
    for name in [args.only] if args.only else cases:
        for beta in (0.0, 0.2):
            print(row(name, beta, args.rounds), flush=True)


if __name__ == "__main__":
    main()
