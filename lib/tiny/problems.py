"""Small word problems with their steps, as GSM8K writes them: the text behind chapter 4.

The policy of this text can solve the problems, and is careless: it guesses, it forgets the second
step, and more than half of its answers have other tags than asked for. Format and correctness
both have room to grow.

Left out on purpose: division, fractions, distractors, more than two steps.
"""

import operator
import random
import zlib
from dataclasses import dataclass

XML_COT_FORMAT = "<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"
SYSTEM_PROMPT = ("Respond in the following format:\n"
                 + XML_COT_FORMAT.format(reasoning="...", answer="...").rstrip("\n"))

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gwen", "Hugo", "Iris", "Jon")
THINGS = ("apples", "books", "cards", "coins", "pens", "shells", "stamps", "toys")
FIRST = {  # the first step: a and b
    "+": ("{name} has {a} {things} and finds {b} more.",
          "{name} buys {a} {things} on Monday and {b} on Tuesday.",
          "There are {a} {things} in a box. {name} puts in {b} more."),
    "-": ("{name} has {a} {things} and gives away {b}.",
          "{name} had {a} {things} but lost {b}.",
          "There are {a} {things} in a box. {name} takes out {b}."),
    "*": ("{name} has {a} bags with {b} {things} each.",
          "{name} buys {b} {things} a day for {a} days.",
          "There are {a} boxes of {b} {things} on the desk of {name}."),
}
SECOND = {  # the second step: what the first one left, and c
    "+": ("Then {name} gets {c} more.", "A friend adds {c}."),
    "-": ("Then {name} sells {c}.", "A friend takes {c}."),
}
ASKED = ("How many {things} are there now?", "How many {things} is that?")


@dataclass(frozen=True)
class Problem:
    """A question with its steps (a, operation, b)."""

    question: str
    steps: tuple[tuple[int, str, int], ...]

    @property
    def answer(self) -> int:
        return solve(self.steps[-1])

    def row(self) -> dict:
        """As a row of GSM8K: question and worked answer, the result after ``####``."""
        lines = [f"{a} {op} {b} = <<{equation((a, op, b))}>>{solve((a, op, b))}"
                 for a, op, b in self.steps]
        return {"question": self.question, "answer": "\n".join([*lines, f"#### {self.answer}"])}


def split_of(question: str) -> str:
    """"eval" for one question in eight, else "train"; the text of the question alone decides."""
    return "eval" if zlib.crc32(question.encode()) % 8 == 0 else "train"


def solve(step: tuple[int, str, int]) -> int:
    a, op, b = step
    return OPERATIONS[op](a, b)


def equation(step: tuple[int, str, int]) -> str:
    a, op, b = step
    return f"{a}{op}{b}={solve(step)}"


def _first(rng: random.Random, op: str) -> tuple[int, str, int]:
    if op == "*":
        return rng.randint(2, 5), op, rng.randint(2, 5)
    a = rng.randint(3, 12)
    return a, op, rng.randint(2, 9 if op == "+" else a - 1)


def make_problem(rng: random.Random) -> Problem:
    """Draw one problem of one or two steps; every result is positive."""
    op = rng.choice(list(FIRST))
    steps, words = [_first(rng, op)], [rng.choice(FIRST[op])]
    left = solve(steps[0])
    if rng.random() < 0.5 and left > 1:
        op = rng.choice(list(SECOND))
        steps.append((left, op, rng.randint(1, 5 if op == "+" else min(5, left - 1))))
        words.append(rng.choice(SECOND[op]))
    question = " ".join([*words, rng.choice(ASKED)]).format(
        name=rng.choice(NAMES), things=rng.choice(THINGS), a=steps[0][0], b=steps[0][2],
        c=steps[-1][2])
    return Problem(question, tuple(steps))


def make_problems(n: int, seed: int, split: str) -> list[Problem]:
    """n different problems of one split; the same seed gives the same ones."""
    rng, found = random.Random(seed), {}
    while len(found) < n:
        problem = make_problem(rng)
        if split_of(problem.question) == split:
            found.setdefault(problem.question, problem)
    return list(found.values())


STYLES = {  # how an answer is written -> how often
    XML_COT_FORMAT: 0.42,
    "<reasoning>{reasoning}</reasoning><answer>{answer}</answer>": 0.08,
    "<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n": 0.15,
    XML_COT_FORMAT + "That is all.": 0.05,
    "{reasoning}\nThe answer is {answer}.": 0.15,
    "{answer}": 0.15,
}


def careless_answer(rng: random.Random, problem: Problem) -> str:
    """An answer of the corpus: some style, often worked out, else guessed or left half done."""
    steps, slip = problem.steps, rng.random()
    reasoning, answer = "\n".join(map(equation, steps)), problem.answer
    if slip < 0.3:
        reasoning, answer = "I guess.", rng.choice(steps[0][::2])
    elif slip < 0.55 and len(steps) == 2:
        reasoning, answer = equation(steps[0]), solve(steps[0])
    [style] = rng.choices(list(STYLES), weights=list(STYLES.values()))
    return style.format(reasoning=reasoning, answer=answer)
