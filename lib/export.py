"""A trained policy that leaves the run folder: a zip with checksums, or a Hub repository.

Both hold the same files: weights, tokenizer, configuration, a model card with the measured
table, the run's settings and figures, and SHA256SUMS (``sha256sum -c`` reads it too).
Left out: checkpoints, whose optimizer state only a resumed run needs, and samples of training.
"""

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import CourseError, models
from lib.evaluation import grid
from lib.files import atomic, digests, read_json, write_json
from lib.runs import (
    BASELINE,
    CONFIG,
    CURVES,
    FINAL,
    HISTORY,
    POLICY,
    before_and_after,
    finished,
    read_history,
)
from lib.tasks import task_of_run

SUMS = "SHA256SUMS"
CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [trl, grpo]
{base_model}---
# {name}

{base}, trained with GRPO (TRL {trl}) on the task `{task}` for {steps} steps, seed {seed}.

{table}

Value [95 % interval] and n, on held-out prompts. The reward was a program: a high figure says
what it measures and no more.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```

With the course installed, `python -m lib chat {name} "..."` asks it as it was trained: in the same
format, or through its chat template with the same system prompt.

All settings: `{config}`. One row a step: `{history}`.
"""


def card(run_dir: Path, name: str) -> str:
    """The model card of a finished run, under the name that readers will load."""
    config = read_json(run_dir / CONFIG)
    before, after = before_and_after(run_dir)
    header, *rows = [[cell.replace("|", r"\|") for cell in line]  # of KL(pi||ref)
                     for line in grid({"base": before, "trained": after}, task_of_run(run_dir))]
    lines = [header, ["---"] * len(header), *rows]
    base = config["settings"]["model"]
    on_hub = base != "tiny" and not Path(base).exists()  # the Hub takes nothing else there
    return CARD.format(
        name=name, task=config["task"], trl=config["versions"]["trl"],
        base=base if on_hub else Path(base).name,
        base_model=f"base_model: {base}\n" * on_hub, seed=config["settings"]["seed"],
        steps=read_history(run_dir)[-1]["step"], config=CONFIG,
        history=HISTORY, table="\n".join(f"| {' | '.join(line)} |" for line in lines))


@contextmanager
def exported(run_dir: str | Path, name: str) -> Iterator[Path]:
    """A temporary folder with everything that is exported of a finished run."""
    run_dir = finished(run_dir)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / Path(name).name
        try:
            _fill(run_dir, target, name)
        except OSError as error:  # copytree's lists a reason a file in place of its own
            reason = error.strerror or re.sub(r"^\[.*?\] |: .*", "", error.args[0][0][2])
            raise CourseError(f"cannot gather the export in {tempfile.gettempdir()}: {reason}; a "
                              "file of the run is missing, or there is no room: name another "
                              "folder in TMPDIR") from None
        yield target


def _fill(run_dir: Path, target: Path, name: str) -> None:
    shutil.copytree(run_dir / POLICY, target)
    for file in (HISTORY, BASELINE, FINAL, CURVES):
        shutil.copy(run_dir / file, target)
    # The file of a task of one's own is a path on this machine; others name theirs by --task.
    write_json(target / CONFIG, read_json(run_dir / CONFIG) | {"task_file": None})
    (target / "README.md").write_text(card(run_dir, name), encoding="utf-8")
    (target / SUMS).write_text("".join(
        f"{digest}  {file}\n" for file, digest in digests(target).items()))


def to_zip(run_dir: str | Path, path: str | Path) -> Path:
    """Write a finished run's export as a zip with one folder in it; returns the path.

    Raises CourseError for an unfinished run and where path cannot be written.
    """
    path = Path(path)
    if path.suffix != ".zip":
        raise CourseError(f"--zip wants a file that ends in .zip, not {path}")
    with exported(run_dir, path.stem) as folder, atomic(path) as temporary, zipfile.ZipFile(
            temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return path


def from_zip(path: str | Path, folder: str | Path) -> Path:
    """Unpack an export into folder, compare the checksums; returns the model's folder.

    Raises CourseError for another kind of file, a damaged one, and an existing target.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            tops = {Path(name).parts[0] for name in archive.namelist()}
            if len(tops) != 1 or any(".." in Path(name).parts or Path(name).is_absolute()
                                     for name in archive.namelist()):
                raise CourseError(f"{path} is not an export: it should hold one folder")
            target = Path(folder) / tops.pop()
            if target.exists():
                raise CourseError(f"{target} exists already; choose another folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as work:
                archive.extractall(work)
                _check_sums(Path(work) / target.name, path)
                (Path(work) / target.name).rename(target)
    # Beside the libraries' own: a password is a RuntimeError, checksums that are none a ValueError.
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError) as error:
        raise CourseError(f"cannot unpack {path}: {error}; export it again, or free some space"
                          ) from None
    return target


def _check_sums(folder: Path, path: str | Path) -> None:
    """Raise CourseError where a file of folder, unpacked from path, differs from SHA256SUMS."""
    sums = (folder / SUMS).read_text() if (folder / SUMS).exists() else ""
    wanted = dict(reversed(line.split("  ", 1)) for line in sums.splitlines())
    wrong = sorted({name for name, _ in wanted.items() ^ digests(folder, SUMS).items()})
    if not wanted or wrong:
        raise CourseError(f"{path} is damaged: {', '.join(wrong) or f'no {SUMS}'} differs; "
                          "export it again")


@contextmanager
def unpacked(model: str) -> Iterator[str]:
    """The folder of a model for as long as it is needed: an exported zip is unpacked and checked,
    anything else is what it is."""
    if not model.endswith(".zip"):
        yield model
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(from_zip(model, folder))


def to_hub(run_dir: str | Path, repository: str, *, private: bool = False) -> str:
    """Push a finished run's export to the Hub repository USER/NAME; returns its address.

    Raises CourseError without a token, and when the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repository)
        if repository.count("/") != 1:  # without a user the client takes the token's
            raise HFValidationError
    except HFValidationError:
        raise CourseError(f"'{repository}' is no name of a repository; it looks like USER/NAME"
                          ) from None
    if not get_token():
        raise CourseError("no Hub token: make one with write access in the Hub's settings, then "
                          "run `hf auth login`, or set HF_TOKEN for this command")
    if not models.hub_reachable():
        raise CourseError("the Hub cannot be reached; --zip FILE works without it")
    with exported(run_dir, repository) as folder:
        try:
            api = HfApi()
            url = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder,
                              commit_message="Upload a policy trained with GRPO")
        except Exception as error:  # the client's errors have no common class
            raise CourseError(f"the Hub refused {repository}: {str(error).splitlines()[0]}; "
                              "look at the token's rights") from None
    return str(url)
