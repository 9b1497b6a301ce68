"""Ask a trained policy: ``python -m lib chat MODEL QUESTION``, ``--interactive``, ``--jsonl``.

A run is asked in the form in which it was trained: texts in the format of its task, or
conversations. Any other model is asked through its chat template where it has one.
"""

import fcntl
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from lib import CourseError, models
from lib.prompts import prompt_ids
from lib.rollout import sample
from lib.tasks import BUNDLED, task_class

DEFAULT_LENGTH = 200


def sections(text: str) -> dict[str, str]:
    """What stands in each XML tag, by tag; one that is not closed ends where the next begins."""
    return {tag: inside.strip() for tag, inside in re.findall(
        r"<(\w+)>(.*?)(?:</\1>|(?=<\w+>)|\Z)", text, re.DOTALL)}


class Asker:
    """A function from a question to the answer of the model at path; each call draws anew.

    task: what is asked, None for the run's own. temperature: 0 is greedy.
    max_completion_length: in tokens, None for the run's. jsonl: a file that gets one object a
    question, with the model under its name (default: path). Raises CourseError when the model
    cannot be loaded, its task is not known, or the file cannot be written.
    """

    def __init__(self, path: str, *, task: str | None = None, temperature: float = 1.0,
                 max_completion_length: int | None = None, seed: int = 0,
                 jsonl: Path | None = None, name: str | None = None):
        run = models.trained_with(path)
        task = task or run.get("task_file") or run.get("task")
        if task is None:
            if path != "tiny":
                models.load_tokenizer(path)  # a model that is not there is told as that
            raise CourseError(f"{path} does not say what it was trained for, so how to ask it; say "
                              "--task sentiment, persona or reasoning")
        elif task == run.get("task") and task not in BUNDLED:  # an export names no file
            raise CourseError(f"{name or path} was trained on a task of somebody's own; name its "
                              f"file: --task {task}.py")
        self.task = task_class(task) if isinstance(task, str) else task
        self.name, self.jsonl = name or path, jsonl
        if jsonl:
            append(jsonl)  # complain before there is an answer to lose
        self.sampling = {
            "temperature": temperature, "max_completion_length": max_completion_length
            or run.get("settings", {}).get("max_completion_length") or DEFAULT_LENGTH}
        self.seeds = itertools.count(seed)
        self.policy, self.tokenizer = models.load_policy(models.policy_path(path, self.task))
        self.conversational = run.get("conversational", bool(self.tokenizer.chat_template))

    def __call__(self, question: str) -> str:
        prompt = self.task.chat_prompt(question, self.conversational)
        seed = next(self.seeds)
        room = models.max_positions(self.policy) - len(prompt_ids(self.tokenizer, [prompt])[0])
        if room < 1:
            raise CourseError("the question is too long for this model")
        length = min(self.sampling["max_completion_length"], room)
        [ids] = sample(self.policy, self.tokenizer, [prompt], seed=seed,
                       **self.sampling | {"max_completion_length": length})
        answer = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
        if self.jsonl:
            found = sections(answer)
            append(self.jsonl, {
                "prompt": prompt, "reasoning": found.get("reasoning"),
                "answer": found.get("answer"), "text": answer, "model": self.name,
                "settings": self.sampling | {"seed": seed},
                "time": datetime.now(UTC).isoformat(timespec="seconds")})
        return answer


def append(path: Path, *rows: dict) -> None:
    """Add rows as lines; under a lock, so that lines of several writers do not mix."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # gone when the file is closed, or the process dies
            if file.tell():  # a writer that died may have left half a line
                file.seek(-1, os.SEEK_END)
                file.write(b"" if file.read() == b"\n" else b"\n")
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise CourseError(f"cannot append to {path}: {error.strerror}") from error


def interactive(ask: Callable[[str], str], lines: Iterable[str]) -> None:
    """Answer each line until there are no more, or one says exit; a bad question ends nothing."""
    print("Ask away; an empty line or 'exit' ends it.")
    for line in lines:
        if line.strip().lower() in ("", "exit", "quit"):
            break
        try:
            print(ask(line.strip()), flush=True)
        except CourseError as error:
            print(f"error: {error}", flush=True)
