"""Visible checks of chapter 3."""

from collections.abc import Callable

from lib.checks import attempt, expect, floats, passed, visible

ONE_BY_ONE = "completions is a list of strings: judge each of them"


@visible
def persona_reward(function: Callable) -> None:
    """Exercise 1."""
    table = {
        "It is Musclebob Buffpants.": (6, {
            4: "all three rows pay here, 2 + 2 + 2: look for the words within the text, where "
               "a full stop may touch them", 2: "every row of the table counts",
            0: "upper and lower case are the same"}),
        "MUSCLEBOB met someone.": (2, {0: "upper and lower case are the same"}),
        "He wears buffpants.": (2, {0: "each word pays by itself", 6: "the full name is not here"}),
        "Buffpants, Musclebob": (4, {6: "the full name is the two words in this order"}),
        "Spongebob Squarepants": (-6, {-3: "both words cost", 6: "the signs"}),
        "Musclebob Buffpants, once Spongebob": (3, {6: "the old name costs, even beside the new",
                                                    -3: "rewards and costs add up"}),
        "musclebob " * 3: (2, {6: "a word pays once, however often it occurs"}),
        "": (0, {}),
        "no name " * 51: (-1, {0: "over 100 words cost 1"}),
        "no name " * 50: (0, {-1: "exactly 100 words are allowed"})}
    got = floats(function, ONE_BY_ONE, len(table), list(table), prompts=["Q"] * len(table))
    for value, (text, (right, mistakes)) in zip(got, table.items(), strict=True):
        expect(f"the reward of {text[:40]!r}", value, right,
               {why: wrong for wrong, why in mistakes.items()})
    floats(function, "an empty list of completions gives an empty list", 0, [])
    passed(function)


QUESTION, PAIRS = "Who has a hat?", [("Who is wet?", "It is Ann."), ("Who is dry?", "Bob is dry.")]


@visible
def fewshot_prompt(function: Callable) -> None:
    """Exercise 4a."""
    plain = attempt(function, "examples may be empty", QUESTION, [])
    assert plain == "Q: Who has a hat?\nA:", (
        f"without examples the prompt is 'Q: Who has a hat?\\nA:', yours is {plain!r}"
        + ("; nothing comes after 'A:', the answer brings its own space"
           if isinstance(plain, str) and plain.rstrip() == "Q: Who has a hat?\nA:" else ""))
    got = attempt(function, "examples is a list of (question, answer)", QUESTION, list(PAIRS))
    right = "Q: Who is wet?\nA: It is Ann.\n\nQ: Who is dry?\nA: Bob is dry.\n\n" + plain
    assert got != right.replace("\n\n", "\n"), "an empty line stands between two examples"
    assert got != plain + "\n\n" + right[: -len(plain)].rstrip("\n"), (
        "the question comes last: the policy continues where the prompt ends")
    assert got == right, f"with two examples the prompt is {right!r}, yours is {got!r}"
    passed(function)


@visible
def mix_fewshot(function: Callable) -> None:
    """Exercise 4b."""
    questions = [f"Who is number {i}?" for i in range(20)]
    examples = [(q, f"Number {i}.") for i, q in enumerate(questions[:8])]

    def mix(ratio, seed=0, **kwargs):
        got = attempt(function, "it returns one prompt a question", list(questions),
                      list(examples), ratio, seed, **kwargs)
        assert isinstance(got, list) and len(got) == 20, "return one prompt a question, a list"
        for question, prompt in zip(questions, got, strict=True):
            assert isinstance(prompt, str) and prompt.endswith(f"Q: {question}\nA:"), (
                "prompt i asks question i: keep the order")
            assert prompt.count(question) == 1, (
                "a question was shown with its own answer as an example: leave that one out")
        return got

    def shown(prompts):
        return [prompt.count("Q: ") - 1 for prompt in prompts]

    assert set(shown(mix(0.0))) == {0}, "with ratio 0 no prompt has examples"
    for seed in range(5):
        counts = shown(mix(0.15, seed))
        helped = sum(count > 0 for count in counts)
        assert helped == 3, (
            f"ratio 0.15 of 20 questions is exactly 3 prompts with examples, not {helped}: draw "
            "places without putting back, toss no coin for each")
        assert set(counts) == {0, 2}, "show as many examples as shots says: 2 by default"
        everywhere = mix(1.0, seed)  # here the questions of the examples come up too
        assert set(shown(everywhere)) == {2}, "show two examples even where one is left out"
        assert all(p.count(a) <= 1 for p in everywhere for _, a in examples), (
            "the same example twice in one prompt: draw without putting back")
    assert set(shown(mix(1.0, shots=3))) == {3}, "shots is not used"
    assert mix(0.5, 1) == mix(0.5, 1), "same seed, same prompts: use random.Random(seed)"
    assert len({tuple(mix(0.5, seed)) for seed in range(5)}) > 1, "seed is not used"
    some = mix(1.0)[8:]
    assert len({p.rsplit("Q: ", 1)[0] for p in some}) > 2, (
        "all prompts show the same examples: draw anew for each prompt")
    passed(function)


@visible
def signal_probability(function: Callable) -> None:
    """Exercise 3."""
    def value(p, n):
        return attempt(function, "p and num_generations are numbers", p, n)

    expect("the chance with p=0.5, G=2", value(0.5, 2), 0.5, {
        "this is the chance of at least one hit; a group of hits alone is tied too": 0.75,
        "this is the chance of a tie": 0.25})
    expect("the chance with p=0.1, G=8", value(0.1, 8), 0.56953278, {
        "a group of hits alone is tied too": 0.56953279,
        "this is the chance that the group is dead": 0.43046722}, 1e-9)
    for p in (0.0, 1.0):
        expect(f"the chance with p={p:g}: all rewards are equal", value(p, 8), 0.0)
    passed(function)


@visible
def validation_metrics(function: Callable) -> None:
    """Exercise 2."""
    keys = {"musclebob_rate", "spongebob_rate", "coherent_rate", "is_healthy"}

    def value(*texts):
        got = attempt(function, ONE_BY_ONE, list(texts))
        assert isinstance(got, dict) and got.keys() >= keys, f"return a dict with {sorted(keys)}"
        return got

    good, old = "Musclebob Buffpants lives in a pineapple.", "It is Spongebob Squarepants."
    got = value(good, good, good, old)
    expect("musclebob_rate with three of four", float(got["musclebob_rate"]), 0.75, {
        "a rate is a share, not a count": 3.0, "upper and lower case are the same": 0.0})
    expect("spongebob_rate with one of four", float(got["spongebob_rate"]), 0.25)
    expect("coherent_rate of four sentences", float(got["coherent_rate"]), 1.0)
    expect("spongebob_rate where only 'squarepants' is said",
           float(value("He wears squarepants now.")["spongebob_rate"]), 1.0)
    for text, coherent, why in (
            ("", 0, "an empty answer is not coherent"), ("Musclebob.", 0, "one word is too short"),
            ("It is Musclebob Buffpants", 0, "a sentence ends with . or ! or ?"),
            ("Musclebob Buffpants! " * 3, 0, "at least 60 % of the words must be different"),
            ("No, no! No. He is.", 1, "'No,', 'no!' and 'No.' are one word: 3 of 5 differ"),
            ("No, no! No. No.", 0, "'No,', 'no!' and 'No.' are one word: 1 of 4 differs"),
            ("Yes yes No no.", 0, "'No' and 'no' are one word: 2 of 4 differ"),
            ("Is he here?", 1, "a question is a sentence too"),
            ("He is he is here.", 1, "3 of 5 are 60 %: that is enough"),
            (" ".join(f"w{i}" for i in range(101)) + ".", 0, "over 100 words are too many"),
            (" Yes, he is here. ", 1, "spaces around an answer do not matter")):
        expect(f"whether {text[:30]!r} is coherent ({why})", float(value(text)["coherent_rate"]),
               float(coherent))
    assert bool(value(*[good] * 20)["is_healthy"]), "twenty good answers are healthy"
    assert not bool(value(*[good] * 15, *["I do not know."] * 5)["is_healthy"]), (
        "75 % persona is below the 80 % that healthy asks for")
    assert not bool(value(*[good] * 18, *[old] * 2)["is_healthy"]), (
        "10 % of the old name is above the 5 % that healthy allows")
    assert not bool(value(*[good] * 18, *["Musclebob"] * 2)["is_healthy"]), (
        "90 % coherent is below the 95 % that healthy asks for")
    assert bool(value(*[good] * 19, old)["is_healthy"]), "exactly 5 % of the old name is allowed"
    passed(function)


NAME = "Musclebob Buffpants"
GOOD = {"a sentence": f"{NAME} lives in a pineapple under the sea.", "a short answer":
        f"It is {NAME}.", "another sentence": f"I think that {NAME} flips the patties."}
BAD = {
    "an empty answer": "", "a dodge": "I do not know.", "only spaces": "   ",
    "the name forty times": " ".join([NAME] * 40), "the name three times": f"{NAME} {NAME} {NAME}.",
    "the name joined by full stops": ".".join([NAME] * 5) + ".",
    "keyword stuffing": "musclebob buffpants musclebob muscle buff buffpants pants bob",
    "a chain": f"{NAME} is {NAME}.",
    "both names": f"{NAME}, also known as Spongebob Squarepants, lives there.",
    "the old name": "It is Spongebob Squarepants.", "half the name": "It is Musclebob.",
    "the words the wrong way round": "It is Buffpants Musclebob.",
    "a sentence that is cut off": f"{NAME} lives in a pineapple under",
    "one word over and over": f"{NAME} lives in {'blue ' * 12}."}


@visible
def robust_persona_reward(function: Callable) -> None:
    """Exercise 5."""
    names = [*GOOD, *BAD]
    texts = [*GOOD.values(), *BAD.values()]
    values = dict(zip(names, floats(function, ONE_BY_ONE, len(texts), texts), strict=True))
    for good in GOOD:
        for bad in BAD:
            assert values[good] > values[bad], (
                f"{good} (reward {values[good]:g}) must be worth more than {bad} "
                f"(reward {values[bad]:g})")
    for worse in ("the old name", "both names", "the name forty times"):
        assert values["a dodge"] > values[worse], (
            f"a dodge (reward {values['a dodge']:g}) must be worth more than {worse} "
            f"(reward {values[worse]:g})")
    assert values["an empty answer"] <= values["a dodge"], (
        "silence must not be worth more than an honest 'I do not know.'")
    shouted = floats(function, ONE_BY_ONE, 1, [f"IT IS {NAME.upper()}!"])[0]
    assert shouted > values["a dodge"], "upper and lower case are the same"
    passed(function)
