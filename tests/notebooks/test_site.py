"""The walk-through: complete, answers folded, no secret, no broken link, no request elsewhere."""

import io
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from grading import SOLUTIONS, chapters
from grading.pictures import SHOWN, STRIP, fresh
from grading.release import source_notebook
from grading.walkthrough import ANSWER, DOCS, site, stage
from lib import CourseError
from tests.browser.test_browser import chrome, needs_browser

assert chrome  # a fixture


class Page(HTMLParser):
    """What a page links to, loads and shows."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.loaded, self.ids, self.pictures, self.words = [], [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.add(given.get("id"))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") not in (
                "canonical", "index", "search", "next", "prev"):
            self.loaded.append(given["href"])
        if tag in ("img", "script", "iframe", "source") and given.get("src"):
            self.loaded.append(given["src"])
        if tag == "img":
            self.pictures.append(given.get("alt"))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return site(tmp_path_factory.mktemp("site") / "site").parent


@pytest.fixture(scope="module")
def pages(built):
    return {path: Page(path.read_text()) for path in built.rglob("*.html")}


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(built, pages):
    for path, page in pages.items():
        for target in page.loaded:
            assert not urlsplit(target).netloc, f"{path.name} loads {target}"
            assert target.startswith("data:") or (
                path.parent / urlsplit(target).path).exists(), f"{path.name}: {target}"
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme:
                assert parts.scheme in ("http", "https"), f"{path.name}: {target}"
                continue
            other = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert other.exists(), f"{path.name}: {target}"
            if parts.fragment and other.suffix == ".html":
                assert parts.fragment in pages[built / other.relative_to(built)].ids, (
                    f"{path.name}: {target}")
    for style in built.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )['\"]?(?:https?:)?//", style.read_text()), style


@needs_browser
def test_a_browser_asks_no_other_server_and_finds_things(built, pages, chrome):
    for path in pages:
        chrome.get(path.as_uri())
        asked = chrome.execute_script(
            "return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert all(address.startswith(("file:", "data:")) for address in asked), (path.name, asked)
    chrome.get((built / "search.html").as_uri() + "?q=advantage")
    found = WebDriverWait(chrome, 20).until(lambda driver: [
        link.text for link in driver.find_elements(By.CSS_SELECTOR, "#search-results li a")])
    assert any("Chapter 2" in text or "Glossary" in text for text in found), found
    assert sum("Glossary" in text for text in found) == 1, "its term, not once more the page"


def test_every_picture_is_there_with_its_text_and_no_debris(pages):
    shown = [alt for page in pages.values() for alt in page.pictures]
    assert len(shown) > 25 and all(shown)
    for path, page in pages.items():
        text = " ".join(page.words)
        for debris in ("<Figure", "Warning", "interactive(children", "Button(", "step/s]",
                       "### BEGIN", "object at 0x", "Traceback"):
            assert debris not in text, f"{path.name}: {debris}"


@pytest.mark.parametrize("chapter", chapters())
def test_a_chapter_shows_its_answers_folded_and_no_hidden_test(built, pages, chapter):
    text = (built / f"{chapter}.html").read_text()
    shown = " ".join(" ".join(pages[built / f"{chapter}.html"].words).split())
    cells = source_notebook(chapter).cells
    exercises = [cell for cell in cells if cell.cell_type == "code"
                 and cell.metadata.get("nbgrader", {}).get("solution")]
    assert text.count("Show an answer") == len(exercises)
    assert shown.count("NotImplementedError") >= len(exercises), "every stub is shown"
    questions = [ANSWER.search(cell.source) for cell in cells if cell.cell_type == "markdown"
                 and "BEGIN SOLUTION" in cell.source]
    folds = re.findall(r"<details class='answer'>.*?</details>", text, re.DOTALL)
    assert len(folds) == len(questions)
    for fold, question in zip(folds, questions, strict=True):
        answer = " ".join(Page(fold).words)
        assert question["answer"].split()[0] in answer and " open" not in fold.split(">")[0]
    for question in questions:
        rubric = " ".join(question["rubric"].split())
        assert rubric[:40] not in shown
    for cell in cells:
        for hidden in re.findall(r"### BEGIN HIDDEN TESTS\n(.*?)### END", cell.source, re.DOTALL):
            for line in (line.strip() for line in hidden.splitlines()):
                assert len(line) < 30 or line not in shown, line


def answers_and_tests() -> list[str]:
    """Every answer, rubric and hidden test of the course, a line each, as the files have them."""
    found = []
    for path in SOLUTIONS.glob("[0-9]*.py"):
        text = path.read_text()
        hidden = re.findall(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", text, re.DOTALL)
        shown = re.sub(r"### BEGIN.*?### END", "", text, flags=re.DOTALL)
        found += [line for part in hidden
                  for line in map(str.strip, part.replace("# ", "").split("\n"))
                  if len(line) > 45 and line not in shown.replace("# ", "")]
    return found


def test_a_site_without_answers_holds_none(built, tmp_path, monkeypatch):
    stage(tmp_path, answers=False)
    pages = {path: path.read_text() for path in tmp_path.rglob("*")
             if path.suffix in (".md", ".ipynb")}
    text = "\n".join(pages.values()).replace('\\"', '"')
    secret = answers_and_tests()
    assert len(secret) > 150 and [line for line in secret if line in text] == []
    assert not (tmp_path / "instructors.md").exists() and "Rubric" not in text
    for chapter in chapters():
        assert "NotImplementedError" in pages[tmp_path / f"{chapter}.ipynb"], "stubs are shown"
    monkeypatch.setattr("grading.walkthrough.ANSWER", re.compile("(?!)"))
    with pytest.raises(CourseError, match="the site would hold an answer"):
        stage(tmp_path, answers=False)


def test_nothing_of_an_earlier_site_with_answers_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("grading.walkthrough.stage", lambda source, answers: None)
    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: SimpleNamespace(returncode=0))
    for name in ("objects.inv", "instructors.html"):
        (tmp_path / name).touch()
    site(tmp_path, answers=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "thesis.txt").touch()
    site(tmp_path, answers=False)
    assert (tmp_path / "thesis.txt").exists(), "a folder that is no site is not emptied"


def test_the_guide_has_rubrics_messages_and_times(built, pages):
    text = " ".join(pages[built / "instructors.html"].words)
    assert text.count("Rubric:") >= 15
    twice = 2 * len(chapters())  # the headings, and their entries beside
    assert text.count(": common wrong answers") == twice
    assert "the order is reversed: reward i belongs to completion i" in text
    assert text.count(": what it takes") == twice


def test_search_knows_the_glossary(built):
    assert "advantag" in (built / "searchindex.js").read_text()
    assert (built / "search.html").exists()


def test_every_chapter_has_its_sentence_and_a_picture_on_the_home_page(built, pages):
    home = pages[built / "index.html"]
    assert {f"{chapter}.html" for chapter in chapters()} <= set(home.links)
    assert {chapter for chapter, _ in SHOWN.values()} == set(chapters())
    shown = {urlsplit(address).path.rpartition("/")[2] for address in home.loaded}
    assert {f"{name}.png" for name in (*SHOWN, "samples", "loop")} <= shown


def test_the_pictures_are_those_that_the_chapters_draw_now(built):
    """Titles, curves and runs are the same; figures may differ as processors do."""
    def masked(alt):
        return re.sub(r"never fires|fires at step \d+|-?\d[\d.]*", "#", alt)

    for name, data, alt in fresh():
        with Image.open(DOCS / "_static" / f"{name}.png") as kept:
            assert kept.size == Image.open(io.BytesIO(data)).size, name
            told = kept.info["Description"]
        if name == "samples":  # which words a trained policy finds is a matter of the processor
            assert all(title.capitalize() in told for title in STRIP)
        else:
            assert masked(told) == masked(alt), name
