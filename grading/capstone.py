"""Chapter 6's capstone: a reward, graded by the policy that it trains.

    judged = judge(project_reward)

The trainer is a process of its own (``grading.trainer``). It asks for the rewards of each step;
here they are asked of the student's function. In the grader that is a Proxy: the function runs in
the jail, and what crosses is plain data: texts, star probabilities, the reference's log-probs.

The measure of a review is ``gold``. It is not the one that ``lib`` shows in chapter 1's hacking
lab, and no submission can import either (``grading.sandbox.withheld``).
"""

import atexit
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from grading import ROOT
from grading.sandbox import protocol
from grading.sandbox.client import SandboxDied
from lib.tiny.corpus import ADJECTIVES, ASPECTS, DAYS, DEGREES, FILMS, PLACES, ROLES, VERDICTS

STEPS, SEED = 50, 0  # of the training that counts
GOALS = {"gold": 0.65, "fine": 0.75, "variety": 0.40, "elsewhere": 0.60}
CALLS_SECONDS, SECONDS, START_SECONDS = 30.0, 150.0, 180.0
LARGEST = 1e6  # the size of a reward: beyond, the spread of a group overflows
GOOD = 0.75  # the gold score from which a review counts as a good one

# Why a reward trained nothing. A student reads these: no word of what its function was asked.
NO_LIST = "it gave the trainer something that is no list of floats"
COUNT = "it gave the trainer another number of rewards than there are completions"
SIZE = "it gave the trainer a reward that is not finite, or beyond a million"
RAISED = "while a policy was trained on it, it raised an error or changed its arguments"
DIED = "while a policy was trained on it, it did not answer in time, or its process ended"
SLOW = f"while a policy was trained on it, its calls took more than {CALLS_SECONDS:.0f} seconds"
FICKLE = "asked again about the same completions, it gave other rewards"
TRAINER = "the training did not come to its end; please tell your instructor"


def _one_of(words) -> str:
    return "(?:" + "|".join(re.escape(word.lower()) for word in words) + ")"


LEVEL = {text.lower(): level for said in (ADJECTIVES, VERDICTS)
         for level, texts in said.items() for text in texts}
_ADJECTIVES = [word for words in ADJECTIVES.values() for word in words]
_OPINION = rf"(?:{_one_of(DEGREES)} )?({_one_of(_ADJECTIVES)})"
_SUBJECT = _one_of((*ASPECTS, *FILMS))
CLAUSE = re.compile(rf"(?:the {_SUBJECT} was|i found the {_SUBJECT}) {_OPINION}|"
                    rf"the {_one_of(ROLES)} gives an? {_OPINION} performance")
FACT = re.compile(rf"it is set in {_one_of(PLACES)}|we saw it on a {_one_of(DAYS)}|"
                  r"it runs for (?:ninety minutes|two hours|three hours)|"
                  rf"it follows a {_one_of(ROLES)} and a {_one_of(ROLES)}")


def statements(sentence: str) -> dict[str, int | None] | None:
    """What a sentence states, each with its stars (None for a fact); None where it is unreadable,
    or says a thing twice."""
    said = sentence.lower()
    if not sentence[:1].isupper():
        return None
    if said in LEVEL or FACT.fullmatch(said):
        return {said: LEVEL.get(said)}
    parts = re.split(", but | and ", said)
    read = [CLAUSE.fullmatch(part) for part in parts]
    if not all(read) or len(set(parts)) < len(parts):
        return None
    return {part: LEVEL[match[1] or match[2]] for part, match in zip(parts, read, strict=True)}


def gold(completion: str) -> float:
    """How good a review is, in [0, 1]: what its statements make of the film, from one star, 0, to
    five, 1; halved for each sentence that is unreadable, repeats something or is the fourth or a
    later one, and where they differ by more than two stars. A review without an end gets 0.

    The opening is not judged, so that it works with any.
    """
    text = completion.rstrip()
    if not text.endswith("."):
        return 0.0
    faults, said = 0, {}
    for number, sentence in enumerate(f"The film was{text}"[:-1].split(". ")):
        new = statements(sentence)
        if new is None or number > 2 or new.keys() & said.keys():
            faults += 1
        else:
            said |= new
    stars = [level for level in said.values() if level]
    if not stars:
        return 0.0
    faults += max(stars) - min(stars) > 2
    return (statistics.fmean(stars) - 1) / 4 * 0.5**faults


def figures(held_out: list[dict], elsewhere: list[dict]) -> dict:
    """What is said of a policy, from rows of ``lib.rollout.sampled_rows``.

    gold: mean over held-out openings. variety: the share of reviews there that are good and unlike
    any other of them. elsewhere: mean gold over openings made of other words. kl: nats a
    completion. sample: one review.
    """
    scores = [gold(row["completion"]) for row in held_out]
    good = {row["completion"] for row, score in zip(held_out, scores, strict=True) if score >= GOOD}
    return {"gold": statistics.fmean(scores), "variety": len(good) / len(held_out),
            "elsewhere": statistics.fmean(gold(row["completion"]) for row in elsewhere),
            "kl": statistics.fmean(sum(r["logps"]) - sum(r["ref_logps"]) for r in held_out),
            "sample": held_out[0]["prompt"] + held_out[0]["completion"]}


@dataclass(frozen=True)
class Judged:
    """fault: why there is no trained policy, fit for a student; None where there is one.
    measured: its ``figures``. seconds: processor time of the training and its measuring."""

    fault: str | None = None
    measured: dict = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)

    def reaches(self, goal: str) -> bool:
        """Whether one of GOALS is reached. Those beside gold itself need its first goal, too: what
        is no good review has neither variety nor another place."""
        value = self.measured["gold" if goal == "fine" else goal]
        return value >= GOALS[goal] and self.measured["gold"] >= GOALS["gold"]


class Fault(Exception):
    """The student's function did something that ends the training; the message is one of above."""


def judge(reward: Callable) -> Judged:
    """Train the tiny policy on a reward and measure it. Deterministic on one machine.

    reward: project_reward, or a Proxy of it. Whatever it does ends up in Judged.
    """
    try:
        with trainer().begin(STEPS, SEED) as channel:
            return Judged(None, *_train(Function(reward), channel))
    except Fault as fault:
        return Judged(str(fault))
    except (protocol.ProtocolError, OSError):  # a TimeoutError is one
        return Judged(TRAINER)


def _train(function: "Function", channel: socket.socket) -> tuple[dict, float]:
    """Answer the trainer's questions until it sends the figures, and the seconds it took."""
    until, first = time.monotonic() + SECONDS, None
    while True:
        message = protocol.receive(channel, max(0.1, until - time.monotonic()))
        if "measured" in message:
            if function(*first[0]) != first[1]:
                raise Fault(FICKLE)
            return message["measured"], message["seconds"]
        rewards = function(*message["asked"])
        first = first or (message["asked"], rewards)
        protocol.send(channel, {"rewards": rewards})


class Function:
    """The student's function with all that may go wrong with it as a Fault."""

    def __init__(self, reward: Callable):
        self.reward, self.seconds = reward, 0.0

    def __call__(self, *asked) -> list[float]:
        start = time.monotonic()
        try:
            values = self.reward(*asked)
        except SandboxDied:
            raise Fault(DIED) from None
        except Exception:
            raise Fault(RAISED) from None
        self.seconds += time.monotonic() - start
        if self.seconds > CALLS_SECONDS:
            raise Fault(SLOW)
        if not isinstance(values, list | tuple) or not all(
                isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            raise Fault(NO_LIST)
        if len(values) != len(asked[0]):
            raise Fault(COUNT)
        if not all(-LARGEST <= v <= LARGEST for v in values):  # NaN is no number of any size
            raise Fault(SIZE)
        return list(map(float, values))


class Trainer:
    """The process that trainings are forked from; see ``grading.trainer``."""

    def __init__(self):
        self.control, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "grading.trainer", str(theirs.fileno())], cwd=ROOT,
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
        theirs.close()
        protocol.receive(self.control, START_SECONDS)

    def begin(self, steps: int, seed: int) -> socket.socket:
        """Start a training; its questions come through the socket, which ends it when closed."""
        ours, theirs = socket.socketpair()
        with theirs, _lock:
            socket.send_fds(self.control, [b"t"], [theirs.fileno()])
            protocol.receive(self.control, 30)
        protocol.send(ours, {"steps": steps, "seed": seed})
        return ours

    def close(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()


_trainer, _lock = None, threading.Lock()  # a Dask worker has several threads


def trainer() -> Trainer:
    """This process's trainer, started when it is first needed or has died."""
    global _trainer
    with _lock:
        if _trainer is None or _trainer.process.poll() is not None:
            _trainer = Trainer()
            atexit.register(_trainer.close)
        return _trainer
