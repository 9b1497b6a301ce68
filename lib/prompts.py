"""One way from a prompt to token ids, and back from ids to the text of each token.

Training, signal check, probes, validation, chat and length check all ask here, so that a policy is
measured and asked exactly as it was trained. A text gets the tokens that the tokenizer puts before
it (BOS) and none behind; a conversation goes through the chat template, whose text holds all
special tokens already. Left out: images and tools.
"""

from itertools import pairwise

from jinja2 import TemplateError

from lib import CourseError
from lib.progress import tell_once


def prompt_text(tokenizer, prompt) -> str:
    """What the model reads of a prompt: a text, messages, or a row that holds either as "prompt".

    Messages go through the chat template; where the last one is the assistant's, the policy is to
    go on with it. Raises CourseError where the tokenizer has no template, and where it refuses the
    messages.
    """
    if isinstance(prompt, dict):
        prompt = prompt["prompt"]
    if isinstance(prompt, str):
        return prompt
    name = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise CourseError(f"{name} has no chat template, which this task needs; take an instruct "
                          "model, such as Qwen/Qwen2.5-0.5B-Instruct")
    if prompt[-1]["role"] == "assistant":
        return prompt_text(tokenizer, prompt[:-1]) + prompt[-1]["content"]
    text = _rendered(tokenizer, prompt)
    if text is None and (text := _rendered(tokenizer, _merged(prompt))):
        tell_once(f"note: the chat template of {name} knows no system turn; its text goes before "
                  "the question")
    if text is None:
        raise CourseError(f"the chat template of {name} refuses a conversation of "
                          f"{', '.join(message['role'] for message in prompt)}; take another model")
    opened = text.rstrip()
    if opened.endswith(("<think>", "</think>")):
        tell_once(f"note: {name} is asked without its thinking: its <think> block is closed before "
                  "the answer begins")
    # As Qwen3 closes the block where it is told not to think.
    return f"{opened}\n\n</think>\n\n" if opened.endswith("<think>") else text


def _rendered(tokenizer, messages: list[dict]) -> str | None:
    """The chat template's text; None where it refuses a turn, or leaves one out without a word."""
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True,
                                             enable_thinking=False)
    except (TemplateError, TypeError, ValueError, AttributeError):  # its own, or Python's below it
        return None
    return text if all(message["content"].strip() in text for message in messages) else None


def _merged(messages: list[dict]) -> list[dict]:
    """The conversation with the text of its system turn before that of the first user's."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages
    system, first, *rest = messages
    return [first | {"content": f"{system['content']}\n\n{first['content']}"}, *rest]


def prompt_ids(tokenizer, prompts) -> list[list[int]]:
    """Token ids of each prompt: texts, conversations or rows, as ``prompt_text`` takes them."""
    found = {}  # a group asks the same prompt several times

    def ids(prompt) -> list[int]:
        text, is_text = prompt_text(tokenizer, prompt), isinstance(prompt, str) or (
            isinstance(prompt, dict) and isinstance(prompt["prompt"], str))
        if (text, is_text) not in found:
            found[text, is_text] = _encoded(tokenizer, text, is_text)
        return found[text, is_text]

    return [ids(prompt) for prompt in prompts]


def _encoded(tokenizer, text: str, is_text: bool) -> list[int]:
    bare = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not is_text:
        return bare
    ids = tokenizer(text)["input_ids"]
    if bare[:1] == ids[:1] == [tokenizer.bos_token_id]:  # the text begins with one itself
        return bare
    # What some tokenizers add behind (T5's EOS, BERT's [SEP]) would end the text before it began.
    behind = [k + len(bare) for k in range(len(ids)) if ids[k : k + len(bare)] == bare]
    return ids[: behind[0]] if behind else ids


def pieces(tokenizer, ids: list[int]) -> list[str]:
    """The text of each token; together they are the completion's text, special tokens left out.

    A token decoded alone loses what only its neighbours tell: the space before a word
    (SentencePiece), the other bytes of a character. So each gets what it adds to the text.
    """
    whole, cuts = tokenizer.decode(ids, skip_special_tokens=True), [0]
    for end in range(1, len(ids)):
        known = tokenizer.decode(ids[:end], skip_special_tokens=True)
        agreed = next((i for i, pair in enumerate(zip(known, whole, strict=False))
                       if pair[0] != pair[1]), min(len(known), len(whole)))
        cuts.append(max(cuts[-1], agreed))
    return [whole[start:end] for start, end in pairwise([*cuts, len(whole)])][:len(ids)]
