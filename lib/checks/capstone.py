"""The visible check of chapter 6's capstone: the form of a reward. What it trains is graded."""

from collections.abc import Callable

from lib import scoring
from lib.checks import floats, passed, visible

TEXTS = [" brilliant. I loved every minute.", " awful. I walked out halfway.", "",
         " superb superb and the the was superb and" * 6]
REF_LOGPS = [[-3.7, -0.1, -2.4, -0.2, -0.1], [-3.9, -0.2, -2.8, -0.3], [-9.0], [-4.0, -60.0] * 20]


@visible
def project_reward(function: Callable) -> None:
    """Exercise 7."""
    hint = ("it gets N texts, N lists of 5 probabilities and N lists of log-probs, plain Python "
            "lists; a text may be empty, a probability 0")
    stars = [*scoring.get_star_probs(TEXTS[:2]).tolist(), [1.0, 0.0, 0.0, 0.0, 0.0],
             [0.0, 0.0, 0.0, 0.0, 1.0]]

    def rewards(n: int) -> list[float]:
        return floats(function, hint, n, TEXTS[:n], [list(row) for row in stars[:n]],
                      [list(row) for row in REF_LOGPS[:n]])

    good, bad, *_ = first = rewards(4)
    rewards(2)
    assert rewards(4) == first, (
        "asked twice about the same completions, it gives other rewards: no chance, no counting of "
        "calls")
    assert good > bad, (
        f"{TEXTS[0]!r} gets {good:.3g} and {TEXTS[1]!r} {bad:.3g}: the policy is to like films")
    rewards(0)
    assert max(map(abs, first)) <= 1e6, "a reward beyond a million drowns the others of its group"
    passed(function)
