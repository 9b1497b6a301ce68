"""The reward model of chapter 1: a five-star classifier as a score between 0 and 1."""

from contextlib import contextmanager

import torch

from lib import models
from lib.logprobs import in_parts
from lib.tiny import WEIGHTS

TINY_SCORER = str(WEIGHTS / "star-scorer")
_default = TINY_SCORER  # of whoever names no scorer: a notebook, and the functions written there


def use_scorer(path: str) -> None:
    """A notebook's choice: the classifier at path is the default from now on; load it now."""
    global _default
    models.load_scorer(path)
    _default = path


@contextmanager
def default_scorer(path: str):
    """Within the block, the classifier at path is the default: a student's function that asks for
    scores names none, and a run may have another than the notebook."""
    before = _default
    use_scorer(path)
    try:
        yield
    finally:
        use_scorer(before)


@torch.no_grad()
def get_star_probs(texts: list[str], batch_size: int = 64,
                   scorer: str | None = None) -> torch.Tensor:
    """Probabilities of one to five stars, shape (N, 5), float32 on the CPU, rows sum to 1.

    scorer: the classifier's path, None for the default. Raises TypeError when texts is not a list
    of strings.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError("texts must be a list of strings: one completion each")
    model, tokenizer, order = models.load_scorer(scorer or _default)
    limit = min(tokenizer.model_max_length, models.max_positions(model))

    def probs(start: int, stop: int) -> list[torch.Tensor]:
        batch = tokenizer(list(texts[start:stop]), padding=True, truncation=True, max_length=limit,
                          return_tensors="pt").to(model.device)
        return list(model(**batch).logits.softmax(-1)[:, order].float().cpu())

    rows = [row for start in range(0, len(texts), batch_size)
            for row in in_parts(probs, start, min(start + batch_size, len(texts)))]
    return torch.stack(rows) if rows else torch.empty(0, 5)


def get_sentiment_scores(texts: list[str], scorer: str | None = None) -> list[float]:
    """How positive each text is, in [0, 1]: the expected star rating, one star -> 0, five -> 1.

    Formula: sum_s p(s) (s - 1) / 4. One float a text, in the order of texts.
    """
    return scores_of(get_star_probs(texts, scorer=scorer))


def scores_of(star_probs: torch.Tensor) -> list[float]:
    """The same from probabilities of stars, shape (N, 5)."""
    return (star_probs @ torch.linspace(0, 1, 5)).tolist()
