"""What a student handed in, put in the places of the release: every repair is told.

The file may be anything. It is read as data: no notebook library, no syntax tree, no pickle.
"""

import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from lib import CourseError

FILE_LIMIT, CELL_LIMIT, CELLS, NODES = 32 * 2**20, 200_000, 2000, 10**6
DEFINED = re.compile(r"^(?:async )?(?:def|class) +(\w+)|^(\w+) *=[^=]", re.MULTILINE)
MARK = re.compile(r"\*\*(.{3,60}?)\*\*")


@dataclass(frozen=True)
class Cell:
    """A submitted cell: "code" or "markdown"; the ids are None where they are lost."""

    kind: str
    source: str
    grade_id: str | None = None
    cell_id: str | None = None


@dataclass(frozen=True)
class Slot:
    """A place in the released notebook.

    kind: "solution" and "manual" are the student's, "test" and "given" are the course's.
    names: the functions that a solution cell has to define, or the mark of a question.
    checks: the test whose visible check a given cell is.
    """

    id: str
    kind: str
    source: str
    names: tuple[str, ...] = ()
    checks: str | None = None


@dataclass
class Filled:
    """A slot with what the student has there, and the student's own cells after it."""

    slot: Slot
    sources: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)


def read_bytes(path: Path) -> bytes:
    """The bytes of a submitted file. Raises CourseError for a link, a folder, a pipe, no file."""
    if not path.parent.is_dir() or not os.path.lexists(path):
        raise CourseError(f"no file {path.name}")
    if path.is_symlink() or path.parent.is_symlink() or path.parent.parent.is_symlink():
        raise CourseError(f"{path.name} is a link, which is not followed")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise CourseError(f"{path.name} cannot be read: {error.strerror}") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(handle)
        raise CourseError(f"{path.name} is not an ordinary file")
    with os.fdopen(handle, "rb") as file:
        if status.st_size > FILE_LIMIT:
            raise CourseError(f"{path.name} has {status.st_size >> 20} MiB; the limit is "
                              f"{FILE_LIMIT >> 20}: clear its outputs")
        return file.read(FILE_LIMIT)


def read_cells(data: bytes, name: str) -> list[Cell]:
    """The cells of a notebook file of format 3 or 4. Raises CourseError when it is none."""
    try:
        if data.count(b"{") + data.count(b"[") > NODES:
            raise ValueError("too much")
        notebook = json.loads(data.rstrip(b"\0 \r\n"), parse_int=_whole)
        sheets = [notebook, *(notebook.get("worksheets") or [])]
        cells = [cell for sheet in sheets for cell in sheet.get("cells") or []]
        found = [cell for cell in map(_cell, cells[:CELLS]) if cell]
    except (ValueError, RecursionError, AttributeError, TypeError):
        raise CourseError(f"{name} is not a readable notebook") from None
    if not found:
        raise CourseError(f"{name} holds no cells")
    return found


def _whole(digits: str) -> int:
    return int(digits) if len(digits) < 20 else 0


def _cell(raw) -> Cell | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("cell_type"), str):
        return None
    kind = {"code": "code", "markdown": "markdown", "raw": "markdown"}.get(raw.get("cell_type"))
    source = raw.get("source", raw.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    if kind is None or not isinstance(source, str):
        return None
    metadata = raw.get("metadata")
    grading = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    grade_id = grading.get("grade_id") if isinstance(grading, dict) else None
    ids = [i if isinstance(i, str) else None for i in (grade_id, raw.get("id"))]
    return Cell(kind, clean(source)[:CELL_LIMIT], *ids)


def clean(text: str) -> str:
    """Text that can be written and shown: no lone surrogates, no control characters."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)


def one_line(text: str) -> str:
    """Clean text for a line of a report."""
    return " ".join(clean(text).split())


def harmless(markdown: str) -> str:
    """A student's markdown without HTML and links: formgrader renders it as it is."""
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", markdown).replace("](", "] (").replace("]:", "] :")


def slots(released: NotebookNode) -> list[Slot]:
    """The places of a released notebook, in order."""
    found = []
    for cell in released.cells:
        marks = cell.metadata.get("nbgrader", {})
        graded, solution = marks.get("grade"), marks.get("solution")
        if solution:
            names = tuple(re.findall(r"^def (\w+)", cell.source, re.MULTILINE)) \
                if cell.cell_type == "code" else tuple(MARK.findall(cell.source)[:1])
            found.append(Slot(marks["grade_id"], "manual" if graded else "solution", cell.source,
                              names))
        else:
            kind = "text" if cell.cell_type != "code" else "test" if graded else "given"
            exercise = cell.metadata.get("check")
            found.append(Slot(cell.id, kind, cell.source, checks=exercise and f"test_{exercise}"))
    return found


def fill(places: list[Slot], cells: list[Cell]) -> tuple[list[Filled], list[str]]:
    """Put submitted cells into the places of the release; the second value tells the repairs.

    A cell belongs to a solution or a question by its grade_id, else by the function that it
    defines, else by the question's title. Tests and given cells are the release's; a changed
    one, and every cell of the student's own, is an extra after the place before it.

    An example. The release has ex1 (``def f``), its test, ex2 (``def g``). A student copied ex1's
    cell below the test to try something, and an editor dropped all metadata:

        def f(x): raise ...      -> ex1, by the name f; equal to the stub, so it is sorted first
        f(1)                     -> an extra after ex1
        def f(x): return x       -> ex1 as well; comes last, so it is the one that counts
        def g(x): return x       -> ex2

    The repairs then say that ex1's cell was there twice, and that both were found by content.
    """
    filled = [Filled(slot) for slot in places]
    place_of = {slot.id: i for i, slot in enumerate(places)}
    known = {slot.source.strip(): i for i, slot in enumerate(places)}
    owned = {f.slot.id: f for f in filled if f.slot.kind in ("solution", "manual")}
    homes = [_home(cell, owned) for cell in cells]
    with_id = {home for home, how in homes if how == "id"}
    copies: dict[str, list[tuple[Cell, str]]] = {name: [] for name in owned}
    here = 0
    for cell, (home, how) in zip(cells, homes, strict=True):
        if home and (how == "id" or home not in with_id or all(
                _is(c, owned[home].slot) for c, _ in copies[home])):
            copies[home].append((cell, how))
            here = place_of[home]
            continue
        same = known.get(cell.source.strip())
        changed = place_of.get(cell.grade_id or cell.cell_id) if same is None else None
        here = next((place for place in (same, changed) if place is not None), here)
        a_test = changed is not None and places[changed].kind == "test"
        if same is None and cell.kind == "code" and not a_test:
            filled[here].extras.append(cell.source)
    for name, found in copies.items():  # an untouched stub must not undo the answer
        found.sort(key=lambda copy: not _is(copy[0], owned[name].slot))
        owned[name].sources = [cell.source for cell, _ in found]
    order = [place_of[home] for home, how in homes if how == "id"]
    return filled, _repairs(copies, owned, order)


def _is(cell: Cell, slot: Slot) -> bool:
    return cell.source.strip() == slot.source.strip()


def _repairs(copies: dict[str, list[tuple[Cell, str]]], owned: dict[str, Filled],
             order: list[int]) -> list[str]:
    """What had to be put right, as the student is told."""
    told = []
    if order != sorted(order):
        told.append("cells were in another order; each was graded in its own place")
    for name, found in copies.items():
        kind = "code" if owned[name].slot.kind == "solution" else "markdown"
        if any(how != "id" for _, how in found):
            told.append(f"{name}: its cell had lost its metadata; found by its content")
        if any(cell.kind != kind for cell, _ in found):
            told.append(f"{name}: its cell had another type")
        if not found:
            told.append(f"{name}: its cell is missing")
        elif len(found) > 1:
            told.append(f"{name}: its cell was there {len(found)} times; the last one counts")
    return told


def _home(cell: Cell, owned: dict[str, Filled]) -> tuple[str | None, str]:
    """Which solution or question a cell belongs to, and how one knows: "id" or "content".

    An id is believed only where the content does not contradict it: a student who pastes the answer
    of exercise 2 into the cell of exercise 1 leaves a cell with ex1's id that defines ex2's
    function, and it is ex2's answer.
    """
    defined = {name for pair in DEFINED.findall(cell.source) for name in pair if name}
    if cell.kind == "code" or cell.grade_id or cell.cell_id in owned:
        by_name = [i for i, f in owned.items() if f.slot.kind == "solution"
                   and defined & set(f.slot.names)]
    else:
        by_name = []
    if cell.kind == "markdown":
        title = MARK.search(cell.source)
        by_name += [i for i, f in owned.items()
                    if f.slot.kind == "manual" and title and title[1] in f.slot.names]
    for claimed in (cell.grade_id, cell.cell_id):
        if claimed in owned and (claimed in by_name or not by_name):
            return claimed, "id"
    return (by_name[0], "content") if by_name else (None, "")
