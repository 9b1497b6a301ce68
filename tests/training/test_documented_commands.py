"""Every command in a fenced block of README and docs is run as it is written, in a copy.

A command that trains is stopped after two short steps; what needs another machine, the whole set-up
or hours stands in ``ELSEWHERE`` with its reason, and a form of it that can be tried here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from grading import ROOT, chapters
from grading.release import write_source
from tests.grading.corpus import as_bytes, solved

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md",
         *sorted((ROOT / "docs").glob("*.md"))]
INSTRUCTOR = re.compile(r"-m grading ")
TRAINS = re.compile(r"-m lib (train|search) ")
SHORT = "--max-steps 2 --max-completion-length 8"
REFUSED = re.compile(r"--refuse-hopeless")  # says why, and ends with 2: what the page promises
# Runs [command, wanted exit code] one after the other. The libraries take five seconds to import:
# a process that has them runs each of the course's commands in a child of its own, as -m would.
RUNNER = """
import json, os, runpy, shlex, subprocess, sys
import lib.training, lib.trl_overrides, grading.autograde, grading.feedback

for command, wanted in json.load(sys.stdin):
    words = shlex.split(command)
    if words[:2] != ["python", "-m"] or words[2] not in ("lib", "grading") or ">" in words:
        code = subprocess.run(["bash", "-c", command]).returncode
    elif child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    else:
        sys.argv, _ = words[2:], sys.modules.pop(f"{words[2]}.__main__", None)
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    if code != wanted:
        sys.exit(f"{command} ended with {code}")
"""
ELSEWHERE = {  # a command, why it is not run as written -> what is run in its place
    r"bash setup\.sh( \w+)*": ("installs, or runs all of this", "bash -n setup.sh"),
    r"jupyter lab .*": ("serves until it is stopped", "jupyter lab --version"),
    r"(accelerate|torchrun) .*": ("tests/training/test_processes.py tries both", "torchrun --help"),
    r"python -m lib train persona --model mistralai/.*": (
        "needs several large GPUs", "python -m lib train persona --use-peft --learning-rate 1e-5 "
        "--batch-size 1 --accumulation 4 --num-generations 4 --num-samples 220 --epochs 10 "
        f"{SHORT}"),
    r"pre-commit install": ("needs a git repository", "pre-commit --version"),
    r"(#!|set -e|cd |\[ -d grpo-course \]).*": ("a script for a new machine", "true")}


def documented(page: Path) -> list[str]:
    """The commands of a page's bash blocks: continued lines joined, comments dropped.

    ``.venv/bin/python`` is ``python`` here, the one that runs the tests.
    """
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", page.read_text("utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [command.removeprefix(".venv/bin/") for line in lines
            if (command := re.sub(r"(^|\s+)#(?!!).*", "", line).strip())]


def runnable(command: str) -> str:
    for pattern, (_, instead) in ELSEWHERE.items():
        if re.fullmatch(pattern, command):
            return instead
    if TRAINS.search(command) and not REFUSED.search(command):
        command = re.sub(r"--trials \d+", "--trials 1", command)
        return re.sub(r"--max-steps \d+", "", command) + f" {SHORT}"
    return command


@pytest.fixture
def copy(tmp_path) -> Path:
    """The course as it is handed on, without its history, with this environment."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if names.returncode:
        pytest.skip("needs a git repository")
    root = tmp_path / "grpo-course"
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():  # a file may be deleted and not committed yet
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    return root


def run(copy: Path, commands: Iterable[str]) -> None:
    binaries = Path(sys.executable).parent
    shortened = dict.fromkeys(map(runnable, commands))
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], cwd=copy, capture_output=True, text=True, timeout=1200,
        input=json.dumps([[command, 2 if REFUSED.search(command) else 0] for command in shortened]),
        env=os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(copy)})
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-1500:]}"


def test_what_a_student_is_told_to_type_works(copy):
    """In the order of the pages, with solved notebooks: later commands read what earlier wrote."""
    for chapter in chapters():
        shutil.copy(write_source(copy / "solved", chapter), copy / "notebooks")
    commands = dict.fromkeys(command for page in PAGES for command in documented(page)
                             if not INSTRUCTOR.search(command))
    assert len(commands) > 20
    run(copy, commands)


def test_what_an_instructor_is_told_to_type_works(copy):
    """With a class of one and a download as an LMS gives it."""
    (copy / "class.csv").write_text("id,first_name,last_name,email,lms_user_id\n"
                                    "jdoe,Jane,Doe,jane@x.org,123\n")
    download = copy / "handed_in"
    download.mkdir()
    (download / "doejane_123_9_01_sentiment.ipynb").write_bytes(as_bytes(solved()))
    shutil.make_archive(str(copy / "DOWNLOAD"), "zip", download)
    commands = dict.fromkeys(command for page in PAGES for command in documented(page)
                             if INSTRUCTOR.search(command))
    assert len(commands) > 7
    run(copy, commands)
    assert "jdoe" in (copy / "grades.csv").read_text()
