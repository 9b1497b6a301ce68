"""Measuring a policy: sampled on held-out prompts, every figure with n and a 95 % interval.

Left out: judging whether a text is *good*. The score is the proxy that training maximises;
the other figures are detectors of what a high score may hide.
"""

import dataclasses
import math
import statistics
from pathlib import Path

import torch
from transformers import StoppingCriteria

from lib import CourseError, models
from lib.files import read_json
from lib.logprobs import completion_logprobs
from lib.monitor import BASELINE, FINAL, HISTORY, alarms, finished
from lib.progress import close, progress
from lib.scoring import get_sentiment_scores
from lib.tasks import run_class

SAMPLES_PER_PROMPT = 6
DISTINCT_BLOCK = 20
Z95 = 1.959964


class _Tick(StoppingCriteria):
    """Moves a progress bar one token on, and stops nothing."""

    def __init__(self, bar):
        self.bar = bar

    def __call__(self, input_ids, scores, **kwargs):
        self.bar.update()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.no_grad()
def sample(model, tokenizer, prompts: list[str], *, temperature: float,
           max_completion_length: int, seed: int) -> list[list[int]]:
    """One completion a prompt, as token ids up to and with EOS; the global RNG is left as it was.

    Sampling is plain (no top-k, no top-p, no repetition penalty, whatever the model's own
    generation_config.json asks for), as in training; temperature 0 is greedy.
    """
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        batch = tokenizer(prompts, padding=True, return_tensors="pt").to(model.device)
        bar = progress(total=max_completion_length, desc="generate", unit="token")
        how = ({"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
               if temperature else {"do_sample": False})
        ends = models.end_tokens(model, tokenizer)
        try:
            out = model.generate(**batch, max_new_tokens=max_completion_length,
                                 repetition_penalty=1.0, eos_token_id=ends,
                                 pad_token_id=tokenizer.pad_token_id,
                                 stopping_criteria=[_Tick(bar)], **how)
        finally:
            close(bar)
    completions = out[:, batch["input_ids"].shape[1]:].tolist()
    return [row[:next((i for i, token in enumerate(row, 1) if token in ends), None)]
            for row in completions]


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


def perplexity_interval(logps: list[list[float]]) -> dict:
    """exp(-mean log p) over all tokens; interval by the ratio estimator, texts as the units.

    Long texts hold more tokens, and tokens of one text hang together, so n counts texts.
    """
    sums, lengths = [-sum(row) for row in logps], [len(row) for row in logps]
    n, ratio = len(logps), sum(sums) / sum(lengths)
    spread = statistics.stdev([s - ratio * t for s, t in zip(sums, lengths, strict=True)])
    half = Z95 * spread / math.sqrt(n) / statistics.fmean(lengths)
    return {"value": math.exp(ratio), "low": math.exp(ratio - half),
            "high": math.exp(ratio + half), "n": n}


def distinct_2(texts: list[str]) -> float:
    """Distinct word pairs over all word pairs of texts (Li et al. 2016); 1 when there are none."""
    pairs = [pair for text in texts for pair in
             zip(text.lower().split(), text.lower().split()[1:], strict=False)]
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def text_metrics(rows: list[dict]) -> dict[str, dict]:
    """What any task's validation reports of its rows; each entry value, low, high, n.

    ``distinct_2`` depends on how much text it is taken over, so it is the mean over blocks of
    20 completions (of half, where there are fewer than 40), and its n counts blocks. The rows
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
        "entropy": mean_interval([-statistics.fmean(row["logps"]) for row in rows]),
        "kl": mean_interval([sum(row["logps"]) - sum(row["ref_logps"]) for row in rows]),
        "length": mean_interval([len(row["completion_ids"]) for row in rows]),
    }


def sampled_rows(model, tokenizer, reference, prompts: list[str], *, temperature: float = 1.0,
                 max_completion_length: int = 40, seed: int = 0) -> list[dict]:
    """One completion for each of prompts, with its log-probs under model and reference."""
    was_training = model.training
    model.eval()
    ids = sample(model, tokenizer, prompts, temperature=temperature,
                 max_completion_length=max_completion_length, seed=seed)
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    prompt_ids, ends = tokenizer(prompts)["input_ids"], models.end_tokens(model, tokenizer)
    logps, ref_logps = (completion_logprobs(m, prompt_ids, ids, tokenizer.pad_token_id)
                        for m in (model, reference))
    model.train(was_training)
    return [{"prompt": p, "completion": t, "completion_ids": i,
             "ended": i[-1] in ends, "logps": lp, "ref_logps": r}
            for p, t, i, lp, r in zip(prompts, texts, ids, logps, ref_logps, strict=True)]


def measure(model, tokenizer, reference, *, prompts: list[str], **sampling) -> dict:
    """Sample the policy, six completions a prompt: ``{"metrics": ..., "rows": ...}``.

    reference: the model whose perplexity, and the KL to which, are reported: the base policy.
    sampling: temperature, max_completion_length, seed.
    ``kl`` is the mean over completions of log pi(x) - log pi_ref(x): k1, in nats a completion, an
    estimate of KL(pi||ref) where the temperature is 1.
    """
    rows = sampled_rows(model, tokenizer, reference, prompts * SAMPLES_PER_PROMPT, **sampling)
    for row, score in zip(rows, get_sentiment_scores([r["completion"] for r in rows]),
                          strict=True):
        row["score"] = score
    return {"metrics": {
        "score": mean_interval([row["score"] for row in rows]),
        "positive_ratio": rate_interval(sum(row["score"] > 0.5 for row in rows), len(rows)),
        **text_metrics(rows)}, "rows": rows}


def settings_of(task: str, paths: list[str], changes: dict):
    """Settings to measure policies with: those of the last run among paths, else the defaults.

    A run is measured as it was trained (its lengths, its scorer); changes come on top.
    """
    kind = run_class(task)
    settings = kind(model=paths[0])
    for path in paths:
        if written := models.trained_with(path):
            if written["task"] != task:
                raise CourseError(f"{path} is a run of the task {written['task']}, not {task}")
            settings = kind.from_dict(written["settings"])
    return dataclasses.replace(settings, **changes).resolved()


def measure_all(settings, answers, policies: dict[str, str], *, num_prompts: int | None = None,
                seed: int = 0) -> dict[str, dict]:
    """The task's validation of each named policy (tiny, Hub id, model or run folder).

    settings: resolved, of the task. The first policy is the reference of all, unless it is
    trained: then its base policy is.
    """
    if num_prompts is not None and num_prompts < 1:
        raise CourseError(f"--num-prompts must be at least 1, not {num_prompts}")
    first = next(iter(policies.values()))
    run = models.trained_with(first)
    base = run["settings"]["model"] if run else first
    loaded = {path: models.load_policy(models.policy_path(path, settings.task))
              for path in (*policies.values(), base)}
    reference = loaded[base][0]
    results = {}
    for name, path in policies.items():
        policy, tokenizer = loaded[path]
        if policy.config.vocab_size != reference.config.vocab_size:
            raise CourseError(f"{path} and {base} do not share a vocabulary; compare a policy "
                              "with the base it was trained from")
        results[name] = settings.measure(answers, policy, tokenizer, reference,
                                         settings.prompts("eval")[:num_prompts], seed)
    return results


LABELS = {"score": "mean score", "gold": "gold score", "positive_ratio": "positive ratio",
          "musclebob_rate": "persona rate", "spongebob_rate": "original-name rate",
          "coherent_rate": "coherent",
          "accuracy": "accuracy, sampled", "accuracy_greedy": "accuracy, greedy",
          "format_rate": "well-formed", "unclosed_rate": "unclosed tags",
          "reference_perplexity": "reference perplexity",
          "first_token_perplexity": "perplexity, first token", "distinct_2": "distinct-2",
          "entropy": "entropy, nats a token", "self_ending": "ends by itself",
          "kl": "KL(pi||ref), nats", "length": "length, tokens"}


def grid(columns: dict[str, dict]) -> list[list[str]]:
    """The metrics of each named validation side by side, as rows of text, a header row first."""
    def cell(m: dict) -> str:
        digits = 2 if abs(m["value"]) < 100 else 0
        return (f"{m['value']:z.{digits}f} [{m['low']:z.{digits}f}, {m['high']:z.{digits}f}] "
                f"n={m['n']}")

    return [["", *columns]] + [[label, *(cell(m[key]) for m in columns.values())]
                               for key, label in LABELS.items()
                               if all(key in m for m in columns.values())]


def table(columns: dict[str, dict]) -> str:
    """The grid as aligned text: value [95 % interval] n."""
    lines = grid(columns)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
                     .rstrip() for line in lines)


def side_by_side(runs: dict[str, Path | None]) -> dict[str, dict]:
    """Metrics by name: ``base`` from the first run's baseline, then the final ones of each run.

    Runs that were not made (None) are left out; without any run the result is empty.
    """
    made = {name: run for name, run in runs.items() if run}
    if not made:
        return {}
    return {"base": read_json(next(iter(made.values())) / BASELINE)["metrics"],
            **{name: read_json(run / FINAL)["metrics"] for name, run in made.items()}}


def before_and_after(run: Path) -> tuple[dict, dict]:
    """The metrics of a finished run's baseline and final validation."""
    return tuple(read_json(finished(run) / name)["metrics"] for name in (BASELINE, FINAL))


def rows(run: Path, which: str = FINAL) -> list[dict]:
    """The completions of a run's final (or BASELINE) validation, with scores and log-probs."""
    return read_json(Path(run) / which)["rows"]


def histories(runs: dict[str, Path | None]) -> dict[str, list[dict]]:
    """The reward history of each named run; None is left out."""
    return {name: read_json(run / HISTORY) for name, run in runs.items() if run}


def verdict(run_dir: Path) -> list[str]:
    """What a finished run shows, as lines: the table, then what is wrong and what to try."""
    before, after = before_and_after(run_dir)
    history = read_json(Path(run_dir) / HISTORY)
    task = run_class(read_json(Path(run_dir) / models.RUN_CONFIG)["task"])
    found = task.findings(before, after)
    found += [f"{name}: {remedy}" for name, remedy in alarms(history, 10).items()]
    return [f"{run_dir}: {history[-1]['step']} steps", table({"base": before, "trained": after}),
            *(f"- {finding}" for finding in found or ["no alarm: a healthy run"])]
