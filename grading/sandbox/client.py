"""The trusted side of the jail: start it, run cells in it, call functions through it.

    with Forkserver() as forkserver, forkserver.fork() as sandboxed:
        sandboxed.run("def f(x): return 2 * x", whole=True)
        Proxy(sandboxed, "f")(torch.ones(3))

A Proxy is called like the student's function, and sends and receives plain data only. A
result that depends on a tensor with ``requires_grad`` can be differentiated: its backward
pass asks the jail for the vector-Jacobian product.
"""

import builtins
import contextlib
import os
import socket
import subprocess
import sys
import time

import torch

from grading import ROOT
from grading.sandbox import protocol
from lib import CourseError

CELL_SECONDS, CALL_SECONDS, START_SECONDS = 20.0, 20.0, 180.0
NO_JAIL = ("no jail on this machine: {}; grade on one that has it, or accept a weaker jail with "
           "--isolation process: no namespaces, no seccomp; for submissions that you trust")


class SandboxDied(BaseException):
    """The sandboxed hung, crashed or flooded, and is dead; the message says which.

    Not an Exception on purpose: a visible check catches every Exception of a student's function
    and reports it as wrong, and would so hide that there is no process left to ask.
    """


class Forkserver:
    """One warm process to fork submissions from; a context manager."""

    def __init__(self, level: str = "strict"):
        """Raises CourseError when this machine cannot give the isolation level."""
        self.control, theirs = socket.socketpair()
        environment = {
            "PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "MPLCONFIGDIR": "/tmp",
            "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1",
            "PYTHONHASHSEED": "0",
            "TORCHDYNAMO_DISABLE": "1",  # torch.compile needs a compiler: it gives the function
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "grading.sandbox.forkserver", str(theirs.fileno()), level],
            cwd="/", env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        theirs.close()
        try:
            self._answer(START_SECONDS)
            self.fork().close()  # refuse now, before any submission
        except BaseException:
            self.close()
            raise

    def _answer(self, seconds: float) -> None:
        try:
            answer = protocol.receive(self.control, seconds)
        except (protocol.ProtocolError, TimeoutError) as error:
            self.process.kill()
            last = self.process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
            raise CourseError(f"the grading process did not start: {(last or [error])[0]}"
                              ) from None
        if reason := answer.get("failed"):
            raise CourseError(NO_JAIL.format(reason))

    def fork(self) -> "SandboxProcess":
        """A new jailed process, ready for requests. Raises CourseError when there is none."""
        ours, theirs = socket.socketpair()
        end, lifeline = os.pipe()
        sandboxed = SandboxProcess(ours, lifeline)
        try:
            socket.send_fds(self.control, [b"f"], [theirs.fileno(), end])
            self._answer(30)
            theirs.close()  # only now, or its end would not be seen
            if reason := protocol.receive(ours, 30).get("failed"):
                raise CourseError(NO_JAIL.format(reason))
        except BaseException as error:
            sandboxed.close()
            if isinstance(error, protocol.ProtocolError | OSError):
                raise CourseError(NO_JAIL.format(f"it did not start: {error}")) from None
            raise
        finally:
            theirs.close()
            os.close(end)
        return sandboxed

    def close(self) -> None:
        self.control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class SandboxProcess:
    """A jailed notebook: one request, one answer, each within a time limit."""

    def __init__(self, channel: socket.socket, lifeline: int):
        self.channel, self.lifeline, self.calls = channel, lifeline, 0
        self.deadline = float("inf")  # of the whole submission, on time.monotonic()

    def ask(self, seconds: float, **request) -> dict:
        """The answer to a request; where there is none, kill the process and raise SandboxDied."""
        if self.lifeline is None:
            raise SandboxDied("it was stopped before")
        try:
            seconds = min(seconds, max(0.05, self.deadline - time.monotonic()))
            self.channel.settimeout(seconds)
            protocol.send(self.channel, request)
            answer = protocol.receive(self.channel, seconds)
            if isinstance(answer, dict):
                return answer
            reason = "its result cannot be read"
        except TimeoutError:
            reason = "it did not end in time"
        except protocol.Closed:
            reason = "its process ended: a crash, os._exit, or too much memory"
        except protocol.ProtocolError:
            reason = "its result cannot be read"  # no detail: that would be the student's text
        self.close()
        raise SandboxDied(reason)

    def run(self, source: str, whole: bool) -> dict | None:
        """Run a cell: None, or {"raised", "text"} of its first error."""
        answer = self.ask(CELL_SECONDS, do="run", source=source, whole=whole)
        return answer if "raised" in answer else None

    def close(self) -> None:
        """Kill the process, and everything that it started."""
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None
            with contextlib.suppress(OSError):  # its end closes the channel: no next one before
                self.channel.settimeout(5)
                while self.channel.recv(1 << 20):
                    pass
            self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def students_error(answer: dict) -> Exception:
    """What a function in the jail raised, as an exception marked ``from_student``.

    A name that is no built-in exception's becomes Exception: names may carry messages too.
    """
    kind = getattr(builtins, str(answer.get("raised")), None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)) or issubclass(
            kind, UnicodeError | BaseExceptionGroup):
        kind = Exception
    error = kind(str(answer.get("text"))[:500])
    error.from_student = True
    return error


class Proxy:
    """Stands in for a student's function in the tests."""

    def __init__(self, sandboxed, name: str):
        """sandboxed: a SandboxProcess, or a function that gives the one to ask now."""
        self.sandboxed = sandboxed if callable(sandboxed) else lambda: sandboxed
        self.__name__ = name

    def __call__(self, *args, **kwargs):
        """Call the function. Raises what it raised, SandboxDied, or TypeError for no plain data."""
        sandboxed, leaves = self.sandboxed(), []
        sandboxed.calls += 1
        number = sandboxed.calls
        answer = sandboxed.ask(
            CALL_SECONDS, do="call", number=number, function=self.__name__,
            args=protocol.encode(args, leaves), kwargs=protocol.encode(kwargs, leaves))
        if "raised" in answer:
            raise students_error(answer)
        results: list = []
        try:
            protocol.check_size(answer.get("value"))
            value = protocol.decode(answer.get("value"), results)
        except protocol.ProtocolError as error:
            raise students_error({"raised": "TypeError", "text": str(error)}) from None
        if answer.get("changed"):
            # Never written back: a test may compute what is right from its arguments.
            raise AssertionError("it changes an argument, which belongs to the caller")
        if not (leaves and results):
            return value
        linked = iter(_Remote.apply(sandboxed, number, len(leaves), *leaves,
                                    *(r.detach() for r in results)))
        return _replace(value, {id(result): next(linked) for result in results})


def _replace(value, linked: dict):
    """value with each tensor of a graph exchanged for its differentiable twin."""
    if isinstance(value, torch.Tensor):
        return linked.get(id(value), value)
    if isinstance(value, list | tuple):
        return type(value)(_replace(item, linked) for item in value)
    if isinstance(value, dict):
        return {key: _replace(item, linked) for key, item in value.items()}
    return value


class _Remote(torch.autograd.Function):
    """Results computed elsewhere; the backward pass asks for the gradients."""

    @staticmethod
    def forward(ctx, sandboxed, number, n_leaves, *tensors):
        ctx.sandboxed, ctx.number = sandboxed, number
        ctx.leaves, results = tensors[:n_leaves], tensors[n_leaves:]
        ctx.n_results = len(results)
        return tuple(result.clone() for result in results)

    @staticmethod
    def backward(ctx, *slopes):
        answer = ctx.sandboxed.ask(CALL_SECONDS, do="backward", number=ctx.number,
                                  slopes=protocol.encode(list(slopes)))
        if "raised" in answer:
            raise students_error(answer)
        gradients = protocol.decode(answer.get("value"))
        good = isinstance(gradients, list) and len(gradients) == len(ctx.leaves) and all(
            g is None or (isinstance(g, torch.Tensor) and g.shape == leaf.shape)
            for g, leaf in zip(gradients, ctx.leaves, strict=True))
        if not good:
            raise students_error({"raised": "RuntimeError", "text": "no gradients"})
        given = [g if g is None else g.to(leaf.dtype)
                 for g, leaf in zip(gradients, ctx.leaves, strict=True)]
        return (None, None, None, *given, *(None,) * ctx.n_results)
