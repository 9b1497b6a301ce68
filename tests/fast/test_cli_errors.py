"""A user's mistake: one line that says what, where and what next; exit 2; nothing written."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grading.release import generate
from lib import models, runs
from lib.__main__ import COMMANDS, main
from lib.tasks.sentiment import SentimentTask
from lib.tiny import WEIGHTS

# Cheap to get through where a mistake shows only once the base policy has been sampled.
SMALL = ["--max-completion-length", "3", "--max-steps", "1"]
REWARD = "def sentiment_reward(completions, **kwargs):\n    "
SOLVED = REWARD + "return [0.5 for _ in completions]\n"


def fails(capsys, *argv) -> str:
    """Run the command; check exit code, one line, no traceback; return the line."""
    assert main([str(arg) for arg in argv]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
    assert "Traceback" not in captured.out + captured.err
    return lines[0]


@pytest.fixture
def nothing_written(in_tmp):
    before = None

    def snapshot():
        return sorted(str(p) for p in in_tmp.rglob("*"))

    class Guard:
        def ready(self):
            nonlocal before
            before = snapshot()

    guard = Guard()
    yield guard
    assert before is not None and snapshot() == before


FLAGS = {
    "unknown preset": (["--preset", "huge"],
                       "--preset must be one of quick, medium, full, not 'huge'"),
    "unknown shaping": (["--reward_shaping", "log"],
                        "--reward-shaping must be one of none, exponential, not 'log'"),
    "unknown KL type": (["--kl_type", "reverse"],
                        "--kl-type must be one of none, forward, backward"),
    "unknown flag": (["--lr", "1"], "unrecognized arguments: --lr"),
    "not a number": (["--max-steps", "ten"], "invalid int value: 'ten'"),
    "group of one": (["--num-generations", "1"], "at least 2, not 1; a group of one"),
    "batch not divisible": (["--batch_size", "3", "--accumulation", "1"],
                            "3 completions a step do not divide into groups"),
    "no steps": (["--max-steps", "0"], "--max-steps must be at least 1"),
    "negative learning rate": (["--learning-rate", "-1"], "--learning-rate must be positive"),
    "learning rate nan": (["--learning-rate", "nan"], "--learning-rate must be positive"),
    "temperature zero": (["--temperature", "0"], "--temperature must be positive"),
    "negative KL coefficient": (["--kl-coef", "-0.1"], "--kl-coef must not be negative"),
    "negative seed": (["--seed", "-1"], "--seed must be between 0 and 4294967295, not -1"),
    "negative beta": (["--beta", "-1"], "--beta must not be negative"),
    "no answers file": (["--answers", "mine.ipynb"], "no answers file mine.ipynb"),
    "missing model folder": (["--model", "./nowhere"], "no such model folder: ./nowhere"),
    "unreachable Hub": (["--model", "gpt2"], "offline use tiny"),
    "unreachable Hub scorer": (["--scorer", "some/classifier"], "offline use tiny"),
    "classifier as policy": (["--model", str(WEIGHTS / "star-scorer")],
                             "not a causal language model"),
    "policy as scorer": (["--scorer", str(WEIGHTS / "review-policy")],
                         "not a five-star classifier"),
    "completion too long": (["--max-completion-length", "999"], "does not fit"),
    "nothing to resume": (["--resume-from-checkpoint", "auto"], "holds no run to resume"),
    "tracker not installed": (["--wandb"], "pip install wandb"),
    "vLLM without a GPU": (["--use-vllm"], "--use-vllm needs a CUDA GPU"),
    "missing prompts file": (["--prompts", "none.txt"], "cannot read the prompts file none.txt"),
}


@pytest.mark.parametrize("flags, message", FLAGS.values(), ids=FLAGS)
def test_flags(in_tmp, capsys, nothing_written, flags, message, monkeypatch):
    if "--wandb" in flags:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (in_tmp / "answers.py").write_text(SOLVED)
    nothing_written.ready()
    answers = [] if "--answers" in flags else ["--answers", "answers.py"]
    assert message in fails(capsys, "train", "sentiment", *answers, *flags)


@pytest.mark.parametrize("argv, message", [
    ([], "the following arguments are required"), (["fly"], "invalid choice: 'fly'"),
    (["train", "poetry"], "no task 'poetry'; choose sentiment, persona, reasoning"),
    (["evaluate", "sentiment", "runs/none"], "no such model folder: runs/none"),
    (["evaluate", "sentiment", "./runs/none"], "no such model folder"),
    (["evaluate", "sentiment", "tiny", "--num-prompts", "0"], "at least 1, not 0"),
    (["analyze", "runs/none"], "there is no run runs/none"),
    (["train", "sentiment", "--bta", "1"],
     "--bta 1; did you mean --beta?; see python -m lib train sentiment --help"),
    (["evaluate", "sentiment", "tiny", "--save-plot", "a.xyz"], "a.xyz does not end in .png"),
    (["export", "runs/none", "--zip", "a.zip", "--private"], "--private goes with --push-to-hub"),
    (["plot", "runs/none"], "does not exist; is this the folder of a run?"),
])
def test_other_verbs(capsys, nothing_written, argv, message):
    nothing_written.ready()
    assert message in fails(capsys, *argv)


ANSWERS = {
    "too few": (REWARD + "return [0.5]\n", "sentiment_reward: it returned 1 values for 64"),
    "nan": (REWARD + "return [float('nan') for _ in completions]\n", "value 0 is nan"),
    "tensor": ("import torch\n" + REWARD + "return torch.ones(len(completions))\n",
               "it returned a Tensor"),
    "raises": (REWARD + "return completions[99]\n", "it raised IndexError"),
    "syntax": ("def sentiment_reward(:\n", "SyntaxError"),
    "at import": ("1 / 0\n", "ZeroDivisionError"),
    "a notebook as a script": ("# %%\n" + SOLVED, "name the notebook itself (.ipynb)"),
    "exits": ("raise SystemExit\n", "SystemExit"),
    "other name": ("def reward(completions): return []\n", "no function sentiment_reward"),
}


@pytest.mark.parametrize("source, message", ANSWERS.values(), ids=ANSWERS)
def test_answers(in_tmp, capsys, nothing_written, source, message):
    (in_tmp / "answers.py").write_text(source)
    nothing_written.ready()
    assert message in fails(capsys, "train", "sentiment", "--answers", "answers.py", *SMALL)


def test_a_run_that_is_not_finished_says_so(in_tmp, capsys, nothing_written):
    (in_tmp / "cut").mkdir()
    (in_tmp / "cut" / runs.CONFIG).write_text(json.dumps(
        {"task": "sentiment", "settings": dataclasses.asdict(SentimentTask.of())}))
    nothing_written.ready()
    for argv in (["analyze", "cut"], ["compare", "sentiment", "tiny", "cut"],
                 ["chat", "cut", "Hello"], ["export", "cut", "--zip", "cut.zip"]):
        assert "cut is no finished run (no final_validation.json)" in fails(capsys, *argv)


def test_an_unsolved_exercise_names_itself_and_its_file(in_tmp, capsys, nothing_written):
    notebook = generate(in_tmp / "course", "01_sentiment")
    nothing_written.ready()
    line = fails(capsys, "train", "sentiment", "--answers", notebook, *SMALL)
    assert "Exercise 1: write sentiment_reward" in line and str(notebook) in line
    line = fails(capsys, "evaluate", "persona", "tiny", "--num-prompts", "2")
    assert "not solved yet in" in line and "03_persona.ipynb" in line


@pytest.mark.parametrize("content, message", [
    ("{", "not a readable .ipynb file"), ("[]", "not a readable .ipynb file"),
    ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}',
     "not a readable .ipynb file"),
    ('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "no solution cell"),
])
def test_broken_notebooks(in_tmp, capsys, nothing_written, content, message):
    (in_tmp / "answers.ipynb").write_text(content)
    nothing_written.ready()
    assert message in fails(capsys, "train", "sentiment", "--answers", "answers.ipynb", *SMALL)


@pytest.mark.parametrize("lines", ["", "one\n" * 30])
def test_too_few_prompts(in_tmp, capsys, nothing_written, lines):
    (in_tmp / "answers.py").write_text(SOLVED)
    (in_tmp / "prompts.txt").write_text(lines)
    nothing_written.ready()
    assert "distinct prompts, at least 10" in fails(
        capsys, "train", "sentiment", "--answers", "answers.py", "--prompts", "prompts.txt")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_model_folder(in_tmp, capsys, nothing_written, file):
    (in_tmp / "answers.py").write_text(SOLVED)
    shutil.copytree(SentimentTask.tiny_policy, in_tmp / "model")
    (in_tmp / "model" / file).write_bytes((in_tmp / "model" / file).read_bytes()[:100])
    nothing_written.ready()
    fails(capsys, "train", "sentiment", "--answers", "answers.py", "--model", "./model", *SMALL)


def test_output_folders_that_are_not_ours_to_fill(in_tmp, capsys, nothing_written):
    (in_tmp / "answers.py").write_text(SOLVED)
    (in_tmp / "file").write_text("")
    (in_tmp / "photos").mkdir()
    (in_tmp / "photos" / "cat.jpg").write_text("")
    (in_tmp / "run").mkdir()
    (in_tmp / "run" / "training_config.json").write_text("{}")
    nothing_written.ready()
    command = ["train", "sentiment", "--answers", "answers.py", *SMALL, "--output-dir"]
    assert "is a file, not a folder" in fails(capsys, *command, "file/run")
    assert "holds other files" in fails(capsys, *command, "photos")
    assert "--overwrite" in fails(capsys, *command, "run")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses")
def test_a_folder_that_cannot_be_written_to(in_tmp, capsys, nothing_written):
    (in_tmp / "answers.py").write_text(SOLVED)
    nothing_written.ready()
    assert "/proc" in fails(capsys, "train", "sentiment", "--answers", "answers.py", *SMALL,
                            "--output-dir", "/proc/run")


def test_a_full_disk(in_tmp, capsys, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    (in_tmp / "answers.py").write_text(SOLVED)
    try:
        assert "free some space" in fails(capsys, "train", "sentiment", "--answers", "answers.py",
                                          *SMALL, "--output-dir", disk / "run")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_scorer_for_another_vocabulary_of_policies(in_tmp, capsys):
    from transformers import GPT2Config, GPT2LMHeadModel

    other = in_tmp / "other"
    GPT2LMHeadModel(GPT2Config(vocab_size=1000, n_embd=8, n_layer=1, n_head=1, n_positions=64,
                               bos_token_id=0, eos_token_id=0)).save_pretrained(other)
    models.load_tokenizer(models.policy_path("tiny", SentimentTask)).save_pretrained(other)
    assert "do not share a vocabulary" in fails(capsys, "compare", "sentiment", "tiny", "./other")


def test_underscores_and_dashes_are_the_same_flag():
    from lib.__main__ import build_parser, dashes

    argv = dashes(["train", "sentiment", "--kl_type", "forward", "--max_steps=7", "--answers",
                   "a_b.py"])
    args = build_parser(argv).parse_args(argv)
    assert (args.kl_type, args.max_steps, str(args.answers)) == ("forward", 7, "a_b.py")


def test_a_hub_that_does_not_answer_is_one_line_without_minutes_of_retries(in_tmp):
    (in_tmp / "answers.py").write_text(SOLVED)
    start = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "lib", "train", "sentiment", "--model", "gpt2", "--answers",
         "answers.py"], capture_output=True, text=True, timeout=100,
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9",
             "HF_HOME": str(in_tmp / "cache"), "PYTHONPATH": str(Path(models.__file__).parents[1])})
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("error: cannot get 'gpt2'") and run.stderr.count("\n") == 1
    assert time.monotonic() - start < 60 and not (in_tmp / "runs").exists()


def test_ctrl_c_is_one_line(capsys, monkeypatch):
    def pressed(args):
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, "preflight", pressed)
    assert main(["preflight"]) == 130
    assert capsys.readouterr().err == "error: stopped; what was finished is kept\n"
