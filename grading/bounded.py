"""Limits of what the trusted side spends on one submission's answers.

A test iterates over what a student's function gave, and works with it. What it gave is bounded by
``protocol.ITEMS``; a test is bounded by the processor time and the memory that it takes. Going over
costs this submission its points, and no other one anything.
"""

import contextlib
import ctypes
import resource
import threading
import time
from pathlib import Path

SECONDS = 20.0  # of processor time for one test, without what the jail takes
MEMORY = 2**30  # bytes on top of what the process has


_lock, _users, _before = threading.Lock(), 0, (0, 0)


class Exceeded(BaseException):
    """A test took too much. No Exception: a check takes those for the student's."""

    def __str__(self) -> str:
        return "its result took too long to check"


@contextlib.contextmanager
def limits():
    """Raise Exceeded, or MemoryError, in the block when it takes too much.

    Works in every thread, as a Dask worker needs; the limit of memory is the process's.
    """
    _limit_memory()
    alarm = _Alarm()
    try:
        with alarm:
            yield
    finally:
        _free_memory()


def _limit_memory() -> None:
    global _users, _before
    with _lock:
        _users += 1
        if _users == 1:
            _before = resource.getrlimit(resource.RLIMIT_AS)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            wanted = pages * resource.getpagesize() + MEMORY
            soft = wanted if _before[0] == resource.RLIM_INFINITY else min(wanted, _before[0])
            resource.setrlimit(resource.RLIMIT_AS, (soft, _before[1]))


def _free_memory() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            resource.setrlimit(resource.RLIMIT_AS, _before)


class _Alarm(threading.Thread):
    """Raises Exceeded in the thread that made it once that has used up its time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.target = threading.get_ident()
        self.clock = time.pthread_getcpuclockid(self.target)
        self.until = time.clock_gettime(self.clock) + SECONDS
        self.over, self.lock, self.rang = threading.Event(), threading.Lock(), False

    def run(self) -> None:
        while not self.over.wait(0.1):
            with self.lock:
                if not self.over.is_set() and time.clock_gettime(self.clock) > self.until:
                    self.rang = True
                    self._raise(ctypes.py_object(Exceeded))
                    return

    def _raise(self, what) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.target), what)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        with self.lock:
            self.over.set()
            if self.rang:  # not to be raised somewhere behind the block
                self._raise(None)
