"""Wiring: the functions a student wrote -> the one reward function that TRL calls.

The gate stands between them. TRL takes NaN for "no opinion" and lets one infinity erase its
whole group without a word; a reward function that is wrong must stop the run instead.
"""

import contextlib
import io
import math
import random
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


class TextReward:
    """One student's function of the completions as the TRL reward function.

    judge: ``validation_metrics``; its rates are logged beside the reward. noise: standard
    deviation of Gaussian noise on each reward; it follows from seed and step alone, so that a
    resumed run sees the same. ``rows``: prompt, completion and reward, without the noise, of the
    last call.
    """

    __name__ = "reward"

    def __init__(self, function: Callable, judge: Callable, *, noise: float = 0.0, seed: int = 0):
        self.function, self.judge, self.noise, self.seed = function, judge, noise, seed
        self.rows: list[dict] = []

    def __call__(self, prompts, completions, log_metric=None, trainer_state=None, **kwargs):
        """One float a completion. Signature: TRL's keyword call of a reward function."""
        rewards = gate(self.function.__name__, call(
            self.function, completions, prompts=prompts, **kwargs), len(completions))
        self.rows = [{"prompt": p, "completion": c, "reward": r}
                     for p, c, r in zip(prompts, completions, rewards, strict=True)]
        if log_metric:
            for name, value in call(self.judge, list(completions)).items():
                if name.endswith("_rate"):
                    log_metric(name, float(value))
        step = trainer_state.global_step if trainer_state else 0
        dice = random.Random(f"{self.seed}-{step}")
        return [r + dice.gauss(0, self.noise) for r in rewards] if self.noise else rewards


def contents(completions: list) -> list[str]:
    """The texts of completions, which TRL passes as texts or as conversations of one message."""
    return [c if isinstance(c, str) else c[0]["content"] for c in completions]


def conversations(texts: list[str]) -> list[list[dict]]:
    """Texts as the completions of conversations; what ``contents`` takes apart."""
    return [[{"role": "assistant", "content": text}] for text in texts]


class WeightedRewards:
    """Several of the student's functions, their weighted sum as the TRL reward function.

    functions: by name, each called with everything that TRL passes. weights: one a function, as
    GRPOConfig.reward_weights. ``rows`` as for SentimentReward, with every function's own value.
    """

    __name__ = "reward"

    def __init__(self, functions: Mapping[str, Callable], weights: tuple[float, ...]):
        self.functions, self.weights = functions, weights
        self.rows: list[dict] = []

    def __call__(self, prompts, completions, log_metric=None, **kwargs):
        """One float a completion. Signature: TRL's keyword call of a reward function."""
        n = len(completions)
        parts = {name: gate(name, call(function, prompts=prompts, completions=completions,
                                       **kwargs), n)
                 for name, function in self.functions.items()}
        rewards = [sum(w * v for w, v in zip(self.weights, values, strict=True))
                   for values in zip(*parts.values(), strict=True)]
        self.rows = [
            {"prompt": prompt if isinstance(prompt, str) else prompt[-1]["content"],
             "completion": text, "reward": reward,
             **{name: values[i] for name, values in parts.items()}}
            for i, (prompt, text, reward) in enumerate(zip(prompts, contents(completions),
                                                           rewards, strict=True))]
        if log_metric:
            for name, values in parts.items():
                log_metric(name, statistics.fmean(values))
        return rewards


HOPELESS = 0.9  # share of tied groups from which a run is called hopeless


def signal(rewards: list[float], size: int, wanted: list[bool] | None, remedy: str) -> dict:
    """What a sample of the base policy's groups promises: can this run learn?

    rewards: groups of size side by side. wanted: which completions show what is wanted.
    remedy: the task's, for a base policy that never shows it.
    Returns base_rate (None without wanted), n, tied_groups (share) and hopeless: the reason why
    there is nothing to learn from, or None.
    """
    groups = [rewards[i : i + size] for i in range(0, len(rewards), size)]
    tied = sum(max(g) - min(g) < 1e-9 for g in groups) / len(groups)
    rate = sum(wanted) / len(wanted) if wanted else None
    hopeless = None
    if rate == 0:
        hopeless = (f"none of {len(rewards)} completions shows what is wanted, so training can "
                    f"only learn what to avoid; {remedy}")
    elif tied >= HOPELESS:
        hopeless = (f"{tied:.0%} of the groups have equal rewards, and such a group teaches "
                    "nothing at any learning rate; use a graded reward, larger --num-generations, "
                    "or examples in the prompts")
    return {"base_rate": rate, "n": len(rewards), "tied_groups": tied, "hopeless": hopeless}


def check_answers(settings, answers: Mapping[str, Callable]) -> None:
    """Unit-test the functions that a run will trust; a failing check becomes a CourseError."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            settings.test_answers(answers)
    except AssertionError as error:
        raise CourseError(f"a visible check fails, so nothing was trained: {error}") from None
