"""A run that was killed and resumed ends with the bits of the run that was not."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from lib import CourseError
from lib.__main__ import main
from lib.files import read_json
from lib.runs import (
    FINAL,
    HISTORY,
    PROBES,
    SAMPLES,
    find_checkpoint,
    is_complete,
    read_samples,
)
from lib.tasks.sentiment import SentimentTask
from lib.training import train

STEPS, SAVE = 9, 2
# A KL term of each kind, two forward passes a step: everything that draws or keeps state.
FLAGS = ["--max-steps", str(STEPS), "--save-steps", str(SAVE), "--batch-size", "8",
         "--accumulation", "2", "--num-generations", "4", "--max-completion-length", "12",
         "--beta", "0.1", "--kl-type", "forward", "--seed", "3"]


def command(run_dir, notebook, *extra):
    return ["train", "sentiment", *FLAGS, "--output-dir", str(run_dir), "--answers",
            str(notebook), *extra]


def finish(run_dir, notebook, *extra):
    """Run to the end, in this process: seconds of imports are saved."""
    assert main(command(run_dir, notebook, *extra)) == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory, solved_notebook):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    finish(run_dir, solved_notebook)
    return run_dir


def same(a, b):
    """Weights bit for bit, history, samples and final figures."""
    weights = [load_file(run / "final" / "model.safetensors") for run in (a, b)]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][k].equal(weights[1][k]) for k in weights[0])
    assert read_json(a / HISTORY) == read_json(b / HISTORY)
    assert read_samples(a) == read_samples(b)
    assert read_samples(a, PROBES) == read_samples(b, PROBES)
    assert read_json(a / FINAL) == read_json(b / FINAL)


def killed(run_dir, notebook, after, delay):
    """Start a run and kill it, delay seconds after its history has so many steps."""
    process = subprocess.Popen([sys.executable, "-m", "lib", *command(run_dir, notebook)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        history = run_dir / HISTORY
        if history.exists() and len(json.loads(history.read_text())) >= after:
            time.sleep(delay)
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_the_same_seed_gives_the_same_numbers(whole, tmp_path, solved_notebook):
    finish(tmp_path / "again", solved_notebook)
    same(whole, tmp_path / "again")


@pytest.mark.parametrize("case", range(2))
def test_killed_at_a_random_moment_then_resumed(whole, tmp_path, solved_notebook, case):
    rng = random.Random()
    after, delay = rng.randint(case * 4, case * 4 + 4), rng.random() / 2
    run_dir = tmp_path / "killed"
    killed(run_dir, solved_notebook, after, delay)
    print(f"killed {delay:.2f} s after step {after}")
    finish(run_dir, solved_notebook, "--resume-from-checkpoint", "auto")
    same(whole, run_dir)


def test_a_run_without_a_whole_checkpoint_starts_over(whole, tmp_path, solved_notebook):
    run_dir = tmp_path / "early"
    shutil.copytree(whole, run_dir, ignore=shutil.ignore_patterns("checkpoint-*", "final*"))
    finish(run_dir, solved_notebook, "--resume-from-checkpoint", "auto")
    same(whole, run_dir)


def test_a_damaged_checkpoint_is_skipped_with_a_word(whole, tmp_path, solved_notebook, capsys):
    run_dir = tmp_path / "damaged"
    shutil.copytree(whole, run_dir)
    newest = run_dir / f"checkpoint-{STEPS - STEPS % SAVE}"
    if (run_dir / f"checkpoint-{STEPS}").exists():
        newest = run_dir / f"checkpoint-{STEPS}"
    weights = newest / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # one bit, same size
    weights.write_bytes(data)
    with (run_dir / SAMPLES).open("a") as file:
        file.write('{"step": 99, "torn')
    finish(run_dir, solved_notebook, "--resume-from-checkpoint", "auto")
    assert f"skipping {newest}" in capsys.readouterr().err
    same(whole, run_dir)


def test_a_damaged_checkpoint_named_by_path_is_refused(whole, tmp_path):
    folder = tmp_path / "checkpoint-4"
    shutil.copytree(next(whole.glob("checkpoint-*")), folder)
    assert is_complete(folder)
    (folder / "optimizer.pt").write_bytes(b"")
    with pytest.raises(CourseError, match="damaged or incomplete"):
        find_checkpoint(whole, str(folder))


def test_other_settings_are_refused(whole, answers):
    with pytest.raises(CourseError, match=r"other settings .*seed 3 -> 4"):
        train(SentimentTask.of(max_steps=STEPS, save_steps=SAVE, batch_size=8, accumulation=2,
                       num_generations=4, max_completion_length=12, beta=0.1,
                       kl_type="forward", seed=4), answers, whole, resume="auto")
