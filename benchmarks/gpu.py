"""What a GPU does with the course: memory against the estimate, seconds a step against stock TRL.

    .venv/bin/python -m benchmarks.gpu           # on a CUDA machine, about 10 minutes; no network
    .venv/bin/python -m benchmarks.gpu --table   # anywhere, a minute: the table of docs/machines.md

Weights are random, shapes are real: neither memory nor time depends on what a model knows. The
first prints Markdown, the second writes it into the page. Not a test.
"""

import argparse
import dataclasses
import itertools
import statistics
import tempfile
import time
from functools import cache
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, GPT2Config, MistralConfig, Qwen2Config
from trl import GRPOTrainer

from lib import memory, models, preflight
from lib.files import write_text
from lib.tasks import task_class
from lib.training import grpo_config
from lib.trl_overrides import Trainer
from tests.zoo.look_alikes import ZOO, tokenizer


def qwen(hidden: int, layers: int, heads: int, kv: int, wide: int, vocabulary: int = 151936,
         tied: bool = True) -> Qwen2Config:
    return Qwen2Config(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                       num_key_value_heads=kv, intermediate_size=wide, vocab_size=vocabulary,
                       tie_word_embeddings=tied)


SHAPES = {"gpt2": GPT2Config(), "Qwen2.5-0.5B": qwen(896, 24, 14, 2, 4864),
          "Qwen2.5-1.5B": qwen(1536, 28, 12, 2, 8960),
          "Qwen2.5-3B": qwen(2048, 36, 16, 2, 11008),
          "Qwen2.5-7B": qwen(3584, 28, 28, 4, 18944, 152064, False),
          "Mistral-Small-24B": MistralConfig(
              hidden_size=5120, num_hidden_layers=40, num_attention_heads=32,
              num_key_value_heads=8, head_dim=128, intermediate_size=32768, vocab_size=131072)}
MEASURED = ("gpt2", "Qwen2.5-0.5B")
# GiB that are free on an empty card, after the libraries' own share.
GPUS = {"T4 16": 14.5, "L4 24": 22, "A100 40": 39, "A100 80, H100 80": 78}
PAGE = Path(__file__).parents[1] / "docs" / "machines.md"
MARKS = "<!-- made by benchmarks.gpu --table -->\n", "<!-- end -->"
# Of an A100: bf16 operations a second that training comes to, a third of its data sheet's; seconds
# that Python needs to launch the kernels of one layer for one token, whatever the batch.
SPEED, LAUNCH = 312e12 / 3, 1e-3


def settings(lora: bool):
    """The step of chapter 4 with a real model: 64 completions of 200 tokens."""
    return task_class("reasoning").of(model="gpt2", use_peft=lora, max_steps=5)


@cache
def needed(name: str, lora: bool, batch: int) -> memory.Estimate:
    task = settings(lora)
    return memory.estimate(SHAPES[name], batch=batch, step=task.step_batch,
                           group=task.num_generations, prompt=preflight.PROMPT,
                           completion=task.max_completion_length, lora=lora)


def seconds(name: str, lora: bool) -> float:
    """Seconds a step on an A100: a token of all completions after the other, then the policy's
    forward and backward pass and the reference's: eight operations a weight and token."""
    task = settings(lora)
    weights = needed(name, lora, 1).reference / memory.FLOAT
    tokens = task.step_batch * (preflight.PROMPT + task.max_completion_length)
    layers = SHAPES[name].num_hidden_layers
    return task.max_completion_length * layers * LAUNCH + 8 * weights * tokens / SPEED


def row(name: str, lora: bool) -> str:
    """A row of the table: the largest batch up to 16 that fits each card, what that takes, and
    the time on an A100 where one holds it."""
    cells = []
    for gib in GPUS.values():
        task = settings(lora)
        while task and needed(name, lora, task.batch_size).peak > memory.RESERVE * gib * 2**30:
            task = memory.halved(task)
        cells.append("no" if task is None else f"{task.batch_size} x {task.accumulation} "
                     f"({needed(name, lora, task.batch_size).peak / 2**30:.0f} GiB)")
    took = "" if cells[-1] == "no" else f"{seconds(name, lora):.0f}"
    return (f"| {name} | {'LoRA' if lora else 'all'} | {' | '.join(cells)} | "
            f"{needed(name, lora, 1).peak / 2**30:.0f} | {took} |")


def table() -> str:
    """Model x GPU, as Markdown."""
    return "\n".join([
        "| model | trained | " + " | ".join(GPUS) + " | GiB at batch 1 | s a step, A100 |",
        "|---|---|" + "---|" * (len(GPUS) + 2),
        *itertools.starmap(row, itertools.product(SHAPES, (False, True)))])


def write_table() -> None:
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    write_text(PAGE, before + MARKS[0] + table() + "\n" + MARKS[1] + rest.partition(MARKS[1])[2])


class Clock(list):
    """Seconds of each optimizer step, taken by the reward function's calls."""

    __name__ = "reward"

    def __call__(self, completions, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.append(time.perf_counter())
        return [float(len(completion)) for completion in completions]


def steps(kind, name: str, task, prompt: int, folder: str) -> list[float]:
    """Seconds of each step but the first, of a random model with this trainer class."""
    torch.manual_seed(0)
    words = tokenizer(ZOO["qwen2"])
    policy = models.plain(AutoModelForCausalLM.from_config(SHAPES[name]))
    policy.save_pretrained(folder)  # the reference is loaded from there
    policy.config._name_or_path = folder
    policy, clock = policy.to(models.pick_device()), Clock()
    config = grpo_config(task, Path(folder), policy.device)
    config.save_strategy = "no"
    text = words.decode(list(range(10, 10 + prompt)))
    kind(model=policy, processing_class=words, args=config, reward_funcs=[clock],
         train_dataset=Dataset.from_dict({"prompt": [text] * 64}),
         peft_config=models.lora_config(policy) if task.use_peft else None).train()
    return [later - before for before, later in itertools.pairwise(clock)]


def measure() -> str:
    lines = ["| model | trained | GiB, estimated | GiB, measured | s a step | stock TRL | times |",
             "|---|---|---|---|---|---|---|"]
    for name, lora in itertools.product(MEASURED, (False, True)):
        task = dataclasses.replace(settings(lora), batch_size=4, accumulation=16, beta=0.05)
        found = {}
        for kind in (Trainer, GRPOTrainer):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            with tempfile.TemporaryDirectory() as folder:
                found[kind] = (statistics.median(steps(kind, name, task, preflight.PROMPT, folder)),
                               torch.cuda.max_memory_allocated() / 2**30)
        (ours, peak), (stock, _) = found.values()
        lines.append(f"| {name} | {'LoRA' if lora else 'all'} | "
                     f"{needed(name, lora, 4).peak / 2**30:.1f} | {peak:.1f} | {ours:.2f} | "
                     f"{stock:.2f} | {stock / ours:.2f} |")
    return "\n".join([torch.cuda.get_device_name(), "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="write the estimates into the page")
    if parser.parse_args().table:
        write_table()
    elif not torch.cuda.is_available():
        print("no CUDA GPU here; --table writes the estimates into docs/machines.md")
    else:
        print(measure())


if __name__ == "__main__":
    main()
