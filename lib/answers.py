"""A student's functions, read from a notebook or a Python file.

From a notebook only the graded solution cells run, after the plain imports of its other
cells: no training cell, no plot, no test. This executes the student's code in this process,
so it is for one's own answers; the grader does not use it.
"""

import ast
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import nbformat

from lib import CourseError
from lib.cells import Compiler, StandIn, execute, parsed


def default_file(chapter: str) -> Path:
    """The student notebook of a chapter."""
    return Path(__file__).parent.parent / "notebooks" / f"{chapter}.ipynb"


def load_answers(path: str | Path, names: list[str]) -> dict[str, Callable]:
    """The functions called names, from the solution cells of an .ipynb or from a .py file.

    Raises CourseError, with file and cell, when the file is missing or unreadable, its code
    does not run, or a function is not there. An unsolved function loads; it says so when called.
    """
    path = Path(path)
    if not path.is_file():
        raise CourseError(f"no answers file {path}; name one with --answers FILE.ipynb|FILE.py")
    if path.suffix not in (".ipynb", ".py"):
        raise CourseError(f"{path} is neither a notebook (.ipynb) nor a Python file (.py)")
    namespace: dict = {"__name__": "answers", "__file__": str(path)}
    namespace["get_ipython"] = lambda: StandIn(namespace)
    try:
        pieces = solution_cells(_notebook(path)) if path.suffix == ".ipynb" \
            else [("file", _script(path.read_text(encoding="utf-8")))]
    except CourseError as error:
        raise CourseError(f"{path}: {error}") from None
    except Exception as error:  # what nbformat raises for damaged notebooks has no common class
        raise CourseError(f"{path} is not a readable {path.suffix} file: {error}") from None
    compiler = Compiler()
    for where, source in pieces:
        try:
            for statement, cell in compiler.cell(source, f"{path}, {where}"):
                execute(compiler.code(statement, cell), namespace)
        except (Exception, SystemExit) as error:
            line = getattr(error, "lineno", None)
            raise CourseError(f"{path}, {where}{f', line {line}' if line else ''}: "
                              f"{type(error).__name__}: {error}; run this cell in the notebook "
                              "first") from None
    missing = [name for name in names if not callable(namespace.get(name))]
    if missing:
        raise CourseError(f"{path} defines no function {', '.join(missing)}; start from the "
                          "course's notebook, whose solution cells have these names")
    return {name: namespace[name] for name in names}


def _notebook(path: Path) -> nbformat.NotebookNode:
    with warnings.catch_warnings():  # Colab writes cells without ids, which is no concern here
        warnings.simplefilter("ignore", nbformat.warnings.MissingIDFieldWarning)
        return nbformat.read(path, as_version=4)


def _script(source: str) -> str:
    """A Python file; not a whole notebook written as one, whose cells would train."""
    if re.search(r"^# (%%|In ?\[)", source, re.MULTILINE):
        raise CourseError("this is a notebook as a script; name the notebook itself (.ipynb)")
    return source


def solution_cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """(where, source) of the plain imports of all cells, then of each graded solution cell.

    Raises CourseError when there is no solution cell.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    graded = [cell for cell in code if cell.metadata.get("nbgrader", {}).get("solution")]
    if not graded:
        raise CourseError("there is no solution cell; was the cell metadata lost? Take a "
                          "fresh copy of the notebook and paste your answers into it")
    imports = [("imports", _imports(cell.source)) for cell in code if cell not in graded]
    return imports + [(f"cell {cell.metadata['nbgrader']['grade_id']}", cell.source)
                      for cell in graded]


def _imports(source: str) -> str:
    """The top-level imports of a cell, each allowed to fail; nothing of a cell that is broken."""
    try:
        body = parsed(source)
    except SyntaxError:
        return ""  # a broken cell elsewhere is not this exercise's business
    lines = [ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(f"try:\n    {line}\nexcept ImportError:\n    pass" for line in lines)
