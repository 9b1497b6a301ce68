"""From ``solutions/*.py`` to nbgrader's source notebooks to the students' notebooks.

    python -m grading release

jupytext reads the solution, nbgrader clears it and records the points in the gradebook.
Generated files are the same bytes every time, so that a test can tell when they are stale.
"""

import base64
import dataclasses
import inspect
import io
import json
import re
import shutil
import tempfile
import tomllib
from functools import cache
from pathlib import Path

import jupytext
import nbformat
from nbgrader.apps import NbGraderAPI
from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import ClearSolutions
from PIL import Image, ImageChops, ImageStat
from PIL.PngImagePlugin import PngInfo
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from grading import CONFIG, NOTEBOOKS, ROOT, SOLUTIONS, chapters
from grading.loop import loop
from lib import CourseError, plots
from lib.__main__ import plain
from lib.files import atomic, write_text
from lib.points import EXERCISES
from lib.tasks import BUNDLED, task_class
from lib.tasks.base import flag_of

LOOP = ROOT / "docs" / "_static" / "loop.png"
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
SETTINGS = """# Settings

Every setting of `python -m lib train TASK`, as the tasks themselves define it; this page is made by
`python -m grading release`. A default that is left empty follows from other settings. In a notebook
the same names, with underscores, are keywords of `experiment`. LoRA (`--use-peft`) takes five times
the learning rate.
"""
SECRET = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)### END \1", re.DOTALL)


class NamedStubs(ClearSolutions):
    """nbgrader's ClearSolutions, whose stub names the exercise, the function and the file."""

    def preprocess_cell(self, cell, resources, cell_index):
        number = re.search(r"^# (Exercise \w+)$", cell.source, re.MULTILINE)
        function = re.search(r"^def (\w+)", cell.source, re.MULTILINE)
        if number and function:
            where = f"notebooks/{resources['nbgrader']['notebook']}.ipynb"
            self.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError(\n"
                              f'    "{number[1]}: write {function[1]} in "\n    "{where}")'}
        return super().preprocess_cell(cell, resources, cell_index)


def config(course: Path) -> Config:
    """nbgrader's configuration for a course folder: the shared file, and where things are."""
    settings = PyFileConfigLoader(CONFIG.name, path=str(CONFIG.parent)).load_config()
    settings.CourseDirectory.root = str(course.resolve())
    steps = GenerateAssignment.class_traits()["preprocessors"].default()
    settings.GenerateAssignment.preprocessors = [
        NamedStubs if step is ClearSolutions else step for step in steps]
    settings.NamedStubs = settings.ClearSolutions
    return settings


GITHUB = "https://github.com/{repository}/blob/main/"
COLAB = "https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb"
BADGE = f"**[Open in Colab]({COLAB})**"  # words: a picture from elsewhere is a hole offline
UPLOAD = "On Colab: *File > Upload notebook*, and `grpo-student.zip` into the folder on the left."
COLAB_SETUP = """\
#@title On Colab: run this cell first. Elsewhere it does nothing.
import os
import sys

if "google.colab" in sys.modules:
    %cd -q /content
    if os.path.exists("grpo-student.zip"):  # handed out in your class
        !unzip -qn grpo-student.zip
    elif not os.path.exists("grpo-course"):
        {fetch}
    %cd -q grpo-course
    !bash setup.sh
    from lib import colab
    if colab.stale():
        print("Now: Runtime > Restart session, then run all cells again")"""
CLONE = "!git clone -q --depth 1 https://github.com/{repository} grpo-course"
NOTHING = """raise SystemExit("no grpo-student.zip in /content yet: upload it, "
                         "then run this cell again")"""


HERE = {"only": "notebook"}  # a page of the site has no use for such cells
FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}  # JupyterLab's word, Colab's


@cache
def repository() -> str:
    """Where the course is published, as OWNER/NAME; empty while it is not."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["course"]["repository"]


def links(name: str) -> str:
    """The way to the neighbours of a notebook and to the pages to look things up in, as Markdown.

    A relative link works in JupyterLab, where the course's folder is open; Colab, which has none,
    needs the whole address.
    """
    order = ["", *chapters(), ""]
    at = order.index(name) if name in order else 0  # a page that is no chapter has no neighbours
    parts = [f"[{which} chapter {int(other[:2])}]({other}.ipynb)"
             + _elsewhere("on Colab", COLAB, other)
             for which, other in (("Back to", order[at - 1]), ("On to", order[at + 1]))
             if at and other]
    parts += [f"[{label}](../docs/{page}.md)"
              + _elsewhere("on GitHub", GITHUB + "docs/{name}.md", page)
              for label, page in (("Glossary", "glossary"), ("Something fails", "troubleshooting"))]
    return " · ".join(parts)


def _elsewhere(label: str, address: str, name: str) -> str:
    """The same page where the course is published, in brackets; nothing while it is not."""
    where = address.format(repository=repository(), name=name)
    return f" ([{label}]({where}))" if repository() else ""


def loop_picture() -> str:
    """The loop as Markdown that needs no file: every front end shows it before anything has run."""
    data = base64.b64encode(LOOP.read_bytes()).decode()
    return f"![{loop().alt}](data:image/png;base64,{data})"


def first_cells(name: str) -> list[nbformat.NotebookNode]:
    """What stands below a notebook's title: links, Colab's set-up, and in chapters the loop."""
    chapter = name in chapters()
    badge, fetch = (BADGE, CLONE) if repository() else (UPLOAD, NOTHING)
    badge, fetch = (text.format(repository=repository(), name=name) for text in (badge, fetch))
    cells = [nbformat.v4.new_markdown_cell(f"{badge}\n\n{links(name)}", metadata=HERE),
             nbformat.v4.new_code_cell(COLAB_SETUP.format(fetch=fetch), metadata=HERE | FOLDED)]
    cells[0].id, cells[1].id = "cell-000", "cell-001"  # as ever: the chapter's own begin at 2
    if chapter:
        cells.append(nbformat.v4.new_markdown_cell(loop_picture(), id="loop"))
    return cells


def last_cells(chapter: str) -> list[nbformat.NotebookNode]:
    """What every chapter ends with: exercises done and open, how to hand in, the way on."""
    return [
        nbformat.v4.new_markdown_cell(
            "## How far you have come\n\nRun this cell again whenever you like.", id="far",
            metadata=HERE),
        nbformat.v4.new_code_cell(f'from lib import points\n\npoints.closing("{chapter}")',
                                  id="closing", metadata=HERE),
        nbformat.v4.new_markdown_cell(links(chapter), id="links", metadata=HERE)]


def source_notebook(chapter: str) -> nbformat.NotebookNode:
    """The nbgrader source notebook of a chapter, with cell ids that do not change."""
    notebook = jupytext.read(SOLUTIONS / f"{chapter}.py")
    notebook.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python",
                       "name": "python3"},
        "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells, start=2):
        cell.id = cell.metadata.get("nbgrader", {}).get("grade_id", f"cell-{i:03d}")
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's own bookkeeping
        if cell.cell_type == "code":
            cell.source = "\n".join(re.sub(r"^# (?=[%!])", "", line)
                                    for line in cell.source.split("\n"))
            if cell.source.startswith("predict("):  # its source tells the answer
                cell.metadata |= FOLDED
    notebook.cells[1:1] = first_cells(chapter)
    if chapter in chapters():
        notebook.cells += last_cells(chapter)
    return notebook


def exercises(chapter: str) -> dict[str, dict]:
    """Id -> title, function that its check tries (None without), points, and whether a person gives
    them, of all that is graded."""
    cells = source_notebook(chapter).cells
    checked = {cell.metadata["check"]: re.search(r"checks\.(\w+)\(", cell.source)[1]
               for cell in cells if "check" in cell.metadata}
    sources = {cell.id: cell.source for cell in cells}
    found = {}
    for cell in cells:
        task = cell.metadata.get("nbgrader", {})
        if task.get("grade"):
            name = cell.id.removeprefix("test_")
            title = re.search(r"(?:Exercise|Question) \w+", sources.get(name, cell.source))
            found[name] = {"title": title[0] if title else name, "check": checked.get(name),
                           "points": task["points"], "by_hand": task["solution"]}
    return found


def exercises_file() -> str:
    """lib/exercises.json: what the visible checks and the closing cells say of the points."""
    return json.dumps({chapter: exercises(chapter) for chapter in chapters()}, indent=1) + "\n"


def keep(path: Path, data: bytes, alt: str) -> Path:
    """Put a PNG, few colours, its text inside, where the one that is kept looks otherwise.

    Its bytes are kept, not made at each release: they depend on the version of zlib.
    """
    new = Image.open(io.BytesIO(data)).convert("RGB").quantize(128)
    if not path.exists() or not alike(Image.open(path), new):
        told = PngInfo()
        told.add_itxt("Description", alt)
        with atomic(path) as temporary:
            new.save(temporary, "png", optimize=True, pnginfo=told)
    return path


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures differ in nothing that an eye sees."""
    if one.size != other.size:
        return False
    difference = ImageChops.difference(one.convert("RGB"), other.convert("RGB"))
    return ImageStat.Stat(difference).mean < [1.0] * 3


def write_source(course: Path, chapter: str) -> Path:
    """Write the source notebook of a chapter into nbgrader's place for it."""
    path = course / "source" / chapter / f"{chapter}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(source_notebook(chapter), path)
    return path


def generate(course: Path, chapter: str) -> Path:
    """Source and student notebook of a chapter in the course folder, points in its gradebook.

    What nbgrader logs of a failure becomes a CourseError.
    """
    write_source(course, chapter)
    if not (course / CONFIG.name).exists():  # later it is the instructor's, with a path or two
        shutil.copy(CONFIG, course / CONFIG.name)
    result = NbGraderAPI(config=config(course)).generate_assignment(chapter)
    if not result["success"]:
        text = result.get("log", "") + result["error"]
        cause = re.search(r"^\s*[\w.]*(?:Error|Exception): (.+)$", text, re.MULTILINE)
        raise CourseError(f"nbgrader: {cause[1] if cause else text.strip().splitlines()[-1]}")
    return course / "release" / chapter / f"{chapter}.ipynb"


def settings_page() -> str:
    """docs/settings.md: every setting of every task, from the fields themselves."""
    parts = [SETTINGS]
    for name in BUNDLED:
        task = task_class(name)
        tiny, other = (task.defaults(tiny, False) for tiny in (True, False))
        rows = []
        for field in dataclasses.fields(task):
            option, flag = field.metadata["option"], flag_of(field)
            if not flag:
                continue
            usual = [field.default if field.default is not dataclasses.MISSING else
                     values.get(field.name) for values in (tiny, other)]
            rows.append(f"| `{flag}` | {option.help} | {option.allowed()} | "
                        + " | ".join("" if v is None else f"`{plain(v)}`" for v in usual) + " |")
        rule = " ".join(inspect.getdoc(task.name).replace("``", "`").split())
        parts.append(f"## {name}: {task.summary}\n\n"
                     f"A run's name, and so its folder in `runs/{name}/`: {rule}\n\n"
                     "| flag | what | allowed | tiny | other models |\n|---|---|---|---|---|\n"
                     + "\n".join(rows).replace("||ref", "‖ref") + "\n")
    return "\n".join(parts)


def made_files() -> dict[Path, str]:
    """The files beside the notebooks that a release makes, with their text."""
    return {SETTINGS_PAGE: settings_page(), EXERCISES: exercises_file()}


def pages() -> list[str]:
    """Names of the notebooks that hold no exercise: released as they are."""
    return sorted(path.stem for path in SOLUTIONS.glob("[a-z]*.py"))


def page(name: str) -> str:
    """The notebook of a page, as text."""
    return nbformat.writes(source_notebook(name)) + "\n"


def solved(path: Path) -> bool:
    """Whether a notebook holds a student's answers: a solution cell whose stub is gone."""
    try:
        cells = nbformat.read(path, as_version=4).cells
    except Exception:  # what nbformat raises for damaged notebooks has no common class
        return False
    return any(cell.metadata.get("nbgrader", {}).get("solution") and cell.cell_type == "code"
               and "NotImplementedError" not in cell.source for cell in cells)


def release(course: Path, only: list[str] | None = None, overwrite: bool = False) -> list[Path]:
    """Generate the chapters and put the student notebooks into ``notebooks/``.

    Raises CourseError where one there holds somebody's answers, unless overwrite.
    """
    if lost := [] if overwrite else [str(path) for path in (
            NOTEBOOKS / f"{chapter}.ipynb" for chapter in only or chapters()) if solved(path)]:
        raise CourseError(f"{', '.join(lost)} holds answers of your own; keep a copy elsewhere, "
                          "then say --overwrite")
    NOTEBOOKS.mkdir(exist_ok=True)
    written = []
    if not only:
        picture = loop()
        keep(LOOP, plots.png(picture), picture.alt)
        for path, text in made_files().items():
            write_text(path, text)
    for name in () if only else pages():
        written.append(NOTEBOOKS / f"{name}.ipynb")
        written[-1].write_text(page(name), encoding="utf-8")
    for chapter in only or chapters():
        if chapter not in chapters():
            raise CourseError(f"no chapter '{chapter}'; there are {', '.join(chapters())}")
        written.append(Path(shutil.copy(generate(course, chapter), NOTEBOOKS)))
    return written


def _source(chapter: str) -> str:
    """The text of all cells of a chapter."""
    return "\n".join(cell.source + "\n" for cell in source_notebook(chapter).cells)


@cache
def secrets(chapter: str) -> set[str]:
    """Every line of a chapter's solutions and hidden tests that nothing public holds too."""
    source = _source(chapter)
    public = {line.strip() for line in SECRET.sub("", source).splitlines()}
    hidden = {line.strip() for match in SECRET.finditer(source)
              for line in match[2].splitlines()}
    return {line for line in hidden - public if len(line) > 8}


def leaks(text: str, chapter: str) -> list[str]:
    """Secret lines of a chapter that occur in text."""
    return sorted(line for line in secrets(chapter) if line in text)


def whole_answers(text: str, chapter: str) -> list[str]:
    """The answers and hidden tests of a chapter that occur in text, however indented.

    Single lines (``leaks``) are too short for code: "return rewards" is in every library.
    """
    text = _flat(text)
    return [body for body in _bodies(chapter) if body in text]


def _flat(code: str) -> str:
    return " ".join(code.split())


@cache
def _bodies(chapter: str) -> list[str]:
    return sorted(body for match in SECRET.finditer(_source(chapter))
                  if len(body := _flat(match[2])) > 30)


def problems(released: Path = NOTEBOOKS) -> list[str]:
    """What is wrong with a folder of released files: stale, leaking, or carrying output."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for chapter in chapters():
            path, fresh = released / f"{chapter}.ipynb", generate(Path(folder), chapter)
            if not path.exists() or path.read_bytes() != fresh.read_bytes():
                found.append(f"{path} is stale; run python -m grading release")
    found += [f"{path} is stale; run python -m grading release" for path, text in
              made_files().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path, fresh in ((released / f"{name}.ipynb", page(name)) for name in pages()):
        if not path.exists() or path.read_text(encoding="utf-8") != fresh:
            found.append(f"{path} is stale; run python -m grading release")
    for path in sorted(p for p in released.rglob("*") if p.is_file()):
        if {"runs", ".ipynb_checkpoints"} & set(path.relative_to(released).parts):
            continue  # what trying the notebooks out leaves behind is not released
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".ipynb":
            notebook = nbformat.reads(text, as_version=4)
            text = "\n".join(cell.source for cell in notebook.cells) + text
            found += [f"{path}: cell {cell.id} carries output" for cell in notebook.cells
                      if cell.get("outputs")]
        found += [f"{path}: holds a line of a solution or hidden test: {line}"
                  for chapter in chapters() for line in leaks(text, chapter)]
    return found


def first_of(found: list[str]) -> str:
    """What is wrong in one sentence, however much of it there is."""
    return f"{len(found)} thing{'s' * (len(found) > 1)} to mend, the first: {found[0]}"
