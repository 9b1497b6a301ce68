"""Chapter 6's bare script, written to a file: it trains, saves, and goes on bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from grading.release import source_notebook

ROOT = Path(__file__).parents[2]
RUN = """
small = {"max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 8,
         "gradient_accumulation_steps": 1, "max_completion_length": 8}
trainer = bare_script(grpo_settings("runs/whole", seed=3) | small)
bare_script(grpo_settings("runs/resumed", seed=3) | small, resume="runs/whole/checkpoint-1")
AutoModelForCausalLM.from_pretrained("runs/whole/final")
"""


def test_it_trains_as_a_file_and_a_resumed_run_ends_with_the_same_bits(tmp_path):
    cells = {cell.id: cell.source for cell in source_notebook("06_project").cells}
    [bare] = [source for source in cells.values() if source.startswith("# The bare script")]
    script = tmp_path / "train.py"
    script.write_text("\n".join((cells["ex1"], bare, RUN)))
    run = subprocess.run([sys.executable, script.name], cwd=tmp_path, text=True, timeout=300,
                         capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr
    logs = json.loads((tmp_path / "runs/whole/checkpoint-2/trainer_state.json").read_text())
    rows = [row for row in logs["log_history"] if "reward" in row]
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        weighted = row["rewards/stars/mean"] + 0.5 * row["rewards/short/mean"]
        assert abs(row["reward"] - weighted) < 1e-4
    whole, resumed = (load_file(tmp_path / "runs" / name / "final/model.safetensors")
                      for name in ("whole", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    first = load_file(tmp_path / "runs/whole/checkpoint-1/model.safetensors")
    assert any(not torch.equal(whole[name], first[name]) for name in whole), "a step moves weights"
