"""Our autograder beside nbgrader's own, on a class of chapter 1. Not a test.

    .venv/bin/python -m benchmarks.grading            # about 15 minutes on two cores

Stock runs on a sample, before and after ours, so that both see the same machine.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from nbgrader.apps import NbGraderAPI

from grading.release import config, generate
from tests.grading.corpus import BROKEN, CHAPTER, as_bytes, hand_in, released, solved, wrong

MIXED = ("metadata lost", "an answer deleted", "a broken answer", "magics", "warnings")


def submissions(n: int) -> dict[str, bytes]:
    """n notebooks in turn: right, wrong, right, untouched, broken."""
    right, bad, empty = (as_bytes(make()) for make in (solved, wrong, released))
    broken = []
    for name in MIXED:
        notebook = solved()
        BROKEN[name][0](notebook)
        broken.append(as_bytes(notebook))
    return {f"s{i:04d}": (right, bad, right, empty, broken[i // 5 % len(broken)])[i % 5]
            for i in range(n)}


def course(folder: Path, students: dict[str, bytes]) -> Path:
    folder.mkdir()
    generate(folder, CHAPTER)
    hand_in(folder, students)
    return folder


def stock(folder: Path, students: dict[str, bytes]) -> list[float]:
    """Seconds of `nbgrader autograde` for each of some students."""
    times = []
    for name, data in students.items():
        api = NbGraderAPI(config=config(course(folder / name, {name: data})))
        start = time.perf_counter()
        api.autograde(CHAPTER, name)
        times.append(time.perf_counter() - start)
    return times


def memory(pid: int) -> float:
    """MiB of a process and all its descendants, shared pages counted once (PSS)."""
    total, todo = 0, [pid]
    while todo:
        process = todo.pop()
        with contextlib.suppress(OSError, IndexError):
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += int(rollup.split("\nPss:")[1].split()[0])
            for task in Path(f"/proc/{process}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
    return total / 1024


def ours(folder: Path, students: dict[str, bytes], workers: int) -> tuple[float, float, float]:
    """Seconds of the whole command, start-up included, and its memory in MiB: the median while
    the second half was graded, and the peak.

    The peak is that of the jails that a sample meets: the more samples, the larger."""
    where = course(folder, students)
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "grading", "autograde", CHAPTER, "--course", str(where),
         "--workers", str(workers)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples, done = [], threading.Event()
    graded = where / "autograded"

    def watch():
        while not done.wait(0.5):
            half = len(list(graded.glob("*"))) > len(students) / 2
            samples.append((half, memory(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.wait() == 0
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    late = [mib for half, mib in samples if half]
    return seconds, statistics.median(late), max(mib for _, mib in samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--students", type=int, default=200)
    parser.add_argument("--sample", type=int, default=5, help="graded by stock, twice")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    sample = dict(list(submissions(args.sample).items()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("before", "after"):
            (folder / part).mkdir()
        times = stock(folder / "before", sample)
        runs = [(n, *ours(folder / f"ours{n}", submissions(n), args.workers))
                for n in (args.students // 4, args.students, 2 * args.students)]
        times += stock(folder / "after", sample)
    median, mean = statistics.median(times), statistics.fmean(times)
    print("| grader | submissions | seconds | seconds each | times stock | MiB | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    print(f"| nbgrader autograde, one core | {len(times)} | {sum(times):.0f} | {mean:.2f} "
          f"(median {median:.2f}) | 1 | | |")
    for n, seconds, mib, peak in runs:
        print(f"| python -m grading autograde, {args.workers} workers | {n} | {seconds:.0f} | "
              f"{seconds / n:.3f} | {median / (seconds / n):.0f} | {mib:.0f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
