"""The fault bank: every wrong answer loses its points, every right one keeps them."""

import math
import re

import nbformat
import pytest
import torch

from grading import grade
from grading.__main__ import main
from grading.faults import (
    Variant,
    _complaint,
    _pieces,
    banks,
    judge,
    reference,
    survivors,
    table,
    variants,
    written,
)
from grading.gradebook import Grader
from grading.release import source_notebook
from tests.grading.corpus import generate


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


@pytest.mark.parametrize("chapter", banks())
def test_mutants_are_caught(chapter):
    caught, kept = survivors(chapter)
    unexcused = [mutant.name for mutant, reason in kept.items() if not reason]
    assert caught >= 25 and len(unexcused) <= 0.02 * (caught + len(unexcused)), unexcused


def test_a_fault_that_survives_is_told(monkeypatch, capsys):
    kept = variants("02_grpo")[:1]
    monkeypatch.setattr("grading.faults.variants", lambda chapter: [
        Variant("ex5", "fault", "no fault at all", "replace('ell', 'ell')"), *kept])
    assert main(["faults", "02_grpo"]) == 2
    out, err = capsys.readouterr()
    assert "**WRONG** keeps the points" in out and "judged wrongly: no fault at all" in err
    assert main(["faults", "09_no"]) == 2
    assert "no fault bank for '09_no'; there are 01_sentiment" in capsys.readouterr().err


@pytest.mark.parametrize("chapter", banks())
@pytest.mark.parametrize("kind", ["right", "fault"])
def test_the_jailed_grader_says_the_same(tmp_path, chapter, kind, monkeypatch):
    """Through proxies and plain data: every exercise's n-th variant in one notebook."""
    monkeypatch.setattr("grading.capstone.STEPS", 1)  # what a reward trains has tests of its own
    generate(tmp_path, chapter)
    by_exercise: dict[str, list[Variant]] = {}
    for variant in variants(chapter):
        if variant.kind == kind:
            by_exercise.setdefault(variant.exercise, []).append(variant)
    with Grader(tmp_path, chapter) as grader:
        for n in range(max(map(len, by_exercise.values()))):
            notebook = source_notebook(chapter)
            used = {e: those[n] for e, those in by_exercise.items() if n < len(those)}
            for cell in notebook.cells:
                if cell.id in used:
                    cell.source = written(chapter, used[cell.id])
            outcome = grade.grade(grader.assignment, nbformat.writes(notebook).encode())
            wrong = {v.name: outcome.remark(f"test_{e}") for e, v in used.items()
                     if outcome.passed(f"test_{e}") != (kind == "right")}
            assert not wrong, wrong


def numbers_of(result) -> int:
    """How many numbers a result holds in which NaN could hide; 0 for texts and the like."""
    if isinstance(result, torch.Tensor):
        return result.numel() if result.is_floating_point() else 0
    if isinstance(result, list | tuple):
        return sum(map(numbers_of, result))
    if isinstance(result, dict):
        return numbers_of(list(result.values()))
    return int(isinstance(result, int | float) and not isinstance(result, bool))


def with_nan(result, at: int):
    """The result with NaN for its number at a position."""
    if isinstance(result, torch.Tensor):
        flat = result.clone().reshape(-1)
        flat[at] = math.nan
        return flat.reshape(result.shape)
    if isinstance(result, dict):
        return dict(zip(result, with_nan(list(result.values()), at), strict=True))
    if isinstance(result, list | tuple):
        changed = list(result)
        for i, part in enumerate(changed):
            if 0 <= at < numbers_of(part):
                changed[i] = with_nan(part, at)
            at -= numbers_of(part)
        return type(result)(changed)
    return math.nan


@pytest.mark.parametrize("chapter", banks())
def test_nan_in_any_position_loses_the_points(chapter):
    """NaN compares as false: `value < NaN` and `max` let it through where a number is ranked."""
    for exercise, (test, _) in _pieces(chapter)[1].items():
        names = re.findall(r"^def (\w+)", written(chapter, Variant(exercise, "", "", "")), re.M)
        sizes: set[int] = set()

        def complaint(spoil, exercise=exercise, test=test, name=names[-1], sizes=sizes):
            namespace = reference(chapter)

            def spoilt(*args, function=namespace[name], **kwargs):
                result = function(*args, **kwargs)
                sizes.add(numbers_of(result))
                at = spoil(numbers_of(result))
                return result if at is None else with_nan(result, at)

            namespace[name] = spoilt
            return _complaint(test, namespace)

        assert complaint(lambda size: None) is None
        for at in range(min(20, max(sizes))):
            assert complaint(lambda size, at=at: at if at < size else None), (exercise, at)
        if {1} < sizes:  # where texts are asked for one by one as well
            assert complaint(lambda size: 0 if size == 1 else None), (exercise, "alone")
