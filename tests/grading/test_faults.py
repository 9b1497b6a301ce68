"""The fault bank: every wrong answer loses its points, every right one keeps them."""

import pytest

from grading.__main__ import main
from grading.faults import Variant, banks, judge, table, variants


@pytest.mark.parametrize("chapter", banks())
def test_faults_are_caught_and_other_styles_kept(chapter):
    verdicts = judge(chapter)
    wrong = [v for v in verdicts if not v.as_it_should_be]
    assert not wrong, "\n" + table(wrong)
    assert all(v.check is None for v in verdicts if v.variant.kind == "right"), (
        "a visible check refuses a right answer")
    assert sum(v.variant.kind == "fault" for v in verdicts) >= 25
    kinds = {(v.variant.exercise, v.variant.kind) for v in verdicts}
    assert {e for e, kind in kinds if kind == "fault"} == {e for e, kind in kinds
                                                           if kind == "right"}


def test_a_fault_that_survives_is_told(monkeypatch, capsys):
    kept = variants("02_grpo")[:1]
    monkeypatch.setattr("grading.faults.variants", lambda chapter: [
        Variant("ex5", "fault", "no fault at all", "replace('ell', 'ell')"), *kept])
    assert main(["faults", "02_grpo"]) == 2
    out, err = capsys.readouterr()
    assert "**WRONG** keeps the points" in out and "judged wrongly: no fault at all" in err
    assert main(["faults", "09_no"]) == 2
    assert "no fault bank for '09_no'; there are 02_grpo" in capsys.readouterr().err
