"""The run folder: the names of its files, how they are read, and when a run has ended.

A run is a folder that anybody may copy, so everything that is known of it stands in its files.
Imports neither torch nor transformers: ``plot`` and ``analyze`` start at once.
"""

import json
import sys
from pathlib import Path

from lib import CourseError
from lib.files import digests, read_json, write_json

CONFIG = "training_config.json"  # task, settings, optimizer, versions, device
HISTORY = "reward_history.json"  # a list, one row a step
SAMPLES = "samples.jsonl"  # completions of the training prompts, every few steps
PROBES = "probes.jsonl"  # completions of the same held-out prompts, now and then
BASELINE, FINAL = "baseline_validation.json", "final_validation.json"
CURVES = "curves.png"
POLICY = "final"  # the folder of the trained policy
CHECKSUMS = "sealed.json"  # in each checkpoint folder; older runs know it by this name too


def read_samples(run_dir: Path, name: str = SAMPLES) -> list[dict]:
    """The rows of samples.jsonl or PROBES; a last line torn by a kill is dropped."""
    path = Path(run_dir) / name
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def finished(run_dir: str | Path) -> Path:
    """run_dir, where a run has come to its end. Raises CourseError where none has.

    The final validation is written last of all, so that its file says that the run has ended.
    """
    if not Path(run_dir).is_dir():
        raise CourseError(f"there is no run {run_dir}; ls runs/* shows those that are there")
    if not (Path(run_dir) / FINAL).exists():
        raise CourseError(f"{run_dir} is no finished run (no {FINAL}); finish it with train's "
                          "--resume-from-checkpoint auto")
    return Path(run_dir)


def before_and_after(run_dir: Path) -> tuple[dict, dict]:
    """The metrics of a finished run's baseline and final validation."""
    return tuple(read_json(finished(run_dir) / name)["metrics"] for name in (BASELINE, FINAL))


def write_checksums(checkpoint: Path) -> None:
    """Write the SHA-256 of every file of a finished checkpoint beside them."""
    write_json(checkpoint / CHECKSUMS, digests(checkpoint, exclude=CHECKSUMS))


def is_complete(checkpoint: Path) -> bool:
    """Whether every byte of checkpoint is as it was when its checksums were written.

    A kill while it was being saved leaves a folder without checksums, or with others.
    """
    try:
        written = json.loads((checkpoint / CHECKSUMS).read_text())
        return written == digests(checkpoint, exclude=CHECKSUMS)
    except (OSError, ValueError):
        return False


def find_checkpoint(run_dir: Path, wanted: str) -> Path | None:
    """The checkpoint to resume from: a path, or with ``auto`` the newest undamaged by step.

    None when ``auto`` finds none: the run then starts over. A damaged one is skipped with a
    word under ``auto``; named by path it is a CourseError.
    """
    if wanted != "auto":
        if not Path(wanted).is_dir():
            raise CourseError(f"no checkpoint folder {wanted}; try --resume-from-checkpoint auto")
        if not is_complete(Path(wanted)):
            raise CourseError(f"the checkpoint {wanted} is damaged or incomplete; try "
                              "--resume-from-checkpoint auto, which takes the newest whole one")
        return Path(wanted)
    found = [p for p in run_dir.glob("checkpoint-*") if p.name.split("-")[1].isdigit()]
    for path in sorted(found, key=lambda p: int(p.name.split("-")[1]), reverse=True):
        if is_complete(path):
            return path
        print(f"skipping {path}: damaged or incomplete", file=sys.stderr)
    return None
