"""What lies in a download: every file that a person handed in, whatever packed it.

Read as data only: nothing is unpacked to disk. Zips made by Windows separate folders with
backslashes; macOS adds ``._x`` files and decomposes accents; students put a zip into the zip.
"""

import io
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from grading import handed_in
from lib import CourseError

# Mail programs and browsers put a suffix behind the right one.
NOTEBOOK = re.compile(r"\.ipynb(?:\.(?:txt|json|download))?$", re.IGNORECASE)
COPY = re.compile(r"(?:-(\d{1,9})| ?\((\d{1,9})\)|-copy(\d{1,9}))(?=\.\w+(?:\.\w+)?$)",
                  re.IGNORECASE)
# Dot files are left out too: macOS's ._x, .DS_Store, .ipynb_checkpoints, .git.
JUNK = {"__macosx", "__pycache__", "thumbs.db", "desktop.ini", "icon\r",
        "feedback attachment(s)"}  # Sakai's folder of what a tutor wrote
ENTRIES = 200_000  # of a zip; more is an attack on memory
DEPTH = 50  # folders of a path, of which the deepest are taken for one


@dataclass(frozen=True)
class File:
    """A file of a download.

    parts: its folders and its name; a zip inside the download counts as a folder.
    when: its own time, which is local time or the time of the download; None where it has none.
    read: gives its bytes; raises CourseError when it is too large or no ordinary file.
    """

    parts: tuple[str, ...]
    when: datetime | None
    read: Callable[[], bytes]

    @property
    def path(self) -> str:
        return "/".join(self.parts)

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def is_notebook(self) -> bool:
        return bool(NOTEBOOK.search(self.name))

    @property
    def copy(self) -> int:
        """The number that a browser or platform gave a copy; 0 for the first."""
        match = COPY.search(self.name)
        return int(next(filter(None, match.groups()), 0)) if match else 0


def read_download(source: Path) -> list[File]:
    """Every file of a folder or zip but junk. Raises CourseError when it is neither."""
    if source.is_dir():
        found = ((path.relative_to(source).as_posix(),
                  datetime.fromtimestamp(path.lstat().st_mtime),
                  partial(handed_in.read_bytes, path))
                 for path in sorted(source.rglob("*")) if not path.is_dir())
    else:
        try:
            found = list(_entries(lambda: source))
        except (OSError, ValueError, zipfile.BadZipFile):
            raise CourseError(f"{source} is neither a folder nor a zip file") from None
    return [inner for parts, when, read in map(_split, found) if parts
            for inner in _opened(File(parts, when, read))]


def _split(entry) -> tuple:
    name, when, read = entry
    parts = tuple(unicodedata.normalize("NFC", part)
                  for part in re.split(r"[/\\]", name) if part not in ("", "."))
    junk = any(part.startswith((".", "~$")) or part.lower() in JUNK for part in parts)
    if len(parts) > DEPTH:
        parts = (*parts[:DEPTH], parts[-1])
    return (() if junk else parts), when, read


def _opened(file: File) -> Iterator[File]:
    """The file, or what is in it when it is a zip that can be read."""
    if not file.name.lower().endswith(".zip"):
        yield file
        return
    try:
        entries = map(_split, _entries(lambda: io.BytesIO(file.read())))
        inner = [(parts, when, read) for parts, when, read in entries if parts]
    except (CourseError, OSError, ValueError, zipfile.BadZipFile):
        inner = []  # told as a file that is no notebook
    if not inner:
        yield file
    for parts, when, read in inner:
        yield File(file.parts + parts, when or file.when, read)


def _entries(opened: Callable) -> Iterator[tuple]:
    """Name, time and reader of each file of a zip; opened() gives its path or a stream of it."""
    with zipfile.ZipFile(opened()) as archive:
        if len(archive.infolist()) > ENTRIES:
            raise ValueError("too many entries")
        for info in archive.infolist():
            if not info.filename.endswith(("/", "\\")):
                yield _name(info), _time(info), partial(_from_zip, opened, info)


def _name(info: zipfile.ZipInfo) -> str:
    """An entry's name: without the flag that says UTF-8 the library takes it for cp437."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _time(info: zipfile.ZipInfo) -> datetime | None:
    try:
        when = datetime(*info.date_time)
    except ValueError:  # some tools write no date
        return None
    return when if when.year > 1980 else None


def _from_zip(opened: Callable, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 1:
        raise CourseError("is encrypted")
    try:
        with zipfile.ZipFile(opened()) as archive, archive.open(info) as file:
            data = file.read(handed_in.FILE_LIMIT + 1)  # the header's size may be a lie
    except Exception as error:  # whatever a damaged or odd entry makes the library raise
        raise CourseError(f"cannot be read: {type(error).__name__}") from None
    if len(data) > handed_in.FILE_LIMIT:
        raise CourseError("too large")
    return data
