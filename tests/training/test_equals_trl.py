"""Chapter 2's and 5's references against the installed TRL. Doubles as an alarm when TRL moves."""

import copy
import dataclasses
import inspect
import re
import sys
import textwrap
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch

from grading.faults import reference
from grading.release import source_notebook
from lib import CourseError, trl_loss
from lib.checks import grpo
from lib.tasks import sentiment
from lib.tasks.sentiment import SentimentTask
from lib.training import grpo_config
from tests import adapter

MOVED = (f"TRL {version('trl')} no longer computes what chapter 2 teaches: read its release notes, "
         "then mend solutions/02_grpo.py and lib/checks/grpo.py")


@pytest.mark.parametrize("loss_type", trl_loss.LOSS_TYPES)
@pytest.mark.parametrize("beta", [0.0, 0.05])
@pytest.mark.parametrize("on_policy", [True, False])
def test_loss_and_gradient(loss_type, beta, on_policy):
    for use_bias_correction_kl in (True, False):
        worst = max(grpo.difference_from_trl(
            adapter.grpo_loss, seed, loss_type, beta, on_policy,
            use_bias_correction_kl=use_bias_correction_kl) for seed in range(20))
        assert worst <= 1e-6, MOVED


def test_a_moved_trl_is_told(monkeypatch):
    from trl import GRPOTrainer

    monkeypatch.setattr(GRPOTrainer, "_compute_loss", lambda self, model, inputs: self.new_name)
    with pytest.raises(CourseError, match="computes its loss otherwise"):
        grpo.difference_from_trl(adapter.grpo_loss, 0, "dapo", 0.0, True)


def test_token_logprobs_and_entropy():
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    dice = torch.Generator().manual_seed(0)
    logits = 6 * torch.randn(3, 5, 40, generator=dice)
    ids = torch.randint(40, (3, 5), generator=dice)
    assert torch.allclose(adapter.token_logprobs(logits, ids),
                          selective_log_softmax(logits, ids), atol=1e-5), MOVED
    assert torch.allclose(adapter.entropy(logits), entropy_from_logits(logits), atol=1e-5), MOVED


def test_the_defaults_in_the_text_are_those_of_the_installed_trl():
    from trl import GRPOConfig

    fields = {f.name: f.default for f in dataclasses.fields(GRPOConfig)}
    text = "\n".join(cell.source for cell in source_notebook("02_grpo").cells)
    rows = re.findall(r"^\| .+ \| .+ \| `(\w+)` \| `([^`]+)`.* \|$", text, re.MULTILINE)
    assert len(rows) >= 10
    for option, default in rows:
        assert str(fields[option]) == default.strip('"'), (
            f"TRL's default of {option} is {fields[option]} now: mend the chapter's table")


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_a_step_of_the_real_trainer(scale, tiny, tmp_path):
    """Real model, real trainer: its advantages, loss and parameter gradients are ours."""
    from datasets import Dataset
    from trl import GRPOTrainer

    policy, tokenizer = copy.deepcopy(tiny[0]), tiny[1]
    options = SentimentTask.of(max_steps=2, batch_size=16, accumulation=1, beta=0.2)
    config = grpo_config(options, tmp_path, policy.device)
    config.scale_rewards, config.save_strategy = scale, "no"
    rewards, compared = [], []

    def length_reward(completions, **kwargs):
        rewards[:] = [0.1 * (len(c) % 17) for c in completions]
        return rewards

    class Watched(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            outputs = super()._generate_and_score_completions(inputs)
            ours = adapter.group_advantages(torch.tensor(rewards), 8, scale=scale)
            assert torch.allclose(outputs["advantages"].cpu(), ours, atol=1e-6), MOVED
            return outputs

        def _compute_loss(self, model, inputs):
            loss = super()._compute_loss(model, inputs)
            tokens, attention = (torch.cat([inputs[f"prompt_{kind}"], inputs[f"completion_{kind}"]],
                                           dim=1) for kind in ("ids", "mask"))
            width = inputs["completion_ids"].shape[1]
            logits = model(input_ids=tokens, attention_mask=attention).logits[:, -width - 1:-1]
            logps = adapter.token_logprobs(logits, inputs["completion_ids"])
            mine = adapter.grpo_loss(
                logps, logps.detach(), inputs["ref_per_token_logps"], inputs["advantages"],
                inputs["completion_mask"], beta=0.2, loss_type=self.loss_type)
            assert abs(float(mine.detach() - loss.detach())) < 1e-6, MOVED
            parameters = [p for p in model.parameters() if p.requires_grad]
            for a, b in zip(*(torch.autograd.grad(x, parameters, retain_graph=True)
                              for x in (mine, loss)), strict=True):
                assert torch.allclose(a, b, atol=1e-6), MOVED
            compared.append(float(mine.detach()))
            return loss

    Watched(model=policy, reward_funcs=[length_reward], processing_class=tokenizer, args=config,
            train_dataset=Dataset.from_dict({"prompt": sentiment.prompts("train")[:4]})).train()
    assert len(compared) == 2 and len(set(compared)) == 2


MOVED_5 = MOVED.replace("chapter 2", "chapter 5").replace("02_grpo", "05_off_policy").replace(
    "checks/grpo", "checks/off_policy")
CHAPTER_5 = reference("05_off_policy")


def batch(seed: int):
    """logps, old_logps (B, T), advantages (B,), ragged mask, float64."""
    dice = torch.Generator().manual_seed(seed)
    rows, width = (int(torch.randint(2, 9, (1,), generator=dice)) for _ in range(2))
    old = -4 * torch.rand(rows, width, generator=dice, dtype=torch.float64)
    logps = old + 0.4 * torch.randn(rows, width, generator=dice)
    lengths = torch.randint(1, width + 1, (rows, 1), generator=dice)
    return (logps, old, torch.randn(rows, generator=dice, dtype=torch.float64),
            (torch.arange(width) < lengths).double())


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_sequence_ratio_and_clip_fraction(level, monkeypatch):
    trainer = trl_loss._trl(0.2, 0.0, "grpo", 512, True)
    monkeypatch.setattr(trainer, "importance_sampling_level", level)
    for seed in range(20):
        logps, old, advantages, mask = batch(seed)
        ratio = (logps - old).exp() if level == "token" else CHAPTER_5["sequence_ratio"](
            logps, old, mask)[:, None].expand_as(mask)
        cost = -torch.min(ratio * advantages[:, None],
                          ratio.clamp(0.8, 1.2) * advantages[:, None])
        mine = ((cost * mask).sum(1) / mask.sum(1)).mean()
        theirs = trl_loss.trl_loss(logps, old, None, advantages, mask, loss_type="grpo")
        assert abs(float(mine - theirs)) < 1e-6, MOVED_5
        if level == "token":
            share = CHAPTER_5["clip_fraction"](ratio, advantages, mask, 0.2, 0.2)
            told = trainer._metrics["train"]["clip_ratio/region_mean"][-1]
            assert abs(float(share) - told) < 1e-6, MOVED_5


def their_lines(method, first: str, last: str, **names) -> dict:
    """What the lines of a method of TRL, from the one with first up to the one with last, leave."""
    source = inspect.getsource(method)
    assert source.count(first) == 1 and last in source.split(first)[1], MOVED_5
    indent = len(re.search(rf"^( *){re.escape(first)}", source, re.MULTILINE)[1])
    lines = textwrap.dedent(" " * indent + first + source.split(first)[1].split(last)[0])
    names = vars(sys.modules[method.__module__]) | names
    exec(lines, names)
    return names


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_truncated_weights(level):
    from trl import GRPOTrainer

    for seed in range(20):
        train, sampler, _, mask = batch(seed)
        left = their_lines(
            GRPOTrainer._generate_and_score_completions, "per_token_logps_diff = (",
            "# Compute the per-token log probabilities for the reference model",
            self=SimpleNamespace(vllm_importance_sampling_mode=f"{level}_truncate",
                                 vllm_importance_sampling_clip_min=None,
                                 vllm_importance_sampling_clip_max=1.3),
            old_per_token_logps=train, sampling_per_token_logps=sampler, mask=mask)
        theirs = left["vllm_importance_sampling_ratio"]
        mine = CHAPTER_5["truncated_weights"](train, sampler, mask, 1.3, level)
        assert mine.shape == theirs.shape, MOVED_5
        assert float((mine - theirs).abs().max()) < 1e-6, MOVED_5


def test_dpo_loss():
    from trl.trainer.dpo_trainer import DPOTrainer

    dice = torch.Generator().manual_seed(0)
    for beta in (0.1, 0.5):
        chosen, rejected, ref_chosen, ref_rejected = (
            -30 * torch.rand(6, generator=dice, dtype=torch.float64) for _ in range(4))
        left = their_lines(
            DPOTrainer._compute_loss, "chosen_logratios = chosen_logps - ref_chosen_logps",
            "if self.aux_loss_enabled:\n            aux_loss",
            self=SimpleNamespace(loss_types=["sigmoid"], loss_weights=[1.0], beta=beta,
                                 f_divergence_type="reverse_kl", use_weighting=False),
            chosen_logps=chosen, rejected_logps=rejected, ref_chosen_logps=ref_chosen,
            ref_rejected_logps=ref_rejected)
        mine = CHAPTER_5["dpo_loss"](chosen, rejected, ref_chosen, ref_rejected, beta)
        assert abs(float(mine - left["loss"])) < 1e-6, MOVED_5
