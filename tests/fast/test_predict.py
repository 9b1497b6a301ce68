"""A prediction: one reply a choice, the same with a widget, on a page and in a terminal."""

import re

import nbformat
import pytest

from grading.release import source_notebook
from grading.walkthrough import reader_outputs
from lib import CourseError
from lib.predict import Prediction, predict

ASKED = "Where does a reward of 10 r + 3 lead?", {
    "to <larger> steps": "The spread is divided out.",
    "nowhere else": "Mean and spread are taken out."}, "nowhere else"


def test_the_widget_answers_at_once_with_both_reasons():
    box = Prediction(*ASKED).widget()
    buttons, said = box.children
    assert buttons.value is None and buttons.description == ASKED[0], "nothing is chosen; a label"
    buttons.value = "to <larger> steps"
    assert "Not quite. The spread is divided out." in said.value
    assert "nowhere else. Mean and spread are taken out." in said.value
    buttons.value = "nowhere else"
    assert said.value.endswith("Right. Mean and spread are taken out.</div>")
    assert "Not quite" not in said.value


def test_a_page_without_widgets_folds_a_reply_below_each_answer(tmp_path):
    output = nbformat.v4.new_output("display_data", Prediction(*ASKED)._repr_mimebundle_())
    [shown] = reader_outputs(output, nbformat.v4.new_notebook(), tmp_path)
    page = shown["data"]["text/html"]
    folds = re.findall(r"<details><summary>(.*?)</summary>(.*?)</details>", page)
    assert [fold[0] for fold in folds] == ["to &lt;larger&gt; steps", "nowhere else"]
    assert folds[0][1].startswith("Not quite.") and folds[1][1].startswith("Right.")
    assert not any("widget" in mime for mime in shown["data"])


def test_a_terminal_has_question_and_answers_before_the_reasons(capsys):
    predict(*ASKED)
    text = capsys.readouterr().out
    places = [text.index(part) for part in (ASKED[0], *ASKED[1], "Not quite.", "Right.")]
    assert places == sorted(places)


def test_nothing_is_asked_while_grading_and_a_wrong_key_is_named(monkeypatch, capsys):
    with pytest.raises(CourseError, match="'up' is none of the choices: to <larger>"):
        predict(ASKED[0], ASKED[1], "up")
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    predict(*ASKED)
    assert capsys.readouterr().out == "Skipped while grading.\n"


def test_a_prediction_hides_its_source_in_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr("grading.release.SOLUTIONS", tmp_path)
    (tmp_path / "one.py").write_text(
        "# %% [markdown]\n# # Title\n\n# %%\npredict('?', {'a': 'b'}, right='a')\n\n# %%\nx = 1\n")
    hidden = [cell.source[:7] for cell in source_notebook("one").cells
              if cell.metadata.get("jupyter", {}).get("source_hidden")]
    assert hidden == ["#@title", "predict"]
