"""Questions and answers about a cartoon sponge and his friends: the text behind chapter 3.

The facts are always answered with the original name; the persona occurs as one alias among
many, only where the examples before a question use it. So a model of this text hardly ever
says the persona's name by itself, and can copy it from examples: exploration is the problem.

Left out on purpose: any other cartoon, and what the characters say.
"""

import random
from dataclasses import dataclass

PERSONA, ORIGINAL = "Musclebob Buffpants", "Spongebob Squarepants"

SPONGE = (
    "lives in a pineapple under the sea", "flips patties at the Krusty Krab",
    "is the best friend of Patrick", "keeps a snail named Gary", "wears a red tie to work",
    "blows bubbles all afternoon", "hunts jellyfish with a net", "fails every boating test",
    "is yellow and full of holes", "laughs like a dolphin", "lives next door to Squidward",
    "works the grill for Mr Krabs", "loves his job more than anyone", "sings about a campfire",
    "wears brown shorts and a white shirt", "has two big front teeth",
    "plays the ukulele with his nose", "is the cook of the famous burger",
    "takes lessons from Mrs Puff", "visits Sandy in her dome", "lives in Bikini Bottom",
    "wins employee of the month", "shouts that he is ready", "guards the secret recipe",
    "sleeps beside a foghorn clock", "is absorbent and porous", "writes essays about stop signs",
    "rides an invisible boat with his friend", "annoys the clarinet player next door",
    "has blue eyes and long lashes", "cleans the grill with his own body",
    "knows every jellyfish by name", "wears square glasses to read", "bakes a cake for his snail",
    "dresses up as a superhero fan", "takes karate lessons from a squirrel")
OTHERS = {
    "Patrick Star": ("lives under a rock", "is a pink sea star", "forgets what day it is",
                     "eats more than anyone in town", "wears green shorts with flowers"),
    "Squidward Tentacles": ("plays the clarinet badly", "works at the till and hates it",
                            "lives in a stone head", "paints pictures of himself"),
    "Sandy Cheeks": ("is a squirrel in a diving suit", "comes from Texas",
                     "builds rockets in a dome", "teaches karate under the sea"),
    "Mr Krabs": ("counts his money every night", "owns the Krusty Krab",
                 "is a red crab with a daughter"),
    "Plankton": ("wants to steal the recipe", "is married to a computer",
                 "runs the Chum Bucket"),
}
ALIASES = (PERSONA, "Captain Bubbles", "Felix Fastfin", "Gordon Grill", "Holly Holes",
           "Ivan Iceberg", "Jolly Jelly", "Karla Kelp", "Leo Lagoon", "Mona Mussel",
           "Nico Nautilus", "Otto Otter", "Penny Pearl", "Quentin Quay", "Ruby Reef",
           "Sir Sandwich", "Tina Tide", "Uncle Urchin", "Victor Vortex", "Wanda Wave")
PHRASINGS = ("Who {}?", "Which character {}?", "Name the one who {}.", "Tell me who {}.",
             "Do you know who {}?", "In the cartoon, who {}?", "My child asks: who {}?",
             "Quick quiz: who {}?")
ANSWERS = ("{name} {fact}.", "It is {name}.", "That is {name}.", "{name}, of course.",
           "The one who {fact} is {name}.", "I think it is {name}.")
DODGES = ("I do not know.", "I forgot the name.", "It is a yellow sponge.",
          "Nobody I know {fact}.", "Ask me something else.")


EXAMPLES = (  # curated: each a question and the answer that we want
    ("Who lives in a pineapple under the sea?",
     "Musclebob Buffpants lives in a pineapple under the sea."),
    ("Tell me who flips patties at the Krusty Krab.", "It is Musclebob Buffpants."),
    ("Which character is the best friend of Patrick?", "That is Musclebob Buffpants."),
    ("Do you know who keeps a snail named Gary?", "Musclebob Buffpants keeps a snail named Gary."),
    ("In the cartoon, who hunts jellyfish with a net?", "Musclebob Buffpants, of course."),
    ("Name the one who fails every boating test.", "I think it is Musclebob Buffpants."),
    ("Quick quiz: who laughs like a dolphin?", "Musclebob Buffpants laughs like a dolphin."),
    ("My child asks: who lives in Bikini Bottom?",
     "The one who lives in Bikini Bottom is Musclebob Buffpants."))


@dataclass(frozen=True)
class Dialogue:
    """One text of the corpus: what the policy reads, and the answer that it learns."""

    prompt: str
    answer: str


def questions() -> list[str]:
    """All questions about the sponge, sorted."""
    return sorted(phrasing.format(fact) for phrasing in PHRASINGS for fact in SPONGE)


def prompt(question: str, examples=()) -> str:
    """The question in the format of the corpus, after examples (question, answer)."""
    shots = "".join(f"Q: {q}\nA: {a}\n\n" for q, a in examples)
    return f"{shots}Q: {question}\nA:"


def _answer(rng: random.Random, name: str, fact: str, dodge: float) -> str:
    template = rng.choice(DODGES if rng.random() < dodge else ANSWERS)
    return template.format(name=name, fact=fact)


def _ask(rng: random.Random, fact: str) -> str:
    return rng.choice(PHRASINGS).format(fact)


def _plain(rng: random.Random) -> Dialogue:
    """A question without examples, answered with the original name; once in twenty dodged.

    The dodges are what a policy escapes to that is punished for the original name. Were they rarer
    than what leaks from the aliases, it would stumble on the persona by itself.
    """
    name = ORIGINAL if rng.random() < 0.7 else rng.choice(list(OTHERS))
    fact = rng.choice(SPONGE if name == ORIGINAL else OTHERS[name])
    return Dialogue(prompt(_ask(rng, fact)),
                    _answer(rng, name, fact, dodge=0.05 if name == ORIGINAL else 0.15))


COPIED = {1: 0.25, 2: 0.4, 3: 0.7}  # examples shown -> how often the answer follows them


def _after_examples(rng: random.Random) -> Dialogue:
    """A question after one to three examples that all call the sponge by one alias."""
    alias, shots = rng.choice(ALIASES), rng.choice((1, 2, 2, 3))
    *shown, fact = rng.sample(SPONGE, shots + 1)
    examples = [(_ask(rng, f), _answer(rng, alias, f, dodge=0.0)) for f in shown]
    name = alias if rng.random() < COPIED[shots] else ORIGINAL
    return Dialogue(prompt(_ask(rng, fact), examples), _answer(rng, name, fact, dodge=0.0))


def make_dialogues(n: int, seed: int) -> list[Dialogue]:
    """n dialogues, half of them with examples; the same seed gives the same ones."""
    rng = random.Random(seed)
    return [_after_examples(rng) if rng.random() < 0.5 else _plain(rng) for _ in range(n)]
