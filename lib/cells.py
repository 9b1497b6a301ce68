"""How a notebook's cell becomes Python, as IPython does it: the one place that decides.

    compiler = Compiler()
    for statement, cell in compiler.cell(source):
        execute(compiler.code(statement, cell), names)

A cell may be indented, pasted with its prompts, hold ``await`` and magics. Its future imports hold
for the cells after it. ``inspect.getsource`` finds its text. Magics and shell lines are calls of
``get_ipython()``, for which names hold a StandIn. Left out: what a kernel shows.
"""

import __future__

import ast
import asyncio
import hashlib
import importlib
import inspect
import linecache
import os
import re
from pathlib import Path

FUTURE = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
# The cell magics whose body is the cell; %%capture names what would hold the output.
WRAPS = re.compile(r"\s*%%(?:time|prun|capture)\b[ \t]*([a-zA-Z_]\w*)?.*\n?")
RUNS_ITS_LINE, WRITES = ("time", "prun"), ("writefile", "file")
OPTIONS = re.compile(r"(?:-[a-zA-Z]\s*\d*\s+)*")  # of %timeit and the like


def as_python(source: str) -> str:
    """A cell's source without indentation, prompts and the magics around it."""
    kept = ""
    while wrapped := WRAPS.match(source):
        source = source[wrapped.end():]
        if wrapped[1]:
            kept += f"\n{wrapped[1]} = get_ipython().run_line_magic('capture', '')"
    try:
        if "In [" not in source:  # which is a prompt to IPython, and an annotation to Python
            compile(source, "<cell>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
            return source + kept
    except (SyntaxError, ValueError):
        pass
    from IPython.core.inputtransformer2 import TransformerManager  # slow to import, rarely needed

    return TransformerManager().transform_cell(source) + kept


def parsed(source: str) -> list[ast.stmt]:
    """The statements of a cell, ``%time x = 1`` as ``x = 1``. Raises SyntaxError."""
    return [inner for statement in ast.parse(as_python(source), "this cell").body
            for inner in _without_timing(statement)]


def _magic(statement: ast.stmt) -> tuple[str, list]:
    """The name and the arguments of the magic that a statement is; ("", []) where it is none."""
    match statement:
        case ast.Expr(ast.Call(ast.Attribute(ast.Call(ast.Name("get_ipython")), kind),
                               [ast.Constant(name), *given])) if kind.startswith("run_"):
            return name, [part.value for part in given if isinstance(part, ast.Constant)]
    return "", []


def _without_timing(statement: ast.stmt) -> list[ast.stmt]:
    name, given = _magic(statement)
    if name in RUNS_ITS_LINE and len(given) == 1:
        return parsed(OPTIONS.sub("", given[0], count=1))
    return [statement]


def writes_file(statement: ast.stmt) -> bool:
    """Whether a statement is ``%%writefile``, which makes a module that others import."""
    return _magic(statement)[0] in WRITES


class Compiler:
    """Compiles the cells of one notebook, in order."""

    def __init__(self):
        self.flags = 0  # of the future imports so far

    def cell(self, source: str, name: str = "") -> list[tuple[ast.stmt, str]]:
        """The statements of a cell, each with the file name that stands for the cell.

        name: that file name, else one is made. Raises SyntaxError.
        """
        python = as_python(source)
        # By its text, so that a cell that is run for each of a class is held once.
        digest = hashlib.sha256(python.encode("utf-8", "replace")).hexdigest()
        name = name or f"<cell {digest[:12]}>"
        # Without a time of change linecache keeps it, as it does for a module's own loader.
        linecache.cache[name] = (len(python), None, python.splitlines(keepends=True), name)
        return [(statement, name) for statement in parsed(python)]

    def code(self, statement: ast.stmt, name: str):
        """The code of a statement; its future imports hold from here on. Raises SyntaxError."""
        code = compile(ast.Module([statement], []), name, "exec",
                       self.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        self.flags |= code.co_flags & FUTURE
        return code


_loops: list[asyncio.AbstractEventLoop] = []
# What wants a running loop and awaits nothing. A kernel has one always; here other statements have
# none, so that asyncio.run, which a kernel refuses, works as it does in a script.
IN_LOOP = {"create_task", "current_task", "ensure_future", "gather", "get_event_loop",
           "get_running_loop", "timeout"}


def execute(code, names: dict) -> None:
    """Run a statement's code. What awaits shares one loop, so that a task may outlive its cell."""
    if not code.co_flags & inspect.CO_COROUTINE and not IN_LOOP & set(code.co_names):
        exec(code, names)
        return
    if not _loops:
        _loops.append(asyncio.new_event_loop())
    _loops[0].run_until_complete(_awaited(code, names))


async def _awaited(code, names: dict) -> None:
    result = eval(code, names)
    if code.co_flags & inspect.CO_COROUTINE:
        await result


class Nothing(float):
    """What a magic gives where there is no kernel: 0, with any attribute, any item, any call."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __getitem__(self, key):
        return Nothing()

    def __call__(self, *args, **kwargs):
        return Nothing()

    def __iter__(self):
        return iter(())


class StandIn:
    """``get_ipython()`` without a kernel: magics run the code they are given, commands nothing."""

    def __init__(self, names: dict):
        self.names = names

    def run_line_magic(self, name: str, line: str, *_):
        line = OPTIONS.sub("", line, count=1)
        if name in RUNS_ITS_LINE:  # as a value: x = %time f()
            return eval(line, self.names)
        if name == "timeit":
            self._apart(line)
        elif name == "run":
            exec(compile(Path(line.split()[0]).read_text(), line, "exec"), self.names)
        elif name in ("pwd", "cd"):
            return str(Path.cwd())
        elif name == "env" and not {"=", " "} & set(line):
            return os.environ.get(line, "") if line else dict(os.environ)
        return Nothing()

    def run_cell_magic(self, name: str, line: str, body: str):
        if name == "timeit":
            self._apart(body)
        elif name in WRITES:
            append, path = "-a" in line.split(), line.split()[-1].strip("\"'")
            with Path(path).open("a" if append else "w", encoding="utf-8") as file:
                file.write(body)
            importlib.invalidate_caches()  # it may be imported in the same second
        return Nothing()

    def getoutput(self, *_, **__) -> list[str]:
        """What ``x = !command`` printed: one empty line, so that x[0] is there."""
        from IPython.utils.text import SList

        return SList([""])

    def _apart(self, source: str) -> None:
        """Run code whose names are its own, as those of timeit are."""
        names, compiler = dict(self.names), Compiler()
        for statement, cell in compiler.cell(source):
            execute(compiler.code(statement, cell), names)

    def __getattr__(self, name: str):
        return Nothing()
