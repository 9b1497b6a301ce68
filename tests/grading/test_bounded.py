"""The trusted side is cheap: what an answer holds, and what a test may take of it, is bounded."""

import resource
import threading
import time

import pytest

from grading import bounded, grade
from grading.sandbox import protocol
from grading.sandbox.client import Proxy

LARGE = {
    "empty rows": "torch.empty(4_194_304, 0)",
    "empty columns": "torch.empty(1, 4_194_304, 0)",
    "small numbers": "torch.zeros(2_000_000, dtype=torch.int8)",
    "an array": "torch.zeros(2_000_000, dtype=torch.bool).numpy()",
    "many tensors": "[torch.empty(90_000, 0), torch.empty(90_000, 0)]",
    "empty lists": "[[] for _ in range(300_000)]",
    "nested lists": "[[[0] * 50] * 50] * 50",
    "an iterator": "iter(range(10**7))",
    "a map of maps": "[map(str, range(60_000)), map(str, range(60_000))]",
    "a deque": "__import__('collections').deque(range(200_000))",
    "a Series": "__import__('pandas').Series(range(200_000))",
}


@pytest.fixture(scope="module")
def sandboxed():
    with grade.warm("strict").fork() as jail:
        jail.run("import torch", whole=True)
        yield jail


@pytest.mark.parametrize("value", LARGE.values(), ids=LARGE)
def test_a_large_answer_is_refused_before_anybody_iterates_over_it(sandboxed, value):
    sandboxed.run(f"def f(): return {value}", whole=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TypeError, match="more than 100000 items"):
        Proxy(sandboxed, "f")()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024, "KiB"


@pytest.mark.parametrize("value, length", [
    ("torch.zeros(300, 300)", 300), ("[0.0] * 90_000", 90_000), ("range(9)", 9),
    ("[torch.empty(0)] * 1000", 1000)])
def test_what_an_exercise_needs_comes_through(sandboxed, value, length):
    sandboxed.run(f"def f(): return {value}", whole=True)
    assert len(Proxy(sandboxed, "f")()) == length


@pytest.mark.parametrize("shape", [None, 7, ["x"], [[]], "12", {}])
def test_a_size_that_is_none_is_left_to_decode(shape):
    protocol.check_size(["tensor", "float32", shape, "", False])
    with pytest.raises(protocol.ProtocolError):
        protocol.decode(["tensor", "float32", shape, "", False])


def spin() -> None:
    while True:
        pass


def test_a_test_that_takes_too_long_is_ended_and_nothing_rings_later(monkeypatch):
    monkeypatch.setattr(bounded, "SECONDS", 0.15)
    with pytest.raises(bounded.Exceeded, match="too long"), bounded.limits():
        spin()
    for _ in range(10):  # the alarm and the end of the block at about the same time
        until = time.thread_time() + 0.15
        try:
            with bounded.limits():
                while time.thread_time() < until:
                    pass
        except bounded.Exceeded:
            pass
        sum(range(10**5))
    with bounded.limits():
        time.sleep(0.4)  # waiting for the jail costs no processor time


def test_every_thread_has_a_time_of_its_own(monkeypatch):
    monkeypatch.setattr(bounded, "SECONDS", 0.2)
    ended = []

    def work(long: bool):
        try:
            with bounded.limits():
                spin() if long else time.sleep(0.5)
        except bounded.Exceeded:
            ended.append(long)

    threads = [threading.Thread(target=work, args=(long,)) for long in (True, False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ended == [True, True]


def test_memory_is_limited_in_the_block_and_free_behind_it():
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), bounded.limits(), bounded.limits():
        bytearray(bounded.MEMORY + 2**28)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    with bounded.limits():
        assert len(bytearray(2**27)) == 2**27
