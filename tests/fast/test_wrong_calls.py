"""Wrong calls of both command lines: one line each, exit code 2, nothing written.

And terminals: what reads or shows our output may close, be narrow, or know few characters.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from grading.__main__ import main as grading
from lib import runs
from lib.__main__ import main
from lib.tasks.sentiment import SentimentTask
from lib.tiny import WEIGHTS

ROOT = Path(__file__).parents[2]
ANSWERS = ["--answers", "answers.py"]
TRAIN = ["train", "sentiment", *ANSWERS, "--max-steps", "1", "--max-completion-length", "3"]
WRONG = [
    ["train"], ["train", "sentiment", "persona"], ["train", "--max-steps", "3"], ["train", ""],
    ["train", "mine.py"], ["train", "folder"], ["train", "broken.py"], ["train", "empty.py"],
    [*TRAIN, "--model", ""], [*TRAIN, "--model", "folder"], [*TRAIN, "--model", "./folder"],
    [*TRAIN, "--model", "prompts.txt"], [*TRAIN, "--model", "."], [*TRAIN, "--model", "a/b/c"],
    [*TRAIN, "--model", "./model/config.json"], [*TRAIN, "--model", "~nobody/x"],
    [*TRAIN, "--model", "pickle"], [*TRAIN, "--model", "no weights"], [*TRAIN, "--model", "-1"],
    [*TRAIN, "--scorer", "folder"], [*TRAIN, "--scorer", "prompts.txt"],
    [*TRAIN, "--prompts", "folder"], [*TRAIN, "--prompts", "latin.txt"],
    [*TRAIN, "--prompts", "zip.zip"], [*TRAIN, "--seed", "1.5"], [*TRAIN, "--seed", "4294967296"],
    [*TRAIN, "--max-steps", "1e3"], [*TRAIN, "--beta", "inf"], [*TRAIN, "--beta", "nan"],
    [*TRAIN, "--temperature", "-0"], [*TRAIN, "--learning-rate", ""],
    [*TRAIN, "--batch-size", "0"], [*TRAIN, "--save-steps", "-5"], [*TRAIN, "--use-peft", "yes"],
    [*TRAIN, "--max-completion-length", "999999999999"], [*TRAIN, "--output-dir", "answers.py"],
    [*TRAIN, "--output-dir", "answers.py/run"], [*TRAIN, "--output-dir", "folder"],
    [*TRAIN, "--resume-from-checkpoint", "folder"], [*TRAIN, "--resume-from-checkpoint", ""],
    ["train", "sentiment", "--answers", "folder"], ["train", "sentiment", "--answers", "zip.zip"],
    ["train", "sentiment", "--answers", "latin.txt"],
    ["train", "persona", "--num-samples", "99999999", *ANSWERS],
    ["train", "persona", "--fewshot-ratio", "1.5", *ANSWERS],
    ["train", "persona", "--fewshot-ratio", ".5", "--no-fewshot", *ANSWERS],
    ["train", "reasoning", "--reward-weights", "1,2", *ANSWERS],
    ["train", "reasoning", "--reward-weights", "a,b,c,d,e", *ANSWERS],
    ["train", "reasoning", "--reward-weights", "", *ANSWERS],
    ["train", "reasoning", "--data", "folder", *ANSWERS],
    ["train", "reasoning", "--data", "clock.jsonl", *ANSWERS],
    ["train", "reasoning", "--data", "list.jsonl", *ANSWERS],
    ["train", "reasoning", "--data", "zip.zip", *ANSWERS],
    ["search", "sentiment"], ["search", "reasoning", "--trials", "x"],
    ["evaluate", "sentiment"], ["evaluate", "sentiment", "spoilt"],
    ["evaluate", "persona", "list"], ["evaluate", "sentiment", "tiny", "--num-prompts", "-1"],
    ["evaluate", "sentiment", "tiny", "--save-plot", "a"],
    ["evaluate", "reasoning", str(WEIGHTS / "review-policy")],
    ["compare", "sentiment", "tiny"], ["compare", "sentiment", "tiny", "spoilt"],
    ["plot"], ["plot", "answers.py"], ["plot", "spoilt"], ["analyze", "spoilt"],
    ["analyze", "list"], ["analyze", ""],
    ["chat", "tiny"], ["chat", "tiny", "hi"], ["chat", "tiny", " ", "--task", "sentiment"],
    ["chat", "zip.zip", "hi"], ["chat", "answers.py", "hi"], ["chat", "none.zip", "hi"],
    ["chat", "spoilt", "hi"], ["chat", "list", "hi"],
    ["chat", "tiny", "hi", "--task", "sentiment", "--temperature", "nan"],
    ["chat", "tiny", "hi", "--task", "sentiment", "--jsonl", "folder"],
    ["chat", "tiny", "hi", "--task", "sentiment", "--max-completion-length", "0"],
    ["chat", "tiny", "word " * 900, "--task", "sentiment"],
    ["export", "spoilt", "--zip", "a.zip"], ["export", "answers.py", "--zip", "a.zip"],
    ["export", "none"], ["export", "none", "--zip", "a", "--push-to-hub", "b/c"],
    ["preflight", "folder"], ["preflight", "x", "y"],
    ["--version"], ["-x"], ["train", "sentiment", "-m", "tiny"],
]
WRONG_GRADING = [[], ["fly"], ["release", "none"], ["autograde"], ["autograde", "none"],
                 ["collect"], ["collect", "none.zip"], ["faults", "none"], ["doctor", "--x"]]


@pytest.fixture
def mess(in_tmp):
    """A folder with what people point at by mistake."""
    (in_tmp / "answers.py").write_text(
        "def sentiment_reward(completions, **kwargs):\n    return [0.5 for _ in completions]\n")
    (in_tmp / "broken.py").write_text("def (:\n")
    (in_tmp / "empty.py").write_text("")
    (in_tmp / "folder").mkdir()
    (in_tmp / "folder" / "notes.txt").write_text("")
    (in_tmp / "prompts.txt").write_text("\n".join(f"Film {i} was" for i in range(20)))
    (in_tmp / "latin.txt").write_bytes("Très bon\n".encode("latin-1") * 12)
    (in_tmp / "zip.zip").write_bytes(b"PK\x03\x04 no zip" * 9)
    (in_tmp / "clock.jsonl").write_text('{"question": "When?", "answer": "#### 3:30"}\n')
    (in_tmp / "list.jsonl").write_text('[{"question": "q", "answer": "#### 3"}]\n')
    for name, text in {"spoilt": "{}", "list": "[]"}.items():
        (in_tmp / name).mkdir()
        for file in (runs.CONFIG, runs.HISTORY, runs.BASELINE, runs.FINAL):
            (in_tmp / name / file).write_text(text)
    shutil.copytree(SentimentTask.tiny_policy, in_tmp / "model")
    shutil.copytree(SentimentTask.tiny_policy, in_tmp / "no weights")
    (in_tmp / "no weights" / "model.safetensors").unlink()
    shutil.copytree(in_tmp / "no weights", in_tmp / "pickle")
    (in_tmp / "pickle" / "pytorch_model.bin").write_bytes(b"\x80\x04garbage")
    return in_tmp


def everything(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def said(capsys, run, argv) -> str:
    code = run(argv)
    out = capsys.readouterr()
    lines = [line for line in out.err.splitlines() if line.strip()]
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: "), (argv, out.err)
    return lines[0]


def test_wrong_calls(mess, capsys):
    before, wrong = everything(mess), []
    for argv in WRONG:
        try:
            said(capsys, main, argv)
        except BaseException as error:  # all of them in one report
            capsys.readouterr()
            wrong.append(f"{argv}: {type(error).__name__}: {str(error)[:300]}")
        if new := set(everything(mess)) - set(before):
            wrong.append(f"{argv} left {new}")
            before = everything(mess)
    assert not wrong, "\n".join(wrong)


def test_wrong_calls_of_the_grader(mess, capsys):
    for argv in WRONG_GRADING:
        said(capsys, grading, argv)


def test_a_reference_that_no_answer_can_meet_is_told_with_its_line(mess, capsys):
    good = {"question": "q", "answer": "#### 1,250.5"}
    for bad in ("3:30", "3/4", "1e3", "12 and 13", "four", "3,4", ""):
        (mess / "data.jsonl").write_text("\n".join(
            json.dumps(row) for row in [good, good | {"answer": f"#### {bad}"}]))
        line = said(capsys, main, ["train", "reasoning", "--data", "data.jsonl", *ANSWERS])
        assert "data.jsonl, line 2" in line and "one number" in line


# Imports neither torch nor transformers: a flag is told at once, and a terminal needs no model.
QUICK = """import sys, lib.__main__ as m
code = m.main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)"""


def python(*argv, code=None, **kwargs):
    command = [sys.executable, *(["-c", code] if code else ["-m", "lib"]), *argv]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **kwargs.pop("env", {})}
    return subprocess.run(command, env=env, timeout=100, **{"capture_output": True} | kwargs)


@pytest.mark.parametrize("env", [
    {"COLUMNS": "20"}, {"TERM": "dumb"}, {"NO_COLOR": "1"}, {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_any_terminal(in_tmp, env):
    run = python("train", "sentiment", "--preset", "größer→", code=QUICK, env=env)
    assert run.returncode == 2 and run.stderr.count(b"\n") == 1 and b"Traceback" not in run.stderr
    assert b"\x1b[" not in run.stderr


def test_nobody_reads_any_more():
    reader, writer = os.pipe()
    os.close(reader)
    run = python("train", "sentiment", "--help", stdout=writer, stderr=subprocess.PIPE,
                 capture_output=False)
    os.close(writer)
    assert run.returncode in (0, 141) and run.stderr == b""


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_is_one_line_and_the_shells_code(number, code):
    def interrupted(args):
        os.kill(os.getpid(), number)
        signal.pause()

    from lib.__main__ import build_parser, command

    assert command(build_parser, interrupted, ["preflight"]) == code
