"""Wiring: the functions a student wrote -> the one reward function that TRL calls.

The gate stands between them. TRL takes NaN for "no opinion" and lets one infinity erase its
whole group without a word; a reward function that is wrong must stop the run instead.
"""

import math
import statistics
from collections.abc import Callable, Mapping

from lib import CourseError
from lib.logprobs import completion_logprobs


def gate(name: str, values, n: int) -> list[float]:
    """The n finite floats that a reward must be, or a CourseError that says what they are not.

    name: the function that returned values. Integers pass; tensors, NaN, infinities, booleans
    and wrong counts do not.
    """
    def reject(what: str, remedy: str):
        raise CourseError(f"{name}: {what}; {remedy}")

    if hasattr(values, "tolist") and not isinstance(values, list):
        reject(f"it returned a {type(values).__name__}", "return a list of floats (.tolist())")
    if not isinstance(values, list | tuple):
        reject(f"it returned {type(values).__name__}", "return a list with one float a completion")
    if len(values) != n:
        reject(f"it returned {len(values)} values for {n} completions",
               "return one float a completion, in the same order")
    for i, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float):
            reject(f"value {i} is a {type(value).__name__}", "every value must be a float")
        if not math.isfinite(value):
            reject(f"value {i} is {value}", "every value must be finite: look for a division by "
                   "zero, a log of zero or an overflowing exp")
    return [float(value) for value in values]


def call(function: Callable, *args, **kwargs):
    """Call a student's function; anything it raises becomes one line that names it.

    NotImplementedError passes: an unsolved exercise names itself.
    """
    try:
        return function(*args, **kwargs)
    except (NotImplementedError, CourseError):
        raise
    except Exception as error:
        raise CourseError(f"{function.__name__}: it raised {type(error).__name__}: {error}; run "
                          "its visible check in the notebook") from error


class SentimentReward:
    """score -> shaping -> KL term, as one TRL reward function.

    answers: the student's functions by name. reference: the model that ``ref_logps`` come
    from, None without a KL term. After each call ``rows`` holds the parts of every
    completion of that call: prompt, completion, score, shaped, kl_term, reward.
    """

    __name__ = "reward"  # the key under which TRL logs it

    def __init__(self, answers: Mapping[str, Callable], *, shaping: str = "none",
                 temperature: float = 1.0, kl_type: str = "none", kl_coef: float = 0.1,
                 reference=None, tokenizer=None):
        self.answers, self.shaping, self.temperature = answers, shaping, temperature
        self.kl_type, self.kl_coef = kl_type, kl_coef
        self.reference, self.tokenizer = reference, tokenizer
        self.rows: list[dict] = []

    def _kl_terms(self, prompts: list[str], completion_ids: list[list[int]]) -> list[float]:
        name = {"forward": "forward_kl_bonus", "backward": "backward_kl_penalty"}[self.kl_type]
        prompt_ids = self.tokenizer(prompts)["input_ids"]
        logps = completion_logprobs(self.reference, prompt_ids, completion_ids,
                                    self.tokenizer.pad_token_id)
        return gate(name, call(self.answers[name], logps, self.kl_coef), len(prompts))

    def __call__(self, prompts, completions, completion_ids=None, log_metric=None, **kwargs):
        """One float a completion. Signature: TRL's keyword call of a reward function."""
        n = len(completions)
        scores = gate("sentiment_reward",
                      call(self.answers["sentiment_reward"], completions, prompts=prompts,
                           completion_ids=completion_ids, **kwargs), n)
        shaped = scores
        if self.shaping == "exponential":
            shaped = gate("exponential_shaping", call(
                self.answers["exponential_shaping"], list(scores), self.temperature), n)
        terms = [0.0] * n
        if self.kl_type != "none":
            terms = self._kl_terms(prompts, completion_ids)
        rewards = [s + t for s, t in zip(shaped, terms, strict=True)]
        self.rows = [
            {"prompt": p, "completion": c, "score": s, "shaped": h, "kl_term": t, "reward": r}
            for p, c, s, h, t, r in
            zip(prompts, completions, scores, shaped, terms, rewards, strict=True)]
        if log_metric:
            log_metric("score", statistics.fmean(scores))
            log_metric("kl_term", statistics.fmean(terms))
        return rewards
