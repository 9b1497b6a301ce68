"""The jail itself: every probe of the doctor, the clean-up, and what a sandboxed costs."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from grading import ROOT
from grading.sandbox.client import Forkserver, Proxy, SandboxDied
from grading.sandbox.doctor import doctor
from grading.sandbox.namespace import Namespace


@pytest.fixture(scope="module")
def forkserver():
    with Forkserver() as warm:
        yield warm


def test_the_doctor_finds_nothing_wrong_here():
    facts = doctor("strict")
    assert len(facts) == 13 and all(holds for _, holds, _ in facts), facts


def test_a_course_below_tmp_is_seen_and_a_strict_umask_is_no_matter():
    """The jail's own /tmp once hid what lies below the machine's."""
    home = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        for name in ("lib", "grading"):
            shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
        told = subprocess.run([sys.executable, "-m", "grading", "doctor"], cwd=home, umask=0o077,
                              env=os.environ | {"PYTHONPATH": str(home)}, capture_output=True,
                              text=True)
    finally:
        shutil.rmtree(home)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "'lib.__main__'" in told.stdout and "nothing to write but /tmp" in told.stdout


def test_a_weaker_level_is_no_jail_and_says_so():
    broken = [what for what, holds, _ in doctor("process") if not holds]
    assert {"no network", "no new process", "no /proc"} <= set(broken)


def jailed(forkserver) -> list[int]:
    return [int(child) for supervisor in Path(
        f"/proc/{forkserver.process.pid}/task/{forkserver.process.pid}/children").read_text().split()
        for child in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()]


def test_a_jailed_process_costs_a_few_megabytes(forkserver):
    """Private memory of a fork that has run a notebook's imports: the rest is shared."""
    with forkserver.fork() as sandboxed:
        sandboxed.run("import torch, math, re\nfrom lib import models, evaluation\n"
                     "def f(x): return x.softmax(0)", whole=True)
        Proxy(sandboxed, "f")(torch.ones(5))
        [pid] = jailed(forkserver)
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        private = sum(int(line.split()[1]) for line in rollup.splitlines()
                      if line.startswith("Private_Dirty"))
        assert private < 12 * 1024, f"{private} KiB"


@pytest.mark.parametrize("how", ["close", "kill the forkserver"])
def test_nothing_outlives_its_keeper(how):
    forkserver = Forkserver()
    sandboxed = forkserver.fork()
    sandboxed.run("import threading, time\n"
                 "threading.Thread(target=time.sleep, args=(999,)).start()", whole=True)
    [pid] = jailed(forkserver)
    if how == "close":
        sandboxed.close()
    else:
        os.kill(forkserver.process.pid, signal.SIGKILL)
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(SandboxDied):
        sandboxed.close()
        sandboxed.run("1", whole=True)
    forkserver.close()


def test_values_errors_changes_and_gradients_cross(forkserver):
    with forkserver.fork() as sandboxed:
        sandboxed.run("import torch\ndef double(x, *, plus=0): return {'a': (2 * x + plus, [None])}"
                     "\ndef fails(x): raise IndexError('no ' + str(x))"
                     "\ndef grows(xs): xs.append(4)"
                     "\ndef shrinks(t): t.zero_()", whole=True)
        leaf = torch.tensor([1.0, 2.0], requires_grad=True)
        got = Proxy(sandboxed, "double")(leaf, plus=torch.tensor(1.0))
        assert got["a"][1] == [None] and torch.equal(got["a"][0], torch.tensor([3.0, 5.0]))
        (got["a"][0] ** 2).sum().backward()
        assert torch.equal(leaf.grad, torch.tensor([12.0, 20.0]))
        with pytest.raises(IndexError, match="no 3") as caught:
            Proxy(sandboxed, "fails")(3)
        assert caught.value.from_student
        for name, given in (("grows", [1, 2]), ("shrinks", torch.ones(2))):
            with pytest.raises(AssertionError, match="changes an argument"):
                Proxy(sandboxed, name)(given)
            assert len(given) == 2 and given[0] == 1, "the caller's own stays as it was"
        with pytest.raises(NameError):
            Proxy(sandboxed, "not_there")()


def test_only_definitions_run_unless_missed():
    space = Namespace()
    names = space.names
    space.run("import re\nTABLE = [1, 2]\nran = []\nran.append(1)\n"
              "PATTERN = re.compile('a')\nfor LAST in range(3):\n    pass\n"
              "def f(): return PATTERN.match('a'), LAST\n1 / 0", whole=False)
    assert names["TABLE"] == [1, 2] and names["ran"] == [] and "PATTERN" not in names
    assert space.run("found = f()", whole=True) is None
    assert names["found"][1] == 2 and names["ran"] == []
    assert isinstance(space.run("nowhere", whole=True), NameError)


def test_what_an_error_kept_from_being_bound_is_told_by_that_error():
    space = Namespace()
    first = space.run("from google.colab import drive\nx = 1\nimport nowhere\ny = x + 1",
                      whole=True)
    assert isinstance(first, ImportError) and "google" in str(first)
    assert space.names["x"] == 1 and space.recover(lambda: eval("y", space.names)) == 2
    for name, said in (("drive", "google"), ("nowhere", "nowhere")):
        with pytest.raises(ImportError, match=said):
            space.recover(lambda name=name: eval(name, space.names))
    assert isinstance(space.run("def f(x):\n    return ]", whole=True), SyntaxError)
    with pytest.raises(SyntaxError):
        space.recover(lambda: eval("f(1)", space.names))
