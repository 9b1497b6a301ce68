"""What decides a run's numbers: the settings that all tasks share.

A task (``lib/tasks/``) adds its own fields, and says how its prompts, reward and validation
are made; ``lib.training.train`` does the rest.
"""

import dataclasses
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lib import CourseError


def prompt_rows(prompts: list, n: int, seed: int) -> list:
    """n prompts: passes over all of them, each in an order of its own, in one flat list.

    One "epoch" of the trainer is then the whole run. Shuffling inside TRL would break resume:
    its sampler draws each epoch's order from a generator that a checkpoint does not hold.
    """
    rng = random.Random(seed)
    rows: list = []
    while len(rows) < n:
        rows += rng.sample(prompts, len(prompts))
    return rows[:n]


@dataclass(frozen=True)
class Settings:
    """Settings of a run. None means: the value for this task and model (``defaults``).

    batch_size: completions a forward pass; batch_size * accumulation completions make one
    optimizer step, and must hold whole groups of num_generations.
    beta: coefficient of TRL's own per-token KL(pi||ref) term (GRPOConfig.beta).
    use_vllm: generate with vLLM in this process, with 0.3 of the GPU's memory.
    """

    task: ClassVar[str]
    judged_by_answers: ClassVar[bool] = False  # whether measure calls the student's functions
    remedy: ClassVar[str] = "begin with an easier task"  # where the base never does what is wanted

    model: str = "tiny"
    max_steps: int | None = None
    beta: float | None = None
    learning_rate: float | None = None
    batch_size: int = 16
    accumulation: int = 4
    num_generations: int = 8
    temperature: float = 1.0
    max_completion_length: int | None = None
    use_peft: bool = False
    use_vllm: bool = False
    seed: int = 42
    save_steps: int | None = None
    report_to: tuple[str, ...] = ()
    run_name: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping) -> "Settings":
        """Settings from those of values (flags, a training_config.json) that are fields.

        None is no value: the field keeps its default.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: tuple(value) if isinstance(value, list) else value
                      for name, value in values.items() if name in names and value is not None})

    def resolved(self) -> "Settings":
        """The same settings with every None replaced, checked; raises CourseError."""
        self._at_least(1, "batch_size", "accumulation")
        self._at_least(2, "num_generations")
        if self.step_batch % self.num_generations:
            raise CourseError(
                f"--batch-size {self.batch_size} x --accumulation {self.accumulation} = "
                f"{self.step_batch} completions a step do not divide into groups of "
                f"--num-generations {self.num_generations}; try --batch-size "
                f"{self.num_generations}")
        self.check()
        fill = {name: value for name, value in self.defaults().items()
                if getattr(self, name) is None}
        filled = dataclasses.replace(self, **fill)
        filled._at_least(1, "max_steps", "max_completion_length", "save_steps")
        filled._positive("learning_rate", "temperature")
        filled._not_negative("beta")
        return filled

    def _reject(self, name: str, want: str) -> None:
        raise CourseError(f"--{name.replace('_', '-')} must {want}")

    def _at_least(self, low: int, *names: str) -> None:
        for name in names:
            if getattr(self, name) < low:
                why = "; a group of one has no spread, so no advantage" * (low == 2)
                self._reject(name, f"be at least {low}, not {getattr(self, name)}{why}")

    def _positive(self, *names: str) -> None:
        for name in names:
            if not 0 < getattr(self, name) < math.inf:
                self._reject(name, f"be positive, not {getattr(self, name)}")

    def _not_negative(self, *names: str, high: float = math.inf) -> None:
        """0 <= value <= high, and finite; of a tuple, each."""
        want = "not be negative" if high == math.inf else f"be between 0 and {high:g}"
        for name in names:
            value = getattr(self, name)
            for one in value if isinstance(value, tuple) else (value,):
                if not (0 <= one <= high and one < math.inf):
                    self._reject(name, f"{want}, not {one}")

    @property
    def step_batch(self) -> int:
        """Completions of one optimizer step."""
        return self.batch_size * self.accumulation

    @property
    def prompts_per_step(self) -> int:
        return self.step_batch // self.num_generations

    # What a task has to say.

    def defaults(self) -> dict:
        """Values for the fields that are None, max_steps and run_name among them."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise CourseError when a field of the task's own has a bad value."""

    def optimizer(self) -> dict:
        """Schedule, Adam and clipping, under the names of TRL's GRPOConfig."""
        return {"lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.0,
                "adam_beta1": 0.9, "adam_beta2": 0.999, "max_grad_norm": 1.0}

    def name(self) -> str:
        """The run name that follows from the settings."""
        raise NotImplementedError

    def needed_answers(self) -> list[str]:
        """Names of the student's functions that this run calls."""
        raise NotImplementedError

    def prompts(self, split: str) -> list[str]:
        """What is asked in one split, "train" or "eval", disjoint; texts or rows of a data set."""
        raise NotImplementedError

    def rows(self, answers: Mapping[str, Callable], prompts: list, n: int) -> list[dict]:
        """The n rows of the whole run, in order, made from the training split's prompts.

        Each has a "prompt", a text or a conversation; its other columns go to the rewards.
        """
        raise NotImplementedError

    def plain(self, answers: Mapping[str, Callable], prompts: list) -> list[dict]:
        """Held-out prompts as rows like those of ``rows``, nothing mixed in."""
        raise NotImplementedError

    def gold(self, row: dict) -> float | None:
        """What a measure that nothing trains on gives a completion; None where there is none."""

    def reward(self, answers: Mapping[str, Callable], reference, tokenizer) -> Callable:
        """The reward function that TRL calls; its ``rows`` are the completions of its last call."""
        raise NotImplementedError

    def test_answers(self, answers: Mapping[str, Callable]) -> None:
        """Run the visible checks of the functions that matter; AssertionError where one fails."""

    def wanted(self, answers: Mapping[str, Callable], rows: list[dict],
               completions: list[str]) -> list[bool] | None:
        """Which completions of rows show what is wanted; None for a task that has no yes or no."""

    def measure(self, answers: Mapping[str, Callable], policy, tokenizer, reference,
                prompts: list, seed: int = 0) -> dict:
        """Validate policy on prompts: ``{"metrics": ..., "rows": ...}``."""
        raise NotImplementedError

    @staticmethod
    def findings(before: dict, after: dict) -> list[str]:
        """What the metrics of baseline and final validation say is wrong, and what to try."""
        raise NotImplementedError
