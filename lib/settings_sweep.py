"""What one changed setting does to a run: pictures and tables of what was measured.

``python -m benchmarks.settings`` measures; the chapter draws.
"""

from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from lib.files import read_json
from lib.plots import COLOURS

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
    """Score and KL by step: a colour a value, a thin line a seed, a thick one their mean."""
    values, figure = measured(setting), Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, key, title in zip(axes, ("score", "kl"), (
            "Persona rate" if setting == "persona" else "Mean score",
            "KL(pi||ref), nats (log above 1)"), strict=True):
        for (value, seeds), colour in zip(values.items(), COLOURS, strict=False):
            for run in seeds.values():
                axis.plot(run["step"], run[key], color=colour, linewidth=0.8, alpha=0.5)
            axis.plot(run["step"], [fmean(at) for at in zip(
                *(run[key] for run in seeds.values()), strict=True)], color=colour,
                linewidth=2.5, label=value)
        axis.set(xlabel="step", title=title)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(-0.03, 1.03)
    axes[1].set_yscale("symlog", linthresh=1)
    axes[1].set_ylim(-0.03, max(1.5, axes[1].get_ylim()[1]))
    axes[1].yaxis.set_major_formatter("{x:g}")
    fewest = min(map(len, values.values()))
    figure.suptitle(f"{TITLES[setting]}; held-out prompts, {fewest} seed{'s' * (fewest > 1)}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.alt = f"{TITLES[setting]}, means over seeds at the end. " + "; ".join(
        f"{value}: score {_mean(seeds, 'score'):.2f}, KL {_mean(seeds, 'kl'):z.2f}"
        for value, seeds in values.items())
    return figure


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
