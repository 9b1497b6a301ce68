"""The run folder: the names of its files, how they are read, and when a run has ended.

A run is a folder that anybody may copy, so everything that is known of it stands in its files.
Imports neither torch nor transformers: ``plot`` and ``analyze`` start at once.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
CLAIM = ".claim"  # locked by the process whose run this is
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
    """The metrics of a finished run's baseline and final validation, the same ones in both."""
    before, after = found = tuple(read_json(finished(run_dir) / name, "metrics")["metrics"]
                                  for name in (BASELINE, FINAL))
    if not all(isinstance(one, dict) for one in found) or before.keys() != after.keys() or not all(
            isinstance(m, dict) and m.keys() >= {"value", "low", "high", "n"}
            for one in found for m in one.values()):
        raise CourseError(f"{run_dir}: {BASELINE} and {FINAL} are no two validations of one run; "
                          "copy the run again")
    return found


def read_config(folder: str | Path) -> dict:
    """training_config.json of a run's or an export's folder."""
    config = read_json(Path(folder) / CONFIG, "task", "settings")
    if not isinstance(config["task"], str) or not isinstance(config["settings"], dict):
        raise CourseError(f"{Path(folder) / CONFIG} names no task and its settings; "
                          "copy the run again")
    return config


def read_history(run_dir: str | Path) -> list[dict]:
    """The rows of reward_history.json, one a step. Raises CourseError where there is none."""
    path = Path(run_dir) / HISTORY
    rows = read_json(path)
    if not isinstance(rows, list) or not rows or not all(
            isinstance(row, dict) and isinstance(row.get("step"), int) for row in rows):
        raise CourseError(f"{path} holds no step of a run; wait for its first, or train again")
    return rows


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


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was saved at: a folder may have been renamed.

    Raises CourseError where there is none to read.
    """
    try:
        return int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CourseError(f"{checkpoint} is no checkpoint of a run (no trainer_state.json that "
                          "says its step); try --resume-from-checkpoint auto") from None


def find_checkpoint(run_dir: Path, wanted: str) -> Path | None:
    """The checkpoint to resume from: a path, or with ``auto`` the newest undamaged by step.

    None when ``auto`` finds none: the run then starts over. A damaged one is skipped with a
    word under ``auto``; named by path it is a CourseError.
    """
    if wanted != "auto":
        if not Path(wanted).is_dir():
            raise CourseError(f"no checkpoint folder {wanted}; try --resume-from-checkpoint auto")
        step_of(Path(wanted))
        if not is_complete(Path(wanted)):
            raise CourseError(f"the checkpoint {wanted} is damaged or incomplete; try "
                              "--resume-from-checkpoint auto, which takes the newest whole one")
        return Path(wanted)
    whole = []
    for path in sorted(run_dir.glob("checkpoint-*")):
        if is_complete(path):
            whole.append(path)
        else:
            print(f"skipping {path}: damaged or incomplete", file=sys.stderr)
    return max(whole, key=step_of, default=None)


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Within the block run_dir is this run's own; CourseError where another run has it now.

    The lock is the kernel's: it goes with the process, however that ends, so that no claim is left
    over. Folders that are made for the claim go again where nothing else was put into them.
    """
    import fcntl

    made = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / CLAIM
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lost = os.fstat(file.fileno()).st_ino != path.stat().st_ino  # its owner just ended
        except (BlockingIOError, FileNotFoundError):
            lost = True
        except OSError:  # a network drive without locks: better a run than none
            lost = False
        if lost:
            raise CourseError(f"{run_dir} belongs to a run that is going on; wait for its end, or "
                              "choose another --output-dir")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            for folder in made:
                with suppress(OSError):  # it holds a run by now
                    folder.rmdir()
