"""TRL's configuration is the course's own where a default has moved, or may."""

import pytest
import torch
import trl

from lib import CourseError
from lib.__main__ import main
from lib.tasks import BUNDLED, task_class
from lib.training import grpo_config

# Option -> what it must be, whatever a release of TRL makes its default.
MOVING = {
    "epsilon": 0.2, "epsilon_high": 0.2, "importance_sampling_level": "token",
    "multi_objective_aggregation": "sum_then_normalize", "steps_per_generation": 4,
    "num_iterations": 1, "top_entropy_quantile": 1.0, "entropy_coef": 0.0, "loss_type": "dapo",
    "scale_rewards": "group", "use_bias_correction_kl": True, "temperature": 1.0,
    "vllm_importance_sampling_correction": True, "vllm_importance_sampling_clip_min": None,
    "vllm_importance_sampling_mode": "sequence_mask", "vllm_importance_sampling_clip_max": 3.0,
    "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.3, "num_generations": 8}


@pytest.mark.parametrize("task", BUNDLED)
def test_what_may_move_is_set_by_name(task, tmp_path, monkeypatch):
    given = {}
    real = trl.GRPOConfig
    monkeypatch.setattr(trl, "GRPOConfig", lambda **kwargs: given.update(kwargs) or real(**kwargs))
    made = grpo_config(task_class(task).of(max_steps=1, num_generations=8), tmp_path,
                       torch.device("cpu"))
    for name, value in MOVING.items():
        assert given[name] == value == getattr(made, name), name


def test_vllms_share_of_the_memory_is_a_flag(tmp_path, capsys):
    task = task_class("sentiment").of(vllm_memory=0.5)
    assert grpo_config(task, tmp_path, torch.device("cpu")).vllm_gpu_memory_utilization == 0.5
    with pytest.raises(CourseError, match=r"--vllm-memory must be between 0\.05 and 0\.95"):
        task_class("sentiment").of(vllm_memory=1.0)
    assert main(["train", "sentiment", "--vllm-memory", "0"]) == 2
    assert "--vllm-memory must be between" in capsys.readouterr().err
