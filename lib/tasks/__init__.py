"""One module a task: its settings, prompts, reward and validation. Found by name or by file."""

import dataclasses
import importlib.util
import sys
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path

from lib import CourseError
from lib.runs import read_config
from lib.tasks.base import Task, is_task

BUNDLED = ("sentiment", "persona", "reasoning", "project")


def task_class(task: str | Path) -> type[Task]:
    """The class of a bundled task by its name, or the one that a Python file defines.

    Bundled ones are imported on demand, for each pulls in what it needs. A file is executed, as
    any script of one's own is. Raises CourseError where there is no such task.
    """
    if task in BUNDLED:
        return import_module(f"lib.tasks.{task}").TASK
    if Path(task).suffix == ".py":
        if not Path(task).is_file():
            raise CourseError(f"there is no file {task}; docs/your_task.md shows how to write one")
        return _from_file(Path(task), Path(task).stat().st_mtime_ns)
    raise CourseError(f"no task '{task}'; choose {', '.join(BUNDLED)}, or name a file of your own "
                      "that ends in .py (docs/your_task.md)")


@cache
def _from_file(path: Path, changed: int) -> type[Task]:
    """The task in path as it was at the time changed; executed once."""
    name = f"task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # dataclasses look there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__)
                 if Path(f.filename).resolve() == path.resolve()]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else "?")
        raise CourseError(f"{path}, line {line}: {type(error).__name__}: {error}") from error
    found = [value for value in vars(module).values()
             if is_task(value) and value.__module__ == name]
    if len(found) != 1:
        raise CourseError(f"{path} defines {len(found)} classes of Task; one is needed: see "
                          "docs/your_task.md")
    [cls] = found
    if "__dataclass_fields__" not in vars(cls):
        raise CourseError(f"{path}: write @dataclass(frozen=True, kw_only=True) above class "
                          f"{cls.__name__}")
    if plain := [field.name for field in dataclasses.fields(cls) if "option" not in field.metadata]:
        raise CourseError(f"{path}: write {plain[0]} = option(default, help), so that it gets its "
                          "flag; or annotate it as a ClassVar")
    cls.task, cls.file = vars(cls).get("task", path.stem), str(path.resolve())
    return cls


def task_of_run(run_dir: str | Path) -> type[Task]:
    """The class of the task that the run in run_dir was made for."""
    config = read_config(run_dir)
    return task_class(config.get("task_file") or config["task"])
