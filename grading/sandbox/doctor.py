"""What the jail holds on this machine, tried out rather than looked up.

    python -m grading doctor
"""

import time

from grading import ROOT
from grading.sandbox.client import Forkserver, Proxy, SandboxDied
from lib import CourseError

PROBES = '''
import os, socket, subprocess, threading
def attempt(action):
    try:
        return repr(action())
    except Exception as error:
        return type(error).__name__
def root(): return sorted(os.listdir("/"))
def uid(): return os.getuid()
def pid(): return os.getpid()
def proc(): return os.path.exists("/proc/self")
def home(path): return os.path.exists(path)
def net(): return attempt(lambda: socket.create_connection(("1.1.1.1", 53), 1))
def forked():
    child = os.fork()
    return child or os._exit(0)
def fork(): return attempt(forked)
def program(): return attempt(lambda: subprocess.run(["/bin/true"]))
def write(): return attempt(lambda: open("/written", "w"))
def fill(): return attempt(lambda: open("/tmp/big", "wb").write(bytes(10**8)))
def answers(): return attempt(lambda: __import__("trl").GRPOTrainer)
def library(names):
    import importlib, sys
    new = [name for name in names if name not in sys.modules]
    return attempt(lambda: [importlib.import_module(name).__name__ for name in new])
def memory(): return attempt(lambda: len(bytearray(3 * 10**9)))
'''


# Of Python, of its packages and of the course; a student may import what nobody did before.
LIBRARIES = ["wave", "pandas", "lib.__main__"]


def doctor(level: str) -> list[tuple[str, bool, str]]:
    """(what should hold, whether it does, what was seen) of a jail of a level."""
    started = time.perf_counter()
    try:
        with Forkserver(level) as forkserver:
            warm, started = time.perf_counter() - started, time.perf_counter()
            with forkserver.fork() as sandboxed:
                forked = time.perf_counter() - started
                sandboxed.run(PROBES, whole=True)
                return [*_probe(sandboxed), (
                    "ready", True, f"forkserver {warm:.1f} s once, a jail {forked * 1000:.0f} ms")]
    except CourseError as error:
        return [("a jail can be started", False, str(error))]


def _probe(sandboxed) -> list[tuple[str, bool, str]]:
    def ask(name, *args):
        try:
            return Proxy(sandboxed, name)(*args)
        except SandboxDied as reason:
            return str(reason)

    root, uid, pid = ask("root"), ask("uid"), ask("pid")
    imported = ask("library", LIBRARIES)
    facts = [("libraries can be imported", imported.startswith("['wave'"), imported),
             ("own process numbers", pid == 1, f"process {pid}"),
             ("nobody's user id", uid == 65534, f"uid {uid}"),
             ("no /proc", not ask("proc"), f"root holds {' '.join(root)}"),
             ("the course's folder is out of sight", not ask("home", str(ROOT / "solutions")),
              "solutions/ looked for")]
    for what, probe, words in (
            ("no network", "net", ("PermissionError", "OSError")),
            ("no new process", "fork", ("PermissionError",)),
            ("no other program", "program", ("PermissionError", "FileNotFoundError")),
            ("nothing to write but /tmp", "write", ("OSError", "PermissionError")),
            ("a small /tmp", "fill", ("OSError",)),
            ("no answer to import", "answers", ("ModuleNotFoundError", "AttributeError")),
            ("limited memory", "memory", ("MemoryError",))):
        seen = ask(probe)
        facts.append((what, seen in words, seen))
    return facts
