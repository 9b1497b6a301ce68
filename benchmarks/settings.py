"""Chapter 6's settings, one changed at a time, on three seeds, into lib/settings_sweep.json.

    .venv/bin/python -m benchmarks.settings                       # about half an hour on one core
    .venv/bin/python -m benchmarks.settings --only learning_rate  # the others stay

The run is chapter 1's: the tiny review policy on the star score, without a KL term. A policy that
already does what is wanted one time in two shows no exploration, so the learning rate is tried on
chapter 3's persona too. Measured on held-out prompts at temperature 1, whatever the run samples at.
A run that is in the file is not made again; delete the file to begin anew. Not a test.
"""

import argparse
import copy
import dataclasses
import statistics
import tempfile
from datetime import date
from functools import cache, partial
from pathlib import Path

import torch
from datasets import Dataset
from torch.nn.utils import parameters_to_vector
from transformers import PrinterCallback, TrainerCallback

from grading.release import write_source
from lib import models
from lib.answers import load_answers
from lib.files import read_json, write_json
from lib.progress import progress
from lib.rewards import RewardFunction
from lib.rollout import sampled_rows
from lib.settings_sweep import RESULTS, SCORES
from lib.tasks import task_class
from lib.training import grpo_config
from lib.trl_overrides import Trainer

SEEDS, STEPS, EVERY = (1, 2, 3), 30, 5
MACHINE = "2 cores, Intel Xeon (persona: AMD EPYC), one thread, other work beside it"
NO_CLIP = 1e9  # a gradient norm that no step reaches


def each(name: str, *values) -> dict[str, dict]:
    return {str(value): {name: value} for value in values}


# Setting -> {value: what it changes}: fields of the task, else of TRL's configuration; ``prompts``
# is how many training prompts there are.
SETTINGS = {
    "learning_rate": each("learning_rate", 1e-6, 1e-5, 5e-5, 2e-4, 1e-3),
    "split": {f"{batch} x {times}": {"batch_size": batch, "accumulation": times}
              for batch, times in ((64, 1), (32, 2), (16, 4))},
    "num_generations": each("num_generations", 2, 4, 8, 16),
    "temperature": each("temperature", 0.7, 1.0, 1.3),
    "beta": each("beta", 0.0, 0.05, 0.2),
    "warmup_steps": {str(steps): {"warmup_steps": steps, "lr_scheduler_type":
                                  "constant_with_warmup" if steps else "constant"}
                     for steps in (0, 5, 10)},
    "max_grad_norm": each("max_grad_norm", 0.1, 1.0) | {"off": {"max_grad_norm": NO_CLIP}},
    "adam_beta2": each("adam_beta2", 0.9, 0.99, 0.999),
    "epochs": {"8 prompts": {"prompts": 8}, "168 prompts": {"prompts": 168}},
    "persona": {str(rate): {"task": "persona", "learning_rate": rate} for rate in (1e-6, 1e-3)},
}
DEFAULTS = {"learning_rate": 2e-4, "batch_size": 16, "accumulation": 4, "num_generations": 8,
            "temperature": 1.0, "beta": 0.0, "warmup_steps": 0, "max_grad_norm": 1.0,
            "adam_beta2": 0.999, "prompts": 168, "lr_scheduler_type": "constant"}


def changed(changes: dict) -> dict:
    """Without what is the default anyway: two settings share the run that both call so."""
    return {name: value for name, value in changes.items() if DEFAULTS.get(name) != value}


class Curve(TrainerCallback):
    """Validations of a run every few steps, and its weights after the first step. base: that of
    the policy that all runs begin with."""

    def __init__(self, validate, base: dict[str, float]):
        self.validate, self.steps, self.metrics = validate, [0], [base]

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 1:
            self.first = parameters_to_vector(model.parameters()).detach().clone()
        if state.global_step % EVERY == 0:
            self.steps.append(state.global_step)
            self.metrics.append(self.validate(model))


@cache
def answers(chapter: str) -> dict:
    """A chapter's functions, all that a run needs."""
    names = task_class(chapter).of(max_steps=1).needed_answers()
    with tempfile.TemporaryDirectory() as folder:
        return load_answers(write_source(Path(folder), task_class(chapter).chapter), names)


def validated(task: str, model, tokenizer, reference) -> dict[str, float]:
    """The metrics of a policy on held-out prompts at temperature 1."""
    plain = task_class(task).of()
    metrics = plain.measure(answers(task), partial(sampled_rows, model, tokenizer, reference),
                            plain.prompts("eval"))["metrics"]
    return {key: metric["value"] for key, metric in metrics.items()}


@cache
def base(task: str) -> dict[str, float]:
    policy, tokenizer = models.load_policy(models.policy_path("tiny", task_class(task)))
    return validated(task, policy, tokenizer, policy)


def trained(seed: int, *, task: str = "sentiment", prompts: int | None = None, **changes):
    """One run: its record, its weights after the first step and at the end, as flat vectors."""
    cls = task_class(task)
    fields = {field.name for field in dataclasses.fields(cls)}
    run = cls.of(seed=seed, **{k: v for k, v in changes.items() if k in fields},
                 **({"max_steps": STEPS} if task == "sentiment" else {}))
    functions = answers(task)
    policy, tokenizer = models.load_policy(models.policy_path("tiny", run))
    reference = copy.deepcopy(policy).requires_grad_(False)
    curve = Curve(lambda model: validated(task, model, tokenizer, reference), base(task))
    rows = run.train_rows(functions, run.prompts("train")[:prompts],
                          run.max_steps * run.prompts_per_step)
    with tempfile.TemporaryDirectory() as folder:
        config = grpo_config(run, Path(folder), policy.device)
        config.save_strategy = "no"
        for name in changes.keys() - fields:
            setattr(config, name, changes[name])
        trainer = Trainer(
            model=policy, reference=reference, processing_class=tokenizer, args=config,
            reward_funcs=[RewardFunction(run, functions, None, lambda step, rows: None)],
            train_dataset=Dataset.from_list(rows), callbacks=[curve])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    logs = [log for log in trainer.state.log_history if "reward" in log]
    record = {"step": curve.steps, "score": [m[SCORES[task]] for m in curve.metrics],
              "kl": [m["kl"] for m in curve.metrics],
              "final": curve.metrics[-1] | {
                  "training_score": statistics.fmean(log[SCORES[task]] for log in logs[-EVERY:]),
                  "grad_norm": statistics.fmean(log["grad_norm"] for log in logs),
                  "tied_groups": statistics.fmean(log["frac_reward_zero_std"] for log in logs)}}
    return record, curve.first, parameters_to_vector(policy.parameters()).detach()


@cache
def default_weights(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return trained(seed)[1:]


def measured(seed: int, changes: dict) -> dict:
    """The record of one run; of another split also how far its weights are from the default's."""
    record, *weights = trained(seed, **changes)
    if "batch_size" in changes:
        for name, mine, other in zip(("apart_after_1_step", "apart"), weights,
                                     default_weights(seed), strict=True):
            record["final"][name] = float((mine - other).abs().max())
    return rounded(record)


def rounded(value):
    """Four digits are more than three seeds can tell."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else float(f"{value:.4g}")


def known(settings: dict, seed: int, changes: dict) -> dict | None:
    """The record of the same run under another setting's name, if it was made."""
    for setting, values in SETTINGS.items():
        for value, others in values.items():
            if changed(others) == changes:
                found = settings.get(setting, {}).get(value, {}).get(str(seed))
                if found:
                    return found
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SETTINGS)
    args = parser.parse_args()
    settings = read_json(RESULTS)["settings"] if RESULTS.exists() else {}
    jobs = [(setting, value, seed, changed(changes)) for seed in SEEDS
            for setting in ([args.only] if args.only else SETTINGS)
            for value, changes in SETTINGS[setting].items()]
    for setting, value, seed, changes in progress(jobs, desc="runs", unit="run"):
        record = known(settings, seed, changes) or measured(seed, changes)
        settings.setdefault(setting, {}).setdefault(value, {})[str(seed)] = record
        write_json(RESULTS, {"command": "python -m benchmarks.settings", "machine": MACHINE,
                             "date": date.today().isoformat(), "settings": settings})


if __name__ == "__main__":
    main()
