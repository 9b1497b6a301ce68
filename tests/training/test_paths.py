"""Paths as people have them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lib import models, runs
from lib.tasks.sentiment import SentimentTask


def test_a_path_that_is_not_ascii_in_the_c_locale(tmp_path, solved_notebook):
    """The model is read and the run written there, and both are named as they are."""
    home = tmp_path / "Größe 模型"
    shutil.copytree(models.policy_path("tiny", SentimentTask), home / "modèle")
    shutil.copy(solved_notebook, home / "réponses.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "lib", "train", "sentiment", "--model", str(home / "modèle"),
         "--scorer", "tiny", "--answers", str(home / "réponses.ipynb"), "--output-dir",
         str(home / "lauf"), "--max-steps", "1", "--batch-size", "4", "--accumulation", "1",
         "--num-generations", "2", "--max-completion-length", "4"],
        cwd=Path(__file__).parents[2], capture_output=True,
        env={name: value for name, value in os.environ.items()
             if not name.startswith(("LC_", "LANG", "PYTHONUTF8", "PYTHONIOENCODING"))}
        | {"LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    assert f"{home / 'lauf'}: 1 steps" in done.stdout.decode()
    assert runs.finished(home / "lauf") and runs.read_config(home / "lauf")
