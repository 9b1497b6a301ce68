"""Laws that hold for any GRPO, on generated inputs. Against TRL: tests/training."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import checks, trl_loss
from lib.checks import grpo
from tests import adapter
from tests.adapter import (
    clipped_surrogate,
    entropy,
    group_advantages,
    grpo_loss,
    kl_term,
    leave_one_out,
    masked_mean,
    policy_gradient,
)

settings.register_profile("tensors", deadline=None, max_examples=40)
settings.load_profile("tensors")

LOSS_TYPES = st.sampled_from(trl_loss.LOSS_TYPES)


@st.composite
def rewards(draw):
    """(N,) float64 rewards of one to four groups, none of them tied; and the group size."""
    groups, size = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    values = draw(st.lists(st.integers(-50, 50), min_size=groups * size, max_size=groups * size))
    r = torch.tensor(values, dtype=torch.float64).view(groups, size)
    r[:, 0] = r[:, 1:].max(1).values + 1 + r[:, 0].abs()
    return r.flatten(), size


@st.composite
def batches(draw):
    """logps, old_logps, ref_logps (B, T), advantages (B,), ragged mask (B, T), float64."""
    dice = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    rows, width = draw(st.integers(2, 6)), draw(st.integers(1, 6))
    old, ref = (-4 * torch.rand(rows, width, generator=dice).double() for _ in range(2))
    logps = old + 0.4 * torch.randn(rows, width, generator=dice)
    lengths = torch.randint(1, width + 1, (rows, 1), generator=dice)
    return (logps, old, ref, torch.randn(rows, generator=dice).double(),
            (torch.arange(width) < lengths).double())


def loss_and_gradient(logps, *rest, **kwargs):
    leaf = logps.clone().requires_grad_()
    loss = grpo_loss(leaf, *rest, max_completion_length=8, **kwargs)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


@given(rewards(), st.floats(0.1, 20), st.floats(-50, 50))
def test_group_scaled_advantages_ignore_shift_and_scale(drawn, scale, shift):
    r, size = drawn
    before, after = (group_advantages(x, size, eps=1e-12) for x in (r, scale * r + shift))
    assert torch.allclose(before, after, atol=1e-6)


@given(rewards(), st.sampled_from(["group", "batch", "none"]))
def test_advantages_sum_to_zero_in_a_group_and_follow_its_permutation(drawn, scale):
    r, size = drawn
    advantages = group_advantages(r, size, scale=scale).view(-1, size)
    assert torch.allclose(advantages.sum(1), torch.zeros(len(advantages)).double(), atol=1e-9)
    order = torch.randperm(size)
    again = group_advantages(r.view(-1, size)[:, order].flatten(), size, scale=scale)
    assert torch.allclose(again.view(-1, size), advantages[:, order], atol=1e-9)


@given(rewards())
def test_group_scaled_advantages_have_standard_deviation_one(drawn):
    r, size = drawn
    spread = group_advantages(r, size, eps=0.0).view(-1, size).std(1)
    assert torch.allclose(spread, torch.ones_like(spread))


@given(batches(), LOSS_TYPES, st.sampled_from([0.0, 0.3]))
def test_the_loss_ignores_padding_and_the_order_of_the_batch(batch, loss_type, beta):
    logps, old, ref, advantages, mask = batch
    loss, flows = loss_and_gradient(*batch, beta=beta, loss_type=loss_type)

    def pad(x, fill):
        return torch.cat([x, torch.full((len(x), 3), fill, dtype=x.dtype)], dim=1)

    padded, padded_flows = loss_and_gradient(
        pad(logps, -7.0), pad(old, -6.5), pad(ref, -9.0), advantages, pad(mask, 0.0), beta=beta,
        loss_type=loss_type)
    assert torch.allclose(padded, loss) and torch.allclose(padded_flows, pad(flows, 0.0))
    order = torch.randperm(len(logps))
    shuffled, shuffled_flows = loss_and_gradient(*(x[order] for x in batch), beta=beta,
                                                 loss_type=loss_type)
    assert torch.allclose(shuffled, loss) and torch.allclose(shuffled_flows, flows[order])


@given(batches(), LOSS_TYPES)
def test_on_fresh_samples_the_gradient_is_the_policy_gradient(batch, loss_type):
    logps, _, _, advantages, mask = batch
    loss, flows = loss_and_gradient(logps, logps, None, advantages, mask, loss_type=loss_type)
    weights = {"grpo": mask / mask.sum(1, keepdim=True) / len(mask),
               "dr_grpo": mask / (8 * len(mask))}.get(loss_type, mask / mask.sum())
    assert torch.allclose(flows, -advantages[:, None] * weights)
    assert torch.allclose(loss, (-advantages[:, None] * weights).sum())


@given(batches())
def test_k3_is_never_negative_and_zero_only_without_a_difference(batch):
    logps, old, ref, _, _ = batch
    for corrected in (True, False):
        assert (kl_term(logps, old, ref, corrected) >= 0).all()
        assert kl_term(logps, old, logps, corrected).abs().max() == 0


@given(st.integers(0, 10**6), st.integers(2, 9))
def test_the_corrected_term_has_value_and_gradient_of_the_divergence(seed, vocabulary):
    """On fresh samples and on old ones: an average over all tokens of the policy that sampled."""
    dice = torch.Generator().manual_seed(seed)
    logits, old, ref = (torch.randn(vocabulary, generator=dice).double() for _ in range(3))
    logits.requires_grad_()
    policy, reference = (torch.distributions.Categorical(logits=x) for x in (logits, ref))
    right = torch.distributions.kl_divergence(policy, reference)
    for sampler in (old.log_softmax(0), policy.logits.detach()):
        mean = (sampler.exp() * kl_term(policy.logits, sampler, reference.logits)).sum()
        assert torch.allclose(mean, right)
        assert torch.allclose(*(torch.autograd.grad(x, logits, retain_graph=True)[0]
                                for x in (mean, right)))


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(2, 3))
def test_leave_one_out_is_unbiased_and_the_group_mean_is_short_by_a_factor(seed, actions, size):
    """The average over all groups, each with its probability, against autograd's gradient."""
    dice = torch.Generator().manual_seed(seed)
    logits = torch.randn(actions, generator=dice).double().requires_grad_()
    worth = 3 * torch.randn(actions, generator=dice).double()
    exact = torch.autograd.grad((logits.softmax(0) * worth).sum(), logits)[0]
    groups = torch.cartesian_prod(*[torch.arange(actions)] * size)

    def mean(baseline_of):
        p = logits.detach().softmax(0)[groups].prod(1)
        each = torch.stack([policy_gradient(logits.detach(), g, worth[g], baseline_of(worth[g]))
                            for g in groups])
        return (p[:, None] * each).sum(0)

    assert torch.allclose(mean(lambda r: 3.0), exact)
    assert torch.allclose(mean(lambda r: leave_one_out(r, size)), exact)
    assert torch.allclose(mean(lambda r: r.mean()), exact * (size - 1) / size)


@given(batches(), st.floats(0.05, 0.5), st.floats(0.05, 0.5))
def test_clipping_never_gains(batch, low, high):
    logps, old, _, advantages, _ = batch
    plain = (logps - old).exp() * advantages[:, None]
    clipped = clipped_surrogate(logps, old, advantages, low, high)
    assert (clipped <= plain + 1e-12).all()
    inside = ((logps - old).exp() > 1 - low) & ((logps - old).exp() < 1 + high)
    assert torch.allclose(clipped[inside], plain[inside])


@given(st.integers(0, 10**6), st.integers(2, 50))
def test_log_probs_are_a_distribution_and_entropy_its_expectation(seed, vocabulary):
    dice = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(2, 3, vocabulary, generator=dice).double()
    each = torch.stack([adapter.token_logprobs(logits, torch.full((2, 3), v))
                        for v in range(vocabulary)], dim=-1)
    assert torch.allclose(each.exp().sum(-1), torch.ones(2, 3).double())
    assert torch.allclose(entropy(logits), -(each.exp() * each).sum(-1))


@given(batches())
def test_the_mean_over_all_weighs_each_row_by_its_tokens(batch):
    values, *_, mask = batch
    rows = masked_mean(values, mask, dim=1)
    assert torch.allclose(masked_mean(values, mask), (rows * mask.sum(1)).sum() / mask.sum())


def test_a_difference_from_trl_is_told(monkeypatch, capsys):
    """The closing check compares: a loss that is off fails it, and TRL's absence is told."""
    monkeypatch.setattr("lib.trl_loss.trl_loss", lambda *a, **k: grpo_loss(*a, **k) + 1e-5)
    with pytest.raises(AssertionError, match="not TRL's loss with loss_type='grpo'"):
        grpo.equals_trl(grpo_loss)
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    grpo.equals_trl(None)
    assert "Skipped while grading" in capsys.readouterr().out


def test_a_check_names_the_wrong_type_and_shape():
    with pytest.raises(AssertionError, match="return a tensor, not a list"):
        grpo.kl_term(lambda *a, **k: [0.0])
    with pytest.raises(AssertionError, match=r"shape \(3, 3\), yours \(\)"):
        grpo.kl_term(lambda a, b, c, **k: (a - c).mean())
    assert checks.close(torch.tensor([1.0]), [1.00001])


@pytest.mark.parametrize("size", [2, 3, 4])
def test_what_each_baseline_does_to_chapter_2s_bandit_by_enumeration(size):
    """Every group that can be drawn, with its probability: no seed, no standard error."""
    policy = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0, -1.5]).double().log_softmax(0)
    worth = torch.tensor([3.2, 3.0, 3.6, 2.6, 3.4, 7.0]).double()
    exact = policy.exp() * (worth - policy.exp() @ worth)
    groups = torch.cartesian_prod(*[torch.arange(6)] * size)
    weights = policy[groups].sum(1).exp()

    def moments(baseline, scale=lambda rewards: 1.0):
        """The mean of the estimate, and its variance over the squared length of the mean."""
        each = torch.stack([policy_gradient(policy, group, worth[group], baseline(worth[group]))
                            / scale(worth[group]) for group in groups])
        mean = weights @ each
        return mean, weights @ (each - mean).square().sum(1) / mean.square().sum()

    plain, noisiest = moments(lambda rewards: 0.0)
    others, quiet = moments(lambda rewards: leave_one_out(rewards, size))
    group, same = moments(lambda rewards: rewards.mean())
    spread, _ = moments(lambda rewards: rewards.mean(), lambda rewards: rewards.std() + 1e-4)
    assert torch.allclose(plain, exact) and torch.allclose(others, exact)
    assert torch.allclose(group, exact * (size - 1) / size)
    assert noisiest > 5 * quiet and torch.isclose(quiet, same)
    assert torch.cosine_similarity(spread, exact, dim=0) < 0.8
    assert spread[5] / spread.norm() < 0.5 * exact[5] / exact.norm()
