"""What a tracker gets beside TRL's training metrics: validation, samples, the improvement.

Off unless asked for (``--wandb``, ``--trackio``); Trackio keeps its data on this machine.
"""

import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from lib import CourseError
from lib.evaluation import rows
from lib.runs import before_and_after

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


def report(report_to: tuple[str, ...], run_name: str, run_dir: Path) -> None:
    """Send the results of a finished run and a table of its samples to its trackers."""
    if not report_to:
        return
    table = [(row["prompt"], row["completion"]) for row in rows(run_dir)[:SAMPLES]]
    if "wandb" in report_to:
        import wandb

        run = wandb.run or wandb.init(project=project(), name=run_name)
        run.log({"samples": wandb.Table(columns=["prompt", "completion"], data=table)})
        run.summary.update(results(run_dir))
        run.finish()
    if "trackio" in report_to:
        import pandas
        import trackio

        trackio.init(project=project(), name=run_name, resume="allow", embed=False)
        trackio.log(results(run_dir) | {"samples": trackio.Table(
            dataframe=pandas.DataFrame(table, columns=["prompt", "completion"]))})
        trackio.finish()
