"""Our GRPO reference as typed functions, one a concept, for the tests of other courses.

Point another suite's adapters at these. Shapes: B completions (N where only rewards matter),
T tokens, V vocabulary entries, G completions a group. All tensors are floats but ids (long).
"""

from typing import Literal

from torch import Tensor

from grading.faults import reference

_answers = reference("02_grpo")


def group_advantages(rewards: Tensor, num_generations: int, eps: float = 1e-4,
                     scale: Literal["group", "batch", "none"] = "group") -> Tensor:
    """(N,) rewards in groups of num_generations side by side -> (N,) advantages."""
    return _answers["group_advantages"](rewards, num_generations, eps, scale)


def token_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """(B, T, V) logits and (B, T) ids that they belong to -> (B, T) log-probs."""
    return _answers["token_logprobs"](logits, ids)


def entropy(logits: Tensor) -> Tensor:
    """(B, T, V) logits -> (B, T) entropies in nats."""
    return _answers["entropy"](logits)


def masked_mean(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean over the entries with mask 1, of all or along dim; 0 where there are none."""
    return _answers["masked_mean"](values, mask, dim)


def clipped_surrogate(logps: Tensor, old_logps: Tensor, advantages: Tensor,
                      epsilon_low: float, epsilon_high: float) -> Tensor:
    """PPO's objective (to be maximised) per token: (B, T), (B, T), (B,) -> (B, T)."""
    return _answers["clipped_surrogate"](logps, old_logps, advantages, epsilon_low, epsilon_high)


def policy_gradient(logits: Tensor, actions: Tensor, rewards: Tensor,
                    baseline: float | Tensor = 0.0) -> Tensor:
    """Score-function estimate: (V,) logits, (N,) draws and rewards, () or (N,) baseline -> (V,)."""
    return _answers["policy_gradient"](logits, actions, rewards, baseline)


def leave_one_out(rewards: Tensor, num_generations: int) -> Tensor:
    """(N,) rewards in groups side by side -> (N,) means of the others of the group."""
    return _answers["leave_one_out"](rewards, num_generations)


def kl_term(logps: Tensor, old_logps: Tensor, ref_logps: Tensor,
            use_bias_correction_kl: bool = True) -> Tensor:
    """k3 = exp(ref - log) - (ref - log) - 1 per token, by default times exp(log - old): (B, T)."""
    return _answers["kl_term"](logps, old_logps, ref_logps, use_bias_correction_kl)


def grpo_loss(logps: Tensor, old_logps: Tensor, ref_logps: Tensor | None, advantages: Tensor,
              mask: Tensor, epsilon: float = 0.2, beta: float = 0.0,
              loss_type: Literal["grpo", "bnpo", "dapo", "dr_grpo"] = "dapo",
              max_completion_length: int = 512, use_bias_correction_kl: bool = True) -> Tensor:
    """The loss (to be minimised) of one optimizer step, shape ().

    use_bias_correction_kl: k3 times the importance ratio, TRL's default; False is the term of
    the DeepSeekMath paper.
    """
    return _answers["grpo_loss"](logps, old_logps, ref_logps, advantages, mask, epsilon, beta,
                                 loss_type, max_completion_length, use_bias_correction_kl)


def grpo_step(logits: Tensor, ids: Tensor, mask: Tensor, rewards: Tensor,
              ref_logps: Tensor | None, num_generations: int, **settings) -> Tensor:
    """From (B, T, V) logits of fresh samples and (B,) rewards to the loss, shape ()."""
    return _answers["grpo_step"](logits, ids, mask, rewards, ref_logps, num_generations,
                                 **settings)
