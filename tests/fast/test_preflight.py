"""The one screen about a machine."""

import psutil
import pytest

from lib import preflight
from lib.__main__ import main
from lib.files import write_json
from lib.tasks import BUNDLED


@pytest.mark.parametrize("seconds, said", [(20, "0 minutes"), (61, "1 minute"), (89, "1 minute"),
                                           (200, "3 minutes")])
def test_minutes_are_counted_in_english(seconds, said, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "TIMINGS", tmp_path / "timings.json")
    write_json(preflight.TIMINGS, {"machine": "here", "chapters": {
        "01_sentiment": [{"title": "all", "seconds": seconds, "mib": 400}]}})
    assert f"chapter 1  {said}, 400 MiB" in preflight.report()


def test_the_memory_of_a_model_stands_beside_what_is_free(capsys, monkeypatch):
    """Each task, with all weights and with LoRA; where there is little, a batch of one."""
    assert main(["preflight", "tiny"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert "GiB free:" in first and len(lines) == 2 * len(BUNDLED)
    for field in ("weights", "reference", "gradients", "adam", "cache", "logits", "activations"):
        assert all(f" {field} " in line for line in lines)
    assert all("fits with --batch-size 16 --accumulation 4" in line for line in lines)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Free", (), {"available": 2**20}))
    assert main(["preflight", "tiny"]) == 0
    for line in capsys.readouterr().out.splitlines()[1:]:
        assert "does not fit, not even with --batch-size 1 --accumulation 64" in line
