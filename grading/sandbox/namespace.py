"""Running a notebook's cells for grading: in the jail a student's, outside the course's own.

A solution cell runs whole. Of every other cell only imports, definitions, and values that take no
time run, so that a training cell, a plot, ``input()`` or an endless loop in a scratch cell costs
nothing. A statement that was left out runs after all when a name that it binds is missed. Where a
whole cell stops with an error, the rest of it runs like every other cell.
"""

import ast
import builtins
import contextlib
import io
import os
import re
import sys
from types import ModuleType

from lib import cells

RETRIES = 20
CHEAP = frozenset("abs bool dict float int len list max min round set sorted str sum tuple".split())
DEFINES = re.compile(r"^\s*(?:async )?(?:def|class) +(\w+)|^\s*(\w+) *=[^=]", re.MULTILINE)


class Namespace:
    """A notebook under grading: its module, whose names are those of the cells."""

    def __init__(self):
        self.module = ModuleType("__main__")
        self.names = vars(self.module)
        self.names.update(__builtins__=builtins, display=print, input=lambda *_: "",
                          get_ipython=lambda: cells.StandIn(self.names))
        self.compiler = cells.Compiler()
        self.left_out: dict[str, tuple[ast.stmt, str]] = {}  # name -> the statement that binds it
        self.failed: dict[str, BaseException] = {}  # name -> why it was not bound

    def run(self, source: str, whole: bool) -> BaseException | None:
        """Run a cell. Returns the first error of a cell that runs whole, or of its syntax."""
        try:
            statements = self.compiler.cell(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self.failed.update(dict.fromkeys(
                (name for pair in DEFINES.findall(source) for name in pair if name), error))
            return error
        first = None
        for statement in statements:
            if whole and first is None:
                try:
                    self.recover(lambda wanted=statement: self._execute(*wanted))
                except BaseException as error:  # SystemExit too: the next cell runs all the same
                    first = error
                    self.failed.update(dict.fromkeys(_names(statement[0]), error))
            else:
                self._bind(*statement)
        return first

    def _bind(self, statement: ast.stmt, cell: str) -> None:
        """Run a statement that only binds names, and remember any other one."""
        names = _names(statement)
        if isinstance(statement, ast.Assign | ast.AnnAssign) and any(
                isinstance(self.names.get(name), ModuleType) for name in names):
            return  # `torch = None` in a scratch cell must not break the answers
        if not _only_binds(statement):
            self.left_out.update(dict.fromkeys(names, (statement, cell)))
            return
        try:
            self._execute(statement, cell)
        except NameError:  # of what was left out: it runs when it is missed, and this with it
            self.left_out.update(dict.fromkeys(names, (statement, cell)))
        except (Exception, SystemExit) as error:
            self.failed.update(dict.fromkeys(names, error))

    def recover(self, action):
        """The result of action(); statements that bind a missing name are run first.

        A name that an error kept from being bound raises that error: it is the one to be told.
        """
        for _ in range(RETRIES):
            try:
                return action()
            except NameError as error:
                missing, raised = error.name, error
            if missing in self.failed and missing not in self.left_out:
                raise self.failed[missing] from raised
            if missing not in self.left_out:
                raise raised
            statement = self.left_out.pop(missing)
            self.recover(lambda wanted=statement: self._execute(*wanted))
        return action()

    def _execute(self, statement: ast.stmt, cell: str) -> None:
        cells.execute(self.compiler.code(statement, cell), self.names)


def _only_binds(statement: ast.stmt) -> bool:
    """Whether a statement imports, defines, names or changes a value, or writes a module: cheap
    things."""
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef
                  | ast.ClassDef):
        return True
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) and statement.value:
        return all(map(_is_cheap, ast.walk(statement.value)))
    return cells.writes_file(statement)


def _is_cheap(node: ast.AST) -> bool:
    """Whether a part of an expression takes no time: ``max(TOP, 2 * LOW)``, but no training."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in CHEAP
    return not isinstance(node, ast.comprehension | ast.Await | ast.Yield | ast.YieldFrom
                          | ast.Pow | ast.LShift)


def _names(node: ast.AST) -> set[str]:
    """Every name that a statement may bind at the top level."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.alias):
        return {(node.asname or node.name).split(".")[0]}
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return {node.id}
    return set().union(*map(_names, ast.iter_child_nodes(node)))


@contextlib.contextmanager
def silence():
    """Let nothing that the block prints reach anybody."""
    class Nowhere(io.TextIOBase):
        def write(self, text):
            return len(text)

    old = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = Nowhere()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = old


def prepare() -> None:
    """Settings of a process that grades: offline, one thread, no window."""
    os.environ.update({"NBGRADER_EXECUTION": "autograde", "HF_HUB_OFFLINE": "1",
                       "MPLBACKEND": "Agg"})
    import torch

    torch.set_num_threads(1)
