"""Two processes of accelerate launch or torchrun make the run that one process makes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from lib import CourseError, runs, training
from lib.__main__ import main
from lib.files import read_json
from lib.prompts import prompt_ids
from lib.rollout import generate
from lib.tasks.sentiment import SentimentTask
from lib.tiny.corpus import openings

STEPS, SAVE = 4, 2
FLAGS = ["--max-steps", str(STEPS), "--save-steps", str(SAVE), "--batch-size", "4",
         "--accumulation", "4", "--num-generations", "4", "--max-completion-length", "12",
         "--kl-type", "forward", "--beta", "0.1", "--seed", "3"]
LAUNCHERS = {  # --multi_gpu: accelerate's word for several processes; with --cpu it starts one
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
                   "--num_machines", "1", "--main_process_port", "0", "--dynamo_backend", "no",
                   "--mixed_precision", "no"],
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]}
# Means over forward passes, which hold other rows when two processes share them.
BY_PASS = ("entropy", "kl")


@pytest.fixture(scope="module")
def command(tmp_path_factory, solved_notebook):
    """A folder, and further flags -> the command; few prompts, so that validations are short."""
    prompts = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    prompts.write_text("\n".join(openings()[::8]))
    return lambda run_dir, *extra: [
        "train", "sentiment", *FLAGS, "--prompts", str(prompts), "--answers", str(solved_notebook),
        "--output-dir", str(run_dir), *extra]


def launched(how, *args):
    """A command of lib in two processes: how it ended."""
    return subprocess.run(
        [sys.executable, "-m", *LAUNCHERS[how], "-m", "lib", *args], text=True,
        capture_output=True, timeout=300, cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})


@pytest.fixture(scope="module")
def alone(tmp_path_factory, command):
    run_dir = tmp_path_factory.mktemp("runs") / "alone"
    assert main(command(run_dir)) == 0
    return run_dir


def assert_equal(run_dir, alone):
    mine, other = (load_file(run / runs.POLICY / "model.safetensors") for run in (run_dir, alone))
    # Adam makes a whole step of a gradient that is rounding alone (a key's bias has no other).
    apart = torch.cat([(mine[name] - value).abs().flatten() for name, value in other.items()])
    print(f"apart: largest {apart.max():.1e}, above 1e-5 {(apart > 1e-5).float().mean():.1e}")
    assert apart.max() < 2e-4 * STEPS and (apart > 1e-5).float().mean() < 0.01
    both = zip(read_json(run_dir / runs.HISTORY), read_json(alone / runs.HISTORY), strict=True)
    for mine, other in both:
        for key, value in other.items():
            rel = 0.05 if key in BY_PASS else 1e-3
            assert mine[key] == pytest.approx(value, rel=rel, abs=2e-5), (mine["step"], key)
    for name in (runs.SAMPLES, runs.PROBES):
        told = [[(row["step"], row["prompt"], row["completion"])
                 for row in runs.read_samples(run, name)] for run in (run_dir, alone)]
        assert told[0] == told[1]
    assert {path.name for path in run_dir.iterdir()} == {path.name for path in alone.iterdir()}


def test_two_processes_train_and_resume_as_one_does(alone, tmp_path, command):
    """Begun with one launcher, resumed with the other."""
    run_dir = tmp_path / "run"
    done = launched("accelerate", *command(run_dir))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("reward variance") == 1 and done.stdout.count(f"{STEPS} steps") == 1
    assert_equal(run_dir, alone)
    assert runs.is_complete(run_dir / f"checkpoint-{SAVE}")
    assert (run_dir / f"checkpoint-{SAVE}" / "rng_state_1.pth").exists(), "there were two"
    shutil.rmtree(run_dir / f"checkpoint-{STEPS}")
    shutil.rmtree(run_dir / runs.POLICY)
    (run_dir / runs.FINAL).unlink()
    done = launched("torchrun", *command(run_dir, "--resume-from-checkpoint", "auto"))
    assert done.returncode == 0, done.stderr
    assert_equal(run_dir, alone)


def test_a_process_draws_what_one_would_have_drawn_for_its_rows(tiny):
    policy, tokenizer = tiny
    asked = prompt_ids(tokenizer, openings()[:6])
    how = {"ends": [tokenizer.eos_token_id], "pad_token_id": tokenizer.pad_token_id,
           "temperature": 1.0, "max_completion_length": 8, "seed": 5}
    whole = generate(policy, asked, **how)
    assert generate(policy, asked[:3], **how) == whole[:3]
    assert generate(policy, asked[3:], before=3, **how) == whole[3:]
    assert generate(policy, asked[3:], **how) != whole[3:]


def test_a_step_that_cannot_be_shared_is_refused(answers, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "processes", lambda: SimpleNamespace(
        num_processes=2, is_main_process=True))
    with pytest.raises(CourseError, match="--accumulation 3 cannot be shared by 2 processes"):
        training.train(SentimentTask.of(accumulation=3), answers, tmp_path / "run")
    assert not (tmp_path / "run").exists()
