"""Visible checks of chapter 4."""

from collections.abc import Callable

from lib.checks import attempt, expect, floats, passed, visible
from lib.rewards import conversations

PERFECT = "<reasoning>\n4+3=7\n7-2=5\n</reasoning>\n<answer>\n5\n</answer>\n"
MESSAGES = ("a completion is a list with one message; rewards.completion_texts(completions) gives "
            "the texts")


def said(*texts: str) -> list[list[dict]]:
    """Completions as TRL passes them in a conversation."""
    return conversations(list(texts))


def _texts(function: Callable, hint: str, table: dict[str, tuple]) -> None:
    """Compare what function gives for each text; table: text -> (right, what a mistake is)."""
    for text, (right, mistake) in table.items():
        got = attempt(function, hint, text)
        call = f"{function.__name__}({text!r})"
        assert got == right, f"{call} should be {right!r}, yours is {got!r}: {mistake}"
        assert type(got) is type(right), (
            f"{call} is right, but {got!r} is of type {type(got).__name__}; return a "
            f"{type(right).__name__}")
    passed(function)


@visible
def extract_xml_answer(function: Callable) -> None:
    """Exercise 1a."""
    _texts(function, "text is a string; a tag may be missing", {
        PERFECT: ("5", "strip the white space; and in a pattern '.' is no line break"),
        "<answer>5</answer> or <answer>6</answer>": ("6", "the last block counts"),
        "<answer>\n5": ("5", "without a closing tag take everything to the end"),
        "<answer>5</answer>\n<answer>\n6": ("6", "the last <answer> counts, closed or not"),
        "5": ("", "without <answer> there is no answer"),
        "<answer>2</answer> bye": ("2", "what follows the closing tag does not belong to it")})


@visible
def extract_hash_answer(function: Callable) -> None:
    """Exercise 1b."""
    _texts(function, "text is a string; the mark may be missing", {
        "She sold 24.\n#### 72": ("72", "strip the white space around it"),
        "#### 1,200": ("1200", "drop thousands commas"), "#### $7": ("7", "drop dollar signs"),
        "no mark 5": (None, "None where there is no ####"),
        "# 5": (None, "the mark is ####, nothing shorter")})


@visible
def parse_number(function: Callable) -> None:
    """Exercise 1c."""
    _texts(function, "a text may hold no number at all", {
        "1,000": (1000.0, "commas before groups of three belong to the number"),
        "$5": (5.0, "a dollar sign does not matter"), "4.0": (4.0, "a decimal point is part of it"),
        "-4": (-4.0, "mind the minus"), "-$4": (-4.0, "the minus stands before the dollar sign"),
        ".5": (0.5, "the digits before the point may be missing"),
        "38 kg": (38.0, "a unit does not matter"),
        "x = 7.": (7.0, "a full stop ends the sentence, not the number"),
        "": (None, "there is no number"), "four": (None, "there is no number in digits"),
        "3 or 4": (None, "there are two numbers"), "1/2": (None, "there are two numbers"),
        "3,4": (None, "this comma is none before three digits")})


@visible
def correctness_reward_func(function: Callable) -> None:
    """Exercise 2a."""
    cases = (
        (PERFECT, "5", 2, "the right number; the reasoning has two lines"),
        ("<answer>3,380</answer>", "3380", 2, "compare as numbers: 3,380 is 3380"),
        ("<answer>4.0</answer>", "4", 2, "compare as numbers: 4.0 is 4"),
        ("<answer>15</answer>", "5", 0, "15 is not 5, though it ends like it"),
        ("<answer>5 or 6</answer>", "5", 0, "who hedges has not answered"),
        ("<answer>-5</answer>", "5", 0, "the sign counts"),
        ("5", "5", 0, "a bare 5 without tags is no answer"),
        ("<answer>six</answer>", "six", 0, "no number is never right"),
        ("<answer>6</answer>", "5", 0, "a wrong number"))
    texts, right = [case[0] for case in cases], [case[1] for case in cases]
    got = floats(function, MESSAGES, len(cases), prompts=said(*["Q"] * len(cases)),
                 completions=said(*texts), answer=right)
    for value, (text, _, worth, why) in zip(got, cases, strict=True):
        expect(f"the reward of {text[-24:]!r} ({why})", value, worth)
    passed(function)


def _values(function: Callable, table: dict[str, tuple[float, str]]) -> None:
    """Compare the rewards of the texts; table: text -> (right, why)."""
    got = floats(function, MESSAGES, len(table), completions=said(*table),
                 prompts=said(*["Q"] * len(table)), answer=["5"] * len(table))
    for value, (text, (right, why)) in zip(got, table.items(), strict=True):
        shown = repr(text if len(text) < 60 else f"...{text[-50:]}")
        expect(f"the reward of {shown} ({why})", value, right, tolerance=1e-6)
    floats(function, "an empty list of completions gives an empty list", 0, completions=[])
    passed(function)


@visible
def int_reward_func(function: Callable) -> None:
    """Exercise 2b."""
    _values(function, {
        PERFECT: (0.5, "a whole number"), "<answer>-4</answer>": (0.5, "a minus is allowed"),
        "<answer>1,000</answer>": (0.5, "thousands commas are allowed"),
        "<answer>1,00</answer>": (0, "commas stand before groups of three"),
        "<answer>+5</answer>": (0, "a minus is the only sign allowed"),
        "<answer>1_000</answer>": (0, "int() understands more than digits and commas"),
        "<answer>4.0</answer>": (0, "not digits only"), "<answer>38 kg</answer>": (0, "a unit"),
        "<answer></answer>": (0, "no answer"), "5": (0, "no tags, no answer"),
        "<answer>²</answer>": (0, "a small raised 2 is no plain digit")})


@visible
def soft_format_reward_func(function: Callable) -> None:
    """Exercise 3a."""
    _values(function, {
        PERFECT: (0.5, "reasoning over two lines: without re.DOTALL '.' stops at a line break"),
        "<reasoning>1</reasoning><answer>5</answer>": (0.5, "line breaks do not matter here"),
        "\n" + PERFECT + "Bye.": (0.5, "white space before and text after do not matter"),
        "Well: " + PERFECT: (0, "it does not begin with the reasoning"),
        "<reasoning>1</reasoning> so <answer>5</answer>": (0, "only white space may stand between"),
        "<answer>5</answer>": (0, "no reasoning"),
        "<reasoning>1</reasoning><answer>5": (0, "the answer is not closed")})


@visible
def strict_format_reward_func(function: Callable) -> None:
    """Exercise 3b."""
    _values(function, {
        PERFECT: (0.5, "reasoning over two lines: without re.DOTALL '.' stops at a line break"),
        PERFECT.rstrip(): (0.5, "the final line break may be missing"),
        "<reasoning>1</reasoning><answer>5</answer>": (0, "tags alone on their lines"),
        PERFECT.replace("\n<answer>", "\n\n<answer>"): (0, "no empty line between the blocks"),
        PERFECT + "Bye.": (0, "nothing may follow"),
        PERFECT + "\n": (0, "not even a second line break may follow"),
        "So:\n" + PERFECT: (0, "nothing may go before"),
        PERFECT + PERFECT: (0, "each tag exactly once: '.*?' swallows a second block"),
        "<reasoning>\n1\n<answer>\n5\n</answer>\n": (0, "the reasoning is not closed")})


@visible
def xmlcount_reward_func(function: Callable) -> None:
    """Exercise 3c."""
    _values(function, {
        PERFECT: (0.5, "four times 0.125, nothing behind"),
        PERFECT.rstrip(): (0.5, "the final line break does not matter"),
        PERFECT + "Bye.": (0.496, "four characters behind the last </answer>"),
        PERFECT + "Bye now": (0.493, "seven characters: the space inside counts"),
        "<reasoning>\n1\n</reasoning>\n<answer>\n5": (0.375, "three of the four, nothing behind"),
        "5</answer>" + "x" * 10: (-0.01, "the fine goes below 0"),
        "5": (0, "no tag; without </answer> nothing is behind it"),
        "<reasoning>1</reasoning><answer>5</answer>": (0, "no tag is in its place"),
        PERFECT + PERFECT: (0, "each string occurs twice")})


@visible
def pass_at_k(function: Callable) -> None:
    """Exercise 4."""
    hint = "n, c and k are whole numbers"
    for (n, c, k), right, mistakes in (
            ((4, 1, 1), 1 / 4, {"with k = 1 it is c / n": 3 / 4}),
            ((4, 0, 3), 0.0, {"without a right try it is 0": 1.0}),
            ((4, 1, 2), 1 / 2, {"this is the chance with putting back": 1 - (3 / 4) ** 2,
                                "1 minus the chance that all k are wrong": 1 / 6}),
            ((4, 2, 2), 5 / 6, {"this is the chance that all k are right": 1 / 6,
                                "this is the chance that all k are wrong": 1 / 6,
                                "this is the chance with putting back": 3 / 4}),
            ((4, 3, 2), 1.0, {"one wrong try cannot fill two places": 15 / 16}),
            ((5000, 1, 2500), 1 / 2, {})):
        expect(f"pass_at_k({n}, {c}, {k})", attempt(function, hint, n, c, k), right, mistakes,
               tolerance=1e-7)
    passed(function)


def _refuses(function: Callable, error: type[Exception], *cases: tuple) -> None:
    """Whether function raises error; cases: its arguments and, as the last, why."""
    for *args, why in cases:
        call = f"{function.__name__}({', '.join(map(repr, args))})"
        try:
            got = function(*args)
        except error:
            continue
        except Exception as other:
            raise AssertionError(f"{call} should raise {error.__name__}, yours raises "
                                 f"{type(other).__name__}: {why}") from other
        raise AssertionError(f"{call} should raise {error.__name__}, yours returns {got!r}: {why}")


@visible
def cut_reasoning(function: Callable) -> None:
    """Exercise 5a."""
    end = "</reasoning>\n<answer>\n"
    spaced = "<reasoning>\n 1+1=2 \n\n2+1=3\n</reasoning>"
    for (text, keep), right, mistake in (
            ((PERFECT, 1), f"<reasoning>\n4+3=7\n{end}", "the first line, then the answer's tag"),
            ((PERFECT, 2), f"<reasoning>\n4+3=7\n7-2=5\n{end}", "the answer is left to say"),
            ((PERFECT, 9), f"<reasoning>\n4+3=7\n7-2=5\n{end}", "beyond the end keep all lines"),
            ((PERFECT, 0), f"<reasoning>\nI see it.\n{end}", "no line is left: AT_ONCE"),
            ((spaced, 2), f"<reasoning>\n1+1=2\n2+1=3\n{end}", "strip lines, skip empty ones")):
        got = attempt(function, "text is a string", text, keep)
        assert got == right, (f"cut_reasoning({text!r}, {keep}) should be {right!r}, yours is "
                              f"{got!r}: {mistake}")
    _refuses(function, ValueError,
             ("5", 1, "there is no reasoning"), ("<reasoning>\n1+1=2\n", 1, "it is not closed"),
             ("</reasoning>\n<reasoning>", 1, "the closing tag must come behind"),
             (PERFECT + PERFECT, 1, "there are two blocks"), (PERFECT, -1, "keep is negative"))
    passed(function)


@visible
def corrupt_step(function: Callable) -> None:
    """Exercise 5b."""
    twice = "<reasoning>\n7-7=0\n0+7 = 7\n</reasoning>\n<answer>\n7\n</answer>"
    for (text, index, delta), right, mistake in (
            ((PERFECT, 0, 1), "<reasoning>\n4+3=8\n", "what stood behind the result is dropped"),
            ((PERFECT, 1, 1), "<reasoning>\n4+3=7\n7-2=6\n", "what stood before it stays"),
            ((PERFECT, -1, 10), "<reasoning>\n4+3=7\n7-2=15\n", "-1 is the last result"),
            ((twice, 1, 1), "<reasoning>\n7-7=0\n0+7 = 8\n",
             "change the result, not an equal number elsewhere; white space stays"),
            ((twice, 0, -3), "<reasoning>\n7-7=-3\n", "a result may become negative")):
        got = attempt(function, "re.finditer tells where a result begins", text, index, delta)
        assert got == right, (f"corrupt_step({text!r}, {index}, {delta}) should be {right!r}, "
                              f"yours is {got!r}: {mistake}")
    _refuses(function, IndexError, (PERFECT, 2, 1, "there are two results"), (
        "<reasoning>\nI see it.\n</reasoning>\nx=5", 0, 1, "only results in the reasoning count"))
    _refuses(function, ValueError, ("1+1=2", 0, 1, "there is no reasoning"),
             ("<reasoning>\n1+1=2", 0, 1, "it is not closed"))
    passed(function)


@visible
def faithful_rate(function: Callable) -> None:
    """Exercise 5c."""
    for args, right, mistakes in (
            (([5.0, 5.0], [6.0, 5.0], [6.0, 6.0]), 1 / 2, {}),
            (([5.0, 6.0], [6.0, 6.0], [7.0, 6.0]), 0.0,
             {"where before and followed are equal, the case cannot tell": 1 / 2}),
            (([5.0, None, 5.0], [6.0, 6.0, None], [6.0, 6.0, 6.0]), 1 / 2,
             {"without an answer before, a case cannot tell": 2 / 3,
              "no answer afterwards counts: it did not follow": 1.0}),
            (([5.0, 5.0], [7.0, 5.0], [6.0, 6.0]), 0.0,
             {"to change is not to follow: it must be the expected answer": 1 / 2})):
        got = attempt(function, "an answer may be None", *args)
        assert got is not None, f"faithful_rate{args} should be {right:g}, yours is None"
        expect(f"faithful_rate{args}", got, right, mistakes)
    got = attempt(function, "no case can tell here", [None], [6.0], [6.0])
    assert got is None, f"where no case can tell it is None, yours is {got!r}"
    _refuses(function, ValueError, ([5.0], [6.0], [], "the lists are not equally long"))
    passed(function)


@visible
def token_cost_reward(function: Callable) -> None:
    """Exercise 6."""
    hint = "correctness and lengths are lists, cost is one number"
    got = floats(function, hint, 5, [2.0, 2.0, 0.0, 1.0, 2.0], [25, 400, 5, 25, 0], 0.01)
    for value, right, what in zip(
            got, (1.75, 1.0, 0.0, 0.75, 2.0),
            ("2 less 25 tokens at 0.01", "a right answer keeps at least half",
             "a wrong answer earns 0 and pays nothing", "half of 1 is 0.5; 0.75 is more",
             "no tokens, no price"), strict=True):
        expect(f"the reward ({what})", value, right, tolerance=1e-6)
    _refuses(function, ValueError, ([1.0], [1, 2], 0.01, "the lists are not equally long"),
             ([1.0], [1], -0.01, "a negative cost would pay for length"))
    passed(function)
