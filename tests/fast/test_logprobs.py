"""Log-probs against the plainest oracle: one row at a time, no padding."""

import pytest
import torch

from lib.logprobs import completion_logprobs, token_logprobs

PROMPTS = ["The film was", "Honestly, the acting was", "On a second viewing the plot was"]
COMPLETIONS = [" superb. I loved every minute.", " awful.", " okay and the music was dull."]


@pytest.fixture(scope="module")
def ids(tiny):
    _, tokenizer = tiny
    prompts = tokenizer(PROMPTS)["input_ids"]
    completions = [[*c, tokenizer.eos_token_id] for c in tokenizer(COMPLETIONS)["input_ids"]]
    completions[1] = completions[1][:1]  # a completion of one token
    return prompts, completions


@torch.no_grad()
def oracle(model, prompt, completion):
    """log p of each completion token from one unpadded forward pass."""
    row = torch.tensor([prompt + completion])
    logps = model(row).logits.double().log_softmax(-1)[0]
    return [logps[len(prompt) + t - 1, token].item() for t, token in enumerate(completion)]


def test_batched_equals_one_by_one_first_token_and_eos_included(tiny, ids):
    model, tokenizer = tiny
    batched = completion_logprobs(model, *ids, tokenizer.pad_token_id)
    for row, prompt, completion in zip(batched, *ids, strict=True):
        assert len(row) == len(completion)
        assert row == pytest.approx(oracle(model, prompt, completion), abs=1e-5)


def test_batch_size_does_not_matter(tiny, ids):
    model, tokenizer = tiny
    whole, single = (completion_logprobs(model, *ids, tokenizer.pad_token_id, batch_size=b)
                     for b in (64, 1))
    for a, b in zip(whole, single, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_does_not_matter(tiny, ids, side):
    model, tokenizer = tiny
    rows = [p + c for p, c in zip(*ids, strict=True)]
    width = max(map(len, rows)) + 3
    pad = [[tokenizer.pad_token_id] * (width - len(row)) for row in rows]
    padded = [p + row if side == "left" else row + p for p, row in zip(pad, rows, strict=True)]
    mask = [[0] * len(p) + [1] * len(row) if side == "left" else [1] * len(row) + [0] * len(p)
            for p, row in zip(pad, rows, strict=True)]
    got = token_logprobs(model, torch.tensor(padded), torch.tensor(mask))
    for i, (prompt, completion) in enumerate(zip(*ids, strict=True)):
        first = len(prompt) - 1 + (len(pad[i]) if side == "left" else 0)
        assert got[i, first : first + len(completion)].tolist() == pytest.approx(
            oracle(model, prompt, completion), abs=1e-5)


def test_an_empty_prompt_is_refused(tiny):
    with pytest.raises(ValueError, match="prompt is empty"):
        completion_logprobs(tiny[0], [[]], [[5]], 0)


def test_probabilities_of_every_possible_next_token_sum_to_one(tiny):
    model, tokenizer = tiny
    prompt = tokenizer("The film was")["input_ids"]
    vocabulary = [[i] for i in range(len(tokenizer))]
    logps = completion_logprobs(model, [prompt] * len(vocabulary), vocabulary, 0)
    assert torch.tensor(logps).exp().sum().item() == pytest.approx(1, abs=1e-4)
