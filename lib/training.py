"""TRL's configuration, and one training run from its checks to its files.

    train(SentimentRun(preset="quick"), answers, "runs/mine")

Every TRL default that has moved between releases is set here by name.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from lib import CourseError, brief, grading, models, monitor, plots, trackers
from lib.evaluation import sample, sampled_rows
from lib.files import read_json, write_json
from lib.rewards import check_answers, conversations, gate, signal
from lib.settings import Settings
from lib.tasks import run_class


def grpo_config(settings: Settings, run_dir: Path, device: torch.device):
    """TRL's GRPOConfig for settings (resolved), with nothing left to a moving default."""
    from trl import GRPOConfig  # seconds to import, as peft is: only a run pays for them

    return GRPOConfig(
        output_dir=str(run_dir), run_name=settings.run_name, seed=settings.seed,
        project=trackers.project(),
        max_steps=settings.max_steps, num_train_epochs=1, shuffle_dataset=False,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        num_generations=settings.num_generations, num_iterations=1,
        max_completion_length=settings.max_completion_length,
        temperature=settings.temperature, top_p=1.0, top_k=0, repetition_penalty=1.0,
        beta=settings.beta, use_bias_correction_kl=True, loss_type="dapo", epsilon=0.2,
        scale_rewards="group",
        disable_dropout=True, mask_truncated_completions=False,
        learning_rate=settings.learning_rate, optim="adamw_torch", **settings.optimizer(),
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
    if room < 1:
        raise CourseError(f"the longest prompt has {max(lengths)} tokens, and the model only "
                          f"{models.max_positions(model)} positions; take a model with more")
    if max_completion_length > room:
        raise CourseError(f"--max-completion-length {max_completion_length} does not fit: the "
                          f"longest prompt leaves {room} of the model's "
                          f"{models.max_positions(model)} positions; try {room}")


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
    """The content of training_config.json: settings, start, optimizer, versions, commit, device."""
    libraries = ("torch", "transformers", "trl", "datasets", "peft")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"task": settings.task, "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": dataclasses.asdict(settings), "optimizer": settings.optimizer(),
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


def train(settings: Settings, answers: Mapping[str, Callable], run_dir: str | Path, *,
          resume: str | None = None, overwrite: bool = False, live: bool = False,
          refuse_hopeless: bool = False) -> Path:
    """Train a policy with GRPO; return the run folder.

    answers: the student's functions by name. resume: a checkpoint folder or ``auto``.
    live: redraw the curves in the notebook meanwhile, with a button that stops the run early.
    refuse_hopeless: stop before training when a sample of the base policy shows nothing to learn
    from. The folder then holds training_config.json, reward_history.json, samples.jsonl,
    probes.jsonl, baseline_validation.json, final_validation.json, curves.png, checkpoint-N/ and
    final/.

    Raises CourseError for a user's mistake and NotImplementedError for an unsolved exercise, both
    before the run folder is made; a reward that goes wrong later, or a full disk, stops the run.
    """
    named, settings, run_dir = settings.run_name, settings.resolved(), Path(run_dir)
    for name in settings.needed_answers():
        if name not in answers:
            raise CourseError(f"the answers have no function {name}, which this run needs")
    check_folder(run_dir, resume is not None, overwrite)
    if settings.use_vllm and models.pick_device().type != "cuda":
        raise CourseError("--use-vllm needs a CUDA GPU, and there is none; leave it out")
    if settings.use_vllm and find_spec("vllm") is None:
        raise CourseError("--use-vllm needs the package vllm; pip install -e '.[gpu]'")
    prompts, held_out = settings.prompts("train"), settings.prompts("eval")
    path = models.policy_path(settings.model, settings.task)
    policy, tokenizer = models.load_policy(path)
    reference = models.load_policy(path)[0].requires_grad_(False)
    check_answers(settings, answers)
    reward = settings.reward(answers, reference, tokenizer)
    rows = settings.rows(answers, prompts, settings.max_steps * settings.prompts_per_step)
    texts = [models.prompt_text(tokenizer, prompt) for prompt in (*rows, *held_out)]
    check_lengths(policy, tokenizer, texts, settings.max_completion_length)

    def measure(policy):
        return settings.measure(answers, policy, tokenizer, reference, held_out)

    config = describe(settings, policy.device)
    checkpoint = _resume_point(run_dir, resume, config)
    if resume is None:
        promise = look_for_signal(settings, answers, reward, policy, tokenizer, rows)
        if refuse_hopeless and promise["hopeless"]:
            raise CourseError(f"hopeless: {promise['hopeless']}")
        _start(run_dir, config, measure(policy) | {"signal": promise})
    if not named:  # Trackio takes two runs of one name for one
        started = read_json(run_dir / models.RUN_CONFIG).get("started", "")  # first, if resumed
        settings = dataclasses.replace(settings, run_name=f"{settings.run_name} {started}")
    probes = settings.plain(answers, held_out[:PROBE_PROMPTS]) * PROBE_SAMPLES
    recorder = monitor.RunRecorder(
        run_dir, reward, lambda policy: ask_probes(settings, probes, reward, policy, tokenizer,
                                                   reference),
        len(prompts) / settings.prompts_per_step)
    step = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    recorder.rewind(step, read_json(run_dir / monitor.HISTORY) if checkpoint else [])

    stop = monitor.Stop(live)
    callbacks = [recorder, monitor.Progress(), monitor.HealthAlarms(recorder), stop]
    callbacks += [monitor.LivePlot(recorder, run_dir.name)] if live else []
    with _told_when_disk_is_full(run_dir):
        with stop:
            policy = _run_trainer(settings, policy, tokenizer, reward, run_dir, checkpoint, rows,
                                  callbacks)
        _finish(run_dir, policy, tokenizer, recorder.history, measure)
    trackers.report(settings, run_dir)
    return run_dir


def experiment(run_dir: str | Path, answers: Mapping[str, Callable], *, task: str = "sentiment",
               live: bool = True, **settings) -> Path | None:
    """A notebook's training cell: train into ``runs/{run_dir}``, replace what was there, draw.

    While nbgrader executes a submission no experiment runs, and the result is None: grades
    depend on the functions alone.
    """
    if grading():
        print("Skipped while grading.")
        return None
    try:
        return train(run_class(task)(**settings), answers, Path("runs") / run_dir,
                     overwrite=True, live=live)
    except NotImplementedError as error:
        brief(error)
        raise


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


SIGNAL_PROMPTS = 16


def look_for_signal(settings, answers, reward, policy, tokenizer, rows: list[dict]) -> dict:
    """One group for each of the run's first prompts, from the base policy: printed and returned.

    Also the first time that the reward meets real completions: the gate tells what is wrong.
    """
    size = settings.num_generations
    rows = [row for row in rows[:SIGNAL_PROMPTS] for _ in range(size)]
    ids = sample(policy, tokenizer, [models.prompt_text(tokenizer, row) for row in rows],
                 temperature=settings.temperature, seed=settings.seed,
                 max_completion_length=settings.max_completion_length)
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    rewards = rewarded(reward, rows, texts, ids)
    promise = signal(rewards, size, settings.wanted(answers, rows, texts), settings.remedy)
    base = "" if promise["base_rate"] is None else f"base rate {promise['base_rate']:.1%}, "
    print(f"signal: {base}{promise['tied_groups']:.0%} of the groups tied "
          f"(n = {promise['n']} completions)")
    if promise["hopeless"]:
        print(f"warning: {promise['hopeless']}")
    return promise


def rewarded(reward, rows: list[dict], texts: list[str], ids: list[list[int]]) -> list[float]:
    """The rewards of one completion for each row, asked for as TRL does, through the gate."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    prompts = columns.pop("prompt")
    completions = texts if isinstance(prompts[0], str) else conversations(texts)
    return gate("reward", reward(prompts=prompts, completions=completions, completion_ids=ids,
                                 **columns), len(texts))


PROBE_PROMPTS, PROBE_SAMPLES = 10, 4


def ask_probes(settings, rows: list[dict], reward, policy, tokenizer, reference) -> list[dict]:
    """What the policy now answers to held-out prompts, with the parts of the reward, each
    token's log-prob under policy and reference, and the gold score where the task has one.

    The same prompts and the same dice each time: what changes is the policy's doing.
    """
    found = sampled_rows(policy, tokenizer, reference,
                         [models.prompt_text(tokenizer, row) for row in rows],
                         temperature=settings.temperature, seed=settings.seed,
                         max_completion_length=settings.max_completion_length)
    rewarded(reward, rows, [row["completion"] for row in found],
             [row["completion_ids"] for row in found])
    return [{**row, **parts, "tokens": [tokenizer.decode(i) for i in row["completion_ids"]],
             "kl": sum(row["logps"]) - sum(row["ref_logps"]), "gold": settings.gold(row)}
            for row, parts in zip(found, reward.rows, strict=True)]


def _start(run_dir, config, baseline) -> None:
    """Make the run folder, with what is known before the first step."""
    if run_dir.exists():  # refused before, unless --overwrite
        shutil.rmtree(run_dir)
    write_json(run_dir / models.RUN_CONFIG, config)
    write_json(run_dir / monitor.BASELINE, baseline)


def _run_trainer(settings, policy, tokenizer, reward, run_dir, checkpoint, rows, callbacks):
    """Train with TRL; return the trained policy, a LoRA adapter merged into it."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    trainer = GRPOTrainer(
        model=policy, reward_funcs=[reward], processing_class=tokenizer,
        args=grpo_config(settings, run_dir, policy.device),
        train_dataset=Dataset.from_list(rows), callbacks=callbacks,
        peft_config=lora_config(policy) if settings.use_peft else None)
    trainer.remove_callback(PrinterCallback)  # Progress and RunRecorder say it better
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer.model.merge_and_unload() if settings.use_peft else trainer.model


def _finish(run_dir, policy, tokenizer, history, measure) -> None:
    """Save the trained policy, measure it, draw the curves; the measurement comes last, so
    that a folder with final_validation.json is a finished run."""
    unfinished = run_dir / ".final"
    shutil.rmtree(unfinished, ignore_errors=True)
    policy.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(run_dir / "final", ignore_errors=True)
    (run_dir / "README.md").unlink(missing_ok=True)  # TRL's draft of a card: lib.export makes ours
    unfinished.rename(run_dir / "final")
    plots.save(plots.history({run_dir.name: history}), run_dir / monitor.CURVES)
    write_json(run_dir / monitor.FINAL, measure(policy))


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
