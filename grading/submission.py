"""A submitted notebook put in the places of the release: every repair is told."""

import re
from dataclasses import dataclass, field
from functools import cache

import nbformat
from nbformat import NotebookNode

from grading import NOTEBOOKS
from grading.handed_in import Cell, fenced, read_cells
from lib import CourseError

DEFINED = re.compile(r"^(?:async )?(?:def|class) +(\w+)|^(\w+) *=[^=]", re.MULTILINE)
MARK = re.compile(r"\*\*(.{3,60}?)\*\*")


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


class OtherChapter(CourseError):
    """A notebook of another chapter than the one that is asked for."""

    def __init__(self, chapter: str, wanted: str):
        super().__init__(f"this is {chapter}, not {wanted}")
        self.chapter = chapter


def cells_of(data: bytes, chapter: str) -> list[Cell]:
    """The cells of a notebook handed in for a chapter. Raises CourseError when it is none, and
    OtherChapter when it is another's.
    """
    found = read_cells(data, f"{chapter}.ipynb")
    if other := _other_chapter(found, chapter):
        raise OtherChapter(other, chapter)
    return found


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


def holds(cells: list[Cell], places: list[Slot]) -> int:
    """What of an assignment's own a notebook has, by ids or by what its cells define: 0 nothing,
    1 cells as they were released, 2 an answer."""
    owned = {slot.id: Filled(slot) for slot in places if slot.kind in ("solution", "manual")}
    homes = ((cell, _home(cell, owned)[0]) for cell in cells)
    return max((1 if _is(cell, owned[home].slot) else 2 for cell, home in homes if home), default=0)


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
    solved = set()  # those that have a copy that is no stub
    here = 0
    for cell, (home, how) in zip(cells, homes, strict=True):
        if home and (how == "id" or home not in with_id or home not in solved):
            copies[home].append((cell, how))
            if not _is(cell, owned[home].slot):
                solved.add(home)
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
    return cell.source if cell.kind != "code" else fenced(cell.source, "python")


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
