"""Nothing written is lost: cells below a question, pictures, and what had to be cut."""

import json
import time

import nbformat
import pytest
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from grading import NOTEBOOKS, handed_in, submission

CHAPTER = "01_sentiment"
RELEASED = nbformat.read(NOTEBOOKS / f"{CHAPTER}.ipynb", as_version=4)
PNG = "data:image/png;base64,iVBORw0KGgo="


def answers(change) -> tuple[dict[str, str], list[str]]:
    """The text of each question after a change to the list of released cells, and the repairs."""
    cells = json.loads(json.dumps(RELEASED["cells"]))
    change(cells)
    places = submission.slots(RELEASED)
    filled, repairs = submission.fill(places, submission.cells_of(
        json.dumps({"cells": cells}).encode(), CHAPTER))
    return {f.slot.id: "\n\n".join(f.sources) for f in filled if f.slot.kind == "manual"}, repairs


def at(cells: list, name: str) -> int:
    return next(i for i, cell in enumerate(cells) if cell.get("id") == name)


def insert(name: str, *added: dict):
    def change(cells):
        cells[at(cells, name) + 1:at(cells, name) + 1] = added
    return change


@pytest.mark.parametrize("cell, shown", [
    ({"cell_type": "markdown", "source": "It repeats itself."}, "It repeats itself."),
    ({"cell_type": "raw", "source": "It repeats itself."}, "It repeats itself."),
    ({"cell_type": "code", "source": "# It repeats"}, "```python\n# It repeats\n```"),
    ({"cell_type": "code", "source": 's = "```"'}, '````python\ns = "```"\n````'),
    ({"cell_type": "markdown", "source": f"![x]({PNG})"}, PNG)])
@pytest.mark.parametrize("question", ["q1", "q4"])
def test_what_stands_below_a_question_is_part_of_its_answer(question, cell, shown):
    untouched, _ = answers(lambda cells: None)
    got, repairs = answers(insert(question, cell))
    assert got.pop(question) == f"{untouched.pop(question)}\n\n" + (
        cell["source"] if shown == PNG else shown)
    assert got == untouched
    assert f"{question}: what stands in cells below it was added to its answer" in repairs


@pytest.mark.parametrize("text", ["It repeats itself.", "Question 1. It repeats itself.",
                                  "# Question 1.\nIt repeats itself."])
def test_an_answer_in_the_place_of_its_question(text):
    """The question is gone, or has lost its bold title and its metadata."""
    def change(cells):
        cells[at(cells, "q1")] = {"cell_type": "markdown", "source": text}
    got, _ = answers(change)
    assert got["q1"] == text


@pytest.mark.parametrize("name", ["ex1", "test_ex1", "cell-055"])
def test_what_stands_elsewhere_is_no_answer(name):
    untouched, _ = answers(lambda cells: None)
    assert answers(insert(name, {"cell_type": "markdown", "source": "A note."}))[0] == untouched


def picture(**attachments):
    def change(cells):
        cells[at(cells, "q1")]["source"] += "\n![t](attachment:my%20table.png)\n\nAnd so on."
        cells[at(cells, "q1")]["attachments"] = attachments or {
            "my table.png": {"image/png": "iVBORw0KGgo="}}
    return change


def test_an_attached_picture_stays_and_is_shown():
    got, repairs = answers(picture())
    assert got["q1"].endswith(f"\n![t]({PNG})\n\nAnd so on.") and not repairs
    assert handed_in.harmless(got["q1"]).endswith(f"\n![t]({PNG})\n\nAnd so on.")


@pytest.mark.parametrize("attachments", [
    {"other.png": {"image/png": "iVBORw0KGgo="}}, {"my table.png": {"image/svg+xml": "<svg/>"}},
    {"my table.png": {"image/png": "A" * (handed_in.PICTURES + 1)}}, {"my table.png": None},
    {"my table.png": {"image/png": "javascript:alert(1)"}}])
def test_a_picture_that_is_left_out_is_told(attachments):
    got, repairs = answers(picture(**attachments))
    assert "And so on." in got["q1"] and "q1: a picture was left out" in repairs
    assert "attachment:" not in got["q1"] and "javascript" not in got["q1"]


def test_pictures_do_not_count_as_text_and_a_cut_is_told():
    long = f"![x](data:image/png;base64,{'A' * 3 * handed_in.CELL_LIMIT})\n\nThe end."
    got, repairs = answers(insert("q1", {"cell_type": "markdown", "source": long}))
    assert got["q1"].endswith("The end.") and len(repairs) == 1
    got, repairs = answers(insert("q1", {"cell_type": "markdown",
                                         "source": "x " * handed_in.CELL_LIMIT}))
    assert f"q1: its text was cut after {handed_in.CELL_LIMIT} characters" in repairs


def test_a_picture_that_is_shown_very_often_costs_neither_time_nor_memory():
    def cells(n, references, size):
        cell = {"cell_type": "markdown", "source": "![x](attachment:a) " * references,
                "attachments": {"a": {"image/png": "A" * size}}}
        start = time.process_time()
        found = handed_in.read_cells(json.dumps({"cells": [cell] * n}).encode(), "x")
        assert time.process_time() - start < 3
        return found

    [one] = cells(1, 100_000, 4_000_000)
    assert len(one.source) < handed_in.PICTURES + handed_in.CELL_LIMIT
    assert "a picture was left out" in one.cut and handed_in.TEXT_CUT in one.cut
    many = cells(100, 400, 20_000)
    assert sum(len(cell.source) for cell in many) < 1.5 * handed_in.FILE_LIMIT
    assert not many[0].cut and "a picture was left out" in many[-1].cut


@pytest.mark.parametrize("text", ["![x](http://x/y.png)", "[x](javascript:alert(1))",
                                  "![x](data:text/html;base64,QQ==)", "<img src=x>",
                                  "<details open onclick=x>", "<li/onclick=x>", "<ul\n>",
                                  f"![x]({PNG} onload)", f"[x]: {PNG}"])
def test_other_links_are_still_taken_apart(text):
    assert handed_in.harmless(text) != text


@pytest.mark.parametrize("unit", ["a.", "a.b", "x = 1\n", "(", "\\"])
def test_code_is_highlighted_within_a_second(unit):
    """Pygments takes quadratic time for a.a.a.a on one line: minutes for a cell's 200,000."""
    text = (unit * handed_in.CELL_LIMIT)[:handed_in.CELL_LIMIT]
    start = time.process_time()
    Highlight2HTML()(handed_in.shown(text, code=True))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("unit", [r"\\(", "*a", "~~", "![", "# a\n", "- ", "$", "`", "<a", "a\n"])
def test_markdown_is_rendered_within_a_second(unit):
    for length in handed_in.SHOWN_TEXT, handed_in.CELL_LIMIT:
        text = (unit * length)[:length]
        start = time.process_time()
        html = markdown2html_mistune(handed_in.shown(text, code=False))
        assert time.process_time() - start < 1
    assert html.count("<pre>") == 1, "the long one is plain text, whatever it holds"


def test_what_is_shown_otherwise_is_told_and_pictures_stay():
    """A screenshot is longer than any text: it was once cut with the text's limit."""
    essay = "An honest word. " * 1000
    answer = f"{essay}\n![t]({PNG[:-1]}{'A' * 3 * handed_in.CELL_LIMIT})\nThe end."
    kept, told = handed_in.kept(answer, code=False)
    assert kept == answer and "plain text" in told
    html = markdown2html_mistune(handed_in.shown(kept, code=False))
    assert html.count("<img") == 1 and essay.strip() in html and "The end." in html
    assert handed_in.kept("x = 1", code=True) == ("x = 1", "")
    assert "all of it was graded" in handed_in.kept("x = 1\n" * 10_000, code=True)[1]
    assert handed_in.kept("Short.", code=False) == ("Short.", "")


def test_a_folded_checklist_stays_folded():
    text = ("<details><summary>Compare your answer</summary><ul><li>Is there a figure?</li></ul>"
            "</details>")
    assert handed_in.harmless(text) == text
