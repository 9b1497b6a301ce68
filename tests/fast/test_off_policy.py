"""Chapter 5's functions: laws on generated inputs. Against TRL: tests/training."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from grading.faults import reference

ANSWERS = reference("05_off_policy")


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 3))
def test_sequence_weights_are_unbiased_and_token_weights_are_not_needed_for_one_token(
        seed, vocabulary, length):
    """The average over all texts of a sampler, each with its weight, is the policy's."""
    dice = torch.Generator().manual_seed(seed)
    policy, sampler = (torch.randn(length, vocabulary, generator=dice).double().log_softmax(1)
                       for _ in range(2))
    texts = torch.cartesian_prod(*[torch.arange(vocabulary)] * length).view(-1, length)
    logps, sampled = (x[torch.arange(length), texts] for x in (policy, sampler))
    worth = torch.randn(len(texts), generator=dice).double()
    weights = ANSWERS["truncated_weights"](logps, sampled, torch.ones(texts.shape), 1e9,
                                           "sequence")[:, 0]
    assert torch.allclose((sampled.sum(1).exp() * weights * worth).sum(),
                          (logps.sum(1).exp() * worth).sum())


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_the_sequence_ratio_lies_between_its_tokens_and_ignores_padding(seed, width):
    dice = torch.Generator().manual_seed(seed)
    old, logps = (-3 * torch.rand(4, width, generator=dice).double() for _ in range(2))
    mask = (torch.arange(width) < torch.randint(1, width + 1, (4, 1), generator=dice)).double()
    ratio = ANSWERS["sequence_ratio"](logps, old, mask)
    each = (logps - old).exp()
    assert (ratio <= torch.where(mask > 0, each, 0).max(1).values + 1e-9).all()
    assert (ratio >= torch.where(mask > 0, each, torch.inf).min(1).values - 1e-9).all()
    assert torch.allclose(ratio, ANSWERS["sequence_ratio"](logps + 5 * (1 - mask), old, mask))


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(2, 5), st.integers(1, 5))
def test_what_is_sampled_suffices_and_one_group_less_does_not(seed, groups, size, need):
    dice = torch.Generator().manual_seed(seed)
    rewards = (torch.rand(groups * size, generator=dice) < 0.3).float()
    kept, sampled = ANSWERS["select_alive"](rewards, size, need)
    assert ANSWERS["select_alive"](rewards[:sampled * size], size, need)[0] == kept
    if len(kept) == need and sampled > 1:
        assert len(ANSWERS["select_alive"](rewards[:(sampled - 1) * size], size, need)[0]) < need


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 6))
def test_the_best_beat_the_rest_of_their_group(seed, groups, size):
    dice = torch.Generator().manual_seed(seed)
    rewards = torch.randint(4, (groups * size,), generator=dice).float()
    for k in range(1, size + 1):
        kept = ANSWERS["keep_best"](rewards, size, k)
        best = torch.zeros(groups * size, dtype=torch.bool)
        best[kept] = True
        for values, chosen in zip(rewards.view(-1, size), best.view(-1, size), strict=True):
            assert chosen.sum() == k
            assert k == size or values[chosen].min() >= values[~chosen].max()
