"""What one changed setting does to a run: pictures and tables of what was measured.

``python -m benchmarks.settings`` measures; the chapter draws.
"""

from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from lib import plots
from lib.files import read_json

RESULTS = Path(__file__).with_name("settings_sweep.json")
SCORES = {"sentiment": "score", "persona": "musclebob_rate"}  # task -> the metric drawn as score
TITLES = {"learning_rate": "Learning rate", "split": "Completions a pass x passes a step",
          "num_generations": "Completions a prompt", "temperature": "Temperature of sampling",
          "beta": "KL coefficient beta", "warmup_steps": "Warm-up steps",
          "max_grad_norm": "Largest gradient norm", "adam_beta2": "Adam's beta2",
          "epochs": "Training prompts", "persona": "Learning rate, persona task"}


def measured(setting: str) -> dict[str, dict[str, dict]]:
    """Value -> seed -> the run: step, score and kl (a list each), and its final metrics.

    Score and KL(pi||ref), nats a completion, are of held-out prompts at temperature 1.
    """
    values = read_json(RESULTS)["settings"][setting]
    return dict(sorted(values.items(), key=lambda item: _number(item[0])))


def _number(value: str) -> float:
    """The first number of a value's name; "off" comes last."""
    try:
        return float(value.split()[0])
    except ValueError:
        return float("inf")


def draw(setting: str) -> Figure:
    """Score and KL by step: a colour a value, a thin line a seed, a bold one their mean."""
    values = measured(setting)
    fewest = min(map(len, values.values()))
    titles = {"score": "Persona rate" if setting == "persona" else "Mean score",
              "kl": "KL(pi||ref), nats (log above 1)"}
    return plots.seeds(
        {(title, "step", ""): {
            value: ([run["step"] for run in seeds.values()], [run[key] for run in seeds.values()])
            for value, seeds in values.items()} for key, title in titles.items()},
        log=[titles["kl"]],
        title=f"{TITLES[setting]}; held-out prompts, {fewest} seed{'s' * (fewest > 1)}",
        alt=f"{TITLES[setting]}, means over seeds at the end. " + "; ".join(
            f"{value}: score {_mean(seeds, 'score'):.2f}, KL {_mean(seeds, 'kl'):z.2f}"
            for value, seeds in values.items()))


def _mean(seeds: dict[str, dict], key: str) -> float:
    return fmean(run[key][-1] for run in seeds.values())


def table(setting: str, keys: tuple[str, ...] = (
        "score", "kl", "reference_perplexity", "self_ending", "distinct_2")) -> list[list[str]]:
    """Rows of text, a header first: each value's final metrics, lowest to highest of its seeds."""
    def cell(found: list[float]) -> str:
        return " to ".join(f"{one:.3g}" for one in dict.fromkeys((min(found), max(found))))

    return [[TITLES[setting], *keys]] + [
        [value, *(cell([({"score": run["score"][-1]} | run["final"]).get(key, 0.0)
                        for run in seeds.values()]) for key in keys)]
        for value, seeds in measured(setting).items()]
