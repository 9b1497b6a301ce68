"""Real people's hands: JupyterLab and formgrader in a headless Chromium.

Pictures of what was seen go to ``build/screens/``; look at them.
"""

import json
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from grading import NOTEBOOKS, ROOT, chapters
from grading.autograde import autograde
from grading.release import source_notebook
from grading.walkthrough import executed
from lib.files import read_json
from lib.runs import FINAL, HISTORY
from tests.grading.corpus import CHAPTER, as_bytes, generate, hand_in, solved, wrong
from tests.servers import serving

SCREENS = ROOT / "build" / "screens"
needs_browser = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="no chromium and chromedriver here")
pytestmark = needs_browser


@pytest.fixture(scope="module")
def chrome():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                 "--window-size=1300,1000", "--force-device-scale-factor=1"):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@contextmanager
def jupyter(root: Path, *options: str):
    """A JupyterLab server on root; its address."""
    for name, value in {  # every cell in the page, also those scrolled away; no news
            "notebook-extension/tracker": {"windowingMode": "none"},
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
            }.items():
        path = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(value))
    with serving("jupyterlab", root, root / "server.log",
                 f"--LabApp.user_settings_dir={root / 'settings'}", *options,
                 PYTHONPATH=str(ROOT), JUPYTER_CONFIG_DIR=str(root / "config")) as address:
        yield address


class Lab:
    """One notebook in JupyterLab, and what a person does with it."""

    def __init__(self, chrome, address: str, notebook: str):
        self.chrome = chrome
        # A workspace of its own: the usual one would open what was open before as well.
        name = notebook.removesuffix(".ipynb")
        chrome.get(f"{address}/lab/workspaces/{name}/tree/{notebook}")
        self.wait(lambda: len(self.cells()) > 5)
        self.wait(lambda: "Idle" in self.kernel())

    def wait(self, condition, seconds: float = 120):
        try:
            return WebDriverWait(self.chrome, seconds, 0.2, ignored_exceptions=(Exception,)).until(
                lambda _: condition())
        except TimeoutException:
            self.screen("gave_up")
            raise

    def kernel(self) -> str:
        return self.chrome.find_element(
            By.CSS_SELECTOR, ".jp-Notebook-ExecutionIndicator").get_attribute("data-status").title()

    def cells(self):
        return self.chrome.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-Cell")

    def cell(self, text: str):
        """The first code cell whose source is shown and holds text."""
        return next(cell for cell in self.cells() if "jp-CodeCell" in cell.get_attribute("class")
                    and any(text in area.text for area in cell.find_elements(
                        By.CSS_SELECTOR, ".jp-InputArea")))

    def output(self, text: str) -> str:
        return "\n".join(area.text for area in self.cell(text).find_elements(
            By.CSS_SELECTOR, ".jp-OutputArea"))

    def choose(self, cell) -> None:
        self.chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
        cell.find_element(By.CSS_SELECTOR, ".cm-content").click()

    def run(self, text: str) -> None:
        """Shift-Enter; once more where nothing comes of it. JupyterLab calls a kernel idle that it
        is still connecting to, and forgets what was asked meanwhile."""
        before = self.prompt(text)

        def pressed() -> bool:
            self.choose(self.cell(text))
            self.keys(Keys.SHIFT + Keys.ENTER)
            return WebDriverWait(self.chrome, 10, 0.1, ignored_exceptions=(Exception,)).until(
                lambda _: self.prompt(text) != before)

        self.wait(pressed)

    def prompt(self, text: str) -> str:
        """What stands before a cell: a number, * while it runs, nothing where it never ran."""
        return self.cell(text).find_element(By.CSS_SELECTOR, ".jp-InputPrompt").text

    def paste(self, text: str, source: str) -> None:
        """Replace the source of a cell."""
        self.choose(self.cell(text))
        self.keys(Keys.CONTROL + "a")
        self.chrome.execute_cdp_cmd("Input.insertText", {"text": source})

    def keys(self, *keys: str) -> None:
        self.chrome.switch_to.active_element.send_keys(*keys)

    def run_all(self) -> None:
        """Run > Run All Cells."""
        menu = next(e for e in self.chrome.find_elements(By.CSS_SELECTOR, ".lm-MenuBar-item")
                    if e.text == "Run")
        menu.click()
        [item, *_] = self.wait(lambda: [e for e in self.chrome.find_elements(
            By.CSS_SELECTOR, ".lm-Menu-itemLabel") if e.text.startswith("Run All Cells")])
        item.click()

    def screen(self, name: str, cell=None) -> None:
        if cell is not None:
            self.chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
            time.sleep(0.5)
        SCREENS.mkdir(parents=True, exist_ok=True)
        self.chrome.save_screenshot(str(SCREENS / f"{name}.png"))


def answer(exercise: str) -> str:
    """The source of an answer, as a student would paste it."""
    lines = next(c for c in source_notebook(CHAPTER).cells if c.id == exercise).source.splitlines()
    return "\n".join(line for line in lines if "### " not in line)


def test_a_student_solves_moves_and_stops(chrome, tmp_path):
    shutil.copy(NOTEBOOKS / f"{CHAPTER}.ipynb", tmp_path)
    with jupyter(tmp_path) as address:
        lab = Lab(chrome, address, f"{CHAPTER}.ipynb")
        lab.run_all()
        lab.wait(lambda: "Exercise 1: write sentiment_reward" in lab.output(
            "checks.sentiment_reward"))
        lab.screen("1_unsolved", lab.cell("checks.sentiment_reward"))
        assert "Traceback" not in lab.output("checks.sentiment_reward")

        lab.paste("def sentiment_reward", answer("ex1"))
        lab.keys(Keys.SHIFT + Keys.ENTER)
        lab.run("checks.sentiment_reward")
        lab.wait(lambda: "the visible check passes" in lab.output("checks.sentiment_reward"))
        lab.screen("2_check_passes", lab.cell("checks.sentiment_reward"))

        lab.paste("def exponential_shaping", answer("ex2"))
        lab.keys(Keys.SHIFT + Keys.ENTER)
        lab.run("widgets.shaping_slider")
        slider = lab.wait(lambda: lab.cell("widgets.shaping_slider").find_element(
            By.CSS_SELECTOR, ".noUi-handle"))
        lab.wait(lambda: "T = 0.25" in lab.output("widgets.shaping_slider"))
        slider.send_keys(Keys.ARROW_RIGHT)
        lab.wait(lambda: "T = 0.5" in lab.output("widgets.shaping_slider"), 30)
        lab.screen("3_slider_moved", lab.cell("widgets.shaping_slider"))

        lab.run('RUNS["no KL"] = experiment(')
        button = lab.wait(lambda: lab.cell('RUNS["no KL"] = experiment(').find_element(
            By.CSS_SELECTOR, "button.jupyter-button"))
        history = tmp_path / "runs" / "no_kl" / HISTORY
        lab.wait(lambda: len(read_json(history)) >= 6)
        lab.screen("4_training", lab.cell('RUNS["no KL"] = experiment('))
        button.click()
        lab.wait(lambda: "stopped after" in lab.output('RUNS["no KL"] = experiment('), 60)
        lab.wait(lambda: (history.parent / FINAL).exists())
        assert 6 <= len(read_json(history)) < 40
        lab.run('widgets.sample_browser(RUNS["no KL"])')
        lab.wait(lambda: lab.cell('widgets.sample_browser(RUNS["no KL"])').find_element(
            By.CSS_SELECTOR, "table"))
        lab.screen("5_samples", lab.cell('widgets.sample_browser(RUNS["no KL"])'))


def test_a_prediction_is_answered_at_once_by_mouse_and_by_keys(chrome, tmp_path):
    cell = nbformat.v4.new_code_cell(
        "from lib.predict import predict\n"
        "predict('Where does a reward of 10 r + 3 lead, compared with r?', {\n"
        "    'to larger steps': 'The spread is divided out.',\n"
        "    'nowhere else': 'Mean and spread are taken out.'}, 'nowhere else')")
    text = [nbformat.v4.new_markdown_cell("text") for _ in range(6)]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell, *text], metadata={
        "kernelspec": {"name": "python3", "display_name": "Python 3"}}), tmp_path / "ask.ipynb")
    with jupyter(tmp_path) as address:
        lab = Lab(chrome, address, "ask.ipynb")
        lab.run("predict(")
        larger, nowhere = lab.wait(lambda: lab.cell("predict(").find_elements(
            By.CSS_SELECTOR, "input[type=radio]"))
        assert not (larger.is_selected() or nowhere.is_selected())
        assert "Right" not in lab.output("predict("), "no reason before a choice"
        lab.screen("7_asked", lab.cell("predict("))
        larger.click()
        lab.wait(lambda: "Not quite. The spread is divided out." in lab.output("predict("), 5)
        larger.send_keys(Keys.TAB)  # JupyterLab keeps the arrows for its cells
        assert chrome.switch_to.active_element == nowhere
        lab.keys(Keys.SPACE)
        lab.wait(lambda: "Right. Mean and spread are taken out." in lab.output("predict("), 5)
        assert nowhere.is_selected() and "Not quite" not in lab.output("predict(")
        lab.screen("7_prediction", lab.cell("predict("))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """One server for all solved chapters: its folder and its address."""
    folder = tmp_path_factory.mktemp("library")
    with jupyter(folder) as address:
        yield folder, address


# Executed here: 6 and 4, while test_chapters executes 1, 3, 5 and 2 in another process.
@pytest.mark.parametrize("chapter", chapters()[3::2][::-1] + chapters()[::2] + chapters()[1:2])
def test_a_solved_chapter_looks_right(chrome, library, chapter):
    """Opened as it was saved: pictures and sliders are there, and no debris of any kind."""
    folder, address = library
    nbformat.write(executed(chapter), folder / f"{chapter}.ipynb")
    lab = Lab(chrome, address, f"{chapter}.ipynb")
    cells = lab.wait(lambda: [  # JupyterLab puts cells in place one after the other
        cell for cell in lab.cells() if cell.find_elements(By.CSS_SELECTOR, "img")][1:])
    for i, cell in enumerate((lab.cells()[3], cells[(len(cells) - 1) // 2], cells[-1])):
        lab.screen(f"{chapter}_{i}", cell)
    shown = "\n".join(area.text for area in chrome.find_elements(
        By.CSS_SELECTOR, ".jp-OutputArea"))
    for debris in ("<Figure", "Warning", "Traceback", "interactive(", "Error displaying",
                   "it/s]", "step/s]", "token/s]"):
        assert debris not in shown, debris
    for picture in chrome.find_elements(By.CSS_SELECTOR, ".jp-OutputArea img"):
        assert picture.get_attribute("alt"), picture.get_attribute("outerHTML")[:200]
        room = picture.find_element(
            By.XPATH, "ancestor::*[contains(@class, 'jp-OutputArea-child')][1]").size["width"]
        assert picture.size["width"] <= room + 1, "a picture is clipped"


def test_chapter_6s_bare_script_trains(chrome, tmp_path):
    """The solved chapter up to the curves of its first run."""
    notebook = source_notebook("06_project")
    last = next(i for i, cell in enumerate(notebook.cells) if "logs = [row for" in cell.source)
    notebook.cells = notebook.cells[:last + 1]
    nbformat.write(notebook, tmp_path / "06_project.ipynb")
    with jupyter(tmp_path) as address:
        lab = Lab(chrome, address, "06_project.ipynb")
        lab.run_all()
        run = 'TRAINED["full"] = bare_script('
        lab.wait(lambda: "step 24: stars" in lab.output(run), 300)
        assert "Traceback" not in lab.output(run)
        lab.wait(lambda: lab.cell("logs = [row for").find_element(By.CSS_SELECTOR, "img"))
        lab.screen("7_bare_script", lab.cell(run))
        lab.screen("8_its_logs", lab.cell("logs = [row for"))
    assert (tmp_path / "runs" / "bare" / "final" / "model.safetensors").is_file()


def test_formgrader_opens_and_shows_the_grades(chrome, tmp_path):
    generate(tmp_path, CHAPTER)
    hand_in(tmp_path, {"ada": as_bytes(solved()), "bob": as_bytes(wrong())})
    autograde(tmp_path, CHAPTER, workers=1)
    extension = "{'nbgrader.server_extensions.formgrader': True}"
    with jupyter(tmp_path, f"--ServerApp.jpserver_extensions={extension}") as address:
        chrome.get(f"{address}/formgrader/gradebook/{CHAPTER}/{CHAPTER}")
        rows = WebDriverWait(chrome, 60).until(lambda d: [
            row.text for row in d.find_elements(By.CSS_SELECTOR, "tbody tr")
            if "/ 80" in row.text])
        SCREENS.mkdir(parents=True, exist_ok=True)
        chrome.save_screenshot(str(SCREENS / "6_formgrader.png"))
        assert sorted(re.search(r"(\d+) / 80", row)[1] for row in rows) == ["0", "60"], rows
