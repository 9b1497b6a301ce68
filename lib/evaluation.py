"""Validation of policies, side by side: every figure with n and a 95 % interval."""

from functools import partial
from pathlib import Path

from lib import CourseError, models
from lib.files import read_json
from lib.monitor import alarms
from lib.rollout import sampled_rows
from lib.runs import BASELINE, FINAL, before_and_after, read_history
from lib.tasks import task_of_run
from lib.tasks.base import Task


def task_of(cls: type[Task], paths: list[str], changes: dict) -> Task:
    """The task to measure policies with: as the last run among paths has it, else its defaults.

    A run is measured as it was trained (its lengths, its scorer); changes come on top.
    """
    settings = {"model": paths[0]}
    for path in paths:
        if written := models.trained_with(path):
            if written["task"] != cls.task:
                raise CourseError(f"{path} is a run of the task {written['task']}, not {cls.task}")
            settings = written["settings"]
    return cls.of_record({**settings, **changes})


def measure_all(task: Task, answers, policies: dict[str, str], *, num_prompts: int | None = None,
                seed: int = 0) -> dict[str, dict]:
    """The task's validation of each named policy (tiny, Hub id, model or run folder).

    The first policy is the reference of all, unless it is
    trained: then its base policy is.
    """
    if num_prompts is not None and num_prompts < 1:
        raise CourseError(f"--num-prompts must be at least 1, not {num_prompts}")
    first = next(iter(policies.values()))
    run = models.trained_with(first)
    base = run["settings"]["model"] if run else first
    loaded = {path: models.load_policy(models.policy_path(path, task))
              for path in (*policies.values(), base)}
    reference = loaded[base][0]
    results = {}
    for name, path in policies.items():
        policy, tokenizer = loaded[path]
        if policy.config.vocab_size != reference.config.vocab_size:
            raise CourseError(f"{path} and {base} do not share a vocabulary; compare a policy "
                              "with the base it was trained from")
        results[name] = task.measure(
            answers, partial(sampled_rows, policy, tokenizer, reference),
            task.prompts("eval")[:num_prompts], seed)
    return results


def grid(columns: dict[str, dict], task: type[Task]) -> list[list[str]]:
    """The metrics of each named validation side by side, as rows of text, a header row first.

    task: whose metrics they are, for their labels and order.
    """
    def cell(m: dict) -> str:
        digits = 2 if abs(m["value"]) < 100 else 0
        return (f"{m['value']:z.{digits}f} [{m['low']:z.{digits}f}, {m['high']:z.{digits}f}] "
                f"n={m['n']}")

    return [["", *columns]] + [[metric.label, *(cell(m[key]) for m in columns.values())]
                               for key, metric in task.all_metrics().items()
                               if metric.label and all(key in m for m in columns.values())]


def table(columns: dict[str, dict], task: type[Task]) -> str:
    """The grid as aligned text: value [95 % interval] n."""
    lines = grid(columns, task)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
                     .rstrip() for line in lines)


def side_by_side(runs: dict[str, Path | None]) -> dict[str, dict]:
    """Metrics by name: ``base`` from the first run's baseline, then the final ones of each run.

    Runs that were not made (None) are left out; without any run the result is empty.
    """
    made = {name: run for name, run in runs.items() if run}
    if not made:
        return {}
    return {"base": read_json(next(iter(made.values())) / BASELINE)["metrics"],
            **{name: read_json(run / FINAL)["metrics"] for name, run in made.items()}}


def rows(run: Path, which: str = FINAL) -> list[dict]:
    """The completions of a run's final (or BASELINE) validation, with scores and log-probs."""
    return read_json(Path(run) / which)["rows"]


def histories(runs: dict[str, Path | None]) -> dict[str, list[dict]]:
    """The reward history of each named run; None is left out."""
    return {name: read_history(run) for name, run in runs.items() if run}


def verdict(run_dir: Path) -> list[str]:
    """What a finished run shows, as lines: the table, then what is wrong and what to try."""
    before, after = before_and_after(run_dir)
    history, task = read_history(run_dir), task_of_run(run_dir)
    try:
        found = task.findings(before, after)
    except KeyError as missing:
        raise CourseError(f"the validations of {run_dir} lack the figure {missing}, which the task "
                          f"{task.task} measures; train again with this release") from None
    found += [f"{name}: {remedy}" for name, remedy in alarms(history, 10).items()]
    return [f"{run_dir}: {history[-1]['step']} steps",
            table({"base": before, "trained": after}, task),
            *(f"- {finding}" for finding in found or ["no alarm: a healthy run"])]
