"""Help and a user's mistake answer at once: they import neither torch nor what imports it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import json, sys, time
from lib.__main__ import main
try:
    main(json.loads(sys.argv[1]))
except SystemExit:
    pass
heavy = {"torch", "transformers", "trl", "matplotlib"} & set(sys.modules)
print(json.dumps({"heavy": sorted(heavy), "seconds": time.process_time()}))
"""


def start(argv: list[str], cwd: Path) -> dict:
    """What a command has imported, and the CPU-seconds of its process."""
    run = subprocess.run([sys.executable, "-c", CODE, json.dumps(argv)], cwd=cwd, text=True,
                         capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert "Traceback" not in run.stderr, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("argv", [
    ["--help"], ["train", "--help"], ["train", "persona", "--help"], ["evaluate", "--help"],
    ["fly"], ["train", "poetry"], ["train", "sentiment", "--bta", "1"],
    ["train", "sentiment", "--preset", "huge"], ["train", "reasoning", "--epochs", "0"],
    ["plot", "runs/none"], ["analyze", "runs/none"], ["chat", "tiny"],
    ["search", "persona"], ["export", "runs/none", "--zip", "a.zip", "--private"]],
    ids=" ".join)
def test_no_torch_for_help_and_mistakes(argv, tmp_path):
    assert start(argv, tmp_path)["heavy"] == []


def test_help_takes_under_half_a_second(tmp_path):
    """CPU-seconds, the best of three: a busy machine slows the others."""
    assert min(start(["train", "sentiment", "--help"], tmp_path)["seconds"]
               for _ in range(3)) < 0.5
