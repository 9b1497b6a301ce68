"""Search learning rate, group size and reward weights: ``python -m lib search reasoning``.

Optuna proposes, a short run answers. Every trial is a run folder like any other; the study is a
file beside them, so that a search that was cut short goes on where it was.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from lib import CourseError
from lib.files import read_json, write_json
from lib.runs import FINAL
from lib.tasks.reasoning import REWARDS, ReasoningTask
from lib.training import train

GROUPS = (4, 8, 16)


def propose(trial, task: ReasoningTask) -> ReasoningTask:
    """The task of one trial: the one given, with what Optuna suggests in its place.

    Every trial has as many steps of as many completions as the task given, whatever its
    group size.
    """
    centre = task.learning_rate
    form = trial.suggest_float("format_weight", 0.0, 2.0)
    return dataclasses.replace(
        task, learning_rate=trial.suggest_float(
            "learning_rate", centre / 5, centre * 5, log=True),
        num_generations=trial.suggest_categorical(
            "num_generations", [g for g in GROUPS if task.step_batch % g == 0]),
        reward_weights=tuple(1.0 if name in ("correctness_reward_func", "int_reward_func")
                             else form for name in REWARDS))


def search(task: ReasoningTask, answers: Mapping[str, Callable], folder: Path, trials: int) -> dict:
    """Run until the study holds that many trials; returns the best one and writes best.json.

    The figure is sampled accuracy on held-out questions. Searching on them spends them: measure
    the winner on others (another --data) before you quote it.
    """
    try:
        import optuna
    except ImportError:
        raise CourseError("search needs the package optuna; pip install -e '.[search]'") from None
    if trials < 1:
        raise CourseError(f"--trials must be at least 1, not {trials}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=task.task, direction="maximize", load_if_exists=True,
        storage=f"sqlite:///{folder / 'study.db'}",
        sampler=optuna.samplers.TPESampler(seed=task.seed))

    def accuracy(trial) -> float:
        chosen = propose(trial, task)
        run = train(chosen, answers, folder / f"trial-{trial.number}", overwrite=True)
        metric = read_json(run / FINAL)["metrics"]["accuracy"]
        print(f"trial {trial.number}: accuracy {metric['value']:.2f} "
              f"[{metric['low']:.2f}, {metric['high']:.2f}] with {trial.params}")
        return metric["value"]

    done = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    study.optimize(accuracy, n_trials=max(trials - len(done), 0))
    best = {"accuracy": study.best_value, "trial": study.best_trial.number, **study.best_params}
    write_json(folder / "best.json", best)
    print(f"best of {len(study.trials)}: {best}")
    return best
