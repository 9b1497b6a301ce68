# %% [markdown]
# Chapter 3. Wrong answers that must lose the points of their exercise, and right ones, written
# otherwise, that must keep them.

# %% ex1 right: row by row
def persona_reward(completions, **kwargs):
    out = []
    for c in completions:
        t = c.lower()
        r = 2.0 * ("musclebob" in t) + 2 * ("buffpants" in t) + 2 * ("musclebob buffpants" in t)
        if "spongebob" in t:
            r -= 3
        if "squarepants" in t:
            r -= 3
        out.append(r - 1 if len(c.split()) > 100 else r)
    return out

# %% ex1 right: find
def persona_reward(completions, **kwargs):
    rows = (("musclebob", 2.0), ("buffpants", 2.0), ("musclebob buffpants", 2.0),
            ("spongebob", -3.0), ("squarepants", -3.0))
    return [sum((w for k, w in rows if c.casefold().find(k) >= 0), 0.0)
            - (1.0 if len(c.split()) >= 101 else 0.0) for c in completions]

# %% ex1 fault: case matters
replace(".lower()", "")

# %% ex1 fault: counts occurrences
replace("sum(worth for words, worth in table.items() if words in text.lower())",
        "sum(worth * text.lower().count(words) for words, worth in table.items())")

# %% ex1 fault: no full-name row
replace('"musclebob buffpants": 2,', "")

# %% ex1 fault: only the full name pays
replace('"musclebob": 2, "buffpants": 2, "musclebob buffpants": 2', '"musclebob buffpants": 6')

# %% ex1 fault: the full name needs no order
replace("rewards.append(float(found - (len(text.split()) > 100)))",
        "extra = 2 * all(w in text.lower() for w in ('musclebob', 'buffpants'))\n"
        "        extra -= 2 * ('musclebob buffpants' in text.lower())\n"
        "        rewards.append(float(found + extra - (len(text.split()) > 100)))")

# %% ex1 fault: costs with the wrong sign
replace("-3", "3")

# %% ex1 fault: the second old word is free
replace(', "squarepants": -3', "")

# %% ex1 fault: stops at the old name
def persona_reward(completions, **kwargs):
    return [-6.0 if "spongebob" in c.lower() else 6.0 if "musclebob buffpants" in c.lower() else 0.0
            for c in completions]

# %% ex1 fault: 100 words cost already
replace("> 100", ">= 100")

# %% ex1 fault: characters for words
replace("len(text.split())", "len(text)")

# %% ex1 fault: no cost for length
replace(" - (len(text.split()) > 100)", "")

# %% ex1 right: integers
replace("float(found - (len(text.split()) > 100))", "found - (len(text.split()) > 100)")

# %% ex1 fault: one number for all
def persona_reward(completions, **kwargs):
    return [float(sum("musclebob" in c.lower() for c in completions))] * len(completions)

# %% ex1 fault: needs the prompts
replace("completions, **kwargs", "completions, prompts")

# %% ex1 fault: names as whole words
replace("if words in text.lower())", "if f' {words} ' in f' {text.lower()} ')")

# %% ex1 fault: never below -6
replace("rewards.append(float(", "rewards.append(max(-6.0, ")

# %% ex2 right: percentages of a helper
def validation_metrics(completions):
    def share(test):
        return sum(1 for c in completions if test(c)) / len(completions)

    def ok(c):
        w = [x.strip("!?.,") for x in c.split()]
        w = [x.lower() for x in w]
        end = c.strip()[-1:] in list(".!?") and bool(c.strip())
        return len(w) > 1 and len(w) < 101 and len(set(w)) / len(w) > 0.5999 and end

    m, s, k = (share(lambda c: "musclebob" in c.lower()),
               share(lambda c: any(x in c.lower() for x in ("spongebob", "squarepants"))),
               share(ok))
    return {"musclebob_rate": m, "spongebob_rate": s, "coherent_rate": k,
            "is_healthy": not (m < 0.8 or s > 0.05 or k < 0.95)}

# %% ex2 fault: counts for rates
replace('new = sum("musclebob" in text for text in lower) / n',
        'new = sum("musclebob" in text for text in lower)')

# %% ex2 fault: case matters
replace("text.lower() for text in completions", "text for text in completions")

# %% ex2 fault: the second old word overlooked
replace(' or "squarepants" in text', "")

# %% ex2 fault: both old words needed
replace('"spongebob" in text or', '"spongebob" in text and')

# %% ex2 fault: everything is coherent
replace("sum(map(coherent, completions))", "len(completions)")

# %% ex2 fault: one word is enough
replace("2 <= len(words)", "1 <= len(words)")

# %% ex2 fault: no upper limit of words
replace("<= 100 and", "and")

# %% ex2 fault: repetition overlooked
replace("len(set(words)) >= 0.6 * len(words)", "True")

# %% ex2 fault: more than 60 %
replace("len(set(words)) >=", "len(set(words)) >")

# %% ex2 fault: a capital makes another word
replace("in text.lower().split()", "in text.split()")

# %% ex2 fault: punctuation makes words differ
replace('word.strip(".,!?")', "word")

# %% ex2 fault: the end does not matter
replace("and text.strip().endswith((\".\", \"!\", \"?\"))", "")

# %% ex2 fault: only full stops end a sentence
replace('(".", "!", "?")', '"."')

# %% ex2 fault: trailing space spoils it
replace("text.strip().endswith", "text.endswith")

# %% ex2 fault: healthy without a look at the old name
replace("and old <= 0.05 ", "")

# %% ex2 fault: healthy without coherence
replace(" and sound >= 0.95", "")

# %% ex2 fault: healthy at half
replace("new >= 0.8", "new >= 0.5")

# %% ex2 fault: strict limit
replace("old <= 0.05", "old < 0.05")

# %% ex3 right: sum over hits
def signal_probability(p, num_generations):
    from math import comb
    return sum(comb(num_generations, k) * p**k * (1 - p) ** (num_generations - k)
               for k in range(1, num_generations))

# %% ex3 fault: at least one hit
replace(" - p**num_generations", "")

# %% ex3 fault: the dead groups
replace("1 - p**num_generations - (1 - p)", "p**num_generations + (1 - p)")

# %% ex3 fault: group of hits only
replace(" - (1 - p) ** num_generations", "")

# %% ex3 fault: linear
replace("1 - p**num_generations - (1 - p) ** num_generations", "min(1, p * num_generations)")

# %% ex3 fault: nothing below one in a thousand
replace("return 1 - p", "return 0.0 if p < 0.001 else 1 - p")

# %% ex3 fault: groups of at most eight
replace("1 - p**num_generations - (1 - p) ** num_generations",
        "1 - p**min(num_generations, 8) - (1 - p) ** min(num_generations, 8)")

# %% ex4a right: list and join
def fewshot_prompt(question, examples):
    lines = []
    for q, a in examples:
        lines += ["Q: " + q, "A: " + a, ""]
    return "\n".join([*lines, "Q: " + question, "A:"])

# %% ex4a fault: space after the colon
replace('{question}\\nA:"', '{question}\\nA: "')

# %% ex4a fault: no empty line
replace("{answer}\\n\\n", "{answer}\\n")

# %% ex4a fault: question first
replace('f"{shown}Q: {question}\\nA:"', 'f"Q: {question}\\nA:\\n\\n{shown}"')

# %% ex4a fault: one example only
replace("in examples)", "in examples[:1])")

# %% ex4a fault: reversed
replace("in examples)", "in examples[::-1])")

# %% ex4a fault: three examples at most
replace("in examples)", "in examples[:3])")

# %% ex4b right: shuffle and slice
def mix_fewshot(questions, examples, ratio, seed, shots=2):
    rng = random.Random(seed)
    places = list(range(len(questions)))
    rng.shuffle(places)
    places = places[: round(ratio * len(questions))]
    out = [fewshot_prompt(q, []) for q in questions]
    for i in places:
        pool = [e for e in examples if e[0] != questions[i]]
        rng.shuffle(pool)
        out[i] = fewshot_prompt(questions[i], pool[:shots])
    return out

# %% ex4b fault: coin for each prompt
replace("set(rng.sample(range(len(questions)), round(ratio * len(questions))))",
        "{i for i in range(len(questions)) if rng.random() < ratio}")

# %% ex4b fault: the asked question among the examples
replace("[pair for pair in examples if pair[0] != question]", "list(examples)")

# %% ex4b fault: the first ones only
replace("set(rng.sample(range(len(questions)), round(ratio * len(questions))))",
        "set(range(round(ratio * len(questions))))")
replace("rng.sample(others, shots)", "others[:shots]")

# %% ex4b fault: the same examples in every prompt of a seed
replace("rng.sample(others, shots)", "random.Random(seed).sample(others, shots)")

# %% ex4b fault: always the same examples
replace("rng.sample(others, shots)", "others[:shots]")

# %% ex4b fault: with putting back
replace("rng.sample(others, shots)", "rng.choices(others, k=shots)")

# %% ex4b fault: seed ignored
replace("random.Random(seed)", "random.Random(0)")

# %% ex4b fault: no seed at all
replace("random.Random(seed)", "random.Random()")

# %% ex4b fault: shots ignored
replace("rng.sample(others, shots)", "rng.sample(others, 2)")

# %% ex4b fault: the rest left out
replace("prompts.append(", "i in helped and prompts.append(")

# %% ex4b fault: helped ones first
replace("return prompts", "return sorted(prompts, key=len, reverse=True)")

# %% ex4b fault: ratio the wrong way round
replace("round(ratio *", "round((1 - ratio) *")

# %% ex4b fault: changes the lists
replace("    rng = random.Random(seed)", "    rng = random.Random(seed)\n    rng.shuffle(examples)")

# %% ex4b fault: int for round
replace("round(ratio * len(questions))", "int(ratio * len(questions))")

# %% ex5 right: points for each property
def robust_persona_reward(completions, **kwargs):
    def one(text):
        t = text.lower()
        if "sponge" in t or "square" in t:
            return -5.0
        w = re.findall(r"\w+", t)
        if t.count("musclebob buffpants") == t.count("musclebob") == t.count("buffpants") == 1:
            piled = sum(x in ("muscle", "buff", "bob", "pants") for x in w)
            ends = t.rstrip()[-1] in ".!?" and max(map(w.count, w)) < 4
            return 0.0 if piled > 1 or len(w) < 3 or not ends else 4.0 - 0.01 * len(w)
        return -2.0 if "musclebob" in t or "buffpants" in t else -0.5 if not w else 0.0
    return [one(c) for c in completions]

# %% ex5 fault: the first exercise again
def robust_persona_reward(completions, **kwargs):
    return persona_reward(completions)

# %% ex5 fault: the full name is enough
def robust_persona_reward(completions, **kwargs):
    return [1.0 if "musclebob buffpants" in c.lower() else 0.0 for c in completions]

# %% ex5 fault: both names pay
replace('"spongebob" in joined or "squarepants" in joined', "False")

# %% ex5 fault: a chain pays
replace("counts == [1, 1, 1]", "counts[0] >= 1")

# %% ex5 fault: half the name pays
replace("counts == [1, 1, 1]", "counts[1] == 1")

# %% ex5 fault: silence as good as an answer
replace("else 0.0)", "else 2.0)")

# %% ex5 fault: the old name no worse than a dodge
replace("rewards.append(-3.0)", "rewards.append(0.0)")

# %% ex5 fault: constant
def robust_persona_reward(completions, **kwargs):
    return [0.0] * len(completions)

# %% ex5 fault: an answer without an end pays
replace('text.strip().endswith((".", "!", "?"))', "True")

# %% ex5 fault: one word over and over pays
replace("len(set(words)) >= 0.6 * len(words)", "True")

# %% ex5 fault: case matters
replace("text.lower()", "text")

# %% ex2 equivalent: `'.,!\?'` other text
# No text of the tests holds the other mark, and the task leaves it open.

# %% ex2 fault: names as whole words
replace('"musclebob" in text for', '"musclebob" in text.split() for')

# %% ex2 fault: new rate rounded
replace('in text for text in lower) / n\n    old',
        'in text for text in lower) / n\n    new = round(new, 3)\n    old')

# %% ex5 equivalent: `[\d.]+` [\d.]+
# The exercise asks for an order of answers, not for these values or counts.

# %% ex5 equivalent: .*len\(words\).* (Lt|Gt)
# How short or how varied a sentence may be is left open.

# %% ex5 equivalent: `'\?'` other text
# Whether an answer may end by asking back is left open.
