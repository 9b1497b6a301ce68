"""What a run writes down and shows while it trains: history, samples, probes, checksums of its
checkpoints, progress, curves; and how it is stopped."""

import json
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from accelerate.utils import gather_object
from tqdm.auto import tqdm
from transformers import TrainerCallback

from lib.files import write_json
from lib.progress import close, in_kernel, progress
from lib.runs import CONFIG, HISTORY, PROBES, SAMPLES, read_samples, write_checksums
from lib.tasks.base import Task


def history_row(step: int, epoch: float, logs: dict, task: type[Task]) -> dict:
    """One row of reward_history.json from one TRL log; keys that TRL left out are left out."""
    return {"step": step, "epoch": round(epoch, 4),
            **{metric.key: logs[metric.log_key] for metric in task.all_metrics().values()
               if logs.get(metric.log_key) is not None}}


class RunRecorder(TrainerCallback):
    """Writes one history row a step, every sample_every steps the completions of a step, and now
    and then the answers to the probes: the same held-out prompts each time.

    Also writes the checksums of each checkpoint: one without, or with other bytes than they say,
    was cut short by a kill and is not resumed from.

    task: its class; says which figures the logs hold. probe: model -> rows of its completions of
    the probes. steps_per_epoch: how many steps one pass over the training prompts takes.
    """

    def __init__(self, run_dir: Path, task: type[Task], probe: Callable, steps_per_epoch: float,
                 sample_every: int = 5):
        self.run_dir, self.task, self.probe = Path(run_dir), task, probe
        self.steps_per_epoch, self.sample_every = steps_per_epoch, sample_every
        self.history: list[dict] = []
        self.completions: dict[int, list[dict]] = {}  # of the steps that are not logged yet

    def observe(self, step: int, rows: list[dict]) -> None:
        """Take the completions of a step, each with its reward, from the reward function."""
        self.completions[step] = rows

    def rewind(self, step: int, history: list[dict]) -> None:
        """Forget what came after step: the run resumes from there."""
        self.history = [row for row in history if row["step"] <= step]
        write_json(self.run_dir / HISTORY, self.history)
        for name in (SAMPLES, PROBES):
            # From the start the probes of step 0 are asked again.
            kept = [row for row in read_samples(self.run_dir, name) if 0 < step >= row["step"]]
            (self.run_dir / name).write_text("".join(map(_line, kept)), encoding="utf-8")

    def last_step(self, start: int) -> int | None:
        """The last step that was logged since the run began, or went on, at start; None: none."""
        return next((row["step"] for row in reversed(self.history) if row["step"] > start), None)

    def _append(self, name: str, step: int, rows: list[dict]) -> None:
        with (self.run_dir / name).open("a", encoding="utf-8") as file:
            file.write("".join(_line({"step": step, **row}) for row in rows))

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            self._append(PROBES, 0, self.probe(model))

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        if not logs or "reward" not in logs:  # the closing log of a run carries timings only
            return
        step = state.global_step
        self.history.append(history_row(step, step / self.steps_per_epoch, logs, self.task))
        completions = self.completions.pop(step)
        if step == 1 or step % self.sample_every == 0 or step == state.max_steps:
            self._append(SAMPLES, step, completions)
        if now_and_then(state):
            rows = self.probe(model)
            self._append(PROBES, step, rows)
            self.history[-1]["held_out_kl"] = statistics.fmean(row["kl"] for row in rows)
        write_json(self.run_dir / HISTORY, self.history)

    def on_save(self, args, state, control, **kwargs):
        checkpoint = self.run_dir / f"checkpoint-{state.global_step}"
        shutil.copy(self.run_dir / CONFIG, checkpoint)  # whose it is, wherever it is moved
        write_checksums(checkpoint)


def now_and_then(state) -> bool:
    """Whether this step is one of about ten of a run, at least five steps apart, and the last."""
    every = max(5, -(-state.max_steps // 10))
    return state.global_step % every == 0 or state.global_step == state.max_steps


def _line(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def alarms(history: list[dict], window: int) -> dict[str, str]:
    """Alarms over the last window rows: name -> what it means and the likely remedy.

    What the first window rows raise already is left out: gpt2 seldom ends by itself, which is
    no news.
    """
    def mean(rows, key):
        values = [row[key] for row in rows if key in row]
        return sum(values) / len(values) if values else None

    checks = (
        ("incoherent", "coherent_rate", lambda now, start: now < 0.8,
         "many completions are no sentences; raise --beta, or stop earlier"),
        ("length at the limit", "clipped_ratio", lambda now, start: now > 0.5,
         "most completions are cut off; raise --beta, or --max-completion-length if they need it"),
        ("entropy collapse", "entropy", lambda now, start: now < start / 10,
         "under a tenth of the entropy at the start is left; raise --beta or --temperature"),
        ("dead groups", "tied_groups", lambda now, start: now > 0.9,
         "nearly all groups are tied; the task is learnt, or out of reach"))
    found = {}
    for name, key, bad, remedy in checks:
        start, now = mean(history[:window], key), mean(history[-window:], key)
        if None not in (start, now) and bad(now, start) and not bad(start, start):
            found[name] = remedy
    return found


class HealthAlarms(TrainerCallback):
    """Says once in a run, while it trains, what is going wrong and the likely remedy."""

    WINDOW = 5

    def __init__(self, recorder: RunRecorder):
        self.recorder, self.told = recorder, set()

    def on_log(self, args, state, control, logs=None, **kwargs):
        history = self.recorder.history
        if not logs or "reward" not in logs or len(history) < 2 * self.WINDOW:
            return
        for name, remedy in alarms(history, self.WINDOW).items():
            if name not in self.told:
                self.told.add(name)
                tqdm.write(f"alarm at step {state.global_step}: {name}: {remedy}",
                           file=sys.stderr)


class LivePlot(TrainerCallback):
    """Redraws the curves of a run in the notebook, for at most a tenth of the time. Nothing
    elsewhere."""

    def __init__(self, recorder: RunRecorder, name: str):
        self.recorder, self.name, self.handle, self.next = recorder, name, None, 0.0

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not logs or "reward" not in logs:
            return
        if len(self.recorder.history) > 1 and time.monotonic() >= self.next:
            self.draw()

    def on_train_end(self, args, state, control, **kwargs):
        if self.recorder.history:
            self.draw()

    def draw(self):
        from IPython.display import display

        from lib import plots

        if not in_kernel():
            return
        start = time.monotonic()
        picture = plots.image(plots.history({self.name: self.recorder.history},
                                            self.recorder.task))
        self.next = time.monotonic() + 9 * (time.monotonic() - start)
        if self.handle is None:
            self.handle = display(picture, raw=True, display_id=True)
        else:
            self.handle.update(picture, raw=True)


class Stop(TrainerCallback):
    """A way to end a run early with a checkpoint: a button, an interrupt, or a SIGTERM.

    The front end delivers the click while the cell runs (a kernel's subshell in JupyterLab 4.4
    and later); where it does not, the kernel's interrupt does the same. live: whether the run then
    goes on to its last files, in a notebook; else the block ends with KeyboardInterrupt (its
    argument: the signal) once the checkpoint is saved. Asked twice, it does not wait for the step.
    Use as a context manager.
    """

    def __init__(self, live: bool):
        self.live, self.asked, self.handle, self.before = live, threading.Event(), None, {}
        self.signal = None

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.interrupt)
                           for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind, *error) -> None:
        for number, before in self.before.items():
            signal.signal(number, before)
        self._say("stopped by an error")
        if kind is None and self.signal and not self.live:
            raise KeyboardInterrupt(self.signal)

    def interrupt(self, number, frame) -> None:
        if self.asked.is_set():
            raise KeyboardInterrupt(number)
        self.signal = number
        self.asked.set()
        if not self.live:
            print("stopping when this step is done and saved; once more stops at once",
                  file=sys.stderr)

    def on_train_begin(self, args, state, control, **kwargs):
        if self.live and in_kernel():
            import ipywidgets
            from IPython.display import display

            button = ipywidgets.Button(description="Stop training", icon="stop", tooltip=(
                "Finish this step, write the files, go on with the next cell"))
            button.on_click(lambda _: self.asked.set())
            self.handle = display(button, display_id=True)
            # ipykernel 7.4 sends clicks to the shell that showed the button: this one, which is
            # busy until the run ends. Forgetting that lets the front end's own subshell have them.
            vars(button.comm).pop("_reply_subshell_id", None)

    def on_step_end(self, args, state, control, **kwargs):
        if any(gather_object([self.asked.is_set()])):  # all processes end after the same step
            control.should_training_stop = control.should_save = True

    def on_train_end(self, args, state, control, **kwargs):
        early = state.global_step < state.max_steps
        said = f"{'stopped after' if early else 'trained'} {state.global_step}" + (
            f" of {state.max_steps}" * early) + " steps"
        if early and not self.handle:
            print(said)
        self._say(said)

    def _say(self, said: str) -> None:
        """Put what happened in the button's place."""
        if self.handle:
            self.handle.update({"text/plain": said}, raw=True)
            self.handle = None


class Progress(TrainerCallback):
    """One progress bar for the run: steps, time left, reward and score."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = progress(total=state.max_steps, initial=state.global_step, desc="train",
                            unit="step", delay=0)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "reward" in logs:
            shown = {k: f"{logs[k]:.3f}" for k in ("reward", "score") if logs.get(k) is not None}
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **kwargs):
        close(self.bar)
