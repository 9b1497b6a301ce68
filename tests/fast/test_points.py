"""What a student is told of the points: by the checks, and at the end of a chapter."""

import re

import pytest

from grading import chapters
from grading.release import exercises, source_notebook
from lib import points
from lib.checks import sentiment as checks
from lib.files import read_json


@pytest.fixture(autouse=True)
def fresh_kernel(monkeypatch):
    monkeypatch.setattr(points, "_passed", set())


def test_checks_add_up_and_a_check_that_passes_twice_counts_once(capsys):
    def right(scores, temperature):
        return [2.718281828459045 ** (score / temperature) - 1 for score in scores]

    for _ in range(2):
        checks.exponential_shaping(right)
        told = re.fullmatch(r"✔ right: the visible check passes.*\n", capsys.readouterr().out)
        assert told, "a function under another name is no exercise"
    right.__name__ = "exponential_shaping"
    for _ in range(2):
        checks.exponential_shaping(right)
        assert "vouch for 5 of 60 points so far" in capsys.readouterr().out
    assert "vouch for 15 of 60" in points.tick("sentiment_reward")
    with pytest.raises(AssertionError):
        checks.exponential_shaping(lambda scores, temperature: scores)
    assert points.vouched("01_sentiment") == 15


@pytest.mark.parametrize("chapter", chapters())
def test_the_points_are_those_of_the_notebook_and_functions_are_told_apart(chapter):
    """A function belongs to one chapter: its tick counts there."""
    there = read_json(points.EXERCISES)
    assert there[chapter] == exercises(chapter)
    assert sum(one["points"] for one in there[chapter].values()) == sum(
        cell.metadata.nbgrader.points for cell in source_notebook(chapter).cells
        if cell.metadata.get("nbgrader", {}).get("grade"))
    functions = [one["check"] for here in there.values() for one in here.values() if one["check"]]
    assert len(set(functions)) == len(functions)


def test_the_closing_cell_lists_done_open_and_how_to_hand_in():
    points.tick("sentiment_reward")
    page = points.closing_html("01_sentiment")
    done, still_open = (re.search(rf"<b>{word}</b>.*", page)[0] for word in ("Done", "Open"))
    assert "Exercise 1 (10)" in done and "10 of 60" in done and "Exercise 2a (5)" in still_open
    assert "Exercise 1" not in still_open and page.count("Question") == 4
    assert "80 points" in page and "01_sentiment.ipynb" in page
