"""Honest styles: what runs in Jupyter runs in the jail, and has the points that stock gives.

Each style is one exercise's cell, with cells of the student's own before it. Several styles share
a notebook, one an exercise. tests/grading/test_stock.py asks nbgrader itself.
"""

import hashlib

import nbformat
import pytest

from grading import grade
from grading.gradebook import Grader
from grading.handed_in import HandedIn
from tests.grading.corpus import CHAPTER, cell, generate, released

SHAPE = "def exponential_shaping(scores, temperature):\n    return "
BONUS = "def forward_kl_bonus(ref_logps, kl_coef):\n    return "
PENALTY = "def backward_kl_penalty(ref_logps, kl_coef):\n    return "
ONE = "[math.exp(s / temperature) - 1 for s in scores]"
MEAN = "[kl_coef * sum(row) / len(row) for row in ref_logps]"
DOWN = "[-kl_coef * math.exp(min(-sum(row) / len(row), 20.0)) for row in ref_logps]"
RIGHT, ROWS, FINE = SHAPE + ONE + "\n", BONUS + MEAN + "\n", PENALTY + DOWN + "\n"


def indented(source: str, by: str = "    ", first: str | None = None) -> str:
    lines = source.rstrip().splitlines()
    return "\n".join((by if first is None or i else first) + line for i, line in enumerate(lines))


# name -> (exercise, its cell, cells of the student's own before it)
STYLES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # how IPython reads a cell
    "indented": ("ex2", indented(RIGHT), ()),
    "indented by tabs": ("ex3a", indented(ROWS, "\t"), ()),
    "Python's prompts": ("ex2", indented(RIGHT, "... ", ">>> "), ()),
    "IPython's prompts": ("ex3a", indented(ROWS, "   ...: ", "In [7]: "), ()),
    "a semicolon and a comment": ("ex3b", FINE + "x = 1;  # quiet\nx;", ()),
    # what awaits
    "await": ("ex2", "import asyncio\nawait asyncio.sleep(0)\n" + RIGHT, ()),
    "await a value": ("ex3a", "async def f():\n    return 1\none = await f()\n"
                      + BONUS + f"[one * v for v in {MEAN}]", ()),
    "async for": ("ex3b", "async def g():\n    yield -1\nasync for sign in g():\n    pass\n"
                  + FINE.replace("-kl_coef", "sign * kl_coef"), ()),
    "asyncio.run inside": ("ex2", "import asyncio\nasync def one(s, t):\n"
                           "    return math.exp(s / t) - 1\nasync def all_(ss, t):\n"
                           "    return list(await asyncio.gather(*(one(s, t) for s in ss)))\n"
                           + SHAPE + "asyncio.run(all_(scores, temperature))", ()),
    "a loop of its own": ("ex3a", "import asyncio\nasync def go(rows, kl_coef):\n"
                          f"    ref_logps = rows\n    return {MEAN}\n" + BONUS
                          + "asyncio.new_event_loop().run_until_complete(go(ref_logps, kl_coef))",
                          ()),
    "a task, awaited later": ("ex2", "import asyncio\nasync def one():\n    return 1\n"
                              "task = asyncio.create_task(one())\nfactor = await task\n"
                              + SHAPE + "[factor * v for v in " + ONE + "]", ()),
    "the running loop": ("ex3a", "import asyncio\nloop = asyncio.get_event_loop()\n"
                         "assert loop is asyncio.get_running_loop()\nasync def one():\n"
                         "    return 1\nboth = asyncio.gather(one(), loop.create_task(one()))\n"
                         "one, _ = await both\n" + BONUS + f"[one * v for v in {MEAN}]", ()),
    # what would start a compiler, or a process
    "torch.compile": ("ex4b", "@torch.compile\ndef categorical_kl(p, q):\n"
                      "    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum()",
                      ()),
    "a pool of threads": ("ex2", "from multiprocessing.dummy import Pool\n" + SHAPE
                          + "Pool(2).map(lambda s: math.exp(s / temperature) - 1, scores)", ()),
    "a thread pool": ("ex3a", "from multiprocessing.pool import ThreadPool\n" + BONUS
                      + "ThreadPool(2).map(lambda r: kl_coef * sum(r) / len(r), ref_logps)", ()),
    "a lock": ("ex3b", "import multiprocessing\nlock = multiprocessing.Lock()\n"
               "with lock:\n    pass\n" + FINE, ()),
    # magics
    "%time assigns": ("ex2", "%time f = lambda s, t: math.exp(s / t) - 1\n"
                      + SHAPE + "[f(s, temperature) for s in scores]", ()),
    "%time is a value": ("ex3a", "one = %time 1 * 1\n" + BONUS + f"[one * v for v in {MEAN}]", ()),
    "%%time": ("ex2", "%%time\n" + RIGHT, ()),
    "%%capture": ("ex3a", "%%capture out\nprint(1)\n" + ROWS, ()),
    "%%time over %%capture": ("ex3b", "%%time\n%%capture\n" + FINE, ()),
    "%timeit after it": ("ex2", RIGHT + "%timeit -n 1 -r 1 exponential_shaping([0.5], 1.0)", ()),
    "%timeit -o": ("ex3a", ROWS + "t = %timeit -n1 -r1 -o forward_kl_bonus([[-1.0]], 0.1)\n"
                   "print(f'{t.average:.3g} s')", ()),
    "pip and ls": ("ex2", "!pip install einops\n%pip install einops\nfiles = !ls\nprint(files[0])\n"
                   + RIGHT, ()),
    "nvidia-smi": ("ex3a", "gpu = !nvidia-smi\ngpu = '\\n'.join(gpu)\nprint(gpu)\n" + ROWS, ()),
    "a timed helper": ("ex3b", PENALTY + "[-kl_coef * low(row) for row in ref_logps]",
                       ("%%time\ndef low(row):\n"
                        "    return math.exp(min(-sum(row) / len(row), 20.0))",)),
    # files
    "%%writefile": ("ex2", "from helper import go\n" + SHAPE
                    + "[go(s, temperature) for s in scores]",
                    ("%%writefile helper.py\nimport math\n"
                     "def go(s, t): return math.exp(s / t) - 1",)),
    "%%writefile -a": ("ex3a", "import rows\n" + BONUS
                       + "[kl_coef * rows.mean(r) for r in ref_logps]",
                       ("%%writefile rows.py\n# helpers\n",
                        "%%file -a rows.py\ndef mean(r): return sum(r) / len(r)")),
    "a file written and run": ("ex3b", "%run low.py\n" + PENALTY
                               + "[-kl_coef * low(row) for row in ref_logps]",
                               ("%%writefile low.py\nimport math\ndef low(row):\n"
                                "    return math.exp(min(-sum(row) / len(row), 20.0))",)),
    "a scratch file": ("ex2", "with open('notes.txt', 'w') as f:\n    f.write('1')\n"
                       "one = float(open('notes.txt').read())\n"
                       + SHAPE + "[one * v for v in " + ONE + "]", ()),
    # future imports
    "annotations, an earlier cell": ("ex2", "def exponential_shaping(scores: List[Score], "
                                     "temperature: Temp) -> List[float]:\n    return " + ONE,
                                     ("from __future__ import annotations",)),
    "annotations, in the cell": ("ex3a", "from __future__ import annotations\ndef forward_kl_bonus("
                                 "ref_logps: Rows, kl_coef: Coefficient):\n    return " + MEAN, ()),
    "annotations, not first": ("ex3b", "x = 1\nfrom __future__ import annotations\ndef backward_kl_"
                               "penalty(ref_logps: Rows, kl_coef: Q):\n    return " + DOWN, ()),
    # the source, and the module
    "torch.jit.script": ("ex4a", "@torch.jit.script\ndef _k(p, r):\n    l = r - p\n"
                         "    return -l, l * l / 2, torch.expm1(l) - l\n"
                         "def kl_estimates(policy_logps, ref_logps):\n"
                         "    return _k(policy_logps, ref_logps)", ()),
    "inspect.getsource": ("ex2", RIGHT + "import inspect\n"
                          "assert 'math.exp' in inspect.getsource(exponential_shaping)", ()),
    "a traced function": ("ex4b", "def f(p, q):\n    return torch.special.xlogy(p, p).sum() - "
                          "torch.special.xlogy(p, q).sum()\ndef categorical_kl(p, q):\n"
                          "    return torch.jit.trace(f, (p, q))(p, q)", ()),
    "a dataclass of strings": ("ex3a", "from dataclasses import dataclass\n@dataclass\nclass Row:\n"
                               "    values: 'list[float]'\n    weight: 'float' = 1.0\n" + BONUS
                               + "[kl_coef * sum(Row(r).values) / len(r) for r in ref_logps]", ()),
    "pickle": ("ex3b", "import pickle\nclass Q:\n    pass\nassert type(pickle.loads(pickle.dumps("
               "Q()))) is Q\n" + FINE, ()),
    "type hints read": ("ex2", "import typing\ndef exponential_shaping(scores: 'list[float]', "
                        "temperature: float) -> 'list[float]':\n    return " + ONE
                        + "\ntyping.get_type_hints(exponential_shaping)", ()),
    # other values than lists of floats
    "a pandas Series": ("ex2", "import pandas as pd\n" + SHAPE + "pd.Series(scores, dtype=float)"
                        ".apply(lambda s: math.exp(s / temperature) - 1)", ()),
    "an array.array": ("ex3a", f"import array\n{BONUS}array.array('d', {MEAN})", ()),
    "a numpy array": ("ex3b", f"import numpy as np\n{PENALTY}np.array({DOWN})", ()),
    "Fractions": ("ex3a", "from fractions import Fraction\n" + BONUS
                  + "[Fraction(kl_coef) * sum(map(Fraction, r)) / len(r) for r in ref_logps]", ()),
    "Decimals": ("ex3b", f"from decimal import Decimal\n{PENALTY}[Decimal(v) for v in {DOWN}]", ()),
    "numpy's floats": ("ex2", f"import numpy as np\n{SHAPE}[np.float64(v) for v in {ONE}]", ()),
    "a tuple": ("ex3a", f"{BONUS}tuple({MEAN})", ()),
    # functions of other kinds
    "a callable object": ("ex2", "class Shaping:\n    def __call__(self, scores, temperature):\n"
                          f"        return {ONE}\nexponential_shaping = Shaping()", ()),
    "a partial": ("ex3a", "def scaled(by, ref_logps, kl_coef):\n"
                  f"    return [by * v for v in {MEAN}]\n"
                  "forward_kl_bonus = partial(scaled, 1.0)", ()),
    "threads": ("ex3b", "from concurrent.futures import ThreadPoolExecutor\n"
                "def _one(row):\n    return math.exp(min(-sum(row) / len(row), 20.0))\n"
                + PENALTY + "[-kl_coef * v for v in ThreadPoolExecutor(2).map(_one, ref_logps)]",
                ()),
    "a plot and a bar": ("ex2", "import matplotlib.pyplot as plt\nfrom tqdm.auto import tqdm\n"
                         "plt.plot([1]); plt.show()\n" + RIGHT.replace("in scores",
                                                                       "in tqdm(scores)"), ()),
    "a table that a cell fills": ("ex3a", BONUS + "[TABLE['mean'](r) * kl_coef for r in ref_logps]",
                                  ("TABLE = {}", "for name in ['mean']:\n"
                                   "    TABLE[name] = lambda r: sum(r) / len(r)")),
    "a name bound by a loop": ("ex3b", PENALTY + "[-kl_coef * math.exp(min(-sum(r) / len(r), TOP)) "
                               "for r in ref_logps]", ("for TOP in (10.0, 20.0):\n    pass",)),
}
# Stock stops at the error and loses the points; here what is defined below counts, and the student
# is told the first error: (exercise, cell, what is told).
STOPPED = {
    "Colab's drive": ("ex2", "from google.colab import drive\ndrive.mount('/drive')\n" + RIGHT,
                      "stopped with ModuleNotFoundError: No module named 'google"),
    "a number asked for": ("ex3a", "n = int(input('temperature? '))\n" + ROWS, "ValueError"),
    "a table that is not there": ("ex3b", "import pandas as pd\nt = pd.read_csv('my.csv')\n" + FINE,
                                  "FileNotFoundError"),
    "a machine without a GPU": ("ex2", "assert torch.cuda.is_available(), 'no GPU here'\n" + RIGHT,
                                "AssertionError: no GPU here"),
    "a library that is not there": ("ex3a", "import wandb_is_not_there\nwandb_is_not_there.login()"
                                    "\n" + ROWS, "No module named 'wandb_is_not_there'"),
}
# No points, and the first error as the reason: (exercise, cell, own cells, what is told).
LOST = {
    "a cell that is no Python": ("ex2", RIGHT + "]", (), "SyntaxError"),
    "uses what did not come": ("ex3a", BONUS + "[einsteins.mean(r) * kl_coef for r in ref_logps]",
                               ("import einsteins",), "No module named 'einsteins'"),
    "another name": ("ex3b", FINE.replace("backward_kl", "bakward_kl"), (), "is it spelt right?"),
    "a map": ("ex2", SHAPE + "map(lambda s: math.exp(s / temperature) - 1, scores)", (),
              "returned"),
    "rows sorted in place": ("ex3a", BONUS + "[r.sort() or kl_coef * sum(r) / len(r) "
                             "for r in ref_logps]", (), "changes an argument"),
}


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    course = tmp_path_factory.mktemp("course")
    generate(course, CHAPTER)
    with Grader(course, CHAPTER) as opened:
        yield opened


def written(styles: dict[str, tuple]) -> nbformat.NotebookNode:
    """The release with each style's cell in its exercise, and its own cells before it."""
    notebook = released()
    for exercise, source, own in styles.values():
        answer = cell(notebook, exercise)
        answer.source = source
        at = notebook.cells.index(answer)
        notebook.cells[at:at] = [nbformat.v4.new_code_cell(text) for text in own]
    return notebook


def together(styles: dict[str, tuple]) -> list[dict[str, tuple]]:
    """As few notebooks as hold all styles, one an exercise."""
    notebooks: list[dict[str, tuple]] = []
    for name, style in styles.items():
        for notebook in notebooks:
            if all(style[0] != other[0] for other in notebook.values()):
                notebook[name] = style
                break
        else:
            notebooks.append({name: style})
    return notebooks


def graded(grader, styles: dict[str, tuple]) -> dict[str, tuple[bool, str | None, list[str]]]:
    """style -> (whether its exercise has its points, what is told of it, all repairs)."""
    seen = {}
    for some in together(styles):
        outcome = grade.grade(grader.assignment, nbformat.writes(written(some)).encode())
        assert outcome.problem is None
        for name, (exercise, *_) in some.items():
            seen[name] = (outcome.passed(f"test_{exercise}"), outcome.remark(f"test_{exercise}"),
                          outcome.repairs)
    return seen


def test_what_runs_in_jupyter_has_its_points(grader):
    lost = {name: seen[1:] for name, seen in graded(grader, STYLES).items() if not seen[0]}
    assert len(STYLES) >= 44 and not lost, lost


@pytest.mark.parametrize("below", [
    "DIGITS = 12", "DIGITS += 8", "DIGITS = int('12')", "DIGITS = max(DIGITS, 12)",
    "more = DIGITS * 2\nDIGITS = more + 4", "half = 4\nwhile False:\n    pass\nDIGITS += 2 * half",
    "DIGITS: int = len('a dozen is it')"])
def test_a_setting_that_is_changed_below_counts(grader, below):
    """The check passes with four digits, the hidden test wants more: as stock, which runs all."""
    notebook = released()
    cell(notebook, "ex2").source = "DIGITS = 4\n" + SHAPE + (
        "[round(math.exp(s / temperature) - 1, DIGITS) for s in scores]")
    at = notebook.cells.index(cell(notebook, "ex2"))
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(below))
    assert grade.grade(grader.assignment, nbformat.writes(notebook).encode()).passed("test_ex2")


def test_definitions_below_an_error_count_and_the_first_error_is_told(grader):
    styles = {name: (exercise, source, ()) for name, (exercise, source, _) in STOPPED.items()}
    for name, (passed, _, repairs) in graded(grader, styles).items():
        exercise, _, told = STOPPED[name]
        assert passed, name
        assert any(r.startswith(f"{exercise}: ") and told in r for r in repairs), (name, repairs)


def test_the_reason_is_the_first_error_and_not_the_last(grader):
    styles = {name: style[:3] for name, style in LOST.items()}
    for name, (passed, remark, _) in graded(grader, styles).items():
        assert not passed and LOST[name][3] in remark, (name, remark)
        assert (LOST[name][3] == "is it spelt right?") == ("spelt" in remark), (name, remark)


def test_modules_beside_the_notebook_can_be_imported(grader, tmp_path):
    """And what is no module's file is left where it is: a link, a folder, another kind of name."""
    notebook = written({
        "a module": ("ex2", f"from shaping_helper import go\n{SHAPE}go(scores, temperature)", ()),
        "a module of a module": ("ex3a", "import rows\n" + BONUS
                                 + "[kl_coef * rows.mean(r) for r in ref_logps]", ()),
        "a link": ("ex3b", f"import linked\n{FINE}", ())})
    path = tmp_path / "01_sentiment.ipynb"
    path.write_text(nbformat.writes(notebook))
    alone = HandedIn.read(path)
    (tmp_path / "shaping_helper.py").write_text(
        f"import math\ndef go(scores, temperature):\n    return {ONE}\n")
    (tmp_path / "rows.py").write_bytes(b"\xef\xbb\xbffrom numbers_of_mine import total\r\n"
                                       b"def mean(r):\r\n    return total(r) / len(r)\r\n")
    (tmp_path / "numbers_of_mine.py").write_text("total = sum\n")
    (tmp_path / "linked.py").symlink_to(tmp_path / "rows.py")
    (tmp_path / "no module.py").write_text("x = 1")
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'")
    (tmp_path / "folder.py").mkdir()
    handed = HandedIn.read(path)
    assert [name for name, _ in handed.modules] == [
        "numbers_of_mine.py", "rows.py", "shaping_helper.py"]
    outcome = grade.grade(grader.assignment, handed)
    assert outcome.passed("test_ex2") and outcome.passed("test_ex3a")
    assert outcome.passed("test_ex3b") and any("No module named 'linked'" in repair
                                               for repair in outcome.repairs)
    assert alone.digest == hashlib.sha256(path.read_bytes()).hexdigest() != handed.digest
    assert not grade.grade(grader.assignment, alone).passed("test_ex2")
