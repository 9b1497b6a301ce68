"""Whose a file of a download is, by what the names of platforms say and the class list.

The outermost part of a path that tells students apart decides. What lies deeper, an inner folder
or a file's own name, was written by a student, who may have written another's name there.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from grading.class_list import fold, key
from grading.download import COPY, NOTEBOOK, File

_STAMP = r"\d{4}(?:-\d\d){5}"
_WHEN = r"[A-Za-z]{3} \d{1,2}, \d{4} \d{1,2}:?\d\d [AP]M"
# Each is how a platform names a folder or file of a student; ``file`` is what the student named.
# The sources are named beside the tests.
# What a student wrote stands last, so a name ends where the first pattern can end it, and holds no
# " - " or "_" where the platform writes none: else a file's name could forge another platform's.
PLATFORMS = {
    "moodle": re.compile(r"(?P<name>(?:(?! - )[^_/])+)(?:_(?P<number>\d+))?_assignsubmission_[a-z]+"
                         r"(?:_(?P<file>.*))?$"),
    "canvas": re.compile(rf"(?:(?P<name>[^_ ]+)(?P<late>_LATE)?_(?P<number>\d+)_"
                         rf"(?:(?P<order>\d+)_(?!attempt_{_STAMP})(?P<file>.+)|(?:text|link)\.html)"
                         r"|(?:LATE_)?(?P<blind>anon)_[A-Za-z0-9]{5}_.+)$"),
    "brightspace": re.compile(rf"\d+-\d+ - (?P<name>.+?) ?- (?P<when>{_WHEN})"
                              r"(?: - (?P<file>.+))?$"),
    "sakai": re.compile(r"(?P<name>(?:(?! - )[^()_/])+,(?:(?! - )[^()_/])*)\((?P<login>[^()/]+)\)"
                        r"(?:_(?:[^_/]+\(s\)_)?(?P<file>.+))?$"),
    "blackboard": re.compile(rf"(?P<name>(?:(?! - ).)+?)_attempt_(?P<when>{_STAMP})"
                             r"(?:_(?P<file>.+)|\.\w+)?$"),
    "ilias": re.compile(r"(?P<last>[^_\d]+|_+)_(?P<first>[^_\d]+|_+)_(?P<login>.+)_"
                        r"(?P<number>\d+)$"),
    "dashed": re.compile(r"(?P<name>.+?) - (?P<file>.+)$")}
# How Drive names a copy, in some languages.
COPY_OF = re.compile(r"^(?:copy of|kopie von|copie de|copia di|copia de|cópia de) ", re.IGNORECASE)
# What ILIAS writes before the name of a file, in the language of who downloads it.
LATE = re.compile(r"(?:late submission|versp(?:ae|ä)tete abgabe) - ", re.IGNORECASE)
# A student may name a folder or a file like this too, so beside a class list it proves nothing.
PLAIN = "plain"


@dataclass(frozen=True)
class Claim:
    """What one part of a path says of its owner.

    label: the person as written there. names: what to look up, the first that fits counts.
    number: the platform's own, which means a user on Canvas alone. late, when: what the platform
    says of the time, when as its local time. order: Canvas's number of the upload. blind: the
    platform hides the names.
    """

    kind: str
    label: str
    names: tuple[str, ...]
    number: str = ""
    late: bool = False
    when: datetime | None = None
    order: int = 0
    file: str = ""
    blind: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """Equal for two files of one owner."""
        return self.kind, fold(self.label), self.number


@dataclass(frozen=True)
class Owned:
    """A file, what its path says of its owner, and the part of the path that says so."""

    file: File
    claim: Claim
    place: str

    @property
    def owner(self) -> tuple[str, ...]:
        """Equal for two files of one owner; a folder without a platform's name is its place."""
        return (fold(self.place),) if self.claim.kind == PLAIN and self.place != self.file.path \
            else self.claim.identity

    @property
    def own_name(self) -> str:
        """The file's name as the student wrote it, without what a platform put before it."""
        theirs = self.claim.file
        if theirs and self.file.name.endswith(theirs):
            return theirs
        return LATE.sub("", self.file.name) if self.claim.late else self.file.name


def key_id(name: str) -> str:
    """A folder name from a person's name."""
    return re.sub(r"\W+", "_", fold(name)).strip("_")[:80] or "unnamed"


def claim(part: str, is_file: bool) -> Claim:
    """What a folder's or a file's name says of its owner."""
    part = COPY_OF.sub("", part)
    for kind, pattern in PLATFORMS.items():
        match = pattern.match(part[:500])
        if match and (is_file or kind != "dashed") and not (is_file and kind == "ilias"):
            said = defaultdict(str, {k: v for k, v in match.groupdict().items() if v})
            blind = "participant" if kind == "moodle" else said["blind"]
            label = said["name"] or said["blind"] or f"{said['first']} {said['last']}"
            return Claim(kind, label, tuple(_names(kind, label, said["login"])), said["number"],
                         bool(said["late"]), _moment(said["when"]), int(said["order"] or 0),
                         said["file"], bool(blind) and key(label) == blind)
    label = COPY.sub("", part)
    label = re.sub(r"\.\w{1,5}$", "", NOTEBOOK.sub("", label)) if is_file else \
        re.sub(r"\.zip$", "", part, flags=re.IGNORECASE)
    return Claim(PLAIN, label, (label, label.partition(" - ")[0]))


def _names(kind: str, label: str, login: str) -> Iterator[str]:
    if login:
        yield login
    yield label
    if kind == "moodle":  # a class in groups: "Team A-Jane Doe"; a first name has no blank or digit
        for dash in re.finditer("-", label):
            if re.search(r"[\s\d]", label[:dash.start()]):
                yield label[dash.end():]
    if kind == "blackboard":  # "Homework 1_jdoe"; a login may hold a "_"
        yield from (label[at.end():] for at in re.finditer("_", label))
    if kind == "brightspace":  # some put an id before the name: "N0123456 - Jane Doe"
        yield from label.split(" - ")


def _moment(text: str) -> datetime | None:
    for form in ("%Y-%m-%d-%H-%M-%S", "%b %d, %Y %I%M %p"):
        try:  # strptime wants two digits of an hour
            return datetime.strptime(
                re.sub(r" (\d{3} [AP]M)$", r" 0\1", text.replace(":", "")), form)
        except ValueError:
            continue
    return None


def _compared(name: str) -> str:
    """A name as a class list is asked for it: l_w@x.org is another's address than lw@x.org."""
    return fold(name) if "@" in name else key(name)


class Roster:
    """A class list, asked for the student whom a name means."""

    def __init__(self, rows: list[dict[str, str]]):
        self.ids = [row["id"] for row in rows]
        self.lms = {row["lms_user_id"]: row["id"] for row in rows if row["lms_user_id"]}
        self.number = {row["id"]: row["lms_user_id"] for row in rows}
        self.names = {row["id"]: {key(row["first_name"] + row["last_name"]),
                                  key(row["last_name"] + row["first_name"])} - {""}
                      for row in rows}
        self.named: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            for name in (row["id"], row["first_name"] + row["last_name"], row["email"],
                         row["last_name"] + row["first_name"], row["email"].partition("@")[0]):
                if key(name):
                    self.named[_compared(name)].add(row["id"])

    def student(self, said: Claim) -> str | None:
        """The one student whom a claim means; None when it is nobody, or two."""
        number = said.number if said.kind == "canvas" else ""
        if number in self.lms:
            return self.lms[number]
        for name in said.names:
            fits = {one for one in self.named.get(_compared(name), ())
                    if not number or not self.number[one]}
            if fits:
                return fits.pop() if len(fits) == 1 else None
        return None

    def by_number_alone(self, said: Claim) -> bool:
        """Whether a claim means a student of another name than the one that it says."""
        number = said.number if said.kind == "canvas" else ""
        names = self.names.get(self.lms.get(number, ""), set())
        return bool(names) and key(said.label) not in names


def owned(files: list[File], roster: Roster | None, known: dict[str, Claim] | None = None,
          depth: int = 0) -> Iterator[Owned]:
    """Each file with its owner: the outermost part of its path that tells students apart.

    known: what a platform's own table says of a folder's name.
    """
    known = known or {}
    folders: dict[str, list[File]] = defaultdict(list)
    flat = [Owned(file, claim(file.name, is_file=True), file.path)
            for file in files if len(file.parts) == depth + 1]
    yield from flat
    for file in files:
        if len(file.parts) > depth + 1:
            folders[file.parts[depth]].append(file)
    said = {name: known.get(name) or claim(name, is_file=False) for name in folders}
    plain = [name for name in folders if said[name].kind == PLAIN]
    below = {name: list(owned(folders[name], roster, known, depth + 1)) for name in plain
             if not (roster and any(roster.student(said[name]) for name in plain))}
    if roster:
        beside = [item.claim for item in flat] + [said[name] for name in said if name not in plain]
        below = _at_one_depth(below, roster)
        apart = not below or _unknown(below, roster, any(map(roster.student, beside)))
    else:
        apart = not below or _tells_apart(plain, folders, depth)
    for name, inside in folders.items():
        if name not in plain or apart:
            yield from (Owned(file, _with_late(said[name], file), "/".join(file.parts[:depth + 1]))
                        for file in inside)
        else:
            yield from below[name]


def _at_one_depth(below: dict[str, list[Owned]], roster: Roster) -> dict[str, list[Owned]]:
    """Sections of a class, with their students all as deep as the outermost one.

    Beside ``a/jdoe/x.ipynb`` the folder ``b/zed`` is a student too, whoever is named in it.
    """
    depth = min((item.place.count("/") for items in below.values() for item in items
                 if roster.student(item.claim)), default=None)
    return {name: [item if depth is None or item.place.count("/") <= depth else replace(
        item, claim=claim(item.file.parts[depth], is_file=False),
        place="/".join(item.file.parts[:depth + 1])) for item in items]
        for name, items in below.items()}


def _unknown(below: dict[str, list[Owned]], roster: Roster, beside: bool) -> bool:
    """Whether folders that name nobody are students all the same, of no form that is known.

    So it is where there are several, or a student's name stands beside them. Sections of a class
    hold several students, or names that a platform wrote; else what names a student in them is a
    student's own word.
    """
    return (len(below) > 1 or beside) and all(
        item.claim.kind in (PLAIN, "dashed") for items in below.values() for item in items
    ) and all(len({roster.student(item.claim) for item in items} - {None}) < 2
              for items in below.values())


def _with_late(said: Claim, file: File) -> Claim:
    return replace(said, late=True) if said.kind == "ilias" and LATE.match(file.name) else said


def _tells_apart(plain: list[str], folders: dict[str, list[File]], depth: int) -> bool:
    """Whether folders of one level are students, or sections of a class and the like."""
    inside = [file for name in plain for file in folders[name] if len(file.parts) > depth + 1]
    if any(claim(name, is_file=NOTEBOOK.search(name) is not None).kind != PLAIN
           for name in {file.parts[depth + 1] for file in inside}):
        return False
    return len(plain) > 1 or not _branches(inside, depth + 1)


def _branches(files: list[File], depth: int) -> bool:
    """Whether there are folders with notebooks beside each other anywhere from a depth on."""
    folders: dict[str, list[File]] = defaultdict(list)
    for file in files:
        if file.is_notebook and len(file.parts) > depth + 1:
            folders[file.parts[depth]].append(file)
    return len(folders) > 1 or any(_branches(inside, depth + 1) for inside in folders.values())
