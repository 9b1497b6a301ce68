"""What a tracker gets beside TRL's training metrics: validation curves and samples while a run
trains, the improvement at its end.

Off unless asked for (``--wandb``, ``--trackio``); Trackio keeps its data on this machine.
"""

import netrc
import os
from pathlib import Path
from statistics import fmean
from urllib.parse import urlsplit

from transformers import TrainerCallback

from lib import CourseError
from lib.evaluation import rows
from lib.monitor import now_and_then
from lib.runs import PROBES, before_and_after, read_samples

PROJECT = "grpo-course"
SAMPLES = 20


def project() -> str:
    """The project to report to: ``--wandb-project`` sets the variable."""
    return os.environ.get("WANDB_PROJECT", PROJECT)


def check_login() -> None:
    """Raise CourseError where Weights & Biases would ask who is there."""
    online = os.environ.get("WANDB_MODE", "online") == "online"
    if online and not (os.environ.get("WANDB_API_KEY") or _logged_in()):
        raise CourseError("--wandb knows no account; run `wandb login`, or set WANDB_API_KEY, or "
                          "WANDB_MODE=offline for files alone")


def _logged_in() -> bool:
    """Whether ``wandb login`` has left a key for its host where it documents to: in netrc."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return bool(netrc.netrc(os.environ.get("NETRC")).authenticators(host))
    except (OSError, netrc.NetrcParseError):
        return False


def results(run_dir: Path) -> dict[str, float]:
    """Baseline and final metrics, and what training added to each, in one flat dict."""
    before, after = before_and_after(run_dir)
    flat = {}
    for key, m in after.items():
        flat |= {f"baseline/{key}": before[key]["value"], f"final/{key}": m["value"],
                 f"improvement/{key}": m["value"] - before[key]["value"]}
    return flat


def _numbers(row: dict) -> list[str]:
    """The names of a completion's figures: its score, the parts of its reward, its KL."""
    return [name for name, value in row.items() if isinstance(value, int | float)
            and name != "step"]


def _send(report_to: tuple[str, ...], figures: dict[str, float], samples: list[dict]) -> None:
    """Log figures, and a table of samples, to trackers whose run is open."""
    columns = ["prompt", "completion", *_numbers(samples[0])]
    data = [[row[name] for name in columns] for row in samples[:SAMPLES]]
    if "wandb" in report_to:
        import wandb

        wandb.log(figures | {"samples": wandb.Table(columns=columns, data=data)})
    if "trackio" in report_to:
        import pandas
        import trackio

        trackio.log(figures | {"samples": trackio.Table(
            dataframe=pandas.DataFrame(data, columns=columns))})


class Validation(TrainerCallback):
    """Sends what a run's recorder asks of held-out prompts now and then: the means of all figures
    as curves, and the completions. Comes behind the recorder."""

    def __init__(self, report_to: tuple[str, ...], run_dir: Path):
        self.report_to, self.run_dir = report_to, run_dir

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self.send(0)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "reward" in logs and now_and_then(state):
            self.send(state.global_step)

    def send(self, step: int) -> None:
        asked = [row for row in read_samples(self.run_dir, PROBES) if row["step"] == step]
        _send(self.report_to, {"train/global_step": step} | {
            f"validation/{name}": fmean(row[name] for row in asked)
            for name in _numbers(asked[0])}, asked)


def report(report_to: tuple[str, ...], run_name: str, run_dir: Path) -> None:
    """Send the results of a finished run and a table of its samples to its trackers."""
    if "wandb" in report_to:
        import wandb

        if wandb.run is None:
            wandb.init(project=project(), name=run_name)
    if "trackio" in report_to:
        import trackio

        trackio.init(project=project(), name=run_name, resume="allow", embed=False)
    if report_to:
        _send(report_to, results(run_dir), rows(run_dir))
    if "wandb" in report_to:
        wandb.run.summary.update(results(run_dir))
        wandb.finish()
    if "trackio" in report_to:
        trackio.finish()
