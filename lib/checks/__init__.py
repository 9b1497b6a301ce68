"""Visible checks: run in the notebook, they name the likely misconception. A module a chapter.

A check compares with numbers worked out beforehand and with laws, so that it holds no
answer. Passing it is a good sign; the hidden tests try more inputs.
"""

import sysconfig
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import torch

from lib import CourseError, show_one_line
from lib.points import tick
from lib.rewards import validate_rewards


def visible(check: Callable) -> Callable:
    """A check as a notebook's cell calls it: failing, it shows one red line and no traceback,
    but for the lines of the student's own function that the error passed through.
    """
    @wraps(check)
    def run(function, *args, **kwargs):
        try:
            return check(_careful(function), *args, **kwargs)
        except NotImplementedError as error:
            show_one_line(error)
            raise
        except AssertionError as error:
            show_one_line(error, *_theirs(error.__cause__ or error))
            raise

    return run


def _careful(function: Callable) -> Callable:
    """function, failing its check where it changes an argument, as it will fail the grader's."""
    @wraps(function)
    def call(*args, **kwargs):
        before = _copy([args, kwargs])
        result = function(*args, **kwargs)
        assert _same([args, kwargs], before), (
            f"{function.__name__} changes an argument, which belongs to the caller: return new "
            "lists and tensors")
        return result

    return call


def _copy(value):
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return value


def _same(value, before) -> bool:
    if isinstance(value, torch.Tensor):
        return value.shape == before.shape and torch.equal(value, before)
    if isinstance(value, list | tuple):
        return len(value) == len(before) and all(map(_same, value, before))
    if isinstance(value, dict):
        return list(value) == list(before) and all(map(_same, value.values(), before.values()))
    return value is before or value == before


LIB = Path(__file__).parents[1]
NOT_THEIRS = (LIB, *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))


def _theirs(error: Exception) -> list[str]:
    """A traceback's lines, of the student's code that a check called alone."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames)
                  if Path(frame.filename).is_relative_to(LIB)), 0)
    return traceback.format_list([frame for frame in frames[first:] if not any(
        Path(frame.filename).is_relative_to(folder) for folder in NOT_THEIRS)])


def close(got, right, tolerance: float = 1e-4) -> bool:
    """Whether got is right within tolerance (relative above 1); False when it has another shape."""
    try:
        got = torch.as_tensor(got, dtype=torch.float64)
        right = torch.as_tensor(right, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return False
    return got.shape == right.shape and torch.allclose(got, right, atol=tolerance, rtol=tolerance)


def expect(what: str, got, right, mistakes: dict[str, object] | None = None,
           tolerance: float = 1e-4) -> None:
    """Raise AssertionError unless got is right; name the mistake whose result got equals."""
    if close(got, right, tolerance):
        return
    for mistake, result in (mistakes or {}).items():
        if close(got, result, tolerance):
            raise AssertionError(f"{what}: {mistake}")
    raise AssertionError(f"{what} should be {short(right)}, yours is {short(got)}")


def short(value) -> str:
    if isinstance(value, torch.Tensor):
        value = value.detach().tolist()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(short(v) for v in value[:6]) + ", ..." * (len(value) > 6) + "]"
    return f"{value:.5g}" if isinstance(value, float) else repr(value)[:80]


def attempt(function: Callable, hint: str, *args, **kwargs):
    """Call a student's function; what it raises becomes a failed check with a hint.

    An unsolved exercise's NotImplementedError passes through.
    """
    try:
        return function(*args, **kwargs)
    except (NotImplementedError, AssertionError):
        raise
    except Exception as error:
        if isinstance(error, NameError):
            hint = "is it spelt right? If it belongs to another cell, use your arguments"
        elif isinstance(error, ImportError | SyntaxError):
            hint = "with this its cell stops"
        raise AssertionError(f"{function.__name__} raised {type(error).__name__}: {error}; "
                             f"{hint}") from error


def floats(function: Callable, hint: str, n: int, *args, **kwargs) -> list[float]:
    """The n floats that function returns; the training run's validation as a failed check."""
    values = attempt(function, hint, *args, **kwargs)
    try:
        return validate_rewards(function.__name__, values, n)
    except CourseError as error:
        raise AssertionError(str(error)) from None


def passed(function: Callable) -> None:
    print(tick(function.__name__))
