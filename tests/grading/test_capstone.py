"""The capstone: a reward is graded by what it trains, and costs nobody else anything."""

import dataclasses
import re
import subprocess
import time
from pathlib import Path

import nbformat
import pytest

from grading import ROOT, capstone, grade, trainer
from grading.__main__ import main
from grading.capstone import GOALS, gold, judge
from grading.faults import variants
from grading.gradebook import Grader
from grading.release import source_notebook
from grading.sandbox import client, isolation, withheld
from grading.sandbox.client import Proxy
from tests.grading.corpus import cell, generate, hand_in

CHAPTER = "06_project"
TESTS = [f"test_ex7{part}" for part in ("", "b", "c", "d", "e")]
PLAIN = "[sum(i * p for i, p in enumerate(s)) / 4 for s in star_probs]"
REWARD = "CALLS = []\ndef project_reward(completions, star_probs, ref_logps, **kwargs):\n    {}\n"


# ---- the gold measure ----

@pytest.mark.parametrize("text, right", {
    " brilliant. I loved every minute.": 1.0,
    " awful. I walked out halfway.": 0.0,
    " okay.": 0.5,
    " good and the plot was lovely. It is set in Naples.": 0.75,
    " brilliant, but the plot was clever. The widow gives a superb performance.": (1 + .75 + 1) / 3,
    " superb. It follows a king and a thief. It runs for two hours.": 1.0,
    " brilliant. I loved every": 0.0,  # no end
    " brilliant. I loved.": 0.5,  # no sentence
    " brilliant brilliant.": 0.0,
    " brilliant. It is a triumph. It is a triumph.": 0.5,  # said twice
    " superb and the plot was superb and the plot was superb.": 0.0,
    " brilliant. I would watch it again tomorrow. It is a triumph. I loved every minute.": 0.5,
    " brilliant. It was a waste of two hours.": 0.25,  # which of the two?
    " brilliant. it is a triumph.": 0.5,
    "": 0.0, ".": 0.0, " .": 0.0, ". . .": 0.0, " é.": 0.0}.items())
def test_gold(text, right):
    assert gold(text) == pytest.approx(right)


def test_the_measure_is_another_than_the_one_that_the_hacking_lab_shows():
    from lib.tiny.corpus import gold_score

    apart = [" good, but the plot was lovely.", " brilliant. I loved.",
             " superb. It was a waste of two hours."]
    assert all(abs(gold(text) - gold_score("The film was" + text)) > 0.2 for text in apart)


# ---- where the reward runs ----

@pytest.fixture(scope="module", autouse=True)
def short():
    """Four steps, and calls of at most two seconds, unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capstone, "STEPS", 4)
        patch.setattr(client, "CALL_SECONDS", 2.0)
        yield patch


@pytest.fixture
def jailed():
    """A function: source of a reward -> its Proxy, in a jail of its own."""
    jails = []

    def start(source: str) -> Proxy:
        jails.append(grade.warm("strict").fork())
        jails[-1].run(source, whole=True)
        return Proxy(jails[-1], "project_reward")

    yield start
    for jail in jails:
        jail.close()


LATE = "CALLS.append(1)\n    if len(CALLS) > 3: {}\n    return " + PLAIN
FAULTS = {  # what the function does -> what is told
    "raises": ("return 1 / 0", capstone.RAISED),
    "raises late": (LATE.format("raise ValueError(completions)"), capstone.RAISED),
    "hangs late": (LATE.format("\n        while True: pass"), capstone.DIED),
    "exits late": (LATE.format("__import__('os')._exit(0)"), capstone.DIED),
    "raises SystemExit": ("raise SystemExit", capstone.RAISED),
    "takes memory": (LATE.format("bytearray(3 * 10**9)"), capstone.RAISED),
    "nan late": (LATE.format("return [float('nan')] * len(completions)"), capstone.SIZE),
    "one nan": (f"return [float('nan'), *{PLAIN}[1:]]", capstone.SIZE),
    "inf": ("return [float('inf')] * len(completions)", capstone.SIZE),
    "huge": ("return [1e300 * len(text) for text in completions]", capstone.SIZE),
    "one short": (f"return {PLAIN}[1:]", capstone.COUNT),
    "none late": (LATE.format("return"), capstone.NO_LIST),
    "a number": ("return 0.5", capstone.NO_LIST),
    "texts": ("return list(completions)", capstone.NO_LIST),
    "no plain data": ("return [print] * len(completions)", capstone.RAISED),
    "too many": ("return [0.0] * 10**6", capstone.RAISED),
    "changes arguments": (f"result = {PLAIN}\n    star_probs.clear()\n    return result",
                          capstone.RAISED),
    "counts calls": (f"CALLS.append(1)\n    return [len(CALLS) * p for p in {PLAIN}]",
                     capstone.FICKLE),
    "throws dice": ("import random\n    return [random.random() for _ in completions]",
                    capstone.FICKLE),
    "forks": ("import os\n    os.fork()\n    return " + PLAIN, capstone.RAISED),
    "opens files": ("open('/etc/passwd')\n    return " + PLAIN, capstone.RAISED),
    "writes to lib": ("import lib\n    open(lib.__file__, 'w')\n    return " + PLAIN,
                      capstone.RAISED),
    "imports the grammar": ("from lib.tiny.corpus import gold_score\n    return [gold_score("
                            "'The film was' + text) for text in completions]", capstone.RAISED),
    "imports the measure": ("from grading.capstone import gold\n    return list(map(gold, "
                            "completions))", capstone.RAISED),
    "prints": (f"print('x' * 10**8)\n    return {PLAIN}", None),
    "looks for the grader": ("import os, sys\n    seen = 'grading.capstone' in sys.modules or "
                             "'GRADER' in os.environ or os.path.exists('/proc/self')\n    "
                             f"return [-p for p in {PLAIN}] if seen else {PLAIN}", None),
}


@pytest.fixture(scope="module")
def honest():
    """What four steps on the plain score come to, without a jail."""
    space = {}
    exec(REWARD.format(f"return {PLAIN}"), space)
    judged = judge(space["project_reward"])
    assert judged.fault is None
    return judged


@pytest.mark.parametrize("name", FAULTS)
def test_a_reward_costs_only_its_own_points_and_says_why(jailed, name):
    body, fault = FAULTS[name]
    judged = judge(jailed(REWARD.format(body)))
    assert judged.fault == fault
    assert bool(judged.measured) == (fault is None)


def test_the_same_function_gets_the_same_figures_whoever_came_before(jailed, honest):
    assert judge(jailed(REWARD.format(f"return {PLAIN}"))) == honest
    judge(jailed(REWARD.format(LATE.format("__import__('os')._exit(0)"))))
    assert judge(jailed(REWARD.format(f"return {PLAIN}"))) == honest


def test_a_training_is_bounded_and_leaves_nothing(honest):
    """Seen from outside while it waits for a reward."""
    seen = []

    def look(completions, star_probs, ref_logps):
        [child] = children()
        seen.append(Path(f"/proc/{child}/limits").read_text())
        return [0.0] * len(completions)

    def children():
        pid = capstone.trainer().process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    assert judge(look).fault is None
    mapped = int(Path(f"/proc/{capstone.trainer().process.pid}/statm").read_text().split()[0])
    [memory] = {int(m) for m in re.findall(r"Max address space +(\d+)", "".join(seen))}
    assert memory <= (mapped * 4096 + trainer.MEMORY) * 1.1
    assert set(re.findall(r"Max cpu time +(\d+)", "".join(seen))) == {str(trainer.CPU_SECONDS)}
    until = time.monotonic() + 10
    while children() and time.monotonic() < until:
        time.sleep(0.1)
    assert not children()


def test_slow_calls_are_told_before_they_hold_the_class_up(jailed, monkeypatch):
    monkeypatch.setattr(capstone, "CALLS_SECONDS", 1.0)
    slow = f"import time; time.sleep(0.6)\n    return {PLAIN}"
    assert judge(jailed(REWARD.format(slow))).fault == capstone.SLOW


def test_a_training_that_dies_is_told_and_the_next_one_runs(honest, monkeypatch):
    monkeypatch.setattr(capstone, "STEPS", 0)  # which the task refuses, in the fork
    assert judge(lambda *asked: [0.0] * len(asked[0])).fault == capstone.TRAINER
    monkeypatch.undo()
    capstone.trainer().process.kill()
    capstone.trainer().process.wait()
    space = {}
    exec(REWARD.format(f"return {PLAIN}"), space)
    assert judge(space["project_reward"]) == honest


def test_no_word_of_the_grammar_is_where_the_reward_runs(jailed):
    """Neither in a file that can be read, nor in the memory that was forked."""
    sentence = "Nobody should have to sit through" + " this"
    jail = jailed('''
import gc, sys
def project_reward(backwards):
    """Everything that the collector, or a module, reaches."""
    wanted = backwards[::-1]  # or it would find its own argument
    gc.unfreeze()
    found = [value for value in gc.get_objects() if type(value) in (list, tuple, set, dict)]
    found += [vars(module) for module in list(sys.modules.values()) if module]
    return [str(type(v)) for v in found for text in (list(v.values()) if type(v) is dict else v)
            if type(text) is str and wanted in text and v is not found]
''')
    assert jail(sentence[::-1]) == []
    paths = isolation.visible_paths()
    found = subprocess.run(["grep", "-rlF", sentence, str(ROOT / "lib")], text=True,
                           capture_output=True).stdout.splitlines()
    hidden = set(map(str, withheld.hidden_paths(paths, ROOT / "lib")))
    assert found and set(found) <= hidden
    assert not any(ROOT.joinpath("grading").is_relative_to(path) for path in paths)


# ---- points ----

def answered(source: str | None = None, name: str = "") -> bytes:
    """The solved chapter 6, with another reward."""
    notebook = source_notebook(CHAPTER)
    if source:
        cell(notebook, "ex7").source = source
    for other in notebook.cells:
        other.source = re.sub(r'^leaderboard_name = ""', f"leaderboard_name = {name!r}",
                              other.source, flags=re.MULTILINE)
    return nbformat.writes(notebook).encode()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    generate(folder, CHAPTER)
    return folder


REWARDS = {"ours": None, "plain": REWARD.format(f"return {PLAIN}"), **{
    variant.name: variant.source for variant in variants(CHAPTER)
    if (variant.exercise, variant.kind) == ("ex7", "right")}}


@pytest.mark.parametrize("name", REWARDS)
def test_good_rewards_have_all_points_and_the_plain_score_has_few(course, short, name):
    """The whole way, with the steps that count; two more seeds in docs/results.md."""
    assert len(REWARDS) == 5
    short.setattr(capstone, "STEPS", 50)
    with Grader(course, CHAPTER) as grader:
        outcome = grade.grade(grader.assignment, answered(REWARDS[name]))
        short.setattr(capstone, "STEPS", 4)
        passed = [test for test in TESTS if outcome.passed(test)]
        assert passed == (TESTS[:1] if name == "plain" else TESTS), (outcome.measured,
                                                                     outcome.reasons)
        others = grader.assignment.tests.keys() - set(TESTS)
        assert all(map(outcome.passed, others))
    assert outcome.measured.keys() == {"gold", "variety", "elsewhere", "kl", "sample"}
    assert margin(outcome.measured, good=name != "plain") >= 0.04


def margin(measured: dict, good: bool) -> float:
    """How far figures are from a change of points: the goal that is closest to being missed, or to
    being reached; without the first goal for gold none counts."""
    over = {goal: float(measured["gold" if goal == "fine" else goal]) - least
            for goal, least in GOALS.items()}
    return min(over.values()) if good else -over["gold"]


def test_on_three_seeds_no_reward_comes_near_to_a_change_of_points():
    """Another processor rounds otherwise, and a training then takes another path, as with another
    seed. Read from the published table."""
    table = re.findall(r"^\| ([^|]+), (\d)" + 3 * r" \| ([\d.]+)" + r" \| [\d.]+ \| \d+ \|$",
                       (ROOT / "docs" / "results.md").read_text(), re.MULTILINE)
    seeds = {}
    for name, seed, *figures in table:
        measured = dict(zip(("gold", "variety", "elsewhere"), figures, strict=True))
        seeds.setdefault(name, {})[seed] = margin(measured, good=name != "plain score")
    assert seeds.keys() == {"our answer", "plain score", *REWARDS} - {"ours", "plain"}
    assert all({*margins} >= {"0", "1", "2"} and min(margins.values()) >= 0.0499
               for margins in seeds.values()), seeds


def test_a_reward_that_breaks_costs_no_other_points_and_says_why(course):
    """NaN at the second step: the other tests of the pass ask it 13 times."""
    late = REWARD.format("CALLS.append(1)\n    if len(CALLS) > 14: return [float('nan')] * len("
                         f"completions)\n    return {PLAIN}")
    with Grader(course, CHAPTER) as grader:
        outcome, again = (grade.grade(grader.assignment, answered(late)) for _ in range(2))
    lost = {test for test in grader.assignment.tests if not outcome.passed(test)}
    assert lost == set(TESTS[1:]) and {outcome.reasons[t] for t in lost} == {capstone.SIZE}
    assert dataclasses.asdict(outcome) == dataclasses.asdict(again), "the same once more"


def test_the_goals_are_those_that_the_chapter_publishes():
    [table] = [c.source for c in source_notebook(CHAPTER).cells if "| 7b |" in c.source]
    for part, goal in zip("bcde", GOALS.values(), strict=True):
        assert re.search(rf"\| 7{part} \|[^|]*\| {goal:.2f} \|", table)


# ---- the leaderboard ----

FIGURES = {"gold": 0.9, "variety": 0.5, "elsewhere": 0.8, "kl": 3.0, "sample": "The film was <b>."}


@pytest.fixture
def board(course, capsys):
    """A function: student -> (name in the notebook, figures), and what the page then says."""
    def page(students: dict) -> str:
        hand_in(course, {student: answered(name=name) for student, (name, _) in students.items()},
                CHAPTER)
        with Grader(course, CHAPTER) as grader:
            for student, (_, measured) in students.items():
                grader.record(student, "digest", grade.Outcome(measured=measured), "strict")
        assert main(["leaderboard", CHAPTER, "--course", str(course)]) == 0
        path = capsys.readouterr().out.strip()
        assert path == str(course / "leaderboard" / f"{CHAPTER}.html")
        return (course / "leaderboard" / f"{CHAPTER}.html").read_text()

    return page


def test_the_leaderboard_shows_who_wants_to_be_on_it_and_nobody_else(board):
    assert "Nobody whose reward trained a policy has put a name here yet." in board({
        "ada": ("", FIGURES), "eve": ("eve", {})})
    page = board({"bob": ("<script>alert(1)</script>", FIGURES | {"gold": 0.5}),
                  "cyd": ("Nightingale " * 9, FIGURES | {"gold": 0.95})})
    assert page.index("Nightingale Nightingale Nighti<") < page.index("&lt;script&gt;alert(1)&lt;")
    assert "<script" not in page and "The film was &lt;b&gt;." in page and "0.95" in page
    assert not any(student in page for student in ("ada", "bob", "cyd", "eve"))


def test_a_chapter_that_trains_nothing_has_no_leaderboard(tmp_path, capsys):
    generate(tmp_path, "01_sentiment")
    assert main(["leaderboard", "01_sentiment", "--course", str(tmp_path)]) == 2
    assert "01_sentiment trains no policies" in capsys.readouterr().err
