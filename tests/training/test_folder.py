"""A run folder belongs to one run, an interrupt costs at most a step, and memory that runs out
costs nothing: whatever happens in between, the run ends as the undisturbed one."""

import os
import shlex
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForSequenceClassification, GPT2LMHeadModel

from lib import CourseError, logprobs, memory, models, rollout, runs, training, trl_overrides
from lib.__main__ import main
from lib.files import read_json
from lib.progress import tell_once
from lib.tasks.sentiment import SentimentTask
from lib.training import train

OPENINGS = ("The film", "I have to say that the acting", "The music of this film", "It",
            "Honestly, the plot", "The cast", "Nobody told me that the camera", "This story",
            "The ending of it all", "The humour", "A scene", "Every joke in the film")
SETTINGS = {"max_steps": 4, "save_steps": 3, "batch_size": 8, "accumulation": 2,
            "num_generations": 4, "max_completion_length": 8, "beta": 0.1, "kl_type": "forward"}


def flags(prompts, notebook, run_dir):
    return [arg for key, value in SETTINGS.items()
            for arg in (f"--{key.replace('_', '-')}", str(value))] + [
        "--prompts", str(prompts), "--answers", str(notebook), "--output-dir", str(run_dir)]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    file.write_text("\n".join(f"{text} was" for text in OPENINGS))
    return file


@pytest.fixture
def task(prompts):
    return SentimentTask.of(prompt_file=str(prompts), **SETTINGS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, prompts, answers):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    return train(SentimentTask.of(prompt_file=str(prompts), **SETTINGS), answers, run_dir)


def weights(run_dir):
    return load_file(run_dir / runs.POLICY / "model.safetensors")


def assert_same(a, b, atol=0.0):
    one, other = weights(a), weights(b)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=atol)
    told = [[(row["prompt"], row["completion"]) for row in runs.read_samples(run)
             if row["step"] == 1] for run in (a, b)]
    assert sorted(told[0]) == sorted(told[1])


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": "auto"}], ids=str)
def test_a_second_start_in_a_folder_is_refused(task, answers, whole, tmp_path, how):
    run_dir = tmp_path / "run"
    if how:
        shutil.copytree(whole, run_dir)
    with runs.claimed(run_dir):
        before = snapshot(tmp_path)
        with pytest.raises(CourseError, match="belongs to a run that is going on"):
            train(task, answers, run_dir, **how)
        assert snapshot(tmp_path) == before
    assert run_dir.exists() == bool(how), "a claim leaves nothing behind"


def test_a_claim_that_a_kill_left_is_nobodys(task, answers, whole, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / runs.CLAIM).touch()
    assert_same(train(task, answers, tmp_path / "run"), whole)
    assert not (tmp_path / "run" / runs.CLAIM).exists()


def unfinished(whole, run_dir):
    shutil.copytree(whole, run_dir)
    (run_dir / runs.FINAL).unlink()
    return run_dir


def test_the_step_of_a_checkpoint_is_read_from_it(whole, tmp_path):
    run_dir = unfinished(whole, tmp_path / "run")
    (run_dir / "checkpoint-4").rename(run_dir / "checkpoint-best")
    (run_dir / "checkpoint-3").rename(run_dir / "checkpoint-9-copy")
    assert runs.find_checkpoint(run_dir, "auto").name == "checkpoint-best"
    assert runs.step_of(run_dir / "checkpoint-9-copy") == 3
    with pytest.raises(CourseError, match="is no checkpoint of a run"):
        runs.find_checkpoint(run_dir, str(run_dir / runs.POLICY))


def test_a_renamed_checkpoint_is_resumed_from(task, answers, whole, tmp_path):
    run_dir = unfinished(whole, tmp_path / "run")
    (run_dir / "checkpoint-3").rename(run_dir / "backup")
    shutil.rmtree(run_dir / "checkpoint-4")
    assert_same(train(task, answers, run_dir, resume=str(run_dir / "backup")), whole)


def test_another_runs_checkpoint_is_refused(task, answers, whole, tmp_path):
    run_dir = unfinished(whole, tmp_path / "run")
    other = tmp_path / "other"
    shutil.copytree(whole / "checkpoint-3", other)
    config = read_json(other / runs.CONFIG)
    for change in ({"task": "persona"}, {"settings": config["settings"] | {"seed": 7}}):
        runs.write_json(other / runs.CONFIG, config | change)
        runs.write_checksums(other)
        with pytest.raises(CourseError, match="is of another run"):
            train(task, answers, run_dir, resume=str(other))
    (other / runs.CONFIG).unlink()  # one of an earlier release, of another model
    state = load_file(other / "model.safetensors")
    torch.save({}, other / "optimizer.pt")
    from safetensors.torch import save_file

    save_file({name: value[:-1].contiguous() for name, value in state.items()},
              other / "model.safetensors")
    runs.write_checksums(other)
    with pytest.raises(CourseError, match="is of another model"):
        train(task, answers, run_dir, resume=str(other))


def test_another_split_of_the_same_step_goes_on(prompts, answers, whole, tmp_path):
    run_dir = unfinished(whole, tmp_path / "run")
    shutil.rmtree(run_dir / "checkpoint-4")
    split = SETTINGS | {"batch_size": 4, "accumulation": 4}
    train(SentimentTask.of(prompt_file=str(prompts), **split), answers, run_dir, resume="auto")
    assert_same(run_dir, whole, atol=1e-5)
    assert read_json(run_dir / runs.CONFIG)["settings"]["batch_size"] == 4
    with pytest.raises(CourseError, match="completions a step 16 -> 32"):
        train(SentimentTask.of(prompt_file=str(prompts), **split | {"batch_size": 8}), answers,
              run_dir, resume="auto")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_a_step_and_told_how_to_go_on(
        prompts, solved_notebook, whole, tmp_path, capsys, monkeypatch, number, code):
    run_dir = tmp_path / "run"
    made = trl_overrides.Trainer._generate_single_turn

    def stopped(self, *args, **kwargs):
        if self.state.global_step == 1:
            os.kill(os.getpid(), number)
        return made(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trl_overrides.Trainer, "_generate_single_turn", stopped)
        assert main(["train", "sentiment", *flags(prompts, solved_notebook, run_dir)]) == code
    assert (run_dir / "checkpoint-2").is_dir() and not (run_dir / runs.FINAL).exists()
    advice = capsys.readouterr().err.splitlines()[-1].partition("python -m lib ")[2]
    assert main(shlex.split(advice)) == 0
    assert_same(run_dir, whole)


def test_stopped_before_training_leaves_nothing_and_advises_the_same_command(
        prompts, solved_notebook, tmp_path, capsys, monkeypatch):
    def stopped(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("lib.training.check_reward_variance", stopped)
    command = ["train", "sentiment", *flags(prompts, solved_notebook, tmp_path / "a" / "run")]
    assert main(command) == 130
    assert not (tmp_path / "a").exists()
    assert capsys.readouterr().err.endswith(f"python -m lib {shlex.join(command)}\n")


PLACES = {"sampling": (rollout, "_generate"), "log-probs": (logprobs, "token_logprobs"),
          "the loss": (trl_overrides.Trainer, "_get_per_token_logps_and_entropies"),
          "the scorer": (BertForSequenceClassification, "forward"),
          "backward": (torch.Tensor, "backward"), "Adam": (torch.optim.AdamW, "step")}


@pytest.mark.parametrize("place", PLACES)
def test_memory_that_runs_out_in_the_first_step(
        place, task, answers, whole, tmp_path, monkeypatch, capsys):
    owner, name = PLACES[place]
    real, left = getattr(owner, name), [2]

    def full(*args, **kwargs):
        few = place == "the scorer" and len(kwargs["input_ids"]) < 4  # not a check's single text
        if left[0] and (place != "Adam" or args) and not few:
            left[0] -= 1
            raise torch.OutOfMemoryError("simulated")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, full)
    tell_once.cache_clear()
    run_dir = train(task, answers, tmp_path / "run")
    assert left == [0]
    # Where a gradient is rounding alone (a key's bias), Adam makes a step of it; four steps of
    # 2e-4 are what other entries move.
    assert_same(run_dir, whole, atol=2e-4)
    settings = read_json(run_dir / runs.CONFIG)["settings"]
    inside = place in ("sampling", "log-probs", "the scorer")
    assert settings["batch_size"] == (8 if inside else 2) and settings["accumulation"] == (
        2 if inside else 8)
    assert "memory ran out" in capsys.readouterr().err
    assert len(read_json(run_dir / runs.HISTORY)) == SETTINGS["max_steps"]


@pytest.mark.parametrize("step", ["to", "__deepcopy__"])
def test_weights_that_do_not_fit_are_told_before_a_folder_is_made(
        task, answers, tmp_path, monkeypatch, step):
    """Onto the device, and a second time for the reference model."""
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(GPT2LMHeadModel, step, full, raising=False)
    with pytest.raises(CourseError, match="do not fit into the"):
        train(task, answers, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_memory_that_runs_out_later_is_one_line(task, answers, tmp_path, monkeypatch):
    real = trl_overrides.Trainer.training_step

    def full(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise torch.OutOfMemoryError("simulated")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(trl_overrides.Trainer, "training_step", full)
    with pytest.raises(CourseError, match=r"after step 3; go on with --batch-size 4 --acc\S+ 4"):
        train(task, answers, tmp_path / "run")


def test_halving_keeps_the_step():
    task, sizes = SentimentTask.of(batch_size=12, accumulation=2), []
    while task:
        assert task.step_batch == 24
        sizes.append(task.batch_size)
        task = memory.halved(task)
    assert sizes == [12, 6, 3, 1]


def test_a_plan_fits_into_what_is_free():
    config = models.load_config(str(SentimentTask.tiny_policy))
    task = SentimentTask.of(batch_size=64, accumulation=1)
    _, most = memory.fitting(task, config, 2**40, prompt=20)
    planned, found = memory.fitting(task, config, most.peak // 2, prompt=20)
    assert found.peak < most.peak and planned.batch_size < 64 and planned.step_batch == 64


def test_a_run_plans_its_batch_for_the_gpu_that_it_finds(monkeypatch, capsys):
    """The step stays; so does a batch that fits, without a word."""
    policy, _ = models.load_policy(str(SentimentTask.tiny_policy))
    task = SentimentTask.of(batch_size=64, accumulation=1)
    on_gpu = SimpleNamespace(device=torch.device("cuda"), config=policy.config)
    _, most = memory.fitting(task, policy.config, 2**40, prompt=20)
    free = [2**40]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], 2**40))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    assert training._planned(task, on_gpu, 20) == task and capsys.readouterr().err == ""
    free[0] = most.peak // 2
    planned = training._planned(task, on_gpu, 20)
    assert planned.batch_size < 64 and planned.step_batch == 64
    assert f"--batch-size {planned.batch_size} --accumul" in capsys.readouterr().err
