"""Per-token log-probabilities of sampled ids under a model, at temperature 1.

From the sampled **ids**, not from re-tokenised text: encoding a decoded completion again
may split it otherwise, and drops the EOS token, whose probability is what tells a policy
that ends its sentences from one that does not.
"""

import inspect
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from lib import CourseError
from lib.progress import tell_once

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


def in_parts(work: Callable[[int, int], list], start: int, stop: int) -> list:
    """``work(start, stop)``, a list with an entry a row; where memory runs out, of each half.

    Raises CourseError where it runs out for a single row.
    """
    try:
        return work(start, stop)
    except OUT_OF_MEMORY:
        if stop - start < 2:
            raise CourseError("memory runs out for a single completion; take a shorter "
                              "--max-completion-length, or a smaller model") from None
    tell_once("note: memory ran out; completions are now read and sampled in smaller parts")
    torch.cuda.empty_cache()  # what the failed try had is free by now
    middle = (start + stop) // 2
    return in_parts(work, start, middle) + in_parts(work, middle, stop)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions (B, T) of an attention mask (B, T): 0 at each row's first real token."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def right_padded(rows: list[list[int]], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """ids and attention mask, (B, T) each, of rows of ids that begin together."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_token_id] * (width - len(row))] for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def takes(model, argument: str) -> bool:
    """Whether the model's forward pass has an argument of this name; an adapter asks its base."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    return argument in inspect.signature(base.forward).parameters


@torch.no_grad()
def token_logprobs(model, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """``log p(input_ids[:, t] | input_ids[:, :t])``, shape (B, T - 1), float32.

    input_ids, attention_mask: (B, T), padded on either side. Entries at padding, and at a
    row's first real token, mean nothing. Positions are counted from the first real token:
    GPT-2 does not do that by itself, and a left-padded row would get other log-probs.
    """
    where = {"position_ids": positions(attention_mask)} if takes(model, "position_ids") else {}
    logits = model(input_ids=input_ids, attention_mask=attention_mask,
                   **where).logits[:, :-1].float()
    ids = input_ids[:, 1:]  # flat: along an inner axis cross_entropy is off in the fifth digit
    return -cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view(ids.shape)


LOGITS = 2**27  # at most so many at a time: half a GiB in float32, and as much again to sum them


def completion_logprobs(model, prompt_ids: list[list[int]], completion_ids: list[list[int]],
                        pad_token_id: int, batch_size: int = 64) -> list[list[float]]:
    """Log-probs of every completion token, its first and its EOS included.

    prompt_ids, completion_ids: N lists of token ids, prompts not empty. Returns N lists, the
    i-th as long as ``completion_ids[i]``. Raises ValueError on an empty prompt, whose
    completion's first token would have nothing to be conditioned on.
    """
    if not all(prompt_ids):
        raise ValueError("a prompt is empty: its completion's first token has no context")
    rows = [list(p) + list(c) for p, c in zip(prompt_ids, completion_ids, strict=True)]
    logits_a_row = max(map(len, rows), default=1) * model.config.vocab_size
    batch_size = max(1, min(batch_size, LOGITS // logits_a_row))

    def scored(start: int, stop: int) -> list[list[float]]:
        batch = rows[start:stop]
        ids, mask = right_padded(batch, pad_token_id)
        logps = token_logprobs(model, ids.to(model.device), mask.to(model.device)).cpu()
        firsts = [len(prompt) - 1 for prompt in prompt_ids[start:stop]]  # logps[t]: of token t + 1
        return [logps[i, first : len(row) - 1].tolist()
                for i, (first, row) in enumerate(zip(firsts, batch, strict=True))]

    return [row for start in range(0, len(rows), batch_size)
            for row in in_parts(scored, start, min(start + batch_size, len(rows)))]
