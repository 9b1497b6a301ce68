"""A cell's text to statements: the same as IPython makes of it, and more only where it is told."""

import ast
import inspect

import pytest
from IPython.core.interactiveshell import InteractiveShell

from lib.cells import Compiler, Nothing, StandIn, execute, parsed

CELLS = {
    "plain": "x = 1\ny = 7 %2\n",
    "indented": "    x = 1\n    if x:\n        y = 2",
    "Python's prompts": ">>> x = [1,\n...      2]\n>>> y = x[0]",
    "IPython's prompts": "In [1]: x = 1\n   ...: y = [x,\n   ...:      2]",
    "a prompt that is Python as well": "In [3]: x = 2\n",
    "await": "import asyncio\nx = await asyncio.sleep(0, 5)",
    "async with and for": "async def g():\n    yield 3\nasync for x in g():\n    pass",
    "a comprehension that awaits": "async def g():\n    yield 3\nx = [y async for y in g()]",
    "%time": "%time x = 3",
    "%%time": "%%time\nx = 3\ny = 4",
    "%%time, blank lines above": "\n\n%%time\nx = 3",
    "a value of %time": "x = %time 3 + 4",
    "future imports": "from __future__ import annotations\ndef f(x: Missing): pass\n"
                      "x = f.__annotations__['x']",
    "magics in a string": "x = '''\n%time y = 3\n!ls\n'''",
    "modulo at a line's start": "x = (7\n%2)",
    "a trailing question": "x = 1\nx?",
    "continued lines": "x = 1 + \\\n  2",
}


def ours(*cells: str) -> dict:
    names: dict = {"__name__": "__main__"}
    names["get_ipython"] = lambda: StandIn(names)
    compiler = Compiler()
    for source in cells:
        for statement, cell in compiler.cell(source):
            execute(compiler.code(statement, cell), names)
    return {k: v for k, v in names.items() if k in ("x", "y")}


def ipythons(*cells: str) -> dict:
    shell = InteractiveShell.instance()
    shell.reset(new_session=False)
    for source in cells:
        assert shell.run_cell(source, silent=True).success, source
    return {k: v for k, v in shell.user_ns.items() if k in ("x", "y")}


@pytest.mark.parametrize("source", CELLS.values(), ids=CELLS)
def test_a_cell_does_what_it_does_in_ipython(source, capsys):
    assert ours(source) == ipythons(source)


def test_future_imports_hold_for_later_cells_and_no_other_notebook(capsys):
    cells = "from __future__ import annotations", "def f(a: Missing): pass\nx = f.__annotations__"
    assert ours(*cells) == ipythons(*cells) == {"x": {"a": "Missing"}}
    with pytest.raises(NameError):
        ours(cells[1])


@pytest.mark.parametrize("source", ["x = ]", "def f(:", "%%time\nx = ]", "  x = 1\n y = 2"])
def test_what_is_no_python_is_a_syntax_error(source):
    with pytest.raises(SyntaxError):
        parsed(source)


@pytest.mark.parametrize("before", ["", "%%time\n", "    ", "%matplotlib inline\n"])
def test_the_source_of_a_function_is_found(before):
    names: dict = {"__name__": "somewhere"}
    names["get_ipython"] = lambda: StandIn(names)
    compiler = Compiler()
    for text in ("# another cell\ndef g(): return 1", before + "def f(x): return x + 1"):
        for statement, cell in compiler.cell(text):
            execute(compiler.code(statement, cell), names)
    assert inspect.getsource(names["f"]).strip() == "def f(x): return x + 1"


def test_timing_runs_its_code_and_binds_no_name(in_tmp):
    done = ours("seen = []\n%timeit -n 3 seen.append(1); z = 2\nx = len(seen)")
    assert done == {"x": 1}
    assert ours("%%timeit\ny = 3\nx = 4") == {}


def test_a_file_written_is_a_module(in_tmp, monkeypatch):
    monkeypatch.syspath_prepend(in_tmp)
    for name, cell in {"one": "%%writefile one_written.py\nvalue = 1",
                       "two": "%%file 'two_written.py'\nvalue = 1"}.items():
        assert ours(cell, f"from {name}_written import value as x") == {"x": 1}
    ours("%%writefile -a one_written.py\n\nmore = 2")
    assert ours("%run one_written.py\nx = more") == {"x": 2}


def test_commands_give_a_stand_in_that_honest_code_survives():
    assert ours("x = !nvidia-smi\ny = '\\n'.join(x)\nz = x[0].strip()") == {"x": [""], "y": ""}
    nothing = ours("x = %timeit -o 1\ny = f'{x.average:.2f} {x.stdev}'")
    assert nothing["y"].startswith("0.00") and isinstance(nothing["x"], Nothing)
    assert ours("x = %who_ls\nfor y in x: pass\nx.a.b('c')['d']")["x"] == 0
    assert ast.unparse(ast.Module(parsed("%%capture out\nx = 1"), [])).startswith("x = 1\nout = ")
