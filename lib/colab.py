"""Long runs on Colab: settings by GPU, runs on Drive, resume, keep-alive, download.

Outside Colab everything works but Drive, keep-alive and download, which say so.
"""

import importlib.metadata
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from lib import CourseError, export, models
from lib.answers import default_file
from lib.files import read_json
from lib.runs import CONFIG, FINAL
from lib.tasks import task_class
from lib.training import train

DRIVE = Path("/content/drive")
# GiB of GPU memory from which -> completions a forward pass. Starting points by memory alone,
# not measured: halve batch_size and double accumulation when memory runs out.
BATCHES = ((35, 32), (20, 16), (14, 8), (7, 4))
COMPLETIONS = 64  # of one optimizer step


def inside() -> bool:
    """Whether this is a Colab session."""
    return "google.colab" in sys.modules


def stale() -> list[str]:
    """Imported packages whose installed version is another by now: restart the session."""
    found = []
    for name in ("numpy", "matplotlib", "torch", "transformers", "datasets"):
        loaded = getattr(sys.modules.get(name), "__version__", None)
        if loaded and loaded.split("+")[0] != importlib.metadata.version(name).split("+")[0]:
            found.append(name)
    return found


def settings(task: str, gib: float | None = None) -> dict:
    """Model and batch for a task on a GPU with gib GiB (default: this machine's; 0: none)."""
    device = models.pick_device()
    if gib is None:
        gib = (torch.cuda.get_device_properties(device).total_memory / 2**30
               if device.type == "cuda" else 0)
    batch = next((batch for least, batch in BATCHES if gib >= least), None)
    if batch is None:
        return {"model": "tiny"}
    return {"model": task_class(task).gpu_model, "batch_size": batch,
            "accumulation": COMPLETIONS // batch}


def storage() -> Path:
    """The folder for runs: on Drive when it is mounted, which outlives the session, else here."""
    if inside():
        from google.colab import drive

        drive.mount(str(DRIVE))
    if (DRIVE / "MyDrive").is_dir():
        return DRIVE / "MyDrive" / "grpo-course"
    print("runs are kept on this machine only, and go when it goes", file=sys.stderr)
    return Path("runs")


def answers_file(task: str) -> Path:
    """The student's notebook of a task: the copy that Colab saved to Drive, else the course's."""
    saved = DRIVE / "MyDrive" / "Colab Notebooks" / f"{task_class(task).chapter}.ipynb"
    return saved if saved.exists() else default_file(task_class(task).chapter)


def last_unfinished(root: Path, task: str) -> Path | None:
    """The newest run of a task under root that was started and not finished."""
    started = [path for path in root.glob(f"*/{CONFIG}")
               if read_json(path)["task"] == task and not (path.parent / FINAL).exists()]
    return max(started, key=lambda path: path.stat().st_mtime).parent if started else None


def train_or_resume(task: str, answers: Mapping[str, Callable], root: Path, **changes) -> Path:
    """Go on with the last unfinished run of a task under root, or start one; its folder.

    changes: settings of a new run; an unfinished one keeps those it was started with.
    """
    if run_dir := last_unfinished(root, task):
        print(f"going on with {run_dir}")
        started = read_json(run_dir / CONFIG)["settings"]
        return train(task_class(task).of_record(started), answers, run_dir, resume="auto")
    fresh = task_class(task).of(**changes)
    return train(fresh, answers, _unused(root / f"{task}_{fresh.name()}"))


def _unused(path: Path) -> Path:
    """path, or with the first number behind it under which nothing is yet."""
    names = (path, *(path.with_name(f"{path.name}_{i}") for i in range(2, 1000)))
    return next(name for name in names if not name.exists())


KEEP_ALIVE = """
clearInterval(window.courseKeepAlive);
window.courseKeepAlive = setInterval(() => {
  const button = document.querySelector("colab-connect-button");
  if (button) button.click();
}, 60000);
"""


def keep_alive() -> None:
    """Have this browser tab press Colab's connect button once a minute."""
    if not inside():
        raise CourseError("keep_alive works on Colab only; elsewhere nothing disconnects")
    from IPython.display import Javascript, display

    display(Javascript(KEEP_ALIVE))


def download(run_dir: Path) -> Path:
    """Zip a finished run; on Colab, send the zip to the browser. Returns its path."""
    path = export.to_zip(run_dir, Path(run_dir).with_suffix(".zip"))
    if inside():
        from google.colab import files

        files.download(str(path))
    return path
