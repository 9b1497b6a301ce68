"""The jail itself: every probe of the doctor, the clean-up, and what a prisoner costs."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from grading.doctor import doctor
from grading.runtime import Namespace, plain_python
from grading.sandbox import Gone, Proxy, Zygote


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as warm:
        yield warm


def test_the_doctor_finds_nothing_wrong_here():
    facts = doctor("strict")
    assert len(facts) == 11 and all(holds for _, holds, _ in facts), facts


def test_a_weaker_level_is_no_jail_and_says_so():
    broken = [what for what, holds, _ in doctor("process") if not holds]
    assert {"no network", "no new process", "no /proc"} <= set(broken)


def prisoners(zygote) -> list[int]:
    return [int(child) for warden in Path(
        f"/proc/{zygote.process.pid}/task/{zygote.process.pid}/children").read_text().split()
        for child in Path(f"/proc/{warden}/task/{warden}/children").read_text().split()]


def test_a_prisoner_costs_a_few_megabytes(zygote):
    """Private memory of a fork that has run a notebook's imports: the rest is shared."""
    with zygote.fork() as prisoner:
        prisoner.run("import torch, math, re\nfrom lib import models, evaluation\n"
                     "def f(x): return x.softmax(0)", whole=True)
        Proxy(prisoner, "f")(torch.ones(5))
        [pid] = prisoners(zygote)
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        private = sum(int(line.split()[1]) for line in rollup.splitlines()
                      if line.startswith("Private_Dirty"))
        assert private < 12 * 1024, f"{private} KiB"


@pytest.mark.parametrize("how", ["close", "kill the zygote"])
def test_nothing_outlives_its_keeper(how):
    zygote = Zygote()
    prisoner = zygote.fork()
    prisoner.run("import threading, time\n"
                 "threading.Thread(target=time.sleep, args=(999,)).start()", whole=True)
    [pid] = prisoners(zygote)
    if how == "close":
        prisoner.close()
    else:
        os.kill(zygote.process.pid, signal.SIGKILL)
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(Gone):
        prisoner.close()
        prisoner.run("1", whole=True)
    zygote.close()


def test_values_errors_changes_and_gradients_cross(zygote):
    with zygote.fork() as prisoner:
        prisoner.run("import torch\ndef double(x, *, plus=0): return {'a': (2 * x + plus, [None])}"
                     "\ndef fails(x): raise IndexError('no ' + str(x))"
                     "\ndef grows(xs): xs.append(4)"
                     "\ndef shrinks(t): t.zero_()", whole=True)
        leaf = torch.tensor([1.0, 2.0], requires_grad=True)
        got = Proxy(prisoner, "double")(leaf, plus=torch.tensor(1.0))
        assert got["a"][1] == [None] and torch.equal(got["a"][0], torch.tensor([3.0, 5.0]))
        (got["a"][0] ** 2).sum().backward()
        assert torch.equal(leaf.grad, torch.tensor([12.0, 20.0]))
        with pytest.raises(IndexError, match="no 3") as caught:
            Proxy(prisoner, "fails")(3)
        assert caught.value.from_student
        for name, given in (("grows", [1, 2]), ("shrinks", torch.ones(2))):
            with pytest.raises(AssertionError, match="changes an argument"):
                Proxy(prisoner, name)(given)
            assert len(given) == 2 and given[0] == 1, "the caller's own stays as it was"
        with pytest.raises(NameError):
            Proxy(prisoner, "not_there")()


def test_only_definitions_run_unless_missed():
    names = Namespace()
    names.run("import re\nTABLE = [1, 2]\nran = []\nran.append(1)\n"
              "PATTERN = re.compile('a')\nfor LAST in range(3):\n    pass\n"
              "def f(): return PATTERN.match('a'), LAST\n1 / 0", whole=False)
    assert names["TABLE"] == [1, 2] and names["ran"] == [] and "PATTERN" not in names
    names.run("found = f()", whole=True)
    assert names["found"][1] == 2 and names["ran"] == []
    with pytest.raises(NameError):
        names.run("nowhere", whole=True)


def test_magics_become_python():
    names = Namespace()
    names.run(plain_python("%%time\nx = 3\n"), whole=True)
    names.run(plain_python("%matplotlib inline\n!ls\ny = !ls\nz = 5 % 3"), whole=True)
    assert names["x"] == 3 and names["z"] == 2
