"""A task of one's own: one file, every command, and not a line of lib for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from lib import CourseError
from lib.__main__ import main
from lib.files import read_json
from lib.runs import FINAL, HISTORY, read_samples
from lib.tasks import task_class

EXAMPLE = Path(__file__).parents[2] / "docs" / "wanted_length.py"


def test_the_example_is_short_and_goes_through_every_command(in_tmp, capsys):
    assert len(EXAMPLE.read_text().splitlines()) < 60
    (in_tmp / "my_task.py").write_text(EXAMPLE.read_text())
    run = "runs/my_task/7words"
    assert main(["train", "my_task.py", "--words", "7", "--max-steps", "3", "--batch-size", "8",
                 "--accumulation", "1", "--num-generations", "4"]) == 0
    assert "reward variance: base rate" in capsys.readouterr().out
    for row in read_json(Path(run) / HISTORY):
        assert {"mean_reward", "exact", "tied_groups"} <= row.keys()
    for row in read_samples(Path(run)):
        off = abs(len(row["completion"].split()) - 7)
        assert (row["reward"], row["exact"]) == (-off, off == 0)
    final = read_json(Path(run) / FINAL)
    share = sum(row["exact"] for row in final["rows"]) / len(final["rows"])
    assert final["metrics"]["exact"]["value"] == pytest.approx(share)
    assert final["metrics"]["exact"]["low"] >= 0

    small = ["--num-prompts", "3"]
    assert main(["evaluate", "my_task.py", run, *small]) == 0
    assert main(["compare", "my_task.py", "tiny", run, *small, "--save-plot", "d.png"]) == 0
    assert main(["analyze", run]) == main(["plot", run]) == 0
    assert main(["chat", run, "The film was"]) == 0
    assert main(["export", run, "--zip", "mine.zip"]) == 0
    capsys.readouterr()
    assert main(["chat", "mine.zip", "The film was"]) == 2
    assert "--task my_task.py" in capsys.readouterr().err, "an export names no code to run"
    assert main(["chat", "mine.zip", "The film was", "--task", "my_task.py"]) == 0
    assert str(in_tmp) not in (Path(run) / "training_config.json").read_text().replace(
        str(in_tmp / "my_task.py"), "")


CLASS = """
from dataclasses import dataclass
from lib.tasks.base import Task
@dataclass(frozen=True, kw_only=True)
class Mine(Task):
    def prompts(self, split): return ["One", "Two"]
    def parts(self, completions, **kwargs): return {}
"""


@pytest.mark.parametrize("text, message", [
    (None, "there is no file my_task.py"), ("1 / 0", "my_task.py, line 1: ZeroDivisionError"),
    ("def f(:", "my_task.py, line 1: SyntaxError"), ("x = 1", "defines 0 classes of Task"),
    (CLASS + CLASS.replace("Mine", "Other"), "defines 2 classes of Task"),
    (CLASS.replace("@dataclass(frozen=True, kw_only=True)", ""), "@dataclass(frozen=True"),
    (CLASS, "returned no reward")])
def test_mistakes_in_a_task_are_one_line(in_tmp, capsys, text, message):
    if text is not None:
        Path("my_task.py").write_text(text.lstrip())
    assert main(["train", "my_task.py", "--max-completion-length", "3"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not Path("runs").exists()


def test_an_unknown_setting_is_told():
    with pytest.raises(CourseError, match="the task sentiment has no setting presets; it has"):
        task_class("sentiment").of(presets="quick")


def test_the_bundled_tier_is_built_from_a_tool(in_tmp):
    run = subprocess.run([sys.executable, "-m", "tools.build_tiny", "--help"], text=True,
                         cwd=EXAMPLE.parents[1], capture_output=True)
    assert run.returncode == 0 and "usage" in run.stdout
