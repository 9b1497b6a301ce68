"""The one sampler: completions of a policy, for training, probes, validation and chat alike.

A loop over tokens with a KV cache, for any causal language model. Where transformers' ``generate``
would do the same, this one is faster for small models on a CPU and has no settings of its own: it
samples from softmax(logits / temperature) and nothing else, so that what is trained on is what the
loss scores. Left out: beams, top-k, top-p, penalties, images.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from lib import models
from lib.logprobs import completion_logprobs, in_parts, positions, takes
from lib.progress import close, progress
from lib.prompts import prompt_ids, prompt_text


@contextmanager
def eval_mode(model):
    """The model in eval mode, then as it was: sampling and measuring know no dropout."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def left_padded(rows: Sequence[Sequence[int]], pad_token_id: int, device
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids, attention mask and positions, (B, T) each; positions count from the first real token.

    A model with learnt positions (GPT-2, OPT) counts padding too when it is not told otherwise,
    and then reads another text in a padded row than in the row alone.
    """
    width = max(map(len, rows))
    ids = torch.tensor([[pad_token_id] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids.to(device), mask.to(device), positions(mask).to(device)


@torch.no_grad()
def generate(model, prompt_ids: Sequence[Sequence[int]], *, ends: Sequence[int], pad_token_id: int,
             temperature: float, max_completion_length: int, seed: int, before: int = 0,
             tick: Callable[[], None] = lambda: None) -> list[list[int]]:
    """One completion a prompt, as ids up to and with the first of ends; temperature 0 is greedy.

    A row's dice are its own, drawn from seed before the first token: what a row says does not
    depend on when its neighbours end, and the global generators stay as they are. Rows that have
    ended leave the batch. before: how many rows other processes have in front of these, whose dice
    are left to them. tick: called once a token, for a progress bar. Raises ValueError on an
    empty prompt.
    """
    if not all(prompt_ids):
        raise ValueError("a prompt is empty: its completion's first token has no context")
    dice = torch.rand(before + len(prompt_ids), max_completion_length, dtype=torch.float64,
                      generator=torch.Generator().manual_seed(seed))[before:]
    return in_parts(
        lambda start, stop: _generate(model, prompt_ids[start:stop], dice[start:stop], ends=ends,
                                      pad_token_id=pad_token_id, temperature=temperature,
                                      tick=tick), 0, len(prompt_ids))


def _generate(model, prompt_ids, dice: torch.Tensor, *, ends, pad_token_id: int,
              temperature: float, tick) -> list[list[int]]:
    """``generate`` for rows that fit into memory; dice: (rows, tokens)."""
    device, (n, max_completion_length) = model.device, dice.shape
    dice, stop = dice.to(device), torch.tensor(list(ends), device=device)
    # Prompts that are asked several times, as a group's is, are read once.
    distinct = list(dict.fromkeys(map(tuple, prompt_ids)))
    place = {prompt: i for i, prompt in enumerate(distinct)}
    source = torch.tensor([place[tuple(prompt)] for prompt in prompt_ids], device=device)
    extra = {"logits_to_keep": 1} if takes(model, "logits_to_keep") else {}
    placed = takes(model, "position_ids")

    ids, mask, where = left_padded(distinct, pad_token_id, device)
    cache = key_values(model)
    cached = {} if cache is None else {"past_key_values": cache, "use_cache": True}
    out = model(input_ids=ids, attention_mask=mask, **cached, **extra,
                **({"position_ids": where} if placed else {}))
    logits, mask, where = out.logits[source, -1], mask[source], where[source, -1:] + 1
    if cache is None:
        ids = ids[source]
    else:
        cache.batch_select_indices(source)
    rows = torch.arange(n, device=device)  # of those that are still going
    said = torch.full((n, max_completion_length), -1, device=device)
    for step in range(max_completion_length):
        token = draw(logits.float(), temperature, dice[rows, step])
        said[rows, step] = token
        tick()
        going = ~torch.isin(token, stop)
        if step + 1 == max_completion_length or not going.any():
            break
        if not going.all():
            keep = going.nonzero()[:, 0]
            rows, token, mask, where = rows[keep], token[keep], mask[keep], where[keep]
            if cache is None:
                ids = ids[keep]
            else:
                cache.batch_select_indices(keep)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        if cache is None:  # all is read again
            ids = torch.cat([ids, token[:, None]], dim=1)
            out = model(input_ids=ids, attention_mask=mask, **extra,
                        **({"position_ids": positions(mask)} if placed else {}))
        else:
            out = model(input_ids=token[:, None], attention_mask=mask, **cached, **extra,
                        **({"position_ids": where} if placed else {}))
        logits, where = out.logits[:, -1], where + 1
    return [row[:row.index(-1)] if -1 in row else row for row in said.tolist()]


def key_values(model) -> DynamicCache | None:
    """An empty cache of keys and values; None for a model that keeps another state (Mamba)."""
    if not takes(model, "past_key_values"):
        return None
    cache = DynamicCache(config=model.config)
    plain = all(isinstance(layer, DynamicLayer) and not isinstance(layer, LinearAttentionLayer)
                for layer in cache.layers)
    return cache if plain else None


def draw(logits: torch.Tensor, temperature: float, dice: torch.Tensor) -> torch.Tensor:
    """Token ids (B,) from logits (B, V): the likeliest at temperature 0, else by inverse CDF.

    dice: (B,), uniform on [0, 1). ``torch.multinomial`` would draw a number for each entry of the
    vocabulary; here it is one a row. Summed in double precision: over 150,000 entries single
    precision would shift the tail.
    """
    if temperature == 0:
        return logits.argmax(-1)
    cdf = (logits / temperature).softmax(-1).double().cumsum(-1)
    found = torch.searchsorted(cdf, (dice * cdf[:, -1])[:, None], right=True)[:, 0]
    return found.clamp(max=logits.shape[-1] - 1)


def sample(model, tokenizer, prompts: list, *, temperature: float,
           max_completion_length: int, seed: int) -> list[list[int]]:
    """``generate`` for prompts, with a progress bar; the model is in eval mode meanwhile."""
    bar = progress(total=max_completion_length, desc="generate", unit="token")
    try:
        with eval_mode(model):
            return generate(
                model, prompt_ids(tokenizer, prompts), temperature=temperature, seed=seed,
                ends=models.end_tokens(model, tokenizer), pad_token_id=tokenizer.pad_token_id,
                max_completion_length=max_completion_length, tick=bar.update)
    finally:
        close(bar)


def sampled_rows(model, tokenizer, reference, prompts: list, *, temperature: float = 1.0,
                 max_completion_length: int = 40, seed: int = 0) -> list[dict]:
    """One completion for each of prompts, with its log-probs under model and reference.

    prompts: texts, conversations, or data set rows that hold either as "prompt".
    """
    ids = sample(model, tokenizer, prompts, temperature=temperature,
                 max_completion_length=max_completion_length, seed=seed)
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    asked, ends = prompt_ids(tokenizer, prompts), models.end_tokens(model, tokenizer)
    with eval_mode(model):
        logps, ref_logps = (completion_logprobs(m, asked, ids, tokenizer.pad_token_id)
                            for m in (model, reference))
    prompts = [prompt_text(tokenizer, prompt) for prompt in prompts]
    return [{"prompt": p, "completion": t, "completion_ids": i,
             "ended": i[-1] in ends, "logps": lp, "ref_logps": r}
            for p, t, i, lp, r in zip(prompts, texts, ids, logps, ref_logps, strict=True)]
