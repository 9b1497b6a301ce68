"""One module a task: its settings, prompts, reward and validation."""

from importlib import import_module

CHAPTERS = {"sentiment": "01_sentiment", "persona": "03_persona", "reasoning": "04_reasoning"}


def run_class(task: str) -> type:
    """The settings class of a task; imported on demand, for each pulls in what it needs."""
    return import_module(f"lib.tasks.{task}").RUN
