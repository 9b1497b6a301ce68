"""What rewards train, as the grader of chapter 6's capstone measures it, and its cost. Not a test.

    .venv/bin/python -m benchmarks.capstone                  # about 5 minutes on one core
    .venv/bin/python -m benchmarks.capstone --seeds 3 4
    .venv/bin/python -m benchmarks.capstone --students 40    # a class, graded twice

The base policy, the plain score, the chapter's answer, and the good rewards of the fault bank. The
seconds are processor time of one training with its measuring.

A class is that many solved notebooks, each with a reward of its own, through the command that an
instructor types. Graded once more, it has to come to the same figures and points.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil

from grading import capstone
from grading.faults import reference, substitute, variants
from grading.grade import Outcome
from grading.gradebook import Grader
from grading.release import source_notebook
from tests.grading.corpus import cell, generate, hand_in

CHAPTER, STEPS = "06_project", capstone.STEPS
COLUMNS = ("gold", "variety", "elsewhere", "kl")
OF_A_CLASS = """\
def project_reward(completions, star_probs, ref_logps, **kwargs):
    rewards = []
    for text, stars, logps in zip(completions, star_probs, ref_logps, strict=True):
        score = sum(i * p for i, p in enumerate(stars)) / 4
        whole = text.rstrip().endswith(".") and len(logps) <= {longest} and min(logps) > {rarest}
        rewards.append(score * whole - {price} * len(logps))
    return rewards
"""


def untrained(completions, star_probs, ref_logps):
    """Equal rewards: no advantage, no step away from the base."""
    return [0.0] * len(completions)


def plain(completions, star_probs, ref_logps):
    """The expected stars, from 0 to 1."""
    return [sum(i * p for i, p in enumerate(stars)) / 4 for stars in star_probs]


def table(seeds: list[int]) -> None:
    rewards = {"plain score": plain, "our answer": reference(CHAPTER)["project_reward"]}
    rewards |= {v.name: substitute(CHAPTER, v)["project_reward"] for v in variants(CHAPTER)
                if (v.exercise, v.kind) == ("ex7", "right")}
    print(f"| reward, seed | {' | '.join(COLUMNS)} | seconds |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    print(row("base", untrained, 0, steps=1))
    for name, reward in rewards.items():
        for seed in seeds:
            print(row(f"{name}, {seed}", reward, seed, STEPS), flush=True)


def row(name: str, reward, seed: int, steps: int) -> str:
    capstone.STEPS, capstone.SEED = steps, seed
    judged = capstone.judge(reward)
    figures = " | ".join(f"{judged.measured[key]:.2f}" for key in COLUMNS)
    return f"| {name} | {figures} | {judged.seconds:.0f} |"


def submission(number: int) -> bytes:
    """A solved notebook, whose reward is no other's: from the plain score to a strict one."""
    notebook = source_notebook(CHAPTER)
    cell(notebook, "ex7").source = OF_A_CLASS.format(
        longest=40 - number % 5 * 5, rarest=-30 + number % 4 * 8, price=number * 1e-4)
    return nbformat.writes(notebook).encode()


def autograde(course: Path, *more: str) -> tuple[float, float, dict[str, Outcome]]:
    """Wall and processor seconds of the command, start-up included, and each student's outcome.

    Processor time is asked for once a second, of each process that there is by then.
    """
    start, seconds = time.perf_counter(), {}
    command = psutil.Popen([sys.executable, "-m", "grading", "autograde", CHAPTER, "--course",
                            str(course), "--workers", "2", *more],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while command.poll() is None:
        with contextlib.suppress(psutil.Error):
            for process in (command, *command.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    seconds[process] = sum(process.cpu_times()[:2])
        time.sleep(1)
    assert command.returncode == 0
    wall = time.perf_counter() - start
    with Grader(course, CHAPTER) as grader:
        students = sorted(path.name for path in (course / "submitted").iterdir())
        return wall, sum(seconds.values()), {s: grader.graded(s)["outcome"] for s in students}


def of_a_class(students: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        generate(course, CHAPTER)
        hand_in(course, {f"s{i:04d}": submission(i) for i in range(students)}, CHAPTER)
        first, again = autograde(course), autograde(course, "--regrade")
    assert first[2] == again[2], "the same points and figures once more"
    gold = [outcome.measured["gold"] for outcome in first[2].values()]
    print(f"gold {min(gold):.2f} to {max(gold):.2f}, {len(set(gold))} different figures")
    print("| submissions | wall seconds | processor seconds | each | 200 would take, minutes |")
    print("|---" * 5 + "|")
    for wall, processor, _ in (first, again):
        print(f"| {students} | {wall:.0f} | {processor:.0f} | {processor / students:.1f} | "
              f"{wall / students * 200 / 60:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--students", type=int, help="measure a class in place of the table")
    args = parser.parse_args()
    if args.students:
        of_a_class(args.students)
    else:
        table(args.seeds)


if __name__ == "__main__":
    main()
