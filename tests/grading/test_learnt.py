"""What a student can learn of the hidden tests: pass or fail, and the author's sentence. And what
can be had by import alone: what is fair use of a library, and nothing that is an answer.
"""

import ast
import dataclasses
import math
import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from grading import ROOT, chapters, grade
from grading.gradebook import Grader
from grading.release import source_notebook
from grading.sandbox import client, isolation, withheld
from grading.sandbox.client import Proxy
from tests.grading.corpus import CHAPTER, cell, generate, released

# Ten rows is what the hidden test of ex3a asks about, and the visible check never.
SPY = '''
BITS = []
def look(ref_logps):
    if len(ref_logps) == 10 and not BITS:
        BITS.append(int(-1000 * ref_logps[0][0]) % 2)
    return bool(BITS and BITS[0])
def forward_kl_bonus(ref_logps, kl_coef):
    told = look(ref_logps)
    {then}
    return [0.0 for _ in ref_logps]
'''
LATER = "def backward_kl_penalty(ref_logps, kl_coef):\n    return [0.0 for _ in ref_logps]\n"
# How a hidden input might get out: (what the function does, a cell of its own below, ex3b's cell).
CHANNELS = {
    "the text of an error": ("raise ValueError(str(BITS))", "", LATER),
    "the kind of an error": ("raise (KeyError if told else IndexError)('x')", "", LATER),
    "not implemented": ("if told: raise NotImplementedError", "", LATER),
    "a hang": ("while told: pass", "", LATER),
    "a crash": ("if told: import os; os._exit(1)", "", LATER),
    "another type": ("if told: return print", "", LATER),
    "a large answer": ("if told: return [0.0] * 200_000", "", LATER),
    "an argument changed below": ("if told and len(ref_logps) != 10: ref_logps.clear()", "", LATER),
    "a cell that dies": ("pass", "if BITS and BITS[0]:\n    import os; os._exit(1)", LATER),
    "a dead cell's number": ("pass", "BITS and BITS[0] and __import__('os')._exit(1)", LATER),
    "a note": ("pass", "", LATER + "if BITS and BITS[0]: raise SyntaxError('x')"),
    "an error in a later cell": ("pass", "", LATER + "if BITS: raise ValueError(BITS[0])"),
    "a later function's error": ("pass", "", LATER.replace("return", "raise ValueError(BITS) #")),
    "a later stub": ("pass", "", LATER.replace("return", "raise NotImplementedError(BITS) #")),
    "a file": ("open('told', 'w').write(str(BITS))", "", LATER.replace(
        "return", "raise ValueError(open('told').read()) if BITS else KeyError #")),
}


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    course = tmp_path_factory.mktemp("course")
    generate(course, CHAPTER)
    with pytest.MonkeyPatch.context() as patch, Grader(course, CHAPTER) as opened:
        patch.setattr(client, "CELL_SECONDS", 2.0)
        patch.setattr(client, "CALL_SECONDS", 2.0)
        yield opened


def in_world(assignment: grade.Assignment, seed: int) -> grade.Assignment:
    """The same assignment with other hidden inputs in Exercise 3a."""
    test = assignment.tests["test_ex3a"]
    assert "_random.Random(11)" in test
    return dataclasses.replace(assignment, tests=assignment.tests | {
        "test_ex3a": test.replace("_random.Random(11)", f"_random.Random({seed})")})


def bit(assignment: grade.Assignment, seed: int) -> int:
    """What the spy sees in the world of a seed: the hidden test itself, run on a right answer."""
    seen = []

    def forward_kl_bonus(ref_logps, kl_coef):
        if len(ref_logps) == 10 and not seen:
            seen.append(int(-1000 * ref_logps[0][0]) % 2)
        return [kl_coef * sum(row) / len(row) for row in ref_logps]

    exec(in_world(assignment, seed).tests["test_ex3a"],
         {"forward_kl_bonus": forward_kl_bonus, "math": math})
    return seen[0]


def spying(channel: str) -> bytes:
    then, below, later = CHANNELS[channel]
    notebook = released()
    cell(notebook, "ex3a").source = SPY.format(then=then)
    cell(notebook, "ex3b").source = later
    if below:
        at = notebook.cells.index(cell(notebook, "ex3b"))
        notebook.cells[at:at] = [nbformat.v4.new_code_cell(below)] * 3
    return nbformat.writes(notebook).encode()


@pytest.mark.parametrize("channel", CHANNELS)
def test_nothing_that_is_told_depends_on_a_hidden_input(grader, channel):
    """The same submission in two worlds, whose hidden inputs differ in the bit it tells."""
    worlds = [next(s for s in range(11, 99) if bit(grader.assignment, s) == b) for b in (0, 1)]
    seen = [grade.grade(in_world(grader.assignment, seed), spying(channel)) for seed in worlds]
    assert seen[0].problem is None and not any(map(seen[0].passed, seen[0].status))
    assert dataclasses.asdict(seen[0]) == dataclasses.asdict(seen[1])


def sentences(test: str) -> set[str]:
    """The messages that the author of a test wrote to its assertions."""
    asserts = [node for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Assert)]
    return {node.msg.value for node in asserts if isinstance(node.msg, ast.Constant)}


def test_where_the_check_passes_only_the_authors_sentence_is_added(grader):
    """Right for the visible inputs, and on others what the hidden test's sentences tell apart."""
    honest, told = released(), set()
    for elsewhere in ("[v + 1 for v in right]", "right[:-1]", "[float('nan')] * 10", "None",
                      "1 / 0", "print", "ref_logps.clear() or right", "[str(ref_logps)] * 10"):
        cell(honest, "ex3a").source = (
            "def forward_kl_bonus(ref_logps, kl_coef):\n"
            "    right = [kl_coef * sum(r) / len(r) for r in ref_logps]\n"
            f"    return {elsewhere} if len(ref_logps) == 10 else right")
        outcome = grade.grade(grader.assignment, nbformat.writes(honest).encode())
        assert outcome.status["test_ex3a"] == grade.Status.WRONG and not outcome.repairs
        told.add(outcome.reasons["test_ex3a"])
    fixed = {grade.HIDDEN, "one number for each input", "every number must be finite",
             "it changes an argument, which belongs to the caller"}
    assert told <= fixed | sentences(grader.assignment.tests["test_ex3a"]) and len(told) >= 4


@pytest.mark.parametrize("filled_by", ["for _ in range(1):\n    SECOND.append(1)",
                                       "while not SECOND: SECOND.append(1)",
                                       "SECOND.append(1)", "with open('x', 'w'): SECOND.append(1)"])
def test_each_hidden_test_runs_once_and_no_guess_is_better_than_stocks(grader, monkeypatch,
                                                                       filled_by):
    """An answer that is another one once cells of the student's own ran whole."""
    notebook, ran = released(), []
    cell(notebook, "ex2").source = (
        "SECOND = []\ndef exponential_shaping(scores, temperature):\n"
        "    if SECOND and len(scores) == 9:\n"
        "        return [math.exp(s / temperature) - 1 for s in scores]\n"
        "    return [s / temperature for s in scores]")
    at = notebook.cells.index(cell(notebook, "test_ex2"))
    notebook.cells.insert(at, nbformat.v4.new_code_cell(filled_by))
    examine = grade.Session.examine
    monkeypatch.setattr(grade.Session, "examine", lambda self, source: (
        ran.append(source), examine(self, source))[1])
    outcome = grade.grade(grader.assignment, nbformat.writes(notebook).encode())
    assert sorted(ran) == sorted(grader.assignment.tests.values()), "once each"
    assert not outcome.passed("test_ex2")


# ---- by import ----

@pytest.fixture(scope="module")
def jail():
    with grade.warm("strict").fork() as sandboxed:
        sandboxed.run('''
import importlib, os, sys
def loaded(name):
    """What an import gives, with the grader's word against it taken back."""
    for known in list(sys.modules):
        if sys.modules[known] is None:
            del sys.modules[known]
    try:
        return sorted(n for n in vars(importlib.import_module(name)) if n[:2] != "__")
    except ImportError as error:
        return str(error)
def touched(path):
    """The time of a file once it was touched, or why it could not be."""
    try:
        os.utime(path)
    except OSError as error:
        return str(error)
    return os.stat(path).st_mtime_ns
def size(path): return os.path.getsize(path) if os.path.exists(path) else 0
def listed(path): return os.listdir(path) if os.path.exists(path) else []
''', whole=True)
        yield sandboxed


@pytest.mark.parametrize("name", [*withheld.MODULES, "trl.trainer.grpo_trainer",
                                  "trl.trainer.utils", "grading.grade", "solutions"])
def test_what_holds_answers_cannot_be_imported(jail, name):
    found = Proxy(jail, "loaded")(name)
    assert found == [] or "No module named" in found


def test_the_files_of_what_is_withheld_are_empty(jail):
    import trl

    assert Proxy(jail, "listed")(str(Path(trl.__file__).parent)) == []
    for path in (ROOT / "lib").rglob("*trl_*.py*"):
        assert Proxy(jail, "size")(str(path)) == 0, path


def test_no_file_tells_one_jail_what_another_has_seen(jail):
    """Withheld files were the host's own /dev/null, whose time one jail set and another read."""
    hidden = list(withheld.hidden_paths(isolation.visible_paths(), ROOT / "lib"))
    assert any(p.is_file() for p in hidden) and any(p.is_dir() for p in hidden)
    for path in [*map(str, hidden), "/dev/null", "/dev/zero", "/dev/urandom", "/dev", "/",
                 str(ROOT / "lib"), "/empty"]:
        assert "ead-only" in str(Proxy(jail, "touched")(path)), path
    before = Path("/dev/null").stat().st_mtime_ns
    jail.run("import os, time\ntime.sleep(0.1)\nopen(os.devnull, 'w').write('x')", whole=True)
    assert Path("/dev/null").stat().st_mtime_ns == before


FULL = '''
import os, socket, threading
held = []
def fill(what):
    """As many as there may be; how many these are, and why there are no more."""
    for number in range(20_000):
        try:
            held.append(FILL[what]())
        except Exception as error:
            return [number, str(error)]
    return [number, ""]
def sent():
    pair = socket.socketpair()
    socket.send_fds(pair[0], [b"x"], [0] * 100)
    return pair
def started():
    waits = threading.Event()
    threading.Thread(target=waits.wait, daemon=True).start()
    return waits
def piped():
    pipe = os.pipe()
    os.set_blocking(pipe[1], False)
    return pipe, os.write(pipe[1], bytes(1 << 20))
FILL = {"descriptors on their way": sent, "threads": started, "pipes": piped,
        "sockets": socket.socketpair, "files": lambda: open("/tmp/%d" % len(held), "w")}
'''


@pytest.mark.parametrize("what", ["descriptors on their way", "threads", "pipes", "sockets",
                                  "files"])
def test_what_one_jail_uses_up_another_has_still(what):
    """What the kernel counts for a user, and all jails are one, would tell the other a bit."""
    with grade.warm("strict").fork() as one, grade.warm("strict").fork() as other:
        for jail in (one, other):
            jail.run(FULL, whole=True)
        assert Proxy(one, "fill")(what) == Proxy(other, "fill")(what)


# Files with a function of such a name that is no answer, or fair use of a library.
LIKE_AN_ANSWER = (
    "lib/checks/sentiment.py", "lib/checks/grpo.py", "lib/checks/persona.py",  # checks are called
    "lib/checks/reasoning.py", "lib/checks/off_policy.py", "lib/checks/project.py",  # as what they
    "lib/checks/capstone.py",                                                        # check
    "lib/logprobs.py",  # of a model, without a gradient
    "babel/numbers.py",  # a number in a language's spelling
    "openfold_utils/tensor_utils.py",  # a masked mean: fair use
)


def test_what_is_left_holds_no_other_grpo():
    """Every visible library: no function of an exercise's name, none for advantages or ratios."""
    names = {name for chapter in chapters() for c in source_notebook(chapter).cells
             if c.metadata.get("nbgrader", {}).get("solution") and c.cell_type == "code"
             for name in re.findall(r"^def (\w+)", c.source, re.MULTILINE)}
    assert len(names) > 25
    common = {"entropy"}  # of a distribution: fair use
    wanted = [*(f"def {name}(" for name in names - common), "grpo_loss(", "_advantages(",
              "policy_loss("]
    paths = isolation.visible_paths()
    found = subprocess.run(
        ["grep", "-rlF", "--include=*.py", *(f"-e{text}" for text in wanted), *paths], text=True,
        capture_output=True, env={"LC_ALL": "C"}).stdout.splitlines()
    hidden = withheld.hidden_paths(paths, ROOT / "lib")
    assert any("trl" in Path(path).parts for path in found), "the pattern finds TRL's"
    left = {path for path in found if not any(Path(path).is_relative_to(h) for h in hidden)}
    assert {path for path in left if not path.endswith(LIKE_AN_ANSWER)} == set()


# A chapter and its exercises' answers by import alone, and whether these are paid: fair use of a
# library, which holds them as what every user of it knows.
BY_IMPORT = [
    ("01_sentiment", {
        "ex4b": ("def categorical_kl(p, q):\n    return torch.distributions.kl_divergence("
                 "torch.distributions.Categorical(p), torch.distributions.Categorical(q))", True),
        "ex4a": ("from lib.trl_loss import trl_loss as kl_estimates", False)}),
    ("02_grpo", {
        "ex2a": ("def token_logprobs(logits, ids):\n"
                 "    return torch.distributions.Categorical(logits=logits).log_prob(ids)", True),
        "ex2b": ("def entropy(logits):\n"
                 "    return torch.distributions.Categorical(logits=logits).entropy()", True),
        "ex3": ("from transformers.models.esm.openfold_utils import tensor_utils\n"
                "def masked_mean(values, mask, dim=None):\n"
                "    return tensor_utils.masked_mean(mask, values, dim, 1e-9)", True),
        "ex4": ("def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):\n"
                "    return torch.stack([-checks.trl_loss(logps, old_logps, None, advantages, one)"
                " for one in torch.eye(6).view(6, 2, 3)]).view(2, 3)", False),
        "ex5": ("from lib.trl_overrides import kl as kl_k3", False),
        "ex6": ("from lib.trl_loss import trl_loss\ngrpo_loss = trl_loss", False),
        "ex7": ("import lib.checks.grpo\ngrpo_step = lib.checks.grpo.trl_loss", False)}),
    ("02_grpo", {
        "ex2a": ("from types import SimpleNamespace\nfrom lib import logprobs\n"
                 "def token_logprobs(logits, ids):\n"
                 "    more = torch.cat([ids[:, :1], ids], 1)\n"
                 "    return logprobs.token_logprobs(lambda **k: SimpleNamespace(logits=torch.cat("
                 "[logits, logits[:, :1]], 1)), more, torch.ones_like(more))", False)}),
    ("03_persona", {
        "ex1": ("from lib.tasks.persona import judged as persona_reward", False),
        "ex2": ("from lib.intervals import text_metrics as validation_metrics", False),
        "ex3": ("import torch\ndef signal_probability(p, num_generations):\n"
                "    p = torch.tensor(float(p)).double()\n"
                "    hits = torch.distributions.Binomial(num_generations, p)\n"
                "    ends = torch.tensor([0, num_generations]).double()\n"
                "    return 1 - float(hits.log_prob(ends).exp().sum())", False),  # 2e-9 off
        "ex5": ("from lib.tasks.persona import judged as robust_persona_reward", False)}),
    ("05_off_policy", {
        "ex1": ("from lib.off_policy import surrogate as sequence_ratio", False),
        "ex2": ("from trl.trainer.utils import clip_ratio as clip_fraction", False),
        "ex3": ("from lib.off_policy import mismatch as truncated_weights", False),
        "ex4": ("from lib.rewards import reward_variance as select_alive", False),
        "ex5": ("def keep_best(rewards, num_generations, k):\n"
                "    return rewards.view(-1, num_generations).topk(k).indices.flatten()", False),
        "ex6": ("from trl.trainer.dpo_trainer import DPOTrainer\ndpo_loss = DPOTrainer.dpo_loss",
                False)}),
    ("06_project", {
        "ex1": ("from trl import GRPOConfig\ndef grpo_settings(output_dir, seed, processes=1):\n"
                "    return GRPOConfig(output_dir, seed=seed).to_dict()", False),
        "ex2": ("from lib.tasks.base import prompts_per_step as batch_plan", False),
        "ex3": ("from transformers import optimization\ndef lr_at(step, peak, warmup, total):\n"
                "    warmup = math.ceil(warmup * total) if warmup < 1 else warmup\n"
                "    return peak * optimization._get_cosine_schedule_with_warmup_lr_lambda(step, "
                "num_warmup_steps=warmup, num_training_steps=total, num_cycles=0.5)", True),
        "ex4": ("from transformers.trainer_utils import get_last_checkpoint\nimport pathlib\n"
                "def newest_complete(listing, processes=1):\n"
                "    for name in listing: pathlib.Path('all', name).mkdir(0o777, True, True)\n"
                "    return get_last_checkpoint('all') if listing else None", False),
        "ex6": ("from lib.memory import estimate as memory_estimate", False),
        "ex7": ("from grading.capstone import gold as project_reward", False)}),
    ("04_reasoning", {
        "ex1c": ("from babel import numbers\ndef parse_number(text):\n"
                 "    try: return float(numbers.parse_decimal(text, locale='en'))\n"
                 "    except ValueError: return None", False),
        "ex1b": ("def extract_hash_answer(text):\n"
                 "    from trl.rewards import accuracy_reward\n    return text", False)}),
]


@pytest.mark.parametrize("chapter, answers", BY_IMPORT)
def test_what_imports_alone_are_paid(tmp_path, chapter, answers):
    generate(tmp_path, chapter)
    notebook = nbformat.read(tmp_path / "release" / chapter / f"{chapter}.ipynb", as_version=4)
    for exercise, (source, _) in answers.items():
        cell(notebook, exercise).source = source
    with Grader(tmp_path, chapter) as opened:
        outcome = grade.grade(opened.assignment, nbformat.writes(notebook).encode())
    paid = {test.removeprefix("test_") for test in outcome.status if outcome.passed(test)}
    assert paid == {e for e, (_, fair) in answers.items() if fair}, outcome.reasons
