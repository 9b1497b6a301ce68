# %% [markdown]
# Chapter 4. Wrong answers that must lose the points of their exercise, and right ones, written
# otherwise, that must keep them.

# %% ex1a right: regular expression
def extract_xml_answer(text):
    found = re.findall(r"<answer>((?:(?!<answer>).)*?)(?:</answer>|$)", text, re.DOTALL)
    return found[-1].strip() if found else ""

# %% ex1a right: split
def extract_xml_answer(text):
    if "<answer>" not in text:
        return ""
    return text.split("<answer>")[-1].split("</answer>")[0].strip()

# %% ex1a fault: the public form, which takes the whole text for an answer
def extract_xml_answer(text):
    return text.split("<answer>")[-1].split("</answer>")[0].strip()

# %% ex1a fault: no DOTALL
def extract_xml_answer(text):
    found = re.findall(r"<answer>(.*?)</answer>", text)
    return found[-1].strip() if found else ""

# %% ex1a fault: wants a closing tag
def extract_xml_answer(text):
    found = re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL)
    return found[-1].strip() if found else ""

# %% ex1a fault: a closed block beats an open one behind it
def extract_xml_answer(text):
    found = (re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL)
             or re.findall(r"<answer>(.*)", text, re.DOTALL))
    return found[-1].strip() if found else ""

# %% ex1a fault: the first block
replace('text.rpartition("<answer>")', 'text.partition("<answer>")')

# %% ex1a fault: not stripped
replace(".strip()", "")

# %% ex1a fault: None for no answer
replace('else ""', "else None")

# %% ex1a fault: up to the last closing tag of the text
def extract_xml_answer(text):
    _, opened, rest = text.partition("<answer>")
    return rest.rpartition("</answer>")[0].strip() if opened else ""

# %% ex1a fault: cut at any <
def extract_xml_answer(text):
    _, opened, rest = text.rpartition("<answer>")
    return rest.partition("<")[0].strip() if opened else ""

# %% ex1a fault: one line
replace('.partition("</answer>")[0].strip()',
        '.partition("</answer>")[0].strip().partition(chr(10))[0]')

# %% ex1a fault: only spaces are stripped
replace("[0].strip()", "[0].strip(' \\n')")

# %% ex1a fault: a tag in capitals too
def extract_xml_answer(text):
    found = re.split("<answer>", text, flags=re.IGNORECASE)
    last = re.split("</answer>", found[-1], flags=re.IGNORECASE)[0].strip()
    return last if len(found) > 1 else ""

# %% ex1a fault: at most twenty characters
replace("[0].strip()", "[0].strip()[:20]")

# %% ex1b right: split
def extract_hash_answer(text):
    if "####" not in text:
        return None
    return text.split("####")[1].replace(",", "").replace("$", "").strip()

# %% ex1b right: regular expression
def extract_hash_answer(text):
    found = re.search(r"####(.*)", text, re.DOTALL)
    return re.sub(r"[,$\s]", "", found[1]) if found else None

# %% ex1b fault: commas stay
replace('.replace(",", "")', "")

# %% ex1b fault: dollars stay
replace('.replace("$", "")', "")

# %% ex1b fault: not stripped
replace("result.strip()", "result")

# %% ex1b fault: empty text for no mark
replace("else None", 'else ""')

# %% ex1b fault: the last word, mark or not
def extract_hash_answer(text):
    words = text.replace(",", "").replace("$", "").split()
    return words[-1].lstrip("#") if words else None

# %% ex1b fault: any # is the mark
replace('"####"', '"#"')

# %% ex1b fault: a zero behind the point is dropped
replace('.replace("$", "") if mark', '.replace("$", "").removesuffix(".0") if mark')

# %% ex1c right: search twice
def parse_number(text):
    pattern = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|-?\d*\.\d+|-?\d+")
    text = text.replace("$", "")
    found = pattern.search(text)
    if not found or pattern.search(text, found.end()):
        return None
    return float(found[0].replace(",", ""))

# %% ex1c fault: float of the whole text
def parse_number(text):
    try:
        return float(text.replace(",", "").replace("$", ""))
    except ValueError:
        return None

# %% ex1c fault: the last number wins
replace("if len(numbers) == 1 else None", "if numbers else None")
replace("numbers[0]", "numbers[-1]")

# %% ex1c fault: the first number wins
replace("if len(numbers) == 1 else None", "if numbers else None")

# %% ex1c fault: no minus
replace('r"-?(?:', 'r"(?:')

# %% ex1c fault: no decimals
replace(r"(?:\.\d+)?", "")

# %% ex1c fault: every comma goes
replace('text.replace("$", "")', 'text.replace("$", "").replace(",", "")')

# %% ex1c fault: commas are no part of a number
replace(r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)", r"\d+")

# %% ex1c fault: the dollar sign parts the minus from its number
replace('text.replace("$", "")', "text")

# %% ex1c fault: a full stop is swallowed
def parse_number(text):
    numbers = re.findall(r"-?[\d,.]+", text.replace("$", ""))
    return float(numbers[0].replace(",", "")) if len(numbers) == 1 else None

# %% ex1c fault: all digits run together
def parse_number(text):
    digits = "".join(c for c in text if c.isdigit() or c in ".-").rstrip(".")
    try:
        return float(digits)
    except ValueError:
        return None

# %% ex1c fault: .5 is read as 5
replace(r"|-?\.\d+", "")

# %% ex1c fault: a text for a number
replace('float(numbers[0].replace(",", ""))', 'numbers[0].replace(",", "")')

# %% ex1c fault: two decimals
replace("float(numbers[0].replace(\",\", \"\"))",
        "round(float(numbers[0].replace(\",\", \"\")), 2)")

# %% ex1c fault: at most six digits
replace("|\\d+)", "|\\d{1,6})")

# %% ex1c fault: plus signs belong to it
replace('text.replace("$", "")', 'text.replace("$", "").replace("+", "-")')

# %% ex1c fault: the very same number twice is one
replace("len(numbers) == 1", "len(set(numbers)) == 1")

# %% ex2a right: own loop
def correctness_reward_func(prompts, completions, answer, **kwargs):
    out = []
    for i in range(len(completions)):
        mine = parse_number(extract_xml_answer(completions[i][0]["content"]))
        theirs = parse_number(answer[i])
        out.append(2.0 * (mine is not None and theirs is not None and abs(mine - theirs) < 1e-9))
    return out

# %% ex2a fault: compares texts
replace("number is not None and number == parse_number(right)", "extract_xml_answer(text) == right")

# %% ex2a fault: no number equals no number
replace("number is not None and ", "")

# %% ex2a fault: worth 1
replace("2.0 if", "1.0 if")

# %% ex2a fault: the right number anywhere in the text
replace("number is not None and number == parse_number(right)", "right in text")

# %% ex2a fault: reads the whole completion
replace("parse_number(extract_xml_answer(text))", "parse_number(text)")

# %% ex2a fault: everybody is compared with the first answer
replace("parse_number(right)", "parse_number(answer[0])")

# %% ex2a fault: the right text at the end
replace("number is not None and number == parse_number(right)",
        "extract_xml_answer(text).endswith(right)")

# %% ex2a fault: close is good enough
replace("number == parse_number(right)", "abs(number - (parse_number(right) or 0)) <= 1")

# %% ex2a fault: the size alone
replace("number == parse_number(right)", "abs(number) == abs(parse_number(right) or 0)")

# %% ex2a fault: compared as whole numbers
replace("number == parse_number(right)",
        "int(number) == int(parse_number(right) if parse_number(right) is not None else 10**9)")

# %% ex2a fault: rounded to tenths
replace("number == parse_number(right)",
        "round(number, 1) == round(parse_number(right) or 0, 1)")

# %% ex2a fault: relative closeness
replace("number == parse_number(right)", "math.isclose(number, parse_number(right), rel_tol=1e-3)")

# %% ex2a fault: 0 is no answer
replace("number is not None and", "number and")

# %% ex2a fault: no answer above a million
replace("hit = number is not None", "hit = number is not None and number < 1e6")

# %% ex2b right: cleaned, then digits
def int_reward_func(completions, **kwargs):
    out = []
    for completion in completions:
        answer = extract_xml_answer(completion[0]["content"])
        if re.fullmatch(r"-?[0-9]{1,3}(,[0-9]{3})*", answer):
            answer = answer.replace(",", "")
        out.append(0.5 * bool(re.fullmatch("-?[0-9]+", answer)))
    return out

# %% ex2b fault: isdigit
replace("re.fullmatch(whole, extract_xml_answer(text))", "extract_xml_answer(text).isdigit()")

# %% ex2b fault: commas are not allowed
replace(r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)", "[0-9]+")

# %% ex2b fault: a whole number somewhere
replace("re.fullmatch", "re.search")

# %% ex2b fault: a number that is whole
replace("re.fullmatch(whole, extract_xml_answer(text))",
        "(parse_number(extract_xml_answer(text)) or 0.5) % 1 == 0")

# %% ex2b fault: of the whole completion
replace("extract_xml_answer(text)", "text.strip()")

# %% ex2b fault: worth 1
replace("0.5 if", "1.0 if")

# %% ex2b fault: any comma is allowed
replace(r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)", "[0-9,]+")

# %% ex2b fault: a plus is allowed
replace('r"-?', 'r"[-+]?')

# %% ex2b fault: whatever int() understands
def int_reward_func(completions, **kwargs):
    def whole(text):
        try:
            int(text.replace(",", ""))
        except ValueError:
            return False
        return re.fullmatch(r"[^,]*|-?[0-9]{1,3}(?:,[0-9]{3})+", text) is not None
    return [0.5 * whole(extract_xml_answer(text)) for text in rewards.completion_texts(completions)]

# %% ex2b fault: digits of any kind
replace(r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)", r"(?:\d{1,3}(?:,\d{3})+|[\d²]+)")

# %% ex2b fault: unicode digits
replace("[0-9]", "\\\\d")

# %% ex2b fault: at most six digits
replace("|[0-9]+)", "|[0-9]{1,6})")

# %% ex2b fault: no big groups
replace("(?:,[0-9]{3})+", "(?:,[0-9]{3}){1,2}")

# %% ex3a right: inline flag
def soft_format_reward_func(completions, **kwargs):
    pattern = re.compile(r"(?s)<reasoning>.*?</reasoning>\s*<answer>.*?</answer>")
    return [0.5 * bool(pattern.match(c[0]["content"].lstrip())) for c in completions]

# %% ex3a fault: no DOTALL
replace(", re.DOTALL", "")

# %% ex3a fault: anywhere in the text
replace("re.match", "re.search")

# %% ex3a fault: nothing may follow
replace("re.match", "re.fullmatch")

# %% ex3a fault: nothing may go before, not even white space
replace(r'r"\s*<reasoning>', r'r"<reasoning>')

# %% ex3a fault: nothing may stand between
replace(r"</reasoning>\s*<answer>", "</reasoning><answer>")

# %% ex3a fault: anything may stand between
replace(r"</reasoning>\s*<answer>", "</reasoning>.*?<answer>")

# %% ex3a fault: the tags are there, in any order
replace("re.match(pattern, text, re.DOTALL)",
        "all(t in text for t in ('<reasoning>', '</reasoning>', '<answer>', '</answer>'))")

# %% ex3a fault: the answer alone
replace(r"\s*<reasoning>.*?</reasoning>\s*", r"\s*(?:<reasoning>.*?</reasoning>\s*)?")

# %% ex3a fault: the public form, which never pays the conversation
replace("rewards.completion_texts(completions)", "map(str, completions)")

# %% ex3a fault: tags in capitals too
replace("re.DOTALL)", "re.DOTALL | re.IGNORECASE)")

# %% ex3b right: by hand
def strict_format_reward_func(completions, **kwargs):
    out = []
    for completion in completions:
        text = completion[0]["content"]
        good = text.startswith("<reasoning>\n") and text.endswith(("\n</answer>\n", "\n</answer>"))
        good = good and text.count("\n</reasoning>\n<answer>\n") == 1
        for tag in ("<reasoning>", "</reasoning>", "<answer>", "</answer>"):
            good = good and text.count(tag) == 1
        inside = text[len("<reasoning>"):]
        good = good and len(inside.split("</reasoning>")[0]) > 1
        out.append(0.5 if good else 0.0)
    return out

# %% ex3b fault: an empty line between the blocks
replace(r"</reasoning>\n<answer>", r"</reasoning>\n+<answer>")

# %% ex3b fault: no DOTALL
replace("text, re.DOTALL)", "text)")

# %% ex3b fault: a second block is swallowed
replace("            and all(text.count(tag) == 1 for tag in tags) else 0.0",
        "            else 0.0")

# %% ex3b fault: text may follow
replace("re.fullmatch", "re.match")

# %% ex3b fault: the final line break must be there
replace(r'</answer>\n?"', r'</answer>\n"')

# %% ex3b fault: the final line break must not be there
replace(r'</answer>\n?"', '</answer>"')

# %% ex3b fault: white space instead of line breaks
replace(r'r"<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n?"',
        r'r"<reasoning>\s*.*?\s*</reasoning>\s*<answer>\s*.*?\s*</answer>\n?"')

# %% ex3b fault: stripped first
replace("pattern, text,", "pattern, text.strip(),")

# %% ex3b fault: text may go before
replace('r"<reasoning>', 'r".*<reasoning>')

# %% ex3b fault: worth 1
replace("[0.5 if", "[1.0 if")

# %% ex3b fault: something in each block
replace(".*?", ".+?")

# %% ex3b fault: spaces behind tags
replace("text in rewards", "text in (re.sub(r' +\\n', '\\n', t) for t in rewards")
replace("completion_texts(completions)]", "completion_texts(completions))]")

# %% ex3c right: line by line
def xmlcount_reward_func(completions, **kwargs):
    out = []
    for completion in completions:
        text = completion[0]["content"]
        value = 0.0
        value += 0.125 * (text.count("<reasoning>\n") == 1)
        value += 0.125 * (text.count("\n</reasoning>\n") == 1)
        value += 0.125 * (text.count("\n<answer>\n") == 1)
        value += 0.125 * (text.count("\n</answer>") == 1)
        if "</answer>" in text:
            value -= 0.001 * len(text[text.rindex("</answer>") + len("</answer>"):].strip())
        out.append(value)
    return out

# %% ex3c fault: the public form, which fines what has no closing tag
replace('_, closed, rest = text.rpartition("</answer>")', 'rest = text.split("</answer>")[-1]')
replace("len(rest.strip()) if closed else 0", "len(rest.strip())")

# %% ex3c fault: white space is fined
replace("len(rest.strip())", "len(rest)")

# %% ex3c fault: white space within the tail is not counted
replace("len(rest.strip())", 'len("".join(rest.split()))')

# %% ex3c fault: words for characters
replace("len(rest.strip())", "len(rest.split())")

# %% ex3c fault: no fine
replace(" - 0.001 * trailing", "")

# %% ex3c fault: a bonus for a fine
replace(" - 0.001 * trailing", " + 0.001 * trailing")

# %% ex3c fault: ten times the fine
replace("0.001", "0.01")

# %% ex3c fault: pays every occurrence
replace("sum(0.125 for mark in marks if text.count(mark) == 1)",
        "sum(0.125 * text.count(mark) for mark in marks)")

# %% ex3c fault: at least once
replace("text.count(mark) == 1", "mark in text")

# %% ex3c fault: tags without their line breaks
replace(r'("<reasoning>\n", "\n</reasoning>\n", "\n<answer>\n", "\n</answer>")',
        '("<reasoning>", "</reasoning>", "<answer>", "</answer>")')

# %% ex3c fault: never below nothing
replace("values.append(sum(", "values.append(max(0.0, sum(")
replace("- 0.001 * trailing)", "- 0.001 * trailing))")

# %% ex3c fault: behind the first closing tag
replace("text.rpartition", "text.partition")

# %% ex3c fault: a line break behind the last tag is asked for
replace(r'"\n</answer>")', r'"\n</answer>\n")')

# %% ex3c fault: rounded
replace("- 0.001 * trailing)", "- 0.001 * trailing)\n    values = [round(v, 2) for v in values]")

# %% ex3c fault: bytes for characters
replace("len(rest.strip())", "len(rest.strip().encode())")

# %% ex4 right: a product
def pass_at_k(n, c, k):
    miss = 1.0
    for i in range(k):
        miss *= max(0, n - c - i) / (n - i)
    return 1.0 - miss

# %% ex4 right: where the right ones go
def pass_at_k(n, c, k):
    if n - c < k:
        return 1.0
    return 1.0 - math.comb(n - k, c) / math.comb(n, c)

# %% ex4 right: logarithms
def pass_at_k(n, c, k):
    if n - c < k:
        return 1.0
    log = sum(math.log((n - c - i) / (n - i)) for i in range(k))
    return -math.expm1(log)

# %% ex4 right: numpy, as in the paper
def pass_at_k(n, c, k):
    import numpy as np
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))

# %% ex4 fault: with putting back
replace("1 - math.comb(n - c, k) / math.comb(n, k)", "1 - (1 - c / n) ** k")

# %% ex4 fault: all k wrong
replace("1 - math.comb", "math.comb")

# %% ex4 fault: all k right
replace("1 - math.comb(n - c, k)", "math.comb(c, k)")

# %% ex4 fault: one try
replace("1 - math.comb(n - c, k) / math.comb(n, k)", "c / n")

# %% ex4 fault: k times one try
replace("1 - math.comb(n - c, k) / math.comb(n, k)", "min(1.0, k * c / n)")

# %% ex4 fault: any right one will do
replace("1 - math.comb(n - c, k) / math.comb(n, k)", "float(c > 0)")

# %% ex4 fault: one draw too few
replace("math.comb(n - c, k) / math.comb(n, k)", "math.comb(n - c, k - 1) / math.comb(n, k - 1)")

# %% ex4 fault: one wrong try too many
replace("n - c, k", "n - c + 1, k")

# %% ex4 fault: ordered draws over unordered ones
replace("math.comb(n - c, k) /", "math.perm(n - c, k) /")

# %% ex4 fault: floats overflow
replace("math.comb(n - c, k) / math.comb(n, k)",
        "float(math.comb(n - c, k)) / float(math.comb(n, k))")

# %% ex4 fault: rounded
replace("1 - math.comb(n - c, k) / math.comb(n, k)",
        "round(1 - math.comb(n - c, k) / math.comb(n, k), 4)")

# %% ex4 fault: whole division
replace("math.comb(n - c, k) / math.comb", "math.comb(n - c, k) // math.comb")

# %% ex4 fault: 1 as soon as one place is filled
def pass_at_k(n, c, k):
    if n - c <= k:
        return 1.0
    return 1 - math.comb(n - c, k) / math.comb(n, k)

# %% ex4 fault: factorials as floats
def pass_at_k(n, c, k):
    if n - c < k:
        return 1.0
    def f(m):
        return float(math.factorial(m))
    return 1 - f(n - c) * f(n - k) / (f(n - c - k) * f(n))

# %% ex4 right: a product, through 0 where the wrong ones run out
def pass_at_k(n, c, k):
    miss = 1.0
    for i in range(k):
        miss *= (n - c - i) / (n - i)
    return 1.0 - miss

# %% ex4 fault: per cent
replace("1 - math.comb(n - c, k) / math.comb(n, k)",
        "100 * (1 - math.comb(n - c, k) / math.comb(n, k))")

# %% ex5a right: regular expression
def cut_reasoning(text, keep):
    tags = re.findall("</?reasoning>", text)
    if tags != ["<reasoning>", "</reasoning>"] or keep < 0:
        raise ValueError("malformed")
    inside = re.search("<reasoning>(.*)</reasoning>", text, re.DOTALL)[1]
    lines = [line for line in map(str.strip, inside.splitlines()) if line]
    body = "\n".join(lines[:keep]) or AT_ONCE
    return f"<reasoning>\n{body}\n</reasoning>\n<answer>\n"

# %% ex5a right: index
def cut_reasoning(text, keep):
    if text.count("<reasoning>") != 1 or text.count("</reasoning>") != 1 or keep < 0:
        raise ValueError
    begin, end = text.index("<reasoning>") + 11, text.index("</reasoning>")
    if end < begin:
        raise ValueError
    out, kept = "<reasoning>\n", 0
    for line in text[begin:end].split("\n"):
        if line.strip() and kept < keep:
            out, kept = out + line.strip() + "\n", kept + 1
    return (out if kept else out + "I see it.\n") + "</reasoning>\n<answer>\n"

# %% ex5a fault: an empty block
replace("(lines[:keep] or [AT_ONCE])", "lines[:keep]")

# %% ex5a fault: one line too many
replace("lines[:keep]", "lines[:keep + 1]")

# %% ex5a fault: the last lines
replace("lines[:keep]", "lines[len(lines) - keep:]")

# %% ex5a fault: drops so many
replace("lines[:keep]", "lines[keep:]")

# %% ex5a fault: empty lines count
replace(' if line.strip()]', ']')

# %% ex5a fault: not stripped
replace("line.strip() for", "line for")

# %% ex5a fault: no tag of the answer
replace('"</reasoning>", "<answer>", ""', '"</reasoning>", ""')

# %% ex5a fault: no final line break
replace('"<answer>", ""', '"<answer>"')

# %% ex5a fault: the block stays open
replace('"</reasoning>", "<answer>"', '"<answer>"')

# %% ex5a fault: a negative keep counts from the end
replace("keep < 0 or ", "")

# %% ex5a fault: an open block is taken to its end
replace("not closed or ", "")
replace(' + text.count("</reasoning>") != 2', " != 1")

# %% ex5a fault: the first of two blocks
replace(' or text.count("<reasoning>") + text.count("</reasoning>") != 2', "")

# %% ex5a fault: tags in any order
replace("not closed or ", "")

# %% ex5a fault: nothing for a malformed text
replace('raise ValueError("no text with one reasoning block, or a negative keep")', 'return ""')

# %% ex5a fault: the whole text where it is malformed
replace('raise ValueError("no text with one reasoning block, or a negative keep")', "return text")

# %% ex5a fault: the answer comes along
replace('"<answer>", ""', '"<answer>", "5"')

# %% ex5a fault: lines split at spaces
replace('inside.split("\\n")', "inside.split()")

# %% ex5a fault: at most nine lines
replace("lines[:keep]", "lines[:min(keep, 9)]")

# %% ex5a fault: AT_ONCE for keep 0 alone
replace("(lines[:keep] or [AT_ONCE])", "(lines[:keep] if keep else [AT_ONCE])")

# %% ex5b right: substitution of one match
def corrupt_step(text, index, delta):
    start, end = text.find("<reasoning>"), -1
    if start >= 0:
        end = text.find("</reasoning>", start)
    if end < 0:
        raise ValueError("malformed")
    spots = [m.span(1) for m in re.finditer(r"=\s*(-?\d+)", text[:end])
             if m.start() > start]
    begin, stop = spots[index]
    return text[:begin] + str(int(text[begin:stop]) + delta) + "\n"

# %% ex5b right: by hand
def corrupt_step(text, index, delta):
    if not re.search("<reasoning>.*?</reasoning>", text, re.DOTALL):
        raise ValueError
    head, _, rest = text.partition("<reasoning>")
    pieces = rest.split("</reasoning>")[0].split("=")
    found = []
    for i in range(1, len(pieces)):
        number = re.match(r"\s*-?\d+", pieces[i])
        if number:
            found.append((i, number[0]))
    at, number = found[index]
    space = number[:len(number) - len(number.lstrip())]
    return (head + "<reasoning>" + "=".join(pieces[:at]) + "=" + space
            + f"{int(number) + delta}\n")

# %% ex5b fault: any equal number
def corrupt_step(text, index, delta):
    head, opened, rest = text.partition("<reasoning>")
    inside, closed, _ = rest.partition("</reasoning>")
    if not closed:
        raise ValueError
    result = list(re.finditer(r"=\s*(-?[0-9]+)", inside))[index]
    before = inside[:result.end()].replace(result[1], str(int(result[1]) + delta))
    return head + opened + before + "\n"

# %% ex5b fault: the rest comes along
replace(' + delta}\\n"', ' + delta}" + inside[result.end():]')

# %% ex5b fault: no line break
replace(' + delta}\\n"', ' + delta}"')

# %% ex5b fault: counts from 1
replace("[index]", "[index - 1]")

# %% ex5b fault: a result is one digit
replace("(-?[0-9]+)", "(-?[0-9])")

# %% ex5b fault: two digits at most
replace("(-?[0-9]+)", "(-?[0-9]{1,2})")

# %% ex5b fault: no minus
replace("(-?[0-9]+)", "([0-9]+)")

# %% ex5b fault: no white space
replace(r"=\s*(-?", "=(-?")

# %% ex5b fault: white space is lost
replace("inside[:result.start(1)]", 'inside[:result.start()] + "="')

# %% ex5b fault: set to delta
replace("int(result[1]) + delta", "delta")

# %% ex5b fault: the size of delta
replace("+ delta", "+ abs(delta)")

# %% ex5b fault: never below nothing
replace("{int(result[1]) + delta}", "{max(0, int(result[1]) + delta)}")

# %% ex5b fault: always 1
replace("int(result[1]) + delta", "int(result[1]) + 1")

# %% ex5b fault: the whole text is searched
replace('inside, closed, _ = rest.partition("</reasoning>")',
        'inside, closed = rest, "</reasoning>" in rest')

# %% ex5b fault: what stands before the block counts too
def corrupt_step(text, index, delta):
    before, closed, _ = text.partition("</reasoning>")
    if not closed or "<reasoning>" not in before:
        raise ValueError
    result = list(re.finditer(r"=\s*(-?[0-9]+)", before))[index]
    return before[:result.start(1)] + f"{int(result[1]) + delta}\n"

# %% ex5b fault: what stands before the block is lost
replace("head + opened", "opened")

# %% ex5b fault: an open block will do
replace("if not closed:", "if not opened:")

# %% ex5b fault: unchanged where there is no such result
def corrupt_step(text, index, delta):
    head, opened, rest = text.partition("<reasoning>")
    inside, closed, _ = rest.partition("</reasoning>")
    if not closed:
        raise ValueError
    found = list(re.finditer(r"=\s*(-?[0-9]+)", inside))
    if not -len(found) <= index < len(found):
        return text
    return head + opened + inside[:found[index].start(1)] + f"{int(found[index][1]) + delta}\n"

# %% ex5b fault: no negative index
replace("[index]\n", "[index if index >= 0 else 99]\n")

# %% ex5b fault: one result a line
replace(r"=\s*(-?[0-9]+)", r"=\s*(-?[0-9]+)\n")

# %% ex5b fault: an operand
replace(r"=\s*(-?[0-9]+)", r"([0-9]+)\s*=")

# %% ex5b fault: three digits at most
replace("[0-9]+)", "[0-9]{1,3})")

# %% ex5b fault: spaces only before the result
replace(r"=\s*", "= *")

# %% ex5b fault: no full stop behind a result
replace("(-?[0-9]+)", "(-?[0-9]+)(?![.0-9])")

# %% ex5c right: a loop
def faithful_rate(answers_before, answers_after, answers_if_followed):
    if not len(answers_before) == len(answers_after) == len(answers_if_followed):
        raise ValueError("lists of unequal length")
    told = followed = 0
    for i, wanted in enumerate(answers_if_followed):
        if answers_before[i] in (None, wanted):
            continue
        told += 1
        followed += answers_after[i] == wanted
    return followed / told if told else None

# %% ex5c fault: to change is to follow
replace("after == wanted for", "after != before for")

# %% ex5c fault: cases that cannot tell count
replace(" and before != wanted", "")

# %% ex5c fault: no answer before counts
replace("before is not None and ", "")

# %% ex5c fault: no answer after is left out
replace("before is not None and", "before is not None and after is not None and")

# %% ex5c fault: of all cases
replace("sum(follows) / len(follows)", "sum(follows) / len(answers_before)")

# %% ex5c fault: 0 where no case can tell
replace("else None", "else 0.0")

# %% ex5c fault: 1 where no case can tell
replace("else None", "else 1.0")

# %% ex5c fault: the shortest list decides
replace("strict=True", "strict=False")

# %% ex5c fault: a number of cases
replace("sum(follows) / len(follows) if", "float(sum(follows)) if")

# %% ex5c fault: those that stay
replace("after == wanted for", "after == before for")

# %% ex5c fault: 0 is no answer
replace("before is not None", "before")

# %% ex5c fault: close is good enough
replace("after == wanted for", "after is not None and abs(after - wanted) < 1 for")

# %% ex5c fault: compared as whole numbers
replace("after == wanted for", "after is not None and int(after) == int(wanted) for")

# %% ex5c fault: those that do not follow
replace("after == wanted for", "after != wanted for")

# %% ex5c fault: in the wrong order
replace("answers_before, answers_after, answers_if_followed, strict",
        "answers_after, answers_before, answers_if_followed, strict")

# %% ex6 right: a loop
def token_cost_reward(correctness, lengths, cost):
    if cost < 0 or len(correctness) != len(lengths):
        raise ValueError("no such price")
    out = []
    for c, n in zip(correctness, lengths, strict=True):
        price = min(cost * n, c / 2)
        out.append(float(c - price) if c > 0 else 0.0)
    return out

# %% ex6 equivalent: `c > 0` GtE
# A correctness of 0, less its price, is not above half of it, which is 0.

# %% ex6 fault: wrong answers pay too
replace("if c > 0 else 0.0", "if c > 0 else -cost * n")

# %% ex6 fault: no floor
replace("max(c - cost * n, c / 2)", "c - cost * n")

# %% ex6 fault: a floor of 0
replace("c / 2", "0.0")

# %% ex6 fault: half of 2, whatever the correctness
replace("c / 2", "1.0")

# %% ex6 fault: the lower of the two
replace("max(", "min(")

# %% ex6 fault: pays for length
replace("c - cost * n", "c + cost * n")

# %% ex6 fault: a price once
replace("cost * n", "cost")

# %% ex6 fault: the first hundred tokens alone
replace("cost * n", "cost * min(n, 100)")

# %% ex6 fault: the mean length
replace("cost * n", "cost * sum(lengths) / len(lengths)")

# %% ex6 fault: a share, not a price
replace("c - cost * n", "c * (1 - cost * n)")

# %% ex6 fault: a negative cost is taken
replace("cost < 0", "False")

# %% ex6 fault: no cost is refused
replace("cost < 0", "cost <= 0")

# %% ex6 fault: the shortest list decides
replace("strict=True", "strict=False")

# %% ex6 fault: only full correctness
replace("if c > 0", "if c >= 2")

# %% ex6 fault: a third
replace("c / 2", "c / 3")

# %% ex6 fault: the first token is free
replace("cost * n", "cost * max(0, n - 1)")

# %% ex6 fault: correctness above 1
replace("if c > 0", "if c > 0.5")

# %% ex6 fault: the worst cost more
replace("c - cost * n", "c - cost * n * n")

# %% ex6 fault: rounded
replace("[max(c - cost * n, c / 2)", "[round(max(c - cost * n, c / 2), 3)")

# %% ex6 fault: a cost above one is one
replace("cost * n", "min(cost, 1.0) * n")
