"""What a GPU does with the course: memory against the estimate, seconds a step against stock TRL.

    .venv/bin/python -m benchmarks.gpu           # on a CUDA machine, about 10 minutes; no network
    .venv/bin/python -m benchmarks.gpu --table   # anywhere: the estimates of docs/machines.md

Weights are random, shapes are real: neither memory nor time depends on what a model knows. Both
print Markdown. Not a test.
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
from transformers import AutoModelForCausalLM, GPT2Config, Qwen2Config
from trl import GRPOTrainer

from lib import memory, models, preflight
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
          "Qwen2.5-7B": qwen(3584, 28, 28, 4, 18944, 152064, False)}
MEASURED = ("gpt2", "Qwen2.5-0.5B")
# GiB that are free on an empty card, after the libraries' own share.
GPUS = {"T4 16": 14.5, "L4 24": 22, "A100 40": 39, "A100 80, H100 80": 78}


def settings(lora: bool):
    """The step of chapter 4 with a real model: 64 completions of 200 tokens."""
    return task_class("reasoning").of(model="gpt2", use_peft=lora, max_steps=5)


@cache
def needed(name: str, lora: bool, batch: int) -> int:
    task = settings(lora)
    return memory.estimate(SHAPES[name], batch=batch, step=task.step_batch,
                           group=task.num_generations, prompt=preflight.PROMPT,
                           completion=task.max_completion_length, lora=lora).peak


def table() -> str:
    """Model x GPU: the largest batch up to 16 that fits, and the memory that it takes."""
    lines = ["| model | trained | " + " | ".join(GPUS) + " |", "|---|---|" + "---|" * len(GPUS)]
    for name, lora in itertools.product(SHAPES, (False, True)):
        cells = []
        for gib in GPUS.values():
            task = settings(lora)
            while task and needed(name, lora, task.batch_size) > memory.RESERVE * gib * 2**30:
                task = memory.halved(task)
            cells.append("no" if task is None else f"{task.batch_size} x {task.accumulation} "
                         f"({needed(name, lora, task.batch_size) / 2**30:.0f} GiB)")
        lines.append(f"| {name} | {'LoRA' if lora else 'all'} | {' | '.join(cells)} |")
    return "\n".join(lines)


class Clock(list):
    """Seconds of each optimizer step, taken by the reward function's calls."""

    __name__ = "reward"

    def __call__(self, completions, **kwargs):
        torch.cuda.synchronize()
        self.append(time.perf_counter())
        return [float(len(completion)) for completion in completions]


def steps(kind, name: str, lora: bool, folder: str) -> tuple[float, float]:
    """Median seconds a step and peak GiB of five steps with this trainer class."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(0)
    words = tokenizer(ZOO["qwen2"])
    policy = models.plain(AutoModelForCausalLM.from_config(SHAPES[name]))
    policy.save_pretrained(folder)  # stock TRL loads its reference from there
    policy.config._name_or_path = folder
    policy, clock = policy.to(models.pick_device()), Clock()
    task = dataclasses.replace(settings(lora), batch_size=4, accumulation=16, beta=0.05)
    config = grpo_config(task, Path(folder), policy.device)
    config.save_strategy = "no"
    text = words.decode(list(range(10, 10 + preflight.PROMPT)))
    kind(model=policy, processing_class=words, args=config, reward_funcs=[clock],
         train_dataset=Dataset.from_dict({"prompt": [text] * 64}),
         peft_config=models.lora_config(policy) if lora else None).train()
    seconds = [later - before for before, later in itertools.pairwise(clock)]
    return statistics.median(seconds), torch.cuda.max_memory_allocated() / 2**30


def measure() -> str:
    lines = ["| model | trained | GiB, estimated | GiB, measured | s a step | stock TRL | times |",
             "|---|---|---|---|---|---|---|"]
    for name, lora in itertools.product(MEASURED, (False, True)):
        with tempfile.TemporaryDirectory() as folder:
            ours, peak = steps(Trainer, name, lora, folder)
            stock, _ = steps(GRPOTrainer, name, lora, folder)
        lines.append(f"| {name} | {'LoRA' if lora else 'all'} | "
                     f"{needed(name, lora, 4) / 2**30:.1f} | {peak:.1f} | {ours:.2f} | "
                     f"{stock:.2f} | {stock / ours:.2f} |")
    return "\n".join([torch.cuda.get_device_name(), "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="estimates alone, without a GPU")
    if parser.parse_args().table:
        print(table())
    elif not torch.cuda.is_available():
        print("no CUDA GPU here; --table prints the estimates")
    else:
        print(measure())


if __name__ == "__main__":
    main()
