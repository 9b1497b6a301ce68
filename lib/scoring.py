"""The reward model of chapter 1: a five-star classifier as a score between 0 and 1."""

import torch

from lib import models

_scorer = str(models.TINY_SCORER)


def use_scorer(path: str) -> None:
    """Make the classifier at path the one that the functions below use; load it now."""
    global _scorer
    models.load_scorer(path)
    _scorer = path


@torch.no_grad()
def get_star_probs(texts: list[str], batch_size: int = 64) -> torch.Tensor:
    """Probabilities of one to five stars, shape (N, 5), float32 on the CPU, rows sum to 1.

    Raises TypeError when texts is not a list of strings.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError("texts must be a list of strings: one completion each")
    model, tokenizer = models.load_scorer(_scorer)
    limit = min(tokenizer.model_max_length, models.max_positions(model))
    rows = [torch.empty(0, 5)]
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(list(texts[start : start + batch_size]), padding=True, truncation=True,
                          max_length=limit, return_tensors="pt").to(model.device)
        rows.append(model(**batch).logits.softmax(-1).float().cpu())
    return torch.cat(rows)


def get_sentiment_scores(texts: list[str]) -> list[float]:
    """How positive each text is, in [0, 1]: the expected star rating, one star -> 0, five -> 1.

    Formula: sum_s p(s) (s - 1) / 4. One float a text, in the order of texts.
    """
    return (get_star_probs(texts) @ torch.linspace(0, 1, 5)).tolist()
