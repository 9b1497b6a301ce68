"""What a student handed in, put in the places of the release: every repair is told.

The file may be anything. It is read as data: no notebook library, no syntax tree, no pickle.
"""

import json
import os
import re
import stat
import urllib.parse
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from grading import NOTEBOOKS
from lib import CourseError

FILE_LIMIT, CELL_LIMIT, CELLS, NODES = 32 * 2**20, 200_000, 2000, 10**6
DEFINED = re.compile(r"^(?:async )?(?:def|class) +(\w+)|^(\w+) *=[^=]", re.MULTILINE)
MARK = re.compile(r"\*\*(.{3,60}?)\*\*")
TEXT_CUT = f"its text was cut after {CELL_LIMIT} characters"
PICTURES = 8 * 2**20  # characters of the pictures of one cell, as they are written in a notebook
_PICTURE = r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+"
PICTURE = re.compile(rf"({_PICTURE}|attachment:[^)\s\"'<>]+)")
# Of JSON: texts, also one without an end, and brackets.
STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True)
class Cell:
    """A submitted cell: "code" or "markdown"; the ids are None where they are lost.

    cut: what of it was left out; empty when it is whole.
    """

    kind: str
    source: str
    grade_id: str | None = None
    cell_id: str | None = None
    cut: str = ""


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


class OtherChapter(CourseError):
    """A notebook of another chapter than the one that is asked for."""

    def __init__(self, chapter: str, wanted: str):
        super().__init__(f"this is {chapter}, not {wanted}")
        self.chapter = chapter


def read_cells(data: bytes, name: str) -> list[Cell]:
    """The cells of a notebook file of format 3 or 4. Raises CourseError when it is none.

    name: the file's, CHAPTER.ipynb; another chapter's notebook is an OtherChapter.
    """
    text = _text(data)
    try:
        if text.count("{") + text.count("[") > NODES:
            text = _without_outputs(text)
        notebook = json.loads(text, parse_int=_whole)
        sheets = [notebook, *(notebook.get("worksheets") or [])]
        cells = [cell for sheet in sheets for cell in sheet.get("cells") or []]
        found = [cell for cell in map(_cell, cells[:CELLS]) if cell]
    except (ValueError, RecursionError, AttributeError, TypeError):
        raise CourseError(f"{name} is not a readable notebook{_what(text)}") from None
    if not found:
        raise CourseError(f"{name} holds no cells")
    if other := _other_chapter(found, name.removesuffix(".ipynb")):
        raise OtherChapter(other, name.removesuffix(".ipynb"))
    return found


def _text(data: bytes) -> str:
    """The text of a file: UTF-8, UTF-16 as PowerShell writes it, or what Windows once used."""
    encoding = json.detect_encoding(data)
    try:
        text = data.decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    return text.strip("\0 \r\n\ufeff")


def _without_outputs(text: str) -> str:
    """A notebook's JSON with every list of outputs emptied: a plot may hold a million points.

    Raises ValueError when too much is left even so.
    """
    kept, at, depth, since, last = [], 0, 0, 0, ""
    for match in STRUCTURE.finditer(text):
        token = match[0]
        if token in "[{":
            if not since and token == "[" and last == '"outputs"':
                kept.append(text[at:match.end()])
                since = depth + 1
            depth += 1
        elif token in "]}":
            if since == depth:
                at, since = match.start(), 0
            depth -= 1
        last = token
    rest = "".join(kept) + text[at:] * (not since)
    if rest.count("{") + rest.count("[") > NODES:
        raise ValueError("too many brackets")
    return rest


def _what(text: str) -> str:
    """What a file that is no notebook seems to be, for the end of a sentence."""
    for looks, what in (
            (r"\Z", ": it is empty"),
            (r"version https://git-lfs", ": it is a pointer of Git LFS, without the file itself"),
            (r"(?s:.*\n)?(?:<{7}|>{7}|={7})(?: |\n)", ": it holds conflict markers of git"),
            (r"(?i)<(?:!doctype|html|\?xml|head|body)", ": it is a web page, saved in its place"),
            (r"PK\x03\x04", ": it is a zip"),
            (r"%PDF", ": it is a PDF"),
            (r"\{(?s:.*[^}])\Z", ": it is cut off at its end")):
        if re.match(looks, text):
            return what
    return ""


@cache
def _functions() -> dict[str, frozenset[str]]:
    """The functions that the exercises of each released chapter ask for."""
    return {path.stem: frozenset(
        name for slot in slots(nbformat.read(path, as_version=4)) if slot.kind == "solution"
        for name in slot.names) for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}


def _other_chapter(cells: list[Cell], wanted: str) -> str | None:
    """The chapter whose functions a notebook defines, when it defines none of the wanted one's."""
    defined = {name for cell in cells for pair in DEFINED.findall(cell.source) for name in pair}
    asked = _functions()
    if wanted not in asked or defined & asked[wanted]:
        return None
    best = max(asked, key=lambda chapter: len(defined & asked[chapter]))
    return best if len(defined & asked[best]) > 1 else None


def holds(cells: list[Cell], places: list[Slot]) -> bool:
    """Whether a notebook has a cell of an assignment's own, by its id or by what it defines."""
    owned = {slot.id: Filled(slot) for slot in places if slot.kind in ("solution", "manual")}
    return any(_home(cell, owned)[0] for cell in cells)


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
    if kind == "code":
        return Cell(kind, clean(source)[:CELL_LIMIT], *ids, TEXT_CUT * (len(source) > CELL_LIMIT))
    text, cut = _with_pictures(clean(source), raw.get("attachments"))
    return Cell(kind, text, *ids, cut)


def _with_pictures(source: str, attachments) -> tuple[str, str]:
    """A text with the pictures attached to it written into it, and what was left out of both.

    The limit of a text does not count its pictures, which have one of their own.
    """
    attached = {}
    for name, forms in attachments.items() if isinstance(attachments, dict) else ():
        for kind, data in forms.items() if isinstance(forms, dict) else ():
            data = "".join(data) if isinstance(data, list) and all(
                isinstance(line, str) for line in data) else data
            if isinstance(data, str):
                attached[name] = f"data:{kind};base64,{''.join(data.split())}"
    used = set(map(_attachment, PICTURE.findall(source)))
    source += "".join(f"\n\n![{name}](attachment:{urllib.parse.quote(name)})"
                      for name in attached if name not in used)
    text, room, space, cut = [], CELL_LIMIT, PICTURES, []
    for number, piece in enumerate(PICTURE.split(source)):
        if number % 2 == 0:
            text.append(piece[:room])
            cut += [TEXT_CUT] * (len(piece) > room)
            room -= len(text[-1])
            continue
        picture = attached.get(_attachment(piece), piece)
        fits = re.fullmatch(_PICTURE, picture) and len(picture) <= space
        text.append(picture if fits else "left-out")
        space -= len(picture) * bool(fits)
        cut += ["a picture was left out"] * (not fits)
    return "".join(text), "; ".join(dict.fromkeys(cut))


def _attachment(address: str) -> str:
    return urllib.parse.unquote(address.removeprefix("attachment:"))


def clean(text: str) -> str:
    """Text that can be written and shown: no lone surrogates, no control characters."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)


def one_line(text: str) -> str:
    """Clean text for a line of a report."""
    return " ".join(clean(text).split())


def harmless(markdown: str) -> str:
    """A student's markdown without HTML and links: formgrader renders it as it is.

    A picture that is whole within the text stays: it asks nobody for anything.
    """
    text = re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", markdown).replace("]:", "] :")
    return re.sub(rf"\]\((?!{_PICTURE}\))", "] (", text)


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
    one, and every cell of the student's own, is an extra after the place before it. What a student
    put below a question, or in the place of a question that is gone, is part of its answer.

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
    below: dict[str, list[Cell]] = {name: [] for name in owned}
    at_home = {home for home, _ in homes}
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
        question = _question(places, here, at_home)
        if question and same is None and changed is None and cell.source.strip():
            below[question].append(cell)
    for name, found in copies.items():  # an untouched stub must not undo the answer
        found.sort(key=lambda copy: not _is(copy[0], owned[name].slot))
        owned[name].sources = [cell.source for cell, _ in found] + [*map(_shown, below[name])]
    order = [place_of[home] for home, how in homes if how == "id"]
    cuts = [f"{name}: {cell.cut}" for name in owned
            for cell in [*(cell for cell, _ in copies[name]), *below[name]] if cell.cut]
    added = [f"{name}: what stands in cells below it was added to its answer"
             for name in owned if below[name]]
    return filled, _repairs(copies, owned, order) + added + cuts


def _question(places: list[Slot], here: int, at_home: set) -> str | None:
    """The question that a cell after a place belongs to: the place, or the next if it is gone."""
    if places[here].kind == "manual":
        return places[here].id
    after = places[here + 1] if here + 1 < len(places) else None
    return after.id if after and after.kind == "manual" and after.id not in at_home else None


def _shown(cell: Cell) -> str:
    """A cell below a question as a part of its answer, which is markdown."""
    if cell.kind != "code":
        return cell.source
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", cell.source))])
    return f"{fence}python\n{cell.source}\n{fence}"


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
                    if f.slot.kind == "manual" and (
                        (title and title[1] in f.slot.names)
                        or (f.slot.names and cell.source.lstrip("*#_> ").startswith(f.slot.names)))]
    for claimed in (cell.grade_id, cell.cell_id):
        if claimed in owned and (claimed in by_name or not by_name):
            return claimed, "id"
    return (by_name[0], "content") if by_name else (None, "")
