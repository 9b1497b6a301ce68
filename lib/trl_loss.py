"""TRL's own GRPO loss of given tensors: what chapter 2's ``grpo_loss`` is compared with.

It runs the installed TRL's code, so that the two share none. Left out: vLLM's correction.
"""

import tempfile
from collections import defaultdict
from functools import cache
from importlib.metadata import version
from types import SimpleNamespace

import torch

from lib import CourseError

LOSS_TYPES = ("grpo", "bnpo", "dapo", "dr_grpo")


@cache
def _trl(epsilon: float, beta: float, loss_type: str, max_completion_length: int,
         use_bias_correction_kl: bool):
    """What ``GRPOTrainer._compute_loss`` reads of a trainer, without model, data or optimizer."""
    from trl import GRPOConfig  # seconds to import

    args = GRPOConfig(
        output_dir=tempfile.gettempdir(), use_cpu=True, bf16=False, report_to="none",
        epsilon=epsilon, beta=beta, loss_type=loss_type, steps_per_generation=1,
        max_completion_length=max_completion_length, use_bias_correction_kl=use_bias_correction_kl)
    same = SimpleNamespace(num_processes=1, gather=lambda x: x, gather_for_metrics=lambda x: x,
                           reduce=lambda x, reduction: x)
    return SimpleNamespace(
        args=args, accelerator=same, model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)}, aux_loss_enabled=False, use_vllm=False,
        off_policy_mask_threshold=None, _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1, epsilon_low=epsilon, epsilon_high=epsilon,
        **{name: getattr(args, name) for name in (
            "beta", "loss_type", "max_completion_length", "importance_sampling_level",
            "top_entropy_quantile")})


def trl_loss(logps, old_logps, ref_logps, advantages, mask, epsilon=0.2, beta=0.0,
             loss_type="dapo", max_completion_length=512, use_bias_correction_kl=True):
    """The loss that the installed TRL computes from these tensors, by its own code.

    Shapes as in ``grpo_loss``: (B, T), advantages (B,). ``GRPOTrainer._compute_loss`` runs with
    a stand-in for the trainer; where it would ask the model for log-probs it gets ``logps``.
    Raises CourseError when TRL's code no longer fits the stand-in.
    """
    from trl import GRPOTrainer

    trainer = _trl(epsilon, beta, loss_type, max_completion_length, use_bias_correction_kl)
    trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (
        logps, torch.zeros_like(logps), None)
    prompt = torch.zeros(len(logps), 1, dtype=torch.long)
    inputs = {"prompt_ids": prompt, "prompt_mask": prompt, "advantages": advantages,
              "completion_ids": torch.zeros_like(mask, dtype=torch.long), "completion_mask": mask,
              "old_per_token_logps": old_logps, "ref_per_token_logps": ref_logps,
              "num_items_in_batch": mask.sum()}
    try:
        return GRPOTrainer._compute_loss(trainer, None, inputs)
    except (AttributeError, KeyError, TypeError) as error:
        raise CourseError(
            f"TRL {version('trl')} computes its loss otherwise than the course knows ({error}); "
            "pip install -e . brings the version that the course is made for") from error
