"""Word problems of several steps, and the text behind chapter 4's policy.

Every answer of the text is true; what differs is how much working is written down: none, some
steps, or all; what is read last mostly holds none. A network of this size cannot do several steps
in one pass, so the short answers that it learns to give are mostly wrong and the worked-out ones
mostly right: thinking pays, and the policy does not know it yet. How much is written does not
depend on how hard a problem is.

Left out on purpose: division, fractions, distractors, numbers above 60.
"""

import operator
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

XML_COT_FORMAT = "<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"
SYSTEM_PROMPT = ("Respond in the following format:\n"
                 + XML_COT_FORMAT.format(reasoning="...", answer="...").rstrip("\n"))

Step = tuple[int, str, int]  # what there is, operation, operand
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
LENGTHS = (2, 2, 3, 3, 4)  # steps of a problem, in turn
BEYOND = (5,)  # a length that neither the text nor any training holds
LARGEST = 60  # no result is above it
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gwen", "Hugo", "Iris", "Jon")
THINGS = ("apples", "books", "cards", "coins", "pens", "shells", "stamps", "toys")
START = ("{name} has {a} {things}.", "There are {a} {things} in a box.")
ORDER = ("First", "Then", "Next", "Later", "Later")
HAPPENS = {
    "+": ("{name} finds {b} more.", "a friend adds {b}."),
    "-": ("{name} gives away {b}.", "a friend takes {b}."),
    "*": ("there are {b} times as many.",),
}
ASKED = ("How many {things} are there now?", "How many {things} is that?")
AT_ONCE = "I see it."


@dataclass(frozen=True)
class Problem:
    """A question with its steps; each goes on with the result of the one before."""

    question: str
    steps: tuple[Step, ...]

    @property
    def answer(self) -> int:
        return solve(self.steps[-1])

    def row(self) -> dict:
        """As a row of GSM8K: question and worked answer, the result after ``####``."""
        lines = [f"{a} {op} {b} = <<{equation((a, op, b))}>>{solve((a, op, b))}"
                 for a, op, b in self.steps]
        return {"question": self.question, "answer": "\n".join([*lines, f"#### {self.answer}"])}


def solve(step: Step) -> int:
    a, op, b = step
    return OPERATIONS[op](a, b)


def equation(step: Step) -> str:
    a, op, b = step
    return f"{a}{op}{b}={solve(step)}"


def chain(steps: Sequence[Step]) -> str:
    """A problem without its words: ``7+4-2*3``, worked out from left to right."""
    return str(steps[0][0]) + "".join(f"{op}{b}" for _, op, b in steps)


def chains_within(steps: Sequence[Step]) -> list[str]:
    """The chains of all runs of two steps and more, the whole one among them."""
    return [chain(steps[i:j]) for i in range(len(steps)) for j in range(i + 2, len(steps) + 1)]


def split_of(text: str) -> str:
    """"eval" for one text in eight, else "train"; the text alone decides."""
    return "eval" if zlib.crc32(text.encode()) % 8 == 0 else "train"


def split_of_steps(steps: Sequence[Step]) -> str | None:
    """By the numbers, not by the wording, which would let every held-out chain into training.

    "train" only where no part of the working is a held-out chain either; None for the rest,
    which belong to neither split.
    """
    if split_of(chain(steps)) == "eval":
        return "eval"
    return "train" if all(split_of(part) == "train" for part in chains_within(steps)) else None


def make_problem(rng: random.Random, length: int) -> Problem:
    """Draw one problem of so many steps; every result is from 1 to LARGEST."""
    start = left = rng.randint(2, 9)
    steps, words = [], [rng.choice(START)]
    for i in range(length):
        most = {"+": min(9, LARGEST - left), "-": min(9, left - 1), "*": min(3, LARGEST // left)}
        op = rng.choice([op for op, highest in most.items() if highest >= 2])
        steps.append((left, op, rng.randint(2, most[op])))
        words.append(f"{ORDER[i]} {rng.choice(HAPPENS[op])}".replace("{b}", str(steps[-1][2])))
        left = solve(steps[-1])
    question = " ".join([*words, rng.choice(ASKED)]).format(
        name=rng.choice(NAMES), things=rng.choice(THINGS), a=start)
    return Problem(question, tuple(steps))


def make_problems(n: int, seed: int, split: str, lengths: Sequence[int] = LENGTHS
                  ) -> list[Problem]:
    """n different problems of one split; the same seed gives the same ones.

    The lengths take turns, whatever share of each the split leaves out.
    """
    rng, found = random.Random(seed), {}
    while len(found) < n:
        problem = make_problem(rng, lengths[len(found) % len(lengths)])
        if split_of_steps(problem.steps) == split:
            found.setdefault(problem.question, problem)
    return list(found.values())


STYLES = {  # how an answer is written -> how often
    XML_COT_FORMAT: 0.50,
    "<reasoning>{reasoning}</reasoning><answer>{answer}</answer>": 0.12,
    "<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n": 0.13,
    XML_COT_FORMAT + "That is all.": 0.10,
    "{reasoning}\nThe answer is {answer}.": 0.15,
}


def true_answer(rng: random.Random, problem: Problem, at_once: float, in_full: float) -> str:
    """An answer of the text, always the right one, in some style.

    at_once, in_full: the share without any working, and with all of it; the others write some of
    the first steps.
    """
    steps, luck = problem.steps, rng.random()
    written = rng.randint(1, len(steps) - 1)
    if luck < at_once:
        written = 0
    elif luck < at_once + in_full:
        written = len(steps)
    [style] = rng.choices(list(STYLES), weights=list(STYLES.values()))
    return style.format(reasoning="\n".join(map(equation, steps[:written])) or AT_ONCE,
                        answer=problem.answer)
