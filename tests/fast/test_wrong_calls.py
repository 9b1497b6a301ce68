"""Wrong calls of both command lines: one line each, exit code 2, nothing written.

And terminals: what reads or shows our output may close, be narrow, or know few characters.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from grading.__main__ import main as grading
from lib import models, runs
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
WRONG_GRADING = [
    [], ["fly"], ["release", "none"], ["autograde"], ["autograde", "none"],
    ["collect"], ["collect", "none.zip"], ["faults", "none"], ["doctor", "--x"],
    *([verb, name, "--course", "course"] for verb in ("autograde", "feedback", "export")
      for name in ("/", "..", "a/b", "", "a\nb", "😀", "x" * 3000)),
    *(["release", "01_sentiment", "--course", place] for place in ("answers.py", "loop", "/proc")),
    ["export", "01_sentiment", "--format", "xls"], ["leaderboard", "/", "--course", "course"],
    ["collect", "01_sentiment", "folder", "--due", "2026-13-45"], ["bundle", "dean"],
    ["autograde", "01_sentiment", "--workers", "1e9"], ["demo", "--out", "answers.py"],
    ["autograde", "01_sentiment", "--workers", "0"], ["doctor", "--isolation", ""],
    ["autograde", "01_sentiment", "--late-percent", "x"], ["selfcheck", "x"], ["faults", ""]]

# Odder ones. A name that no file has, or that a file system refuses:
NAMES = ["a\nb", "😀 é", "x" * 3000, "\udcff", "loop", "dangling", "answers.py/x"]
ODD = [
    *([*TRAIN, "--model", name] for name in (*NAMES, "answers.py", "/dev/null")),
    *([*TRAIN, "--scorer", name] for name in NAMES),
    *([*TRAIN, "--prompts", name] for name in (*NAMES, "/dev/null", "one line.txt")),
    *(["train", "reasoning", "--data", name, *ANSWERS] for name in NAMES),
    *(["train", "sentiment", "--answers", name] for name in NAMES),
    *(["train", name + ".py"] for name in NAMES), *(["plot", name] for name in NAMES),
    *(["chat", name, "hi", "--task", "sentiment"] for name in NAMES),
    *([*TRAIN, "--output-dir", name] for name in ("x" * 3000, "loop", "loop/x", "/dev/null/x")),
    # Model folders that say something else than they hold.
    *([*TRAIN, "--model", f"./{name}"] for name in (
        "config", "config list", "tokenizer", "weights", "weights folder", "heads", "adapter list",
        "adapter of nothing", "adapter of itself", "adapter of another", "no shard")),
    ["preflight", "./heads"], ["preflight", ""], ["preflight", "./adapter list"],
    # Numbers.
    *([*TRAIN, "--max-steps", number] for number in ("-1", "1e9", "nan", "1000000000", "")),
    [*TRAIN, "--batch-size", "1000000000"], [*TRAIN, "--accumulation", "1000000000"],
    [*TRAIN, "--temperature", "1e-400"], [*TRAIN, "--vllm-memory", "nan"],
    # Rewards and tasks that do what no one thought of.
    *(["train", "sentiment", "--max-steps", "1", "--answers", f"{name}.py"] for name in (
        "exits", "huge", "recurses", "asks")),
    *(["train", f"{name}_task.py"] for name in ("bare", "plain", "no_option", "leaving")),
    *(["train", "reasoning", "--data", f"{name}.jsonl", *ANSWERS] for name in (
        "brackets", "columns", "null", "half a character")),
    # Records of runs by another hand.
    *([verb, name] for verb in ("plot", "analyze") for name in (
        "no rows", "rows of text", "rows without steps", "brackets", "task 3")),
    ["analyze", "no figures"], ["analyze", "no metrics"], ["chat", "no figures", "hi"],
    [*TRAIN, "--output-dir", "no figures", "--resume-from-checkpoint", "auto"],
    *(["chat", f"{name}.zip", "hi"] for name in ("secret", "sums", "bytes")),
    ["export", "no figures", "--push-to-hub", "../x"],
]


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


def mess_of(folder: Path, name: str, **files) -> None:
    """A copy of the tiny policy with other files in place of its own, None for a folder."""
    shutil.copytree(SentimentTask.tiny_policy, folder / name)
    for file, content in files.items():
        path = folder / name / file.replace("__", ".")
        path.unlink(missing_ok=True)
        path.mkdir() if content is None else path.write_text(content)


@pytest.fixture
def odd_mess(mess):
    (mess / "loop").symlink_to("loop")
    (mess / "dangling").symlink_to("nowhere")
    (mess / "one line.txt").write_text("word " * 50_000)
    config = json.loads((SentimentTask.tiny_policy / "config.json").read_text())
    mess_of(mess, "config", config__json="")
    mess_of(mess, "config list", config__json="[]")
    mess_of(mess, "tokenizer", tokenizer__json="{}")
    mess_of(mess, "weights", model__safetensors="no tensors " * 99)
    mess_of(mess, "weights folder", model__safetensors=None)
    mess_of(mess, "heads", config__json=json.dumps(config | {"n_head": 7}))
    mess_of(mess, "no shard", model__safetensors=None, model__safetensors__index__json=json.dumps(
        {"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}))
    for name, base in {"adapter list": None, "adapter of nothing": "null",
                       "adapter of itself": json.dumps(str(mess / "adapter of itself")),
                       "adapter of another": json.dumps(str(SentimentTask.tiny_policy))}.items():
        (mess / name).mkdir()
        (mess / name / "adapter_config.json").write_text("[]" if base is None else (
            f'{{"peft_type": "LORA", "target_modules": ["q"], "{models.NAMES_BASE}": {base}}}'))
    for name, body in {"exits": "import sys; sys.exit(3)", "asks": "return [float(input())]",
                       "huge": "return [10**400 for _ in completions]",
                       "recurses": "return sentiment_reward(completions)"}.items():
        (mess / f"{name}.py").write_text(
            f"def sentiment_reward(completions, **kwargs):\n    {body}\n")
    for name, source in {
            "bare": f"tiny_policy = {str(SentimentTask.tiny_policy)!r}", "no_option": "x: int = 3",
            "leaving": "raise SystemExit(4)", "plain": "pass"}.items():
        (mess / f"{name}_task.py").write_text(
            "from dataclasses import dataclass\nfrom lib.tasks.base import Task\n\n\n"
            + "@dataclass(frozen=True, kw_only=True)\n" * (name != "plain")
            + f"class Mine(Task):\n    {source}\n")
    rows = {"brackets": "[" * 100_000, "columns": '{"question": "Why?"}',
            "null": '{"question": null, "answer": null}',
            "half a character": '{"question": "Why \\ud83d?", "answer": "#### 3"}'}
    for name, text in rows.items():
        (mess / f"{name}.jsonl").write_text(text + "\n")
    mine = {"task": "sentiment", "settings": {}}
    for name, (config, history, metrics) in {
            "no rows": (mine, "[]", {}), "rows of text": (mine, '["a"]', {}),
            "rows without steps": (mine, '[{"reward": 1}]', {}),
            "brackets": (mine, rows["brackets"], {}),
            "task 3": ({"task": 3, "settings": 3}, '[{"step": 1}]', {}),
            "no figures": (mine, '[{"step": 1}]', {}), "no metrics": (mine, '[{"step": 1}]', 3),
    }.items():
        (mess / name).mkdir()
        (mess / name / runs.CONFIG).write_text(json.dumps(config))
        (mess / name / runs.HISTORY).write_text(history)
        for file in (runs.BASELINE, runs.FINAL):
            (mess / name / file).write_text(json.dumps({"metrics": metrics}))
    for name, content in {"secret": "x", "sums": "one word\n", "bytes": b"\xff\xfe"}.items():
        with zipfile.ZipFile(mess / f"{name}.zip", "w") as archive:
            archive.writestr("model/SHA256SUMS", content)
    locked = bytearray((mess / "secret.zip").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.find(mark) + place] |= 1  # the flag that a member wants a password
    (mess / "secret.zip").write_bytes(locked)
    return mess


def everything(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def said(capsys, run, argv) -> str:
    code = run(argv)
    out = capsys.readouterr()
    lines = [line for line in out.err.splitlines() if line.strip()]
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: "), (argv, out.err)
    return lines[0]


def test_wrong_calls(mess, capsys):
    all_wrong(mess, capsys, WRONG)


def test_odd_calls(odd_mess, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)  # as a shell's <&- leaves it
    all_wrong(odd_mess, capsys, ODD)


def all_wrong(mess, capsys, calls):
    before, wrong = everything(mess), []
    for argv in calls:
        try:
            said(capsys, main, argv)
        except BaseException as error:  # all of them in one report
            capsys.readouterr()
            wrong.append(f"{argv}: {type(error).__name__}: {str(error)[:300]}")
        if new := set(everything(mess)) - set(before):
            wrong.append(f"{argv} left {new}")
            before = everything(mess)
    assert not wrong, "\n".join(wrong)


def test_wrong_calls_of_the_grader(odd_mess, capsys):
    for argv in WRONG_GRADING:
        said(capsys, grading, argv)


def test_files_that_may_not_be_read_or_written(mess, capsys):
    """As another user than root, whom no file refuses."""
    shutil.copytree(mess / "list", mess / "hidden")
    calls = [["train", "sentiment", "--answers", "secret.py"], ["plot", "hidden"],
             ["analyze", "hidden"], ["chat", "hidden", "hi"], [*TRAIN, "--output-dir", "hidden"],
             [*TRAIN, "--prompts", "secret.py"], ["train", "secret.py"],
             ["chat", "tiny", "hi", "--task", "sentiment", "--jsonl", "secret.py"],
             [*TRAIN, "--output-dir", "locked/run"], [*TRAIN, "--model", "./hidden"]]
    (mess / "secret.py").write_text("")
    (mess / "locked").mkdir()
    for path, mode in {"secret.py": 0, "hidden": 0, "locked": 0o555}.items():
        (mess / path).chmod(mode)
    for path in (mess, *mess.parents):  # pytest keeps its folders to their owner
        if not os.geteuid() and not path.stat().st_mode & 1:
            path.chmod(path.stat().st_mode | 0o011)
    root = not os.geteuid()
    try:
        if root:
            os.seteuid(65534)
        for argv in calls:
            assert "denied" in said(capsys, main, argv), argv
    finally:
        if root:
            os.seteuid(0)
        for path in ("hidden", "locked"):
            (mess / path).chmod(0o755)


def test_a_quota_in_the_middle_of_a_run_is_a_full_disk(mess):
    """A limit on the size of a file stands for one: the disk itself has room."""
    run = python(*TRAIN, "--batch-size", "4", "--accumulation", "2", "--num-generations", "4",
                 "--prompts", "prompts.txt", "--output-dir", "run",
                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)))
    assert run.returncode == 2 and b"Traceback" not in run.stderr
    assert b"error: the disk of run is full; free some space" in run.stderr


def test_no_room_for_any_temporary_file_is_a_full_disk(mess, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    assert "['/nowhere']; free some space" in said(capsys, main, ["chat", "zip.zip", "hi"])


def test_a_closed_stdin_ends_a_conversation(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert main(["chat", "tiny", "--interactive", "--task", "sentiment"]) == 0


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
