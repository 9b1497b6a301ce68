"""What a student handed in, read as data: no notebook library, no syntax tree, no pickle.

The file may be anything; what is no notebook is called what it seems to be.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from lib import CourseError

# What nbgrader's exchange puts beside a notebook: when, and for feedback whose it is.
EXCHANGE = ("timestamp.txt", "submission_secret.txt")
MODULES = 20  # files beside a notebook
FILE_LIMIT, CELL_LIMIT, CELLS, NODES = 32 * 2**20, 200_000, 2000, 10**6
SHOWN_TEXT, SHOWN_CODE, SHOWN_LINE = 10_000, 20_000, 500  # characters
TEXT_CUT = f"its text was cut after {CELL_LIMIT} characters"
PICTURES = 8 * 2**20  # characters of the pictures of one cell, as they are written in a notebook
_PICTURE = r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+"
PICTURE = re.compile(rf"({_PICTURE}|attachment:[^)\s\"'<>]+)")
SHOWN_PICTURE = re.compile(rf"(!\[[^\[\]\n]*\]\({_PICTURE}\))")
CHECKLIST_TAG = r"/?(?:details|summary|ul|li)>"
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
class HandedIn:
    """A notebook file, and the modules beside it that its cells may import: (file name, text)."""

    notebook: bytes
    modules: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, path: Path) -> "HandedIn":
        """What lies at a submission's place. Raises CourseError when that is no notebook file."""
        notebook, modules = read_bytes(path), []
        for beside in sorted(path.parent.glob("*.py"))[:MODULES]:
            if re.fullmatch(r"[A-Za-z]\w*\.py", beside.name, re.ASCII):
                with contextlib.suppress(CourseError, UnicodeDecodeError):
                    text = read_bytes(beside).decode("utf-8-sig")
                    modules.append((beside.name, clean(text)[:CELL_LIMIT]))
        return cls(notebook, tuple(modules))

    @property
    def digest(self) -> str:
        """SHA-256 of all of it; of a notebook alone, that of its file."""
        return hashlib.sha256(self.notebook + b"".join(
            f"\0{name}\0{text}".encode() for name, text in self.modules)).hexdigest()


def read_bytes(path: Path) -> bytes:
    """The bytes of a submitted file. Raises CourseError for a link, a folder, a pipe, no file."""
    if not path.parent.is_dir() or not os.path.lexists(path):
        raise CourseError(f"no file {path.name}{_instead(path.parent)}")
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


def _instead(folder: Path) -> str:
    """What lies in a submission's folder where its notebook is missing; the student reads it."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in names if name not in EXCHANGE and not name.startswith(".")]
    # Which of them is the assignment's, collect can tell by their cells.
    again = any(name.endswith(".ipynb") for name in others)
    return "".join([f", but {', '.join(map(repr, others[:5]))}" if others else "",
                    "; `grading collect` on submitted/ takes the right one" if again else ""])


def read_cells(data: bytes, name: str) -> list[Cell]:
    """The cells of a notebook file of format 3 or 4. Raises CourseError, with the file's name,
    when it is none.
    """
    text = _text(data)
    try:
        if text.count("{") + text.count("[") > NODES:
            text = _without_outputs(text)
        notebook = json.loads(text, parse_int=_whole)
        sheets = [notebook, *(notebook.get("worksheets") or [])]
        cells = [cell for sheet in sheets for cell in sheet.get("cells") or []]
        found = _within(FILE_LIMIT, cells[:CELLS])
    except (ValueError, RecursionError, AttributeError, TypeError):
        raise CourseError(f"{name} is not a readable notebook{_what(text)}") from None
    if not found:
        raise CourseError(f"{name} holds no cells")
    return found


def _within(room: int, raws: list) -> list[Cell]:
    """Cells whose texts, with pictures as often as they are shown, have room characters or so."""
    found = []
    for raw in raws:
        if cell := _cell(raw, min(PICTURES, room)):
            found.append(cell)
            room -= len(cell.source)
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


def _whole(digits: str) -> int:
    return int(digits) if len(digits) < 20 else 0


def _cell(raw, pictures: int) -> Cell | None:
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
    text, cut = _with_pictures(clean(source), raw.get("attachments"), pictures)
    return Cell(kind, text, *ids, cut)


def _with_pictures(source: str, attachments, space: int) -> tuple[str, str]:
    """A text with the pictures attached to it written into it, and what was left out of both.

    The limit of a text does not count its pictures, which have one of their own: space characters.
    """
    attached = {}
    for name, forms in attachments.items() if isinstance(attachments, dict) else ():
        for kind, data in forms.items() if isinstance(forms, dict) else ():
            data = "".join(data) if isinstance(data, list) and all(
                isinstance(line, str) for line in data) else data
            if isinstance(data, str):
                picture = f"data:{kind};base64,{''.join(data.split())}"
                # Judged here, once: a text may refer to it a million times.
                attached[name] = picture if re.fullmatch(_PICTURE, picture) else ""
    used = set(map(_attachment, PICTURE.findall(source)))
    source += "".join(f"\n\n![{name}](attachment:{urllib.parse.quote(name)})"
                      for name in attached if name not in used)
    text, room, cut = [], CELL_LIMIT, []
    for number, piece in enumerate(PICTURE.split(source)):
        if number % 2 == 0:
            text.append(piece[:room])
            cut += [TEXT_CUT] * (len(piece) > room)
            room -= len(text[-1])
            continue
        picture = attached.get(_attachment(piece))
        if picture is None:
            picture = piece if re.fullmatch(_PICTURE, piece) else ""
        fits = 0 < len(picture) <= space
        text.append(picture if fits else "left-out"[:room])
        if fits:
            space -= len(picture)
        else:
            room -= len(text[-1])
        cut += ["a picture was left out"] * (not fits)
    return "".join(text), "; ".join(dict.fromkeys(cut))


def _attachment(address: str) -> str:
    return urllib.parse.unquote(address.removeprefix("attachment:"))


def clean(text: str) -> str:
    """Text that can be written and shown: no lone surrogates, no control characters."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)


def one_line(text: str) -> str:
    """Clean text for a line of a report, without marks that would turn the line's direction."""
    return " ".join(re.sub("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", clean(text)).split())


def kept(text: str, code: bool) -> tuple[str, str]:
    """What of the text of a place is kept, and what its student is told of that; "" for nothing."""
    if code:
        return text[:CELL_LIMIT], (
            f"it is long: the graded notebook shows {SHOWN_LINE} characters of a line and "
            f"{SHOWN_CODE} of a cell; all of it was graded") * (shown(text, code) != text)
    text, cut = _with_pictures(text, None, PICTURES)
    long = "it is long, and the graded notebook shows it as plain text" * _is_long(text)
    return text, "; ".join(filter(None, (cut, long)))


def shown(text: str, code: bool) -> str:
    """A text as formgrader and feedback show it: cut lines of code, or harmless markdown.

    Both are rendered by libraries that take quadratic time for a long line of code, and for some
    markdown. So long markdown is shown as plain text, which takes linear time.
    """
    if code:
        return "\n".join(line[:SHOWN_LINE] for line in text.split("\n"))[:SHOWN_CODE]
    if not _is_long(text):
        return harmless(text)
    pieces = SHOWN_PICTURE.split(text)
    return "\n\n".join(piece if number % 2 else fenced(piece, "text")
                       for number, piece in enumerate(pieces) if piece.strip())


def _is_long(markdown: str) -> bool:
    return len(PICTURE.sub("", markdown)) > SHOWN_TEXT


def fenced(text: str, language: str) -> str:
    """A text as a block of code in markdown, whatever backticks it holds."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}{language}\n{text}\n{fence}"


def harmless(markdown: str) -> str:
    """A student's markdown without HTML and links: formgrader renders it as it is.

    A picture that is whole within the text stays: it asks nobody for anything. So do the tags of
    the folded checklist that stands below a question.
    """
    text = re.sub(rf"<(?=[a-zA-Z/!?])(?!{CHECKLIST_TAG})", "&lt;", markdown).replace("]:", "] :")
    return re.sub(rf"\]\((?!{_PICTURE}\))", "] (", text)
