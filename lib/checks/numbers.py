"""Numbers in hidden tests: NaN compares as false, so a test that ranks must refuse it first."""

import math


def finite(values, n: int) -> list[float]:
    """The n finite floats of a result, in order.

    Raises AssertionError without a value in it: a student reads why a hidden test failed.
    """
    numbers = [float(value) for value in values]
    assert len(numbers) == n, "one number for each input"
    assert all(map(math.isfinite, numbers)), "every number must be finite"
    return numbers
