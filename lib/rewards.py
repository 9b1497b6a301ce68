"""Wiring: the functions a student wrote -> the one reward function that TRL calls.

Every reward is validated on the way. TRL takes NaN for "no opinion" and lets one infinity erase
its whole group without a word; a reward function that is wrong must stop the run instead.
"""

import contextlib
import io
import statistics
import sys
from collections.abc import Callable, Mapping

from lib import CourseError


def validate_rewards(name: str, values, n: int) -> list[float]:
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
        if not -sys.float_info.max <= value <= sys.float_info.max:  # an int may be larger
            shown = value if isinstance(value, float) else "too large for a float"
            reject(f"value {i} is {shown}", "every value must be finite: look for a division by "
                   "zero, a log of zero or an overflowing exp")
    return [float(value) for value in values]


def call_student(function: Callable, *args, **kwargs):
    """Call a student's function; anything it raises becomes one line that names it.

    NotImplementedError passes: an unsolved exercise names itself.
    """
    try:
        return function(*args, **kwargs)
    except (NotImplementedError, CourseError):
        raise
    except (Exception, SystemExit) as error:
        raise CourseError(f"{function.__name__}: it raised {type(error).__name__}: {error}; run "
                          "its visible check in the notebook") from error


def completion_texts(completions: list) -> list[str]:
    """The texts of completions, which TRL passes as texts or as conversations of one message."""
    return [c if isinstance(c, str) else c[0]["content"] for c in completions]


def conversations(texts: list[str]) -> list[list[dict]]:
    """Texts as the completions of conversations; what ``completion_texts`` takes apart."""
    return [[{"role": "assistant", "content": text}] for text in texts]


class RewardFunction:
    """``Task.parts`` as the reward function that TRL calls, and that signal check and probes ask.

    reference_logps: (prompts, completion ids) -> log-probs of their tokens under the reference;
    asked only where the task wants them. observe: gets the step that is being made and one row a
    completion (prompt, completion, reward and its parts), each time that the trainer asks.
    """

    __name__ = "reward"  # the key under which TRL logs it

    def __init__(self, task, answers: Mapping[str, Callable], reference_logps: Callable,
                 observe: Callable[[int, list[dict]], None]):
        self.task, self.answers = task, answers
        self.reference_logps, self.observe = reference_logps, observe

    def parts(self, prompts: list, completions: list, completion_ids: list[list[int]],
              **kwargs) -> dict[str, list[float]]:
        """The parts of each completion's reward by name, each validated."""
        parts = self.task.parts(
            completions, answers=self.answers, prompts=prompts, completion_ids=completion_ids,
            ref_logps=lambda: self.reference_logps(prompts, completion_ids), **kwargs)
        if "reward" not in parts:
            raise CourseError(f"the task {self.task.task}: its parts() returned no reward; one of "
                              'the lists must be called "reward"')
        return {name: validate_rewards(name, values, len(completions))
                for name, values in parts.items()}

    def of_rows(self, rows: list[dict], texts: list[str], ids: list[list[int]]) -> list[dict]:
        """The parts for one completion of each data set row, asked for as TRL does."""
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        prompts = columns.pop("prompt")
        completions = texts if isinstance(prompts[0], str) else conversations(texts)
        return _rows(prompts, completions, self.parts(prompts, completions, ids, **columns))

    def __call__(self, prompts, completions, completion_ids, log_metric=None, trainer_state=None,
                 **kwargs) -> list[float]:
        """One float a completion. Signature: TRL's keyword call of a reward function."""
        parts = self.parts(prompts, completions, completion_ids, trainer_state=trainer_state,
                           **kwargs)
        for metric in self.task.all_metrics().values():
            if metric.log_key in parts and metric.log_key != "reward":  # TRL logs that one itself
                log_metric(metric.log_key, statistics.fmean(parts[metric.log_key]))
        self.observe(trainer_state.global_step + 1, _rows(prompts, completions, parts))
        return parts["reward"]


def _rows(prompts: list, completions: list, parts: dict[str, list[float]]) -> list[dict]:
    """One row a completion; of a conversation, its last message is the prompt."""
    return [{"prompt": prompt if isinstance(prompt, str) else prompt[-1]["content"],
             "completion": text, **{name: values[i] for name, values in parts.items()}}
            for i, (prompt, text) in enumerate(
                zip(prompts, completion_texts(completions), strict=True))]


HOPELESS = 0.9  # share of tied groups from which a run is called hopeless


def reward_variance(rewards: list[float], size: int, successes: list[bool] | None,
                    remedy: str) -> dict:
    """Whether a sample of the base policy's groups has rewards to learn from.

    The gradient of a group is zero where its rewards are all equal. rewards: groups of size side
    by side. successes: which completions show what is wanted. remedy: the task's, for a base
    policy that never does.
    Returns base_rate (None without successes), n, tied_groups (share) and hopeless: the reason
    why there is nothing to learn from, or None.
    """
    groups = [rewards[i : i + size] for i in range(0, len(rewards), size)]
    tied = sum(max(g) - min(g) < 1e-9 for g in groups) / len(groups)
    rate = sum(successes) / len(successes) if successes else None
    hopeless = None
    if rate == 0:
        hopeless = (f"none of {len(rewards)} completions shows what is wanted, so training can "
                    f"only learn what to avoid; {remedy}")
    elif tied >= HOPELESS:
        hopeless = (f"{tied:.0%} of the groups have equal rewards, and such a group teaches "
                    "nothing at any learning rate; use a graded reward, larger --num-generations, "
                    "or examples in the prompts")
    return {"base_rate": rate, "n": len(rewards), "tied_groups": tied, "hopeless": hopeless}


def check_answers(task, answers: Mapping[str, Callable]) -> None:
    """Unit-test the functions that a run will trust; a failing check becomes a CourseError."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            task.test_answers(answers)
    except AssertionError as error:
        raise CourseError(f"a visible check fails, so nothing was trained: {error}") from None
