"""Short real runs of chapter 3's task: files, reward variance, other verbs, kill and resume."""

import math
import random
import shutil

import pytest

from grading.faults import reference
from grading.release import write_source
from lib import CourseError, evaluation
from lib.__main__ import main
from lib.files import read_json
from lib.runs import BASELINE, FINAL, HISTORY, read_samples
from lib.tasks.persona import RATES, PersonaTask
from lib.training import train
from tests.training.test_resume import killed, same

FLAGS = ["--epochs", "3", "--num-samples", "12", "--batch-size", "8", "--accumulation", "2",
         "--num-generations", "4", "--max-completion-length", "12", "--fewshot-ratio", "0.5",
         "--tie-noise", "0.01", "--seed", "5"]
ANSWERS = reference("03_persona")


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("course"), "03_persona")


def command(run_dir, notebook, *extra):
    return ["train", "persona", *FLAGS, "--output-dir", str(run_dir), "--answers", str(notebook),
            *extra]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, notebook):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    assert main(command(run_dir, notebook)) == 0
    return run_dir


def check_artefacts(run_dir):
    """The documented schema of every file."""
    config = read_json(run_dir / "training_config.json")
    assert config["task"] == "persona" and config["settings"]["num_samples"] == 12
    history = read_json(run_dir / HISTORY)
    assert [row["step"] for row in history] == list(range(1, 10))
    for row in history:
        assert {"mean_reward", "epoch", "kl", "entropy", "tied_groups", *RATES} <= row.keys()
        assert all(math.isfinite(value) for value in row.values())
    assert history[-1]["epoch"] == 3
    for name in (BASELINE, FINAL):
        validation = read_json(run_dir / name)
        assert isinstance(validation["is_healthy"], bool) and len(validation["rows"]) == 240
        for key in RATES:
            m = validation["metrics"][key]
            assert 0 <= m["low"] <= m["value"] <= m["high"] <= 1 and m["n"] == 240
            assert m["value"] == sum(row[key] for row in validation["rows"]) / 240
        assert {"prompt", "completion"} <= validation["rows"][0].keys()
    assert {"base_rate", "tied_groups", "n", "hopeless"} <= read_json(
        run_dir / BASELINE)["reward_variance"].keys()
    assert {row["step"] for row in read_samples(run_dir)} == {1, 5, 9}
    assert {p.name for p in run_dir.glob("checkpoint-*")} == {
        "checkpoint-3", "checkpoint-6", "checkpoint-9"}, "one checkpoint an epoch"
    assert (run_dir / "curves.png").exists() and (run_dir / "final").is_dir()


def test_every_artefact_is_there_after_a_run(whole):
    check_artefacts(whole)


def test_killed_at_a_random_moment_then_resumed(whole, tmp_path, notebook, monkeypatch):
    rng = random.Random()
    run_dir = tmp_path / "killed"
    monkeypatch.setattr("tests.training.test_resume.command", command)
    killed(run_dir, notebook, rng.randint(0, 8), rng.random() / 2)
    assert main(command(run_dir, notebook, "--resume-from-checkpoint", "auto")) == 0
    same(whole, run_dir)
    check_artefacts(run_dir)


def test_the_base_policy_hardly_knows_the_persona(whole):
    metrics = read_json(whole / BASELINE)["metrics"]
    assert metrics["musclebob_rate"]["value"] < 0.02 and metrics["musclebob_rate"]["high"] < 0.03
    assert metrics["spongebob_rate"]["value"] > 0.9
    assert metrics["coherent_rate"]["value"] > 0.9  # the limit of 12 tokens cuts the longest off


def test_the_other_verbs_read_a_run(whole, notebook, capsys, tmp_path):
    picture = tmp_path / "rates.png"
    assert main(["compare", "persona", "tiny", str(whole), "--num-prompts", "5", "--answers",
                 str(notebook), "--save-plot", str(picture)]) == 0
    assert "persona rate" in capsys.readouterr().out and picture.stat().st_size > 1000
    assert main(["evaluate", "persona", str(whole), "--num-prompts", "3", "--answers",
                 str(notebook)]) == 0
    assert main(["analyze", str(whole)]) == 0
    assert "--epochs" in capsys.readouterr().out
    assert main(["evaluate", "sentiment", str(whole)]) == 2
    assert "is a run of the task persona" in capsys.readouterr().err


def test_a_hopeless_run_is_told_and_refused_on_request(tmp_path, notebook, capsys):
    argv = ["train", "persona", "--no-fewshot", "--max-steps", "1", "--answers", str(notebook),
            "--output-dir", str(tmp_path / "run"), "--refuse-hopeless"]
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert "base rate 0.0%" in out and err.startswith("error: hopeless: none of 64 completions")
    assert not (tmp_path / "run").exists()


def test_a_failing_reward_check_stops_before_anything_is_written(tmp_path):
    wrong = ANSWERS | {"persona_reward": lambda completions, **kwargs: [6.0] * len(completions)}
    with pytest.raises(CourseError, match="visible check fails"):
        train(PersonaTask.of(max_steps=1), wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags, message", [
    (["--epochs", "0"], "--epochs must be at least 1"),
    (["--num-samples", "9999"], "more than the"),
    (["--fewshot-ratio", "1.5"], "must be between 0 and 1"),
    (["--fewshot-ratio", "0.2", "--no-fewshot"], "not allowed with"),
    (["--reward-function", "kind"], "--reward-function must be one of persona, robust, not 'kind'"),
    (["--tie-noise", "-1"], "must not be negative"),
    (["--num-generations", "1"], "at least 2"),
    (["--answers", "missing.ipynb"], "no answers file")])
def test_bad_flags_are_one_line(in_tmp, capsys, flags, message):
    assert main(["train", "persona", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(in_tmp.iterdir())


def test_validation_repeats(whole):
    rows = evaluation.rows(whole)
    task = evaluation.task_of(PersonaTask, ["tiny", str(whole)], {})
    again = evaluation.measure_all(task, ANSWERS, {"base": "tiny", "trained": str(whole)})
    assert [r["completion"] for r in again["trained"]["rows"]] == [r["completion"] for r in rows]


def test_a_run_copied_elsewhere_still_resumes(whole, tmp_path, notebook):
    moved = shutil.copytree(whole, tmp_path / "moved")
    shutil.rmtree(moved / "checkpoint-9")
    assert main(command(moved, notebook, "--resume-from-checkpoint", "auto")) == 0
    same(whole, moved)
