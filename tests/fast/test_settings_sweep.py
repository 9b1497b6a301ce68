"""Chapter 6's measured settings: what is drawn and tabled is what was measured."""

from statistics import fmean

import pytest

from benchmarks.settings import SETTINGS, changed
from lib import settings_sweep
from lib.files import read_json

MEASURED = read_json(settings_sweep.RESULTS)["settings"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_value_was_measured_and_is_drawn(setting):
    assert {*SETTINGS[setting]} == {*MEASURED[setting]}
    assert all({*seeds} == {"1", "2", "3"} for seeds in MEASURED[setting].values())
    figure = settings_sweep.draw(setting)
    for axis, key in zip(figure.axes, ("score", "kl"), strict=True):
        bold = {line.get_label(): line for line in axis.get_lines() if line.get_linewidth() > 2}
        for value, seeds in MEASURED[setting].items():
            end = bold[value].get_ydata()[-1]
            assert end == pytest.approx(fmean(run[key][-1] for run in seeds.values()))
    header, *rows = settings_sweep.table(setting)
    assert [row[0] for row in rows] == list(settings_sweep.measured(setting))
    assert all(len(row) == len(header) for row in rows)
    for value, score, *_ in rows:
        worst = min(run["score"][-1] for run in MEASURED[setting][value].values())
        assert score.split(" to ")[0] == f"{worst:.3g}"
    assert all(value in figure.alt for value in MEASURED[setting])


def test_settings_that_are_the_default_share_their_runs():
    plain = [(setting, value) for setting, values in SETTINGS.items()
             for value, changes in values.items() if not changed(changes)]
    assert len(plain) == len(SETTINGS) - 1, "each but persona has the default among its values"
    records = [{seed: run["score"] for seed, run in MEASURED[setting][value].items()}
               for setting, value in plain]
    assert all(record[seed] == records[0][seed] for record in records for seed in record)
