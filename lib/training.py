"""Presets, TRL's configuration, and one training run from its checks to its files.

    train(Settings(preset="quick"), answers, "runs/mine")

Every TRL default that has moved between releases is set here by name.
"""

import dataclasses
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from lib import CourseError, evaluation, grading, models, monitor, plots
from lib.files import read_json, write_json
from lib.rewards import SentimentReward, gate
from lib.scoring import use_scorer
from lib.tasks import sentiment

PRESETS = {"quick": 50, "medium": 150, "full": 300}  # optimizer steps
SHAPINGS, KL_TYPES = ("none", "exponential"), ("none", "forward", "backward")
DEFAULT_KL_COEF = 0.1
RECOMMENDED_BETA = 0.2  # measured on the tiny tier: README, "Expected results"


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's numbers. None means: the value for this model.

    batch_size: completions a forward pass; batch_size * accumulation completions make one
    optimizer step, and must hold whole groups of num_generations.
    prompts: a file with one prompt a line, instead of the task's own.
    beta: coefficient of TRL's own per-token KL(pi||ref) term (GRPOConfig.beta).
    use_vllm: generate with vLLM in this process, with 0.3 of the GPU's memory.
    kl_type, kl_coef: the student's sequence-level term, added to the reward.
    """

    model: str = "tiny"
    scorer: str | None = None
    prompts: str | None = None
    preset: str = "quick"
    max_steps: int | None = None
    reward_shaping: str = "none"
    shaping_temperature: float = 0.25
    kl_type: str = "none"
    kl_coef: float = DEFAULT_KL_COEF
    beta: float = 0.0
    learning_rate: float | None = None
    batch_size: int = 16
    accumulation: int = 4
    num_generations: int = 8
    temperature: float = 1.0
    max_completion_length: int | None = None
    use_peft: bool = False
    use_vllm: bool = False
    seed: int = 42
    save_steps: int = 25
    report_to: tuple[str, ...] = ()
    run_name: str | None = None

    def resolved(self) -> "Settings":
        """The same settings with every None replaced, checked; raises CourseError."""
        def one_of(name, value, allowed):
            if value not in allowed:
                raise CourseError(f"unknown {name} '{value}'; choose one of {', '.join(allowed)}")

        one_of("preset", self.preset, PRESETS)
        one_of("reward shaping", self.reward_shaping, SHAPINGS)
        one_of("KL type", self.kl_type, KL_TYPES)
        tiny = self.model == "tiny"
        filled = dataclasses.replace(
            self,
            max_steps=PRESETS[self.preset] if self.max_steps is None else self.max_steps,
            learning_rate=self.learning_rate if self.learning_rate is not None
            else (2e-4 if tiny else 1e-5) * (5 if self.use_peft else 1),
            max_completion_length=self.max_completion_length or (40 if tiny else 64),
            run_name=self.run_name or run_name(self))
        for name, low in (("max_steps", 1), ("batch_size", 1), ("accumulation", 1),
                          ("num_generations", 2), ("max_completion_length", 1),
                          ("save_steps", 1)):
            if getattr(filled, name) < low:
                why = "; a group of one has no spread, so no advantage" * (low == 2)
                raise CourseError(f"--{name.replace('_', '-')} must be at least {low}, "
                                  f"not {getattr(filled, name)}{why}")
        for name in ("learning_rate", "temperature", "shaping_temperature"):
            if not 0 < getattr(filled, name) < float("inf"):
                raise CourseError(f"--{name.replace('_', '-')} must be positive, "
                                  f"not {getattr(filled, name)}")
        for name in ("kl_coef", "beta"):
            if not 0 <= getattr(filled, name) < float("inf"):
                raise CourseError(f"--{name.replace('_', '-')} must not be negative, "
                                  f"not {getattr(filled, name)}")
        if filled.step_batch % filled.num_generations:
            raise CourseError(
                f"--batch-size {self.batch_size} x --accumulation {self.accumulation} = "
                f"{filled.step_batch} completions a step do not divide into groups of "
                f"--num-generations {self.num_generations}; try --batch-size "
                f"{self.num_generations}")
        return filled

    @property
    def step_batch(self) -> int:
        """Completions of one optimizer step."""
        return self.batch_size * self.accumulation


def run_name(settings: Settings) -> str:
    """``{preset}_{shaping}``, ``_kl-{type}`` with a KL term, ``_c{coef}`` off the default.

    TRL's own KL term, which the preset and shaping do not show, adds ``_beta{beta}``.
    """
    name = f"{settings.preset}_{settings.reward_shaping}"
    if settings.kl_type != "none":
        name += f"_kl-{settings.kl_type}"
        if settings.kl_coef != DEFAULT_KL_COEF:
            name += f"_c{settings.kl_coef:g}"
    return name + (f"_beta{settings.beta:g}" if settings.beta else "")


def prompt_rows(prompts: list[str], n: int, seed: int) -> list[str]:
    """n prompts: passes over all of them, each in an order of its own, in one flat list.

    One "epoch" of the trainer is then the whole run. Shuffling inside TRL would break resume:
    its sampler draws each epoch's order from a generator that a checkpoint does not hold.
    """
    rng = random.Random(seed)
    rows: list[str] = []
    while len(rows) < n:
        rows += rng.sample(prompts, len(prompts))
    return rows[:n]


def grpo_config(settings: Settings, run_dir: Path, device: torch.device):
    """TRL's GRPOConfig for settings (resolved), with nothing left to a moving default."""
    from trl import GRPOConfig  # seconds to import, as peft is: only a run pays for them

    return GRPOConfig(
        output_dir=str(run_dir), run_name=settings.run_name, seed=settings.seed,
        max_steps=settings.max_steps, num_train_epochs=1, shuffle_dataset=False,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        num_generations=settings.num_generations, num_iterations=1,
        max_completion_length=settings.max_completion_length,
        temperature=settings.temperature, top_p=1.0, top_k=0, repetition_penalty=1.0,
        beta=settings.beta, use_bias_correction_kl=True, loss_type="dapo", epsilon=0.2,
        scale_rewards="group",
        disable_dropout=True, mask_truncated_completions=False,
        learning_rate=settings.learning_rate, lr_scheduler_type="constant", warmup_steps=0,
        weight_decay=0.0, max_grad_norm=1.0, optim="adamw_torch",
        gradient_checkpointing=False, use_cpu=device.type == "cpu", **models.precision(device),
        logging_steps=1, save_strategy="steps", save_steps=settings.save_steps,
        save_total_limit=3, report_to=list(settings.report_to) or "none", disable_tqdm=True,
        use_vllm=settings.use_vllm, vllm_mode="colocate", vllm_gpu_memory_utilization=0.3,
        remove_unused_columns=False, dataloader_pin_memory=device.type == "cuda")


def lora_config(model):
    """LoRA of rank 8 on ``c_attn`` and ``c_proj`` of a GPT-2, else on every linear layer."""
    from peft import LoraConfig

    gpt2 = model.config.model_type == "gpt2"
    return LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, task_type="CAUSAL_LM",
                      target_modules=["c_attn", "c_proj"] if gpt2 else "all-linear",
                      fan_in_fan_out=gpt2)  # GPT-2 stores its weights transposed (Conv1D)


def check_lengths(model, tokenizer, prompts: list[str], max_completion_length: int) -> None:
    """Raise CourseError when a prompt is empty, or with its completion outgrows the model."""
    lengths = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
    if not lengths or min(lengths) == 0:
        raise CourseError("a prompt is empty; every prompt needs at least one token")
    room = models.max_positions(model) - max(lengths)
    if max_completion_length > room:
        raise CourseError(f"--max-completion-length {max_completion_length} does not fit: the "
                          f"longest prompt leaves {room} of the model's "
                          f"{models.max_positions(model)} positions; try {max(room, 1)}")


def find_checkpoint(run_dir: Path, wanted: str) -> Path | None:
    """The checkpoint to resume from: a path, or with ``auto`` the newest undamaged by step.

    None when ``auto`` finds none: the run then starts over. A damaged one is skipped with a
    word under ``auto``; named by path it is a CourseError.
    """
    if wanted != "auto":
        if not Path(wanted).is_dir():
            raise CourseError(f"no checkpoint folder {wanted}; try --resume-from-checkpoint auto")
        if not monitor.is_sealed(Path(wanted)):
            raise CourseError(f"the checkpoint {wanted} is damaged or incomplete; try "
                              "--resume-from-checkpoint auto, which takes the newest whole one")
        return Path(wanted)
    found = [p for p in run_dir.glob("checkpoint-*") if p.name.split("-")[1].isdigit()]
    for path in sorted(found, key=lambda p: int(p.name.split("-")[1]), reverse=True):
        if monitor.is_sealed(path):
            return path
        print(f"skipping {path}: damaged or incomplete", file=sys.stderr)
    return None


def _commit() -> str | None:
    """The git commit of this checkout, None outside one."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, check=True,
            capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe(settings: Settings, device: torch.device) -> dict:
    """The content of training_config.json: settings, versions, commit, device."""
    libraries = ("torch", "transformers", "trl", "datasets", "peft")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"task": "sentiment", "settings": dataclasses.asdict(settings),
            "versions": {lib: version(lib) for lib in libraries}, "git_commit": _commit(),
            "device": {"type": device.type, "name": name, "threads": torch.get_num_threads()}}


def check_folder(run_dir: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that is not ours to fill, before any work."""
    holds_run = (run_dir / models.RUN_CONFIG).exists()
    if holds_run and not (resume or overwrite):
        raise CourseError(f"{run_dir} already holds a run; continue it with "
                          "--resume-from-checkpoint auto, replace it with --overwrite, or "
                          "choose another --output-dir")
    if run_dir.is_dir() and any(run_dir.iterdir()) and not holds_run:
        raise CourseError(f"{run_dir} holds other files than a run's; choose another "
                          "--output-dir")
    anchor = run_dir
    while not anchor.exists():
        anchor = anchor.parent
    if not anchor.is_dir():
        raise CourseError(f"{anchor} is a file, not a folder; choose another --output-dir")
    if not os.access(anchor, os.W_OK):
        raise CourseError(f"{anchor} cannot be written to; choose another --output-dir")
    if shutil.disk_usage(anchor).free < 100 * 2**20:
        raise CourseError(f"less than 100 MB free at {anchor}; free some space or choose "
                          "another --output-dir")


def needed_answers(settings: Settings) -> list[str]:
    """Names of the student's functions that a run with settings calls."""
    names = ["sentiment_reward"]
    names += ["exponential_shaping"] * (settings.reward_shaping == "exponential")
    names += {"forward": ["forward_kl_bonus"], "backward": ["backward_kl_penalty"],
              "none": []}[settings.kl_type]
    return names


def train(settings: Settings, answers: Mapping[str, Callable], run_dir: str | Path, *,
          resume: str | None = None, overwrite: bool = False, live: bool = False) -> Path:
    """Train a policy with GRPO; return the run folder.

    answers: the student's functions by name. resume: a checkpoint folder or ``auto``.
    live: redraw the curves in the notebook meanwhile. The folder then holds
    training_config.json, reward_history.json, samples.jsonl, baseline_validation.json,
    final_validation.json, curves.png, checkpoint-N/ and final/.

    Raises CourseError for a user's mistake and NotImplementedError for an unsolved exercise,
    both before the run folder is made.
    """
    settings, run_dir = settings.resolved(), Path(run_dir)
    for name in needed_answers(settings):
        if name not in answers:
            raise CourseError(f"the answers have no function {name}, which this run needs")
    check_folder(run_dir, resume is not None, overwrite)
    if settings.use_vllm and models.pick_device().type != "cuda":
        raise CourseError("--use-vllm needs a CUDA GPU, and there is none; leave it out")
    if settings.use_vllm and find_spec("vllm") is None:
        raise CourseError("--use-vllm needs the package vllm; pip install -e '.[gpu]'")
    prompts, held_out = (sentiment.prompts(split, settings.prompts) for split in ("train", "eval"))
    path = models.policy_path(settings.model, "sentiment")
    policy, tokenizer = models.load_policy(path)
    use_scorer(models.scorer_path(settings.model, settings.scorer))
    reference = models.load_policy(path)[0].requires_grad_(False)
    check_lengths(policy, tokenizer, prompts + held_out, settings.max_completion_length)

    reward = SentimentReward(
        answers, shaping=settings.reward_shaping, temperature=settings.shaping_temperature,
        kl_type=settings.kl_type, kl_coef=settings.kl_coef, reference=reference,
        tokenizer=tokenizer)
    config = describe(settings, policy.device)
    checkpoint = _resume_point(run_dir, resume, config)
    if resume is None:
        _start(run_dir, config, policy, tokenizer, reference, reward, settings)
    prompts_per_step = settings.step_batch // settings.num_generations
    recorder = monitor.RunRecorder(run_dir, reward, len(prompts) / prompts_per_step)
    step = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    recorder.rewind(step, read_json(run_dir / monitor.HISTORY) if checkpoint else [])

    callbacks = [recorder, monitor.Progress()]
    callbacks += [monitor.LivePlot(recorder, run_dir.name)] if live else []
    rows = prompt_rows(prompts, settings.max_steps * prompts_per_step, settings.seed)
    with _told_when_disk_is_full(run_dir):
        policy = _run_trainer(settings, policy, tokenizer, reward, run_dir, checkpoint, rows,
                              callbacks)
        _finish(run_dir, policy, tokenizer, reference, settings, recorder.history)
    return run_dir


def experiment(run_dir: str | Path, answers: Mapping[str, Callable], *, live: bool = True,
               **settings) -> Path | None:
    """A notebook's training cell: train into ``runs/{run_dir}``, replace what was there, draw.

    While nbgrader executes a submission no experiment runs, and the result is None: grades
    depend on the functions alone.
    """
    if grading():
        print("Skipped while grading.")
        return None
    return train(Settings(**settings), answers, Path("runs") / run_dir, overwrite=True, live=live)


def _resume_point(run_dir: Path, resume: str | None, config: dict) -> Path | None:
    if resume is None:
        return None
    if not (run_dir / monitor.BASELINE).exists():
        raise CourseError(f"{run_dir} holds no run to resume; leave --resume-from-checkpoint out")
    before = read_json(run_dir / models.RUN_CONFIG)["settings"]
    now = {k: list(v) if isinstance(v, tuple) else v for k, v in config["settings"].items()}
    changed = [f"{k} {before.get(k)} -> {v}" for k, v in now.items() if before.get(k) != v]
    if changed:
        raise CourseError(f"{run_dir} was started with other settings ({'; '.join(changed)}); "
                          "resume with the same ones")
    return find_checkpoint(run_dir, resume)


def _start(run_dir, config, policy, tokenizer, reference, reward, settings) -> None:
    """Measure the base policy, try the reward on what it wrote, then make the run folder."""
    baseline = _measure(policy, tokenizer, reference, settings)
    rows = baseline["rows"][: settings.num_generations]
    gate("reward", reward([r["prompt"] for r in rows], [r["completion"] for r in rows],
                          completion_ids=[r["completion_ids"] for r in rows]), len(rows))
    if run_dir.exists():  # refused before, unless --overwrite
        shutil.rmtree(run_dir)
    write_json(run_dir / models.RUN_CONFIG, config)
    write_json(run_dir / monitor.BASELINE, baseline)


def _measure(policy, tokenizer, reference, settings) -> dict:
    return evaluation.measure(policy, tokenizer, reference, temperature=settings.temperature,
                              max_completion_length=settings.max_completion_length,
                              prompts=sentiment.prompts("eval", settings.prompts))


def _run_trainer(settings, policy, tokenizer, reward, run_dir, checkpoint, rows, callbacks):
    """Train with TRL; return the trained policy, a LoRA adapter merged into it."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    trainer = GRPOTrainer(
        model=policy, reward_funcs=[reward], processing_class=tokenizer,
        args=grpo_config(settings, run_dir, policy.device),
        train_dataset=Dataset.from_dict({"prompt": rows}), callbacks=callbacks,
        peft_config=lora_config(policy) if settings.use_peft else None)
    trainer.remove_callback(PrinterCallback)  # Progress and RunRecorder say it better
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer.model.merge_and_unload() if settings.use_peft else trainer.model


def _finish(run_dir, policy, tokenizer, reference, settings, history) -> None:
    """Save the trained policy, measure it, draw the curves; the measurement comes last, so
    that a folder with final_validation.json is a finished run."""
    unfinished = run_dir / ".final"
    shutil.rmtree(unfinished, ignore_errors=True)
    policy.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(run_dir / "final", ignore_errors=True)
    unfinished.rename(run_dir / "final")
    plots.save(plots.history({run_dir.name: history}), run_dir / monitor.CURVES)
    write_json(run_dir / monitor.FINAL, _measure(policy, tokenizer, reference, settings))


@contextmanager
def _told_when_disk_is_full(run_dir: Path):
    """Each library has its own exception for a full disk; the disk itself has the answer."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if shutil.disk_usage(run_dir).free > 2**20:
            raise
        raise CourseError(f"the disk of {run_dir} is full; free some space, then go on with "
                          "--resume-from-checkpoint auto") from error
