"""The one screen about a machine."""

import pytest

from lib import preflight
from lib.files import write_json


@pytest.mark.parametrize("seconds, said", [(20, "0 minutes"), (61, "1 minute"), (89, "1 minute"),
                                           (200, "3 minutes")])
def test_minutes_are_counted_in_english(seconds, said, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "TIMINGS", tmp_path / "timings.json")
    write_json(preflight.TIMINGS, {"machine": "here", "chapters": {
        "01_sentiment": [{"title": "all", "seconds": seconds, "mib": 400}]}})
    assert f"chapter 1  {said}, 400 MiB" in preflight.report()
