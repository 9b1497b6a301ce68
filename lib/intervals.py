"""Figures with their 95 % intervals, and what any task's validation reports of its texts.

Plain Python over lists: nothing here needs a model. Left out: judging whether a text is *good*.
"""

import math
import statistics

from lib import CourseError

DISTINCT_BLOCK = 20  # completions a block of distinct-2
Z95 = 1.959964  # of a standard normal, 95 % lie within


def mean_interval(values: list[float]) -> dict:
    """Mean of two or more values with its normal 95 % interval: value, low, high, n.

    For few values it is too narrow: it holds the truth 92 times in 100 with a dozen, 70 with two.
    """
    mean, n = statistics.fmean(values), len(values)
    half = Z95 * statistics.stdev(values) / math.sqrt(n)
    return {"value": mean, "low": mean - half, "high": mean + half, "n": n}


def rate_interval(hits: int, n: int) -> dict:
    """Share hits / n with its Wilson 95 % interval, which stays inside [0, 1]."""
    p, z2 = hits / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return {"value": p, "low": centre - half, "high": centre + half, "n": n}


def surprise_interval(logps: list[list[float]]) -> dict:
    """-log p a token, over all tokens of all texts; interval by the ratio estimator.

    The sum over texts divided by the number of tokens. The mean of each text's mean would give a
    short text's tokens more weight, and be biased where what is sampled decides the length. Tokens
    of one text hang together, so the units, and n, are texts.
    """
    sums, lengths = [-sum(row) for row in logps], [len(row) for row in logps]
    n, ratio = len(logps), sum(sums) / sum(lengths)
    spread = statistics.stdev([s - ratio * t for s, t in zip(sums, lengths, strict=True)])
    half = Z95 * spread / math.sqrt(n) / statistics.fmean(lengths)
    return {"value": ratio, "low": ratio - half, "high": ratio + half, "n": n}


def perplexity_interval(logps: list[list[float]]) -> dict:
    """exp of ``surprise_interval``: the perplexity a token."""
    found = surprise_interval(logps)
    return found | {key: math.exp(found[key]) for key in ("value", "low", "high")}


def distinct_2(texts: list[str]) -> float:
    """Distinct word pairs over all word pairs of texts (Li et al. 2016); 1 when there are none."""
    pairs = [pair for text in texts for pair in
             zip(text.lower().split(), text.lower().split()[1:], strict=False)]
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def text_metrics(rows: list[dict]) -> dict[str, dict]:
    """What any task's validation reports of its rows; each entry value, low, high, n.

    ``distinct_2`` depends on how much text it is taken over, so it is the mean over blocks of
    20 completions (of half, where there are fewer than 40), and its n counts blocks. ``entropy`` is
    an estimate of the policy's entropy a token where it was sampled at temperature 1; at another it
    is the cross-entropy of the policy under what was sampled. The rows
    cover a fixed list of prompts evenly, which makes the intervals, computed as if prompts were
    drawn too, slightly wide. Raises CourseError for a single row, which has no interval.
    """
    if len(rows) < 2:
        raise CourseError("one completion has no spread, so no interval; measure on at least two "
                          "held-out prompts (50 and more say something)")
    texts = [row["completion"] for row in rows]
    n_blocks = max(2, len(texts) // DISTINCT_BLOCK)
    blocks = [texts[i::n_blocks] for i in range(n_blocks)]
    return {
        "reference_perplexity": perplexity_interval([row["ref_logps"] for row in rows]),
        "first_token_perplexity": perplexity_interval([row["ref_logps"][:1] for row in rows]),
        "distinct_2": mean_interval([distinct_2(block) for block in blocks]),
        "self_ending": rate_interval(sum(row["ended"] for row in rows), len(rows)),
        "entropy": surprise_interval([row["logps"] for row in rows]),
        "kl": mean_interval([sum(row["logps"]) - sum(row["ref_logps"]) for row in rows]),
        "length": mean_interval([len(row["completion_ids"]) for row in rows]),
    }
