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
