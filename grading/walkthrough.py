"""The solved chapters, executed: what they cost, and the site that a reader walks through.

    python -m grading timings        # execute, write lib/timings.json
    python -m grading site           # execute, build site/ with Sphinx and MyST-NB
    python -m grading site --without-answers     # for a class that is graded on them

Execution takes a quarter of an hour on two cores and is kept in ``build/`` until the course
changes; stopped and started again, it goes on with the next chapter. The site shows every plot and
folds the answers; hidden tests are not on it.
"""

import base64
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import nbformat
from filelock import FileLock
from nbclient import NotebookClient
from nbclient.output_widget import OutputWidget
from tqdm.auto import tqdm

from grading import ROOT, chapters
from grading.faults import judge
from grading.release import generate, leaks, source_notebook, whole_answers
from lib import CourseError
from lib.files import digests, read_json, write_json, write_text
from lib.preflight import TIMINGS
from lib.progress import close, progress

BUILD, DOCS = ROOT / "build", ROOT / "docs"
PEAKS = Path("/proc/self/clear_refs")  # Linux: peak memory can be read, and reset


def course_digest(chapter: str) -> str:
    """What an executed chapter depends on: its notebook, all of lib, and the libraries."""
    files = {name: digest for name, digest in digests(ROOT / "lib").items()
             if not name.endswith(".pyc")}
    versions = [version(name) for name in ("torch", "transformers", "trl", "ipywidgets")]
    return hashlib.sha256(repr((source_notebook(chapter).cells, files, versions)).encode()
                          ).hexdigest()


class _Output(OutputWidget):
    """An output widget that nobody asks back.

    nbclient's own tells the kernel what it holds, on the very socket that it waits on for the
    cell's reply; now and then that swallows the wake-up, and the notebook stands still.
    """

    def sync_state(self) -> None:
        """Nothing: the notebook's widget state has the outputs anyway."""


class Client(NotebookClient):
    """An nbclient that sliders cannot stop and Ctrl-C can; its kernel is no news on the screen."""

    def __init__(self, notebook, **kwargs):
        super().__init__(notebook, **{"timeout": 3600, "kernel_name": "python3",
                                      "extra_arguments": ["--log-level=ERROR"]} | kwargs)
        self.widget_registry["@jupyter-widgets/output"]["OutputModel"] = _Output

    def execute(self, **kwargs):
        """Run all cells. Raises KeyboardInterrupt where nbclient tells of a dead kernel only.

        It answers Ctrl-C by ending the kernel, and is then surprised that the kernel is gone.
        """
        try:
            return super().execute(**kwargs)
        except Exception:
            if hasattr(self, "_async_cleanup_kernel_future"):  # made by its handler of signals
                raise KeyboardInterrupt from None
            raise


class Measured(Client):
    """Executes a notebook; each code cell's metadata tell its seconds and peak memory (MiB)."""

    def __init__(self, notebook, **kwargs):
        super().__init__(notebook, **kwargs)
        self.on_cell_execute, self.on_cell_executed = self._before, self._after

    def _before(self, cell, cell_index):
        # 5 resets the peak that VmHWM tells (proc(5), Linux).
        Path(f"/proc/{self.km.provisioner.pid}/clear_refs").write_text("5")
        self._start = time.perf_counter()

    def _after(self, cell, cell_index, execute_reply):
        status = Path(f"/proc/{self.km.provisioner.pid}/status").read_text()
        cell.metadata["measured"] = {
            "seconds": round(time.perf_counter() - self._start, 2),
            "mib": int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024}


def executed(chapter: str, again: bool = False) -> nbformat.NotebookNode:
    """The solved chapter with its outputs, executed now or since the course last changed.

    Its runs lie in ``build/CHAPTER/runs``.
    """
    folder = BUILD / chapter
    folder.mkdir(parents=True, exist_ok=True)
    path, digest = folder / "executed.ipynb", course_digest(chapter)
    with FileLock(BUILD / f"{chapter}.lock"):
        if path.exists() and not again:
            notebook = nbformat.read(path, as_version=4)
            if notebook.metadata["course"] == digest:
                return notebook
        notebook = source_notebook(chapter)
        notebook.metadata["course"] = digest
        shutil.rmtree(folder / "runs", ignore_errors=True)
        client = Measured if PEAKS.exists() else Client
        bar = progress(total=len(notebook.cells), desc=chapter, unit="cell", delay=0)
        try:
            client(notebook, resources={"metadata": {"path": str(folder)}},
                   on_cell_start=lambda cell, cell_index: bar.update()).execute()
        finally:
            close(bar)
        write_text(path, nbformat.writes(notebook))
        return notebook


def section_costs(notebook) -> list[dict]:
    """Seconds and peak memory of each section of an executed notebook that takes a second."""
    found, title = [], "set-up"
    for cell in notebook.cells:
        heading = re.search(r"^## (.+)$", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and heading:
            title = heading[1]
        if "measured" in cell.metadata:
            if not found or found[-1]["title"] != title:
                found.append({"title": title, "seconds": 0.0, "mib": 0})
            found[-1]["seconds"] = round(found[-1]["seconds"] + cell.metadata.measured.seconds, 1)
            found[-1]["mib"] = max(found[-1]["mib"], cell.metadata.measured.mib)
    return [row for row in found if row["seconds"] >= 1]


def machine() -> str:
    """The cores of this machine, in words."""
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    name = model[1] if model else platform.machine()
    return f"{os.cpu_count()} cores, {' '.join(name.split())}"


def timings() -> Path:
    """Execute every chapter anew and write what each section costs."""
    if not PEAKS.exists():
        raise CourseError("peak memory is read from /proc, so timings are measured on Linux only")
    write_json(TIMINGS, {"machine": machine(), "chapters": {
        chapter: section_costs(executed(chapter, again=True))
        for chapter in tqdm(chapters(), desc="execute", unit="chapter")}})
    return TIMINGS


PICTURE = re.compile(r'<img src="data:image/png;base64,([^"]+)"([^>]*)>')
SOLUTION = re.compile(r"^\s*### (?:BEGIN|END) SOLUTION\n?", re.MULTILINE)
ANSWER = re.compile(r"### BEGIN SOLUTION\n(?P<answer>.*?)(?:\n\s*Rubric: (?P<rubric>.*?))?"
                    r"\n### END SOLUTION", re.DOTALL)
FOLD = "<details class='answer'><summary>An answer</summary>\n\n{}\n\n</details>"
# Pages and parts of pages that only a site with answers has.
WITH_ANSWERS = re.compile(r"<!-- with answers -->\n(.*?)<!-- end -->\n", re.DOTALL)


def reader_cells(solved, released, pictures: Path,
                 answers: bool = True) -> list[nbformat.NotebookNode]:
    """The cells of an executed chapter as a reader sees them.

    Every exercise is followed by its answer, folded; questions have theirs in a fold, without
    rubric. answers: False leaves these out. The links, Colab's set-up and the graded tests are left
    out in any case. Pictures go to files.
    """
    stubs = {cell.id: cell.source for cell in released.cells}
    cells = []
    for cell in solved.cells:
        if cell.metadata.get("only") == "notebook":
            continue
        task = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "markdown":
            cell.source = ANSWER.sub(
                lambda m: FOLD.format(m["answer"]) if answers else "", cell.source)
        elif task.get("grade"):
            continue
        elif task.get("solution"):
            cells.append(nbformat.v4.new_code_cell(stubs[cell.id]))
            if not answers:
                continue
            cell.source = SOLUTION.sub("", cell.source)
            cell.metadata |= {"tags": ["hide-input"], "mystnb": {
                "code_prompt_show": "Show an answer", "code_prompt_hide": "Hide the answer"}}
        if cell.cell_type == "code":
            if cell.metadata.get("jupyter", {}).get("source_hidden"):
                cell.metadata["tags"] = ["remove-input"]
            cell.outputs = [shown for output in cell.outputs
                            for shown in reader_outputs(output, solved, pictures)]
        cells.append(cell)
    return cells


def reader_outputs(output, notebook, pictures: Path) -> list[nbformat.NotebookNode]:
    """An output without front end: widgets as their first picture, pictures as files."""
    data = output.get("data", {})
    if output.get("name") == "stderr":
        return []
    view = data.pop("application/vnd.jupyter.widget-view+json", None)
    if view and "text/html" not in data:
        widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
        return [shown for inner in outputs_of(view["model_id"], widgets)
                for shown in reader_outputs(inner, notebook, pictures)]
    def to_file(match: re.Match) -> str:
        picture = base64.b64decode(match[1])
        path = pictures / f"{hashlib.sha256(picture).hexdigest()[:16]}.png"
        path.write_bytes(picture)
        address = f"_static/pictures/{path.name}"
        return f'<a href="{address}" title="larger"><img src="{address}"{match[2]}></a>'

    if "text/html" in data:
        data["text/html"] = PICTURE.sub(to_file, data["text/html"])
    return [output]


def outputs_of(model: str, widgets: dict) -> list[nbformat.NotebookNode]:
    """The outputs that a widget and its children hold; none of one that was closed."""
    state = widgets.get(model, {}).get("state", {})
    inner = [nbformat.from_dict(output) for output in state.get("outputs", [])]
    for child in state.get("children", []):
        inner += outputs_of(child.removeprefix("IPY_MODEL_"), widgets)
    return inner


def rubrics(chapter: str) -> str:
    """The analysis questions with their rubrics, as Markdown."""
    parts = []
    for cell in source_notebook(chapter).cells:
        if found := ANSWER.search(cell.source):
            question = ANSWER.sub("", cell.source).strip()
            points = cell.metadata.nbgrader.points
            parts.append(f"{question} ({points} points)\n\n*Rubric:* {found['rubric']}\n")
    return "\n".join(parts)


def wrong_answers(chapter: str) -> str:
    """What the visible check says of each planted fault, as a Markdown table."""
    rows = [f"| {v.variant.exercise.removeprefix('ex')} | {v.variant.name} | "
            f"{(v.check or 'passes; the hidden test sees it').replace('|', chr(92) + '|')} |"
            for v in judge(chapter) if v.variant.kind == "fault"]
    return "\n".join(["| exercise | wrong answer | what the check says |", "|---|---|---|", *rows])


def costs(chapter: str) -> str:
    """The stored minutes and memory of a chapter's sections, as a Markdown table."""
    rows = [f"| {row['title']} | {row['seconds'] / 60:.1f} | {row['mib']} |"
            for row in read_json(TIMINGS)["chapters"][chapter]]
    return "\n".join(["| section | minutes | MiB |", "|---|---|---|", *rows])


def stage(source: Path, answers: bool = True) -> None:
    """Fill source with the site's pages: docs/, the chapters, the instructors' tables.

    answers: False leaves out answers, rubrics and the instructors' page; Raises CourseError where
    something of them is left.
    """
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(DOCS, source)
    for page in source.glob("*.md"):  # a chapter lies beside them there
        text = WITH_ANSWERS.sub(r"\1" if answers else "", page.read_text("utf-8"))
        write_text(page, text.replace("](../notebooks/", "]("))
    pictures = source / "_static" / "pictures"
    pictures.mkdir(parents=True)
    guide = []
    for chapter in tqdm(chapters(), desc="chapters", unit="chapter"):
        solved = executed(chapter)
        released = nbformat.read(generate(BUILD / "site-course", chapter), as_version=4)
        solved.cells = reader_cells(solved, released, pictures, answers)
        for cell in solved.cells:  # pages lie beside the chapters there
            cell.source = cell.source.replace("](../docs/", "](")
        solved.metadata.pop("widgets", None)
        nbformat.write(solved, source / f"{chapter}.ipynb")
        if not answers:
            continue
        # Headings that no other page has: the search lists each with its page only.
        name = f"Chapter {int(chapter[:2])}"
        guide.append(f"## {name} for instructors\n\n### {name}: what it takes\n\n{costs(chapter)}"
                     f"\n\n### {name}: rubrics\n\n{rubrics(chapter)}\n\n"
                     f"### {name}: common wrong answers\n\n{wrong_answers(chapter)}\n")
    page = source / "instructors.md"
    if answers:
        write_text(page, page.read_text("utf-8") + "\n" + "\n".join(guide))
        return
    page.unlink()
    if found := [f"{path.name}: {line}" for path in sorted(source.rglob("*"))
                 if path.suffix in (".md", ".ipynb", ".py")
                 for text in [readable(path)] for chapter in chapters()
                 for line in (*whole_answers(text, chapter),
                              *(line for line in leaks(text, chapter) if len(line) > 30))]:
        raise CourseError(f"the site would hold an answer: {'; '.join(found)}")


def readable(path: Path) -> str:
    """What a page holds, as text: of a notebook the sources and outputs of its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join([cell.source + "\n" + "\n".join(
        output.get("text", "") + "\n".join(map(str, output.get("data", {}).values()))
        for output in cell.get("outputs", []))
        for cell in nbformat.reads(text, as_version=4).cells])


def site(out: Path, answers: bool = True) -> Path:
    """Build the site into out, with or without answers and rubrics; the start page.

    Raises CourseError with Sphinx's first warning.
    """
    html = BUILD / "site"  # MyST-NB leaves a folder of its own beside the one that it fills
    (BUILD / "site-course").mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / "site.lock"):
        shutil.rmtree(html, ignore_errors=True)
        html.mkdir()
        stage(BUILD / "site-source", answers)
        done = subprocess.run(
            [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "-b", "html", "-E",
             "-d", str(BUILD / "doctrees"), str(BUILD / "site-source"), str(html)],
            capture_output=True, text=True)
        if done.returncode:
            raise CourseError(f"Sphinx: {(done.stderr.strip() or done.stdout.strip())[:2000]}")
        if (out / "objects.inv").exists():  # an earlier site, perhaps one with answers
            shutil.rmtree(out)
        shutil.copytree(html, out, dirs_exist_ok=True)
    return out / "index.html"
