"""What every task has in common: its settings, and what it has to say about itself.

A task is one class in one file. Its fields are the settings of a run, each with its flag, help
and bounds in one place (``option``); the command line, the check of values and the table in
docs/settings.md are read from there. Its methods give the prompts, the parts of the reward and
the validation. ``lib.training.train`` does the rest. docs/your_task.md builds one from nothing.

Imports neither torch nor transformers, so that ``--help`` answers at once.
"""

import dataclasses
import inspect
import math
import random
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

from lib import CourseError
from lib.intervals import mean_interval, rate_interval, text_metrics
from lib.tiny import WEIGHTS


@dataclass(frozen=True)
class Option:
    """A setting's flag on the command line: its help, and the values that are allowed.

    flag: where it is not the field's name; "" for none. low, high: inclusive; above: exclusive.
    why: added to the message where a value is too small. measuring: ``evaluate`` and ``compare``
    have the flag too. off: a flag that sets the value to 0.
    """

    help: str
    flag: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    low: float | None = None
    above: float | None = None
    high: float | None = None
    why: str = ""
    measuring: bool = False
    off: str = ""

    def allowed(self) -> str:
        """The values that are allowed, in words; "" for any."""
        if self.choices:
            return ", ".join(self.choices)
        if self.high is not None:
            return f"{self.low} to {self.high}"
        return f"above {self.above}" if self.above is not None else (
            f"from {self.low}" if self.low is not None else "")

    def check(self, flag: str, value) -> None:
        """Raise CourseError unless value is allowed; of a tuple, each."""
        def reject(want: str, got):
            raise CourseError(f"{flag} must {want}, not {got}{self.why}")

        if self.choices and value not in self.choices:
            reject(f"be one of {', '.join(self.choices)}", f"'{value}'")
        for one in value if isinstance(value, tuple) else (value,):
            if not isinstance(one, int | float):
                continue
            if self.above is not None and not one > self.above:
                reject("be positive", one)
            if self.high is not None and not self.low <= one <= self.high:
                reject(f"be between {self.low} and {self.high}", one)
            if self.low is not None and not one >= self.low:
                reject("not be negative" if self.low == 0 else f"be at least {self.low}", one)
            if not math.isfinite(one):
                reject("be finite", one)


def option(default=MISSING, help: str = "", **kwargs):
    """A dataclass field with an Option. Without a default the task's ``defaults`` fill it."""
    return dataclasses.field(default=default, metadata={"option": Option(help, **kwargs)})


def flag_of(field: dataclasses.Field) -> str:
    """``--max-steps`` of max_steps, or what its Option says."""
    flag = field.metadata["option"].flag
    return f"--{field.name.replace('_', '-')}" if flag is None else flag


@dataclass(frozen=True)
class Metric:
    """A figure of a run, under the same key in every file that holds it.

    label: its name in tables, "" where no table shows it. log_key: TRL's name for it in the logs
    of training, where it has one. panel: title and unit of its curve, for those that are drawn.
    """

    key: str
    label: str = ""
    log_key: str | None = None
    panel: tuple[str, str] | None = None


# What every run has, in the order of tables and pictures. Timings stay out of the history: that of
# a resumed run equals the uninterrupted one's.
COMMON_METRICS = (
    Metric("reward", "mean reward"),
    Metric("mean_reward", log_key="reward", panel=("mean reward", "as trained on")),
    Metric("reward_std", log_key="reward_std"),
    Metric("tied_groups", log_key="frac_reward_zero_std", panel=("tied groups", "share")),
    Metric("held_out_kl", panel=("KL(pi||ref), held out", "nats a completion")),
    Metric("reference_perplexity", "reference perplexity"),
    Metric("first_token_perplexity", "perplexity, first token"),
    Metric("distinct_2", "distinct-2"),
    Metric("entropy", "entropy, nats a token", "entropy", ("policy entropy", "nats a token")),
    Metric("self_ending", "self-ending share"),
    Metric("kl", "KL(pi||ref), nats", "kl"),
    Metric("length", "length, tokens"),
    Metric("completion_length", log_key="completions/mean_length",
           panel=("completion length", "tokens")),
    Metric("clipped_ratio", log_key="completions/clipped_ratio"),
    Metric("loss", log_key="loss"),
    Metric("grad_norm", log_key="grad_norm"),
    Metric("learning_rate", log_key="learning_rate"))


MOST_PROMPTS = 2_000_000  # of a run, all laid out before its first step: 0.7 GiB


def shuffled_passes(prompts: list, n: int, seed: int) -> list:
    """n prompts: passes over all of them, each in an order of its own, in one flat list.

    One "epoch" of the trainer is then the whole run. Shuffling inside TRL would break resume:
    its sampler draws each epoch's order from a generator that a checkpoint does not hold.
    """
    rng = random.Random(seed)
    rows: list = []
    while len(rows) < n:
        rows += rng.sample(prompts, len(prompts))
    return rows[:n]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task with the settings of one run, all of them known and checked. Made by ``Task.of``.

    A subclass names itself and its policies, adds fields of its own, and says what its prompts are
    and what a completion is worth: ``prompts`` and ``parts`` are all that it must define.
    """

    task: ClassVar[str]  # its name: in files, on the command line, of the folder below runs/
    chapter: ClassVar[str | None] = None  # whose notebook holds the student's functions
    file: ClassVar[str | None] = None  # where a task of one's own was read from
    summary: ClassVar[str] = "a task of your own"
    tiny_policy: ClassVar[Path] = WEIGHTS / "review-policy"  # what --model tiny is
    gpu_model: ClassVar[str] = "gpt2"  # what Colab's notebook takes where there is a GPU
    metrics: ClassVar[tuple[Metric, ...]] = ()  # its own; COMMON_METRICS come behind them
    detectors: ClassVar[tuple[str, ...]] = (  # keys of the metrics that a picture compares, six
        "reward", "reference_perplexity", "distinct_2", "self_ending", "kl", "length")
    histogram: ClassVar[str | None] = None  # of a row's value in [0, 1]; compares better than dots
    judged_by_answers: ClassVar[bool] = False  # whether ``measure`` calls the student's functions
    samples_per_prompt: ClassVar[int] = 4  # completions of each held-out prompt in a validation
    remedy: ClassVar[str] = "begin with an easier task"  # where the base policy never succeeds

    model: str = option("tiny", "the policy to train", metavar="tiny|ID|PATH")
    max_steps: int = option(help="optimizer steps", low=1)
    beta: float = option(help="coefficient of TRL's own per-token KL(pi||ref) term in the loss",
                         low=0)
    learning_rate: float = option(help="Adam's, at its highest", above=0)
    batch_size: int = option(16, "completions a forward pass", low=1)
    accumulation: int = option(4, "forward passes a step", low=1)
    num_generations: int = option(
        8, "completions a prompt: the group", low=2,
        why="; a group of one has no spread, so no advantage")
    temperature: float = option(1.0, "of sampling", above=0)
    max_completion_length: int = option(help="tokens", low=1)
    use_peft: bool = option(False, "train a LoRA adapter only")
    use_vllm: bool = option(False, "generate with vLLM in this process (needs a GPU)")
    vllm_memory: float = option(0.3, "share of the GPU's memory that vLLM takes; training has the "
                                     "rest", low=0.05, high=0.95, metavar="SHARE")
    seed: int = option(42, "of everything random", low=0, high=2**32 - 1)
    save_steps: int = option(help="steps between checkpoints", low=1)
    report_to: tuple[str, ...] = option((), "trackers", flag="")
    run_name: str | None = option(None, "the run's name for trackers", flag="--wandb-run-name")

    # From what was given to a complete task.

    @classmethod
    def of(cls, **given) -> "Task":
        """The task with these settings; what is not given, or None, gets its default.

        A default depends on the model, and may depend on other settings (``defaults``,
        ``schedule``). Raises CourseError for an unknown setting and for a value not allowed.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := given.keys() - fields.keys():
            raise CourseError(f"the task {cls.task} has no setting {', '.join(sorted(unknown))}; "
                              f"it has {', '.join(fields)}")
        values = {name: field.default for name, field in fields.items()
                  if field.default is not MISSING}
        given = {name: tuple(value) if isinstance(value, list) else value
                 for name, value in given.items() if value is not None}
        model, lora = given.get("model", "tiny"), bool(given.get("use_peft"))
        values |= cls.defaults(model == "tiny", lora) | given

        def check(values):
            for name, value in values.items():
                fields[name].metadata["option"].check(
                    flag_of(fields[name]) or name, value)

        check(values)
        prompts_per_step(**{name: values[name] for name in (
            "batch_size", "accumulation", "num_generations")})
        if fields.keys() - values.keys():
            values = cls.schedule(SimpleNamespace(**values)) | values
            check(values)
        made = cls(**values)
        if (asked := made.max_steps * made.prompts_per_step) > MOST_PROMPTS:
            raise CourseError(f"--max-steps {made.max_steps} of {made.step_batch} completions ask "
                              f"{asked:,} prompts, and a run lays out at most {MOST_PROMPTS:,}; "
                              "take fewer steps, or smaller ones")
        made.check()
        return made

    @classmethod
    def of_record(cls, settings: Mapping) -> "Task":
        """The task with the settings of a training_config.json, of this or an earlier release."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls.of(**{name: value for name, value in settings.items() if name in names})

    @classmethod
    def defaults(cls, tiny: bool, lora: bool) -> dict:
        """Values that depend on the model: tiny or another, all of it or a LoRA adapter."""
        return {"beta": 0.0, "learning_rate": (2e-4 if tiny else 1e-5) * (5 if lora else 1),
                "max_completion_length": 40 if tiny else 64, "save_steps": 25}

    @classmethod
    def schedule(cls, given: SimpleNamespace) -> dict:
        """Values that depend on other settings: max_steps, and whatever else is still missing."""
        return {"max_steps": 50}

    def check(self) -> None:
        """Raise CourseError where settings do not go together; single values are checked before."""

    def optimizer(self) -> dict:
        """Schedule, Adam and clipping, under the names of TRL's GRPOConfig."""
        return {"lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.0,
                "adam_beta1": 0.9, "adam_beta2": 0.999, "max_grad_norm": 1.0}

    def name(self) -> str:
        """The run name that follows from the settings."""
        return f"{self.max_steps}steps" + self.unusual("beta")

    def unusual(self, name: str) -> str:
        """``_beta0.2`` where beta is not the default for this model, else nothing."""
        value, usual = getattr(self, name), self.defaults(self.model == "tiny", self.use_peft)
        return f"_{name}{value:g}" if value != usual[name] else ""

    @property
    def step_batch(self) -> int:
        """Completions of one optimizer step."""
        return self.batch_size * self.accumulation

    @property
    def prompts_per_step(self) -> int:
        return prompts_per_step(self.batch_size, self.accumulation, self.num_generations)

    # What is asked.

    def prompts(self, split: str) -> list:
        """What is asked in one split, "train" or "eval", disjoint; texts or rows of a data set."""
        raise CourseError(f"the task {self.task} has no method prompts: see docs/your_task.md")

    def train_rows(self, answers: Mapping[str, Callable], prompts: list, n: int) -> list[dict]:
        """The n rows of the whole run, in order, made from the training split's prompts.

        Each has a "prompt", a text or a conversation; its other columns go to the reward.
        """
        return self.eval_rows(answers, shuffled_passes(prompts, n, self.seed))

    def eval_rows(self, answers: Mapping[str, Callable], prompts: list) -> list[dict]:
        """Held-out prompts as rows like those of ``train_rows``, nothing mixed in."""
        return [{"prompt": prompt} for prompt in prompts]

    @classmethod
    def chat_prompt(cls, question: str, conversational: bool):
        """How a question is put to the policy, conversational where it has a chat template."""
        return [{"role": "user", "content": question}] if conversational else question

    # What a completion is worth.

    def needed_answers(self) -> list[str]:
        """Names of the student's functions that this run calls."""
        return []

    def test_answers(self, answers: Mapping[str, Callable]) -> None:
        """Run the visible checks of the functions that matter; AssertionError where one fails."""

    def parts(self, completions: list, *, answers: Mapping[str, Callable],
              ref_logps: Callable[[], list[list[float]]], **kwargs) -> dict[str, list[float]]:
        """The reward of each completion under "reward", and the parts it is made of, by name.

        Each value is a list with one float a completion. completions: texts, or conversations of
        one message where the prompts are conversations (``lib.rewards.completion_texts``).
        ref_logps: gives the log-probs of the completions' tokens under the reference model.
        kwargs: what else TRL passes: prompts, completion_ids, the rows' other columns,
        trainer_state while it trains. A part whose name is a Metric's log_key is logged as its
        mean. Pure: it keeps nothing from one call to the next.
        """
        raise CourseError(f"the task {self.task} has no method parts: see docs/your_task.md")

    def gold(self, row: dict) -> float | None:
        """The score of a completion on a measure that no training sees; None without one."""

    def successes(self, answers: Mapping[str, Callable], rows: list[dict],
                  completions: list[str]) -> list[bool] | None:
        """Which completions of rows show what is wanted; None for a task that has no yes or no."""

    # How it is measured.

    def measure(self, answers: Mapping[str, Callable], sampler: Callable, prompts: list,
                seed: int = 0) -> dict:
        """Validate a policy on prompts: ``{"metrics": ..., "rows": ...}``.

        sampler: ``lib.rollout.sampled_rows`` with the policy and its reference filled in. Each
        part of the reward is reported by its mean, or as a share where it is 0 or 1.
        """
        asked = self.eval_rows(answers, prompts) * self.samples_per_prompt
        rows = sampler(asked, temperature=self.temperature, seed=seed,
                       max_completion_length=self.max_completion_length)
        columns = {name: [row[name] for row in asked] for name in asked[0]}
        parts = self.parts(
            [row["completion"] for row in rows], answers=answers, prompts=columns.pop("prompt"),
            completion_ids=[row["completion_ids"] for row in rows],
            ref_logps=lambda: [row["ref_logps"] for row in rows], **columns)
        for i, row in enumerate(rows):
            row |= {name: values[i] for name, values in parts.items()}

        def interval(values):
            share = set(values) <= {0.0, 1.0}
            return rate_interval(int(sum(values)), len(values)) if share else mean_interval(values)

        return {"metrics": {name: interval(values) for name, values in parts.items()}
                | text_metrics(rows), "rows": rows}

    @classmethod
    def findings(cls, before: dict, after: dict) -> list[str]:
        """What the metrics of baseline and final validation say is wrong, and what to try."""
        if after["reward"]["low"] <= before["reward"]["high"]:
            return ["no clear gain in reward: the intervals overlap. Train longer, or raise "
                    "--learning-rate"]
        return []

    # How it is shown.

    @classmethod
    def all_metrics(cls) -> dict[str, Metric]:
        """Its own metrics and the common ones, by key; its own come first, and win."""
        own = {metric.key: metric for metric in cls.metrics}
        return own | {m.key: m for m in COMMON_METRICS if m.key not in own}


def prompts_per_step(batch_size: int, accumulation: int, num_generations: int) -> int:
    """How many prompts one optimizer step asks; CourseError where groups would be cut."""
    completions = batch_size * accumulation
    if completions % num_generations:
        raise CourseError(
            f"--batch-size {batch_size} x --accumulation {accumulation} = {completions} "
            f"completions a step do not divide into groups of --num-generations "
            f"{num_generations}; try --batch-size {num_generations}")
    return completions // num_generations


def type_of(cls: type[Task], name: str) -> type:
    """The plain type of a field: int of ``int | None``, tuple of ``tuple[float, ...]``."""
    hint = typing.get_type_hints(cls)[name]
    options = [one for one in typing.get_args(hint) or (hint,) if one is not type(None)]
    return typing.get_origin(hint) if typing.get_origin(hint) is tuple else options[0]


def is_task(value) -> bool:
    """Whether value is a class that says what a task is, not the base of all of them."""
    return inspect.isclass(value) and issubclass(value, Task) and value is not Task
