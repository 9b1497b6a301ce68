"""Ask a trained policy a question: ``python -m lib chat MODEL QUESTION`` or ``--interactive``.

A model with a chat template is asked through it; the tiny policies are asked in the format of
their task.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from lib import models
from lib.evaluation import sample
from lib.files import read_json
from lib.tiny import cartoons

PLAIN = {"persona": cartoons.prompt, "sentiment": str}  # task -> question to prompt


def task_of(path: str) -> str:
    """The task that a run folder was trained for; persona for anything else."""
    config = Path(path) / models.RUN_CONFIG
    return read_json(config)["task"] if config.is_file() else "persona"


def asker(path: str, *, temperature: float = 1.0, max_new_tokens: int = 40,
          seed: int = 0) -> Callable[[str], str]:
    """A function from a question to the answer of the model at path; each call draws anew.

    Raises CourseError when the model cannot be loaded.
    """
    task, calls = task_of(path), iter(range(seed, sys.maxsize))
    policy, tokenizer = models.load_policy(models.policy_path(path, task))

    def ask(question: str) -> str:
        if tokenizer.chat_template:
            prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}],
                                                   tokenize=False, add_generation_prompt=True)
        else:
            prompt = PLAIN[task](question)
        [ids] = sample(policy, tokenizer, [prompt], temperature=temperature,
                       max_completion_length=max_new_tokens, seed=next(calls))
        return tokenizer.decode(ids, skip_special_tokens=True).strip()

    return ask


def interactive(ask: Callable[[str], str], lines: Iterable[str]) -> None:
    """Answer each line until there are no more, or one says exit."""
    print("Ask away; an empty line or 'exit' ends it.")
    for line in lines:
        if line.strip().lower() in ("", "exit", "quit"):
            break
        print(ask(line.strip()), flush=True)
