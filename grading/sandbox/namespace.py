"""Running a notebook's cells for grading: in the jail a student's, outside the course's own.

A solution cell runs whole. Of every other cell only imports, definitions and constants run, so
that a training cell, a plot, ``input()`` or an endless loop in a scratch cell costs nothing. A
statement that was left out runs after all when a name that it binds is missed.
"""

import ast
import builtins
import contextlib
import io
import os
import sys
from types import ModuleType

RETRIES = 20


class Namespace(dict):
    """The globals of a notebook under grading."""

    def __init__(self):
        super().__init__({"__name__": "__main__", "__builtins__": builtins, "display": print,
                          "get_ipython": lambda: IPythonStandIn(self), "input": lambda *_: ""})
        self.left_out: dict[str, ast.stmt] = {}  # name -> the statement that binds it

    def run(self, source: str, whole: bool) -> None:
        """Run a cell; raises what its code raises when whole, else nothing."""
        tree = ast.parse(source)
        if whole:
            # The last expression's value would be displayed; here nobody looks.
            self.recover(lambda: exec(compile(tree, "<cell>", "exec"), self))
            return
        for statement in tree.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and any(
                    isinstance(self.get(name), ModuleType) for name in _names(statement)):
                continue  # `torch = None` in a scratch cell must not break the answers
            if _only_binds(statement):
                with contextlib.suppress(Exception, SystemExit):
                    self._execute(statement)
            else:
                self.left_out.update(dict.fromkeys(_names(statement), statement))

    def recover(self, action):
        """The result of action(); statements that bind a missing name are run first."""
        for _ in range(RETRIES):
            try:
                return action()
            except NameError as error:
                statement = self.left_out.pop(error.name, None)
                if statement is None:
                    raise
                self.recover(lambda wanted=statement: self._execute(wanted))
        return action()

    def _execute(self, statement: ast.stmt) -> None:
        exec(compile(ast.Module([statement], []), "<cell>", "exec"), self)


class IPythonStandIn:
    """What ``%magic`` and ``!command`` become: nothing, but for cells that a magic wraps."""

    def __init__(self, namespace: Namespace):
        self.namespace = namespace

    def run_cell_magic(self, name: str, line: str, body: str) -> None:
        if name in ("time", "timeit", "capture", "prun"):
            self.namespace.run(plain_python(body), whole=True)

    def __getattr__(self, name: str):
        return lambda *args, **kwargs: None


def plain_python(source: str) -> str:
    """A cell's source with IPython's magics and shell lines as Python calls."""
    if not any(mark in source for mark in "%!?"):
        return source
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


def _only_binds(statement: ast.stmt) -> bool:
    """Whether a statement imports, defines, or names a constant: cheap, and without effects."""
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef
                  | ast.ClassDef):
        return True
    if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
        with contextlib.suppress(ValueError, TypeError):
            ast.literal_eval(statement.value)
            return True
    return False


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
