"""TRL's configuration, and one training run from its checks to its files.

    train(SentimentTask.of(preset="quick"), answers, "runs/mine")

Every TRL default that has moved between releases is set here by name.
"""

import copy
import dataclasses
import errno
import gc
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from safetensors import SafetensorError, safe_open

from lib import CourseError, is_autograding, models, monitor, plots, runs, show_one_line, trackers
from lib.files import write_json
from lib.logprobs import OUT_OF_MEMORY, completion_logprobs
from lib.memory import fitting, halved
from lib.prompts import pieces, prompt_ids
from lib.rewards import RewardFunction, check_answers, reward_variance
from lib.rollout import sample, sampled_rows
from lib.tasks import task_class
from lib.tasks.base import Task


def processes() -> PartialState:
    """Those that accelerate launch or torchrun started, and which of them this is; usually one."""
    return PartialState(cpu=models.pick_device().type == "cpu")


def grpo_config(task: Task, run_dir: Path, device: torch.device, run_name: str | None = None):
    """TRL's GRPOConfig for a task, with nothing left to a default that has moved or may move."""
    from trl import GRPOConfig  # seconds to import, as peft is: only a run pays for them

    # A step is as many completions however many processes share them.
    passes = task.accumulation // processes().num_processes
    config = GRPOConfig(
        output_dir=str(run_dir), run_name=run_name, seed=task.seed, project=trackers.project(),
        # One epoch is the whole run, its rows laid out beforehand: the sampler's own shuffle draws
        # from a generator that no checkpoint holds, so a resumed run would see other prompts.
        max_steps=task.max_steps, num_train_epochs=1, shuffle_dataset=False,
        per_device_train_batch_size=task.batch_size,
        gradient_accumulation_steps=passes,
        # Each batch of completions is used for one optimizer step: on policy, all ratios are 1.
        num_generations=task.num_generations, num_iterations=1, steps_per_generation=passes,
        max_completion_length=task.max_completion_length,
        # Plain sampling: any filter would draw from another distribution than the loss scores.
        temperature=task.temperature, top_p=1.0, top_k=0, repetition_penalty=1.0,
        # DAPO's token mean (2503.14476); k3 weighted by the ratio, so that its gradient is that of
        # the KL (DeepSeek-V3.2, 2512.02556). Chapter 2 takes all of these apart.
        beta=task.beta, use_bias_correction_kl=True, loss_type="dapo", epsilon=0.2,
        epsilon_high=0.2, importance_sampling_level="token", scale_rewards="group",
        multi_objective_aggregation="sum_then_normalize",
        # Every token counts, and nothing is paid for entropy.
        top_entropy_quantile=1.0, entropy_coef=0.0,
        # Dropout would make policy and reference differ before the first step; TRL's trainer also
        # generates in train mode.
        disable_dropout=True, mask_truncated_completions=False,
        learning_rate=task.learning_rate, optim="adamw_torch", **task.optimizer(),
        # Small models: memory is no concern, time is.
        gradient_checkpointing=False, use_cpu=device.type == "cpu", **models.precision(device),
        logging_steps=1, save_strategy="steps", save_steps=task.save_steps,
        save_total_limit=3, report_to=list(task.report_to) or "none", disable_tqdm=True,
        # vLLM in this process shares the GPU with training. It rounds otherwise than the policy in
        # training, so completions whose probability ratio leaves the range are left out.
        use_vllm=task.use_vllm, vllm_mode="colocate", vllm_gpu_memory_utilization=task.vllm_memory,
        vllm_importance_sampling_correction=True, vllm_importance_sampling_mode="sequence_mask",
        vllm_importance_sampling_clip_min=None, vllm_importance_sampling_clip_max=3.0,
        # The rows' other columns go to the reward function.
        remove_unused_columns=False, dataloader_pin_memory=device.type == "cuda")
    config._n_gpu = min(config.n_gpu, 1)  # transformers would split each batch over all GPUs
    return config


def check_lengths(model, tokenizer, prompts: list, max_completion_length: int) -> int:
    """The tokens of the longest prompt. Raises CourseError when one is empty, or with its
    completion outgrows the model."""
    lengths = [len(ids) for ids in prompt_ids(tokenizer, prompts)]
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
    return max(lengths)


def _commit() -> str | None:
    """The git commit of this checkout, None outside one."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, check=True,
            capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe(task: Task, device: torch.device) -> dict:
    """The content of training_config.json: settings, start, optimizer, versions, commit, device."""
    libraries = ("torch", "transformers", "trl", "datasets", "peft")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"task": task.task, "task_file": task.file,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": dataclasses.asdict(task), "optimizer": task.optimizer(),
            "versions": {lib: version(lib) for lib in libraries}, "git_commit": _commit(),
            "device": {"type": device.type, "name": name, "threads": torch.get_num_threads()}}


def check_folder(run_dir: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that is not ours to fill, before any work."""
    holds_run = (run_dir / runs.CONFIG).exists()
    if holds_run and not (resume or overwrite):
        raise CourseError(f"{run_dir} already holds a run; continue it with "
                          "--resume-from-checkpoint auto, replace it with --overwrite, or "
                          "choose another --output-dir")
    if run_dir.is_dir() and not holds_run and any(
            path.name != runs.CLAIM for path in run_dir.iterdir()):
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


def train(task: Task, answers: Mapping[str, Callable], run_dir: str | Path, *,
          resume: str | None = None, overwrite: bool = False, live: bool = False,
          refuse_hopeless: bool = False, callbacks: Sequence = ()) -> Path:
    """Train a policy with GRPO; return the run folder.

    answers: the student's functions by name. resume: a checkpoint folder or ``auto``.
    live: redraw the curves in the notebook meanwhile, with a button that stops the run early.
    refuse_hopeless: stop before training when a sample of the base policy shows nothing to learn
    from. callbacks: more of transformers' ``TrainerCallback``. The folder then holds the files that
    ``lib.runs`` names, checkpoint-N/ and final/. Of several processes the first writes it; the
    others come with their share of a step, and wait until all is checked and measured, so that a
    mistake is told once.

    Raises CourseError for a user's mistake and NotImplementedError for an unsolved exercise, both
    before the run folder is made; a reward that goes wrong later, or a full disk, stops the run.
    """
    run_dir, first = Path(run_dir), processes().is_main_process
    checkpoint = None if first else broadcast_object_list([None])[0]
    _check_before(task, answers)
    if first:
        check_folder(run_dir, resume is not None, overwrite)
    run = Run(task, answers, run_dir)
    with runs.claimed(run_dir) if first else nullcontext():
        if first:
            check_folder(run_dir, resume is not None, overwrite)  # another run may have ended in it
            checkpoint = _resume_point(run_dir, resume, run.task, run.policy)
            if resume is None:
                run.start(refuse_hopeless)
            broadcast_object_list([checkpoint])
        with _told_when_disk_is_full(run_dir):
            trained = run.trained(checkpoint, live, callbacks)
            if not first:
                return run_dir
            run.finish(trained)
    trackers.report(task.report_to, run.tracked_as(), run_dir)
    return run_dir


class Run:
    """One run on its way: what is asked, of which policy, and what writes it down.

    Loads all of it and checks that it goes together; raises CourseError where it does not. The
    run folder comes with ``start``.
    """

    def __init__(self, task: Task, answers: Mapping[str, Callable], run_dir: Path):
        self.answers, self.run_dir, self.first = answers, run_dir, processes().is_main_process
        prompts, self.held_out = task.prompts("train"), task.prompts("eval")
        self.policy, self.tokenizer = models.load_policy(models.policy_path(task.model, task))
        if task.use_peft:
            models.check_lora(self.policy)
        check_answers(task, answers)
        self.rows = task.train_rows(answers, prompts, task.max_steps * task.prompts_per_step)
        longest = check_lengths(
            self.policy, self.tokenizer, [*self.rows, *task.eval_rows(answers, self.held_out)],
            task.max_completion_length)
        self.task = task = _planned(task, self.policy, longest)
        self.reference = _frozen_copy(self.policy)
        self.reward = RewardFunction(task, answers, self._reference_logps, self._observe)
        self.probes = task.eval_rows(answers, self.held_out[:PROBE_PROMPTS]) * PROBE_SAMPLES
        self.recorder = monitor.RunRecorder(run_dir, type(task), self._ask_probes,
                                            len(prompts) / task.prompts_per_step)

    def _sampler(self, policy) -> Callable:
        return partial(sampled_rows, policy, self.tokenizer, self.reference)

    def _reference_logps(self, prompts: list, completion_ids: list[list[int]]
                         ) -> list[list[float]]:
        return completion_logprobs(self.reference, prompt_ids(self.tokenizer, prompts),
                                   completion_ids, self.tokenizer.pad_token_id)

    def _observe(self, step: int, rows: list[dict]) -> None:
        everyones = gather_object(rows)
        if self.first:
            self.recorder.observe(step, everyones)

    def _ask_probes(self, policy) -> list[dict]:
        return ask_probes(self.task, self.probes, self.reward, self._sampler(policy),
                          self.tokenizer)

    def start(self, refuse_hopeless: bool) -> None:
        """Measure the base policy, then fill the run folder with what is known before a step."""
        variance = check_reward_variance(self.task, self.answers, self.reward, self.policy,
                                         self.tokenizer, self.rows)
        if refuse_hopeless and variance["hopeless"]:
            raise CourseError(f"hopeless: {variance['hopeless']}")
        config = describe(self.task, self.policy.device) | {
            "conversational": not isinstance(self.rows[0]["prompt"], str)}
        baseline = self.task.measure(self.answers, self._sampler(self.policy), self.held_out)
        for path in self.run_dir.iterdir():  # refused before, unless --overwrite
            if path.name != runs.CLAIM:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_json(self.run_dir / runs.CONFIG, config)
        write_json(self.run_dir / runs.BASELINE, baseline | {"reward_variance": variance})

    def trained(self, checkpoint: Path | None, live: bool, callbacks: Sequence):
        """The policy after all steps; where memory runs out in the first, in smaller batches."""
        done = runs.step_of(checkpoint) if checkpoint else 0
        history = runs.read_history(self.run_dir) if checkpoint else []
        with monitor.Stop(live) as stop:
            while True:
                if self.first:
                    self.recorder.rewind(done, history)
                try:
                    return run_trainer(
                        self.task, self.policy, self.tokenizer, self.reference, self.reward,
                        self.run_dir, checkpoint, self.rows, self._watching(stop, live, callbacks),
                        self.tracked_as())
                except OUT_OF_MEMORY:
                    self.task = _with_less_memory(self.task, self.run_dir, self.recorder, done)
                self._load_anew()

    def _watching(self, stop: monitor.Stop, live: bool, callbacks: Sequence) -> list:
        """The trainer's callbacks; only the first of several processes writes and shows."""
        if not self.first:
            return [stop]
        report_to = self.task.report_to
        return [self.recorder, monitor.Progress(), monitor.HealthAlarms(self.recorder), stop,
                *callbacks,
                *([monitor.LivePlot(self.recorder, self.run_dir.name)] if live else []),
                *([trackers.Validation(report_to, self.run_dir)] if report_to else [])]

    def _load_anew(self) -> None:
        """Policy and reference as they were: a failed try may have trained some weights already."""
        self.policy = self.reference = None  # their memory, before it is asked for again
        gc.collect()
        torch.cuda.empty_cache()
        self.policy, _ = models.load_policy(models.policy_path(self.task.model, self.task))
        self.reference = _frozen_copy(self.policy)

    def tracked_as(self) -> str:
        """The run's name for trackers. Trackio takes two runs of one name for one; a resumed run
        keeps the name of its start."""
        started = runs.read_config(self.run_dir).get("started", "")
        return self.task.run_name or f"{self.task.name()} {started}"

    def finish(self, trained) -> None:
        """Write what a finished run has beside a running one: policy, curves, final validation."""
        _save(self.run_dir, trained, self.tokenizer, self.recorder)
        # Last of all: a folder with the final validation is a finished run.
        write_json(self.run_dir / runs.FINAL,
                   self.task.measure(self.answers, self._sampler(trained), self.held_out))


def _frozen_copy(policy):
    try:
        return copy.deepcopy(policy).requires_grad_(False)
    except OUT_OF_MEMORY:
        raise CourseError("policy and reference model do not fit into the memory together; take a "
                          "smaller model, or end what else uses the memory") from None


def _planned(task: Task, policy, prompt: int) -> Task:
    """The task with a batch whose step fits into the GPU, as far as an estimate can tell."""
    if policy.device.type != "cuda" or processes().num_processes > 1:
        return task
    free = torch.cuda.mem_get_info(policy.device)[0] + torch.cuda.memory_allocated(policy.device)
    planned, found = fitting(task, policy.config, free, prompt)
    if planned != task:
        print(f"note: --batch-size {planned.batch_size} --accumulation {planned.accumulation}, "
              f"which is the same step, to fit into {free / 2**30:.1f} GiB "
              f"({found.peak / 2**30:.1f} estimated)", file=sys.stderr)
    return planned


def _with_less_memory(task: Task, run_dir: Path, recorder, done: int) -> Task:
    """The task with a smaller batch and the same step, after memory ran out in the first one.

    Raises CourseError where the batch is one already, and at a later step: what is trained by then
    is in a checkpoint.
    """
    smaller = halved(task)
    if smaller is None:
        raise CourseError("memory runs out with one completion at a time; try --use-peft, a "
                          "shorter --max-completion-length or a smaller model") from None
    split = f"--batch-size {smaller.batch_size} --accumulation {smaller.accumulation}"
    if processes().num_processes > 1:
        raise CourseError(f"memory ran out in one of several processes; start again with {split}, "
                          "which is the same step") from None
    if step := recorder.last_step(done):
        raise CourseError(f"memory ran out after step {step}; go on with {split} "
                          f"--output-dir {run_dir} --resume-from-checkpoint auto") from None
    print(f"memory ran out; going on with {split}, which is the same step", file=sys.stderr)
    write_json(run_dir / runs.CONFIG,
               runs.read_config(run_dir) | {"settings": dataclasses.asdict(smaller)})
    return smaller


def _check_before(task: Task, answers) -> None:
    """What can be refused before anything is loaded."""
    if task.accumulation % processes().num_processes:
        raise CourseError(f"--accumulation {task.accumulation} cannot be shared by "
                          f"{processes().num_processes} processes; make it a multiple of their "
                          "number")
    for name in task.needed_answers():
        if name not in answers:
            raise CourseError(f"the answers have no function {name}, which this run needs")
    if task.use_vllm and models.pick_device().type != "cuda":
        raise CourseError("--use-vllm needs a CUDA GPU, and there is none; leave it out")
    if task.use_vllm and find_spec("vllm") is None:
        raise CourseError("--use-vllm needs the package vllm; pip install -e '.[gpu]'")


def experiment(run_dir: str | Path, answers: Mapping[str, Callable], *, task: str = "sentiment",
               live: bool = True, **settings) -> Path | None:
    """A notebook's training cell: train into ``runs/{run_dir}``, replace what was there, draw.

    While nbgrader executes a submission no experiment runs, and the result is None: grades
    depend on the functions alone.
    """
    if is_autograding():
        print("Skipped while grading.")
        return None
    try:
        return train(task_class(task).of(**settings), answers, Path("runs") / run_dir,
                     overwrite=True, live=live)
    except NotImplementedError as error:
        show_one_line(error)
        raise


# Settings that decide no number: names, and how the completions of a step are split.
FREE = ("run_name", "report_to", "batch_size", "accumulation")


def _changed(before: dict, now: Task) -> list[str]:
    """What differs from the settings in a training_config.json, for a message."""
    before = type(now).of_record(before["settings"])
    found = [f"{field.name} {old} -> {new}" for field in dataclasses.fields(now)
             if (old := getattr(before, field.name)) != (new := getattr(now, field.name))
             and field.name not in FREE]
    if before.step_batch != now.step_batch:
        found.append(f"completions a step {before.step_batch} -> {now.step_batch}")
    return found


def _resume_point(run_dir: Path, resume: str | None, task: Task, policy) -> Path | None:
    if resume is None:
        return None
    if not (run_dir / runs.BASELINE).exists():
        raise CourseError(f"{run_dir} holds no run to resume; leave --resume-from-checkpoint out")
    before = runs.read_config(run_dir)
    if before["task"] != task.task:
        raise CourseError(f"{run_dir} is a run of the task {before['task']}, not {task.task}")
    if changed := _changed(before, task):
        raise CourseError(f"{run_dir} was started with other settings ({'; '.join(changed)}); "
                          "resume with the same ones")
    checkpoint = runs.find_checkpoint(run_dir, resume)
    if checkpoint:
        _check_checkpoint(checkpoint, task, policy)
    write_json(run_dir / runs.CONFIG, before | {"settings": dataclasses.asdict(task)})
    return checkpoint


def _check_checkpoint(checkpoint: Path, task: Task, policy) -> None:
    """Raise CourseError where a checkpoint was made by another run than this one."""
    homes = [folder for folder in (checkpoint, checkpoint.resolve().parent)
             if (folder / runs.CONFIG).is_file()]
    if homes:
        other = runs.read_config(homes[0])
        changed = [f"task {other['task']}"] if other["task"] != task.task else _changed(other, task)
        if changed:
            raise CourseError(f"the checkpoint {checkpoint} is of another run "
                              f"({'; '.join(changed)}); try --resume-from-checkpoint auto")
    if task.use_peft != (checkpoint / "adapter_config.json").is_file():
        raise CourseError(f"the checkpoint {checkpoint} and --use-peft do not go together: one is "
                          "a LoRA adapter, the other a whole model")
    weights = checkpoint / "model.safetensors"
    if not task.use_peft and weights.is_file():
        with safe_open(weights, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        mine = {name: list(value.shape) for name, value in policy.state_dict().items()}
        if any(mine.get(name) != shape for name, shape in shapes.items()):
            raise CourseError(f"the checkpoint {checkpoint} is of another model than {task.model}; "
                              "try --resume-from-checkpoint auto")


VARIANCE_PROMPTS = 16


def check_reward_variance(task: Task, answers, reward: RewardFunction, policy, tokenizer,
                          rows: list[dict]) -> dict:
    """One group for each of the run's first prompts, from the base policy: printed and returned.

    Also the first time that the reward meets real completions: its validation tells what is wrong.
    """
    size = task.num_generations
    rows = [row for row in rows[:VARIANCE_PROMPTS] for _ in range(size)]
    ids = sample(policy, tokenizer, rows, temperature=task.temperature, seed=task.seed,
                 max_completion_length=task.max_completion_length)
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    rewards = [row["reward"] for row in reward.of_rows(rows, texts, ids)]
    found = reward_variance(rewards, size, task.successes(answers, rows, texts), task.remedy)
    base = "" if found["base_rate"] is None else f"base rate {found['base_rate']:.1%}, "
    print(f"reward variance: {base}{found['tied_groups']:.0%} of the groups tied "
          f"(n = {found['n']} completions)")
    if found["hopeless"]:
        print(f"warning: {found['hopeless']}")
    return found


PROBE_PROMPTS, PROBE_SAMPLES = 10, 4


def ask_probes(task: Task, rows: list[dict], reward: RewardFunction, sampler, tokenizer
               ) -> list[dict]:
    """What the policy now answers to held-out prompts, with the parts of the reward, each
    token's log-prob under policy and reference, and the gold score where the task has one.

    The same prompts and the same dice each time: what changes is the policy's doing.
    """
    found = sampler(rows, temperature=task.temperature, seed=task.seed,
                    max_completion_length=task.max_completion_length)
    parts = reward.of_rows(rows, [row["completion"] for row in found],
                           [row["completion_ids"] for row in found])
    return [{**row, **of_row, "tokens": pieces(tokenizer, row["completion_ids"]),
             "kl": sum(row["logps"]) - sum(row["ref_logps"]), "gold": task.gold(row)}
            for row, of_row in zip(found, parts, strict=True)]


def run_trainer(task, policy, tokenizer, reference, reward, run_dir, checkpoint, rows, callbacks,
                run_name):
    """Train with TRL; return the trained policy, a LoRA adapter merged into it."""
    from datasets import Dataset
    from transformers import PrinterCallback

    from lib.trl_overrides import Trainer

    trainer = Trainer(
        model=policy, reference=reference, reward_funcs=[reward], processing_class=tokenizer,
        args=grpo_config(task, run_dir, policy.device, run_name),
        train_dataset=Dataset.from_list(rows), callbacks=callbacks,
        peft_config=models.lora_config(policy) if task.use_peft else None)
    trainer.remove_callback(PrinterCallback)  # Progress and RunRecorder say it better
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer.model.merge_and_unload() if task.use_peft else trainer.model


def _save(run_dir, policy, tokenizer, recorder) -> None:
    """Save the trained policy and draw the curves; a kill leaves no half of a policy."""
    unfinished = run_dir / ".final"
    shutil.rmtree(unfinished, ignore_errors=True)
    policy.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(run_dir / runs.POLICY, ignore_errors=True)
    (run_dir / "README.md").unlink(missing_ok=True)  # TRL's draft of a card: lib.export makes ours
    unfinished.rename(run_dir / runs.POLICY)
    plots.save(plots.history({run_dir.name: recorder.history}, recorder.task),
               run_dir / runs.CURVES)


@contextmanager
def _told_when_disk_is_full(run_dir: Path):
    """Each library has its own exception for a full disk, and torch's has no reason: the disk
    itself has the answer then. A quota, or a limit of the shell's, leaves the disk room."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        told = re.search(r"os error (\d+)", str(error))  # as safetensors, written in Rust, says it
        number = int(told[1]) if told else getattr(error, "errno", None)
        full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full and shutil.disk_usage(run_dir).free > 2**20:
            raise
        raise CourseError(f"the disk of {run_dir} is full; free some space, then go on with "
                          "--resume-from-checkpoint auto") from error
