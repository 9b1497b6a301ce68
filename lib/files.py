"""Writing run files so that a kill leaves the old file or the new one, never half of one."""

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from lib import CourseError


@contextmanager
def atomic(path: Path):
    """Yield a temporary path beside path (same suffix); it becomes path when the block ends.

    Raises CourseError when the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
        try:
            yield Path(name)
            Path(name).chmod(0o644)  # mkstemp gives 0600; these are ordinary files
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise CourseError(f"cannot write {path}: {error.strerror or error}; choose another "
                          "place for it, or free some space") from error


def write_text(path: Path, text: str) -> None:
    """Write text to path atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value) -> None:
    """Write value as indented JSON to path atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, *keys: str):
    """Read a JSON file; raises CourseError when it is missing, damaged, or no object with keys."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if keys and not (isinstance(value, dict) and value.keys() >= set(keys)):
            raise ValueError(f"it is no object with {' and '.join(keys)}")
        return value
    except FileNotFoundError:
        raise CourseError(f"{path} does not exist; is this the folder of a run?") from None
    except (OSError, ValueError, RecursionError) as error:  # the last: brackets without end
        raise CourseError(f"cannot read {path}: {error}") from None


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a user's text file, which an error message calls "the {what} file".

    Raises CourseError when it cannot be read or is not UTF-8.
    ``str.splitlines`` would also split at U+2028 and its like, which JSON allows within a text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CourseError(f"{path}, line {line}: the {what} file is not UTF-8; save it as UTF-8"
                          ) from None
    except OSError as error:
        raise CourseError(f"cannot read the {what} file {path}: {error.strerror}") from None


def digests(folder: Path, exclude: str = "") -> dict[str, str]:
    """SHA-256 of every file under folder by its relative path, except those named exclude."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != exclude):
        with path.open("rb") as file:
            found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
