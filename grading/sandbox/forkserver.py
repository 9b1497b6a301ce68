"""The process that submissions are forked from, and what runs in the fork.

    python -m grading.sandbox.forkserver FD LEVEL

It is a fresh interpreter with a bare environment: torch and ``lib`` are imported, no test, no
answer, no grade was ever in its memory. Each request on FD carries two file descriptors, the
channel of a new submission and its lifeline, and is answered with {} or {"failed": reason}.
"""

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import tempfile

from grading.sandbox import protocol, withheld
from grading.sandbox.isolation import Jail, JailError
from grading.sandbox.namespace import Namespace, prepare, silence

WARM = ("torch", "numpy", "math", "random", "re", "IPython.core.inputtransformer2", "lib.colab",
        "lib.evaluation", "lib.models", "lib.plots", "lib.preflight", "lib.rewards", "lib.scoring",
        "lib.training", "lib.widgets", "lib.intervals", "lib.rollout", "lib.checks.sentiment",
        "lib.checks.grpo", "lib.checks.persona", "lib.checks.reasoning",
        "lib.tasks.sentiment", "lib.tasks.persona", "lib.tasks.reasoning")
PINNED = 64  # results whose graph is kept for a backward pass


def main() -> None:
    control, level = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    prepare()
    withheld.forbid()
    for name in WARM:
        importlib.import_module(name)
    from lib import scoring

    scoring.get_sentiment_scores(["warm"])
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    with tempfile.TemporaryDirectory(prefix="grading-") as empty:
        try:
            jail = Jail(level, empty)
            protocol.send(control, {})
        except JailError as error:
            protocol.send(control, {"failed": str(error)})
            return
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors need no farewell
        _serve(control, jail)


def _serve(control: socket.socket, jail: Jail) -> None:
    while True:
        _, files, _, _ = socket.recv_fds(control, 1, 2)
        if len(files) != 2:
            return  # the grader is gone
        try:
            jail.fork(serve_submission, *files)
            answer = {}
        except (JailError, OSError) as error:
            answer = {"failed": str(error)}
        for file in files:
            os.close(file)
        with contextlib.suppress(protocol.ProtocolError):
            protocol.send(control, answer)


def serve_submission(channel: int) -> None:
    """Answer requests about one notebook until the other side is gone. Runs in the jail."""
    notebook, stream = Notebook(), socket.socket(fileno=channel)
    with silence(), contextlib.suppress(protocol.Closed):
        protocol.send(stream, {})
        while True:
            request = protocol.receive(stream)
            try:
                answer = getattr(notebook, request.pop("do"))(**request)
                protocol.send(stream, answer)
            except protocol.Closed:
                raise
            except protocol.ProtocolError as error:
                protocol.send(stream, {"raised": "TypeError", "text": str(error)})
            except BaseException as error:
                protocol.send(stream, _raised(error))


def _raised(error: BaseException) -> dict:
    text = ""
    with contextlib.suppress(BaseException):
        text = str(error)[:500]
    return {"raised": type(error).__name__, "text": text}


class Notebook:
    """A student's cells and functions, inside the jail."""

    def __init__(self):
        self.space = Namespace()
        sys.modules["__main__"] = self.space.module  # where dataclasses and pickle look names up
        sys.path.insert(0, "")  # modules that lie beside the notebook, or that it writes
        self.graphs: dict[int, tuple[list, list]] = {}  # call -> (leaves, results)

    def run(self, source: str, whole: bool) -> dict:
        """Run a cell: {}, or the first error of it."""
        error = self.space.run(source, whole)
        return {} if error is None else _raised(error)

    def call(self, number: int, function: str, args, kwargs) -> dict:
        """Call a function by name: its value, and its arguments where it changed them."""
        leaves: list = []
        given, options = protocol.decode(args, leaves), protocol.decode(kwargs, leaves)

        def called():
            if function not in self.space.names:
                raise NameError(f"no function {function}", name=function)
            return self.space.names[function](*given, **options)

        value, results = self.space.recover(called), []
        answer = {"value": protocol.encode(value, results)}
        if results:
            self.graphs[number] = leaves, results
            self.graphs.pop(number - PINNED, None)
        answer["changed"] = protocol.encode((given, options)) != protocol.encode(
            (protocol.decode(args), protocol.decode(kwargs)))
        return answer

    def backward(self, number: int, slopes) -> dict:
        """The vector-Jacobian product of an earlier call: one gradient a leaf, or None."""
        import torch

        leaves, results = self.graphs[number]
        gradients = torch.autograd.grad(results, leaves, protocol.decode(slopes), allow_unused=True,
                                        retain_graph=True)
        return {"value": protocol.encode(list(gradients))}


if __name__ == "__main__":
    main()
