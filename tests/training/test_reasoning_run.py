"""Short real runs of chapter 4's task: files, export, Hub, chat, trackers, search."""

import base64
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from safetensors.torch import load_file

from grading.release import write_source
from lib import CourseError, chat, evaluation, export
from lib.__main__ import main
from lib.files import read_json, write_json
from lib.runs import BASELINE, FINAL, HISTORY, read_samples
from lib.search import propose
from lib.tasks.reasoning import REWARDS, ReasoningTask, get_gsm8k_questions
from lib.tiny.problems import chain, make_problems
from tests.fast.test_reasoning import chain_of
from tools import build_tiny

FLAGS = ["--max-steps", "3", "--save-steps", "2", "--batch-size", "8", "--accumulation", "2",
         "--num-generations", "4", "--seed", "5", "--reward-weights", "1,1,1,1,0.5"]
QUESTION = get_gsm8k_questions("eval")[0]["question"]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("course"), "04_reasoning")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Flags for a run of one step whose figures do not matter, with 8 held-out questions."""
    rows = get_gsm8k_questions("train")[:48] + get_gsm8k_questions("eval")[:8]
    path = tmp_path_factory.mktemp("data") / "few.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return ["--data", str(path), "--max-steps", "1"]


def command(run_dir, notebook, *extra):
    return ["train", "reasoning", *FLAGS, "--output-dir", str(run_dir), "--answers",
            str(notebook), *extra]


@pytest.fixture(scope="module")
def run(tmp_path_factory, notebook):
    run_dir = tmp_path_factory.mktemp("runs") / "short"
    assert main(command(run_dir, notebook)) == 0
    return run_dir


def test_every_artefact_has_its_schema(run):
    config = read_json(run / "training_config.json")
    assert config["task"] == "reasoning" and config["settings"]["report_to"] == []
    assert config["settings"]["reward_weights"] == [1, 1, 1, 1, 0.5]
    assert config["optimizer"]["max_grad_norm"] == 0.1
    history = read_json(run / HISTORY)
    assert [row["step"] for row in history] == [1, 2, 3]
    for row in history:
        parts = [row[name] for name in REWARDS]
        assert row["mean_reward"] == pytest.approx(
            sum(parts[:4]) + 0.5 * parts[4], abs=1e-4), "the sum of the parts, weighted"
    for name in (BASELINE, FINAL):
        validation = read_json(run / name)
        assert len(validation["rows"]) == 240
        for key, part in (("accuracy", "right"), ("format_rate", "well_formed"),
                          ("unclosed_rate", "unclosed")):
            m = validation["metrics"][key]
            assert m["n"] == 240 and m["low"] <= m["value"] <= m["high"]
            assert m["value"] == sum(row[part] for row in validation["rows"]) / 240
        assert "accuracy_greedy" in validation["metrics"]
    assert set(REWARDS) <= read_samples(run)[0].keys()
    assert not (run / "README.md").exists(), "TRL's draft of a card, which knows nothing"


def test_no_held_out_chain_stands_in_any_text_that_is_learnt_from():
    """Neither whole nor as part of a longer one, in the base's text and in the training rows."""
    held_out = {chain_of(row["question"]) for row in get_gsm8k_questions("eval")}
    held_out |= {chain(p.steps) for p in make_problems(build_tiny.HELD_OUT_PROBLEMS,
                                                       build_tiny.SEED + 3, "eval")}
    texts = [given.split("user\n")[1].split("<|im_end|>")[0]
             for pairs, _ in build_tiny.solver_stages() for given, _ in pairs]
    texts += [row["question"] for row in get_gsm8k_questions("train")]
    assert len(texts) == 120_800
    learnt = set()
    for whole in {chain_of(text) for text in texts}:
        start, *rest = re.findall(r"[-+*]?\d+", whole)
        values = [int(start)]
        for part in rest:
            values.append(eval(f"{values[-1]}{part}"))
        learnt |= {f"{values[i]}{''.join(rest[i:j])}" for i in range(len(rest))
                   for j in range(i + 2, len(rest) + 1)}
    assert len(learnt) > 10_000 and not held_out & learnt


def test_evaluate_measures_pass_at_k_and_what_the_answers_owe_to_the_reasoning(notebook, capsys):
    argv = ["evaluate", "reasoning", "tiny", "--num-prompts", "40", "--answers", str(notebook)]
    assert main([*argv, "--pass-at", "4"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " n=" in line]
    value = {line.split("  ")[0]: float(re.search(r"  ([\d.-]+) \[", line)[1]) for line in lines}
    assert value["pass@k"] > value["accuracy, sampled"] + 0.1
    assert value["accuracy, reasoning cut off"] < 0.6
    assert main(argv) == 0
    assert "pass@k" not in capsys.readouterr().out


def test_samples_may_hold_any_character(run, tmp_path):
    row = {"step": 1, "completion": "one\u2028two\x85three\n"}
    (tmp_path / "samples.jsonl").write_text(json.dumps(row, ensure_ascii=False) + '\n{"torn',
                                            encoding="utf-8")
    assert read_samples(tmp_path) == [row]


def test_the_base_has_room_to_grow(run):
    value = {k: m["value"] for k, m in read_json(run / BASELINE)["metrics"].items()}
    assert 0.1 < value["accuracy"] < 0.6 and 0.2 < value["format_rate"] < 0.7
    assert value["unclosed_rate"] > 0.05
    assert value["accuracy_greedy"] < 0.5 and value["worked_rate"] > 0.15


def greedy(path):
    return chat.Asker(str(path), temperature=0.0)(QUESTION)


def test_zip_and_back_gives_the_same_greedy_answer(run, tmp_path, capsys):
    packed = tmp_path / "reasoner.zip"
    assert main(["export", str(run), "--zip", str(packed)]) == 0
    folder = export.from_zip(packed, tmp_path / "back")
    assert folder.name == "reasoner" and greedy(folder) == greedy(run)
    assert load_file(folder / "model.safetensors").keys()
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)
    card = (folder / "README.md").read_text()
    after = read_json(run / FINAL)["metrics"]["accuracy"]["value"]
    assert f"| accuracy, sampled | {read_json(run / BASELINE)['metrics']['accuracy']['value']:.2f}"\
        in card and f"| {after:.2f} [" in card and "GRPO" in card
    assert r"| KL(pi\|\|ref), nats |" in card, "a bar ends a cell of a table"
    assert "base_model" not in card, "the Hub knows no model 'tiny'"
    for model in (folder, packed):
        capsys.readouterr()
        assert main(["chat", str(model), QUESTION, "--temperature", "0", "--jsonl",
                     str(tmp_path / "log")]) == 0
        assert capsys.readouterr().out.strip() == greedy(run)
    assert [json.loads(line)["model"] for line in (tmp_path / "log").read_text().splitlines()] == [
        str(folder), str(packed)]


@pytest.mark.parametrize("model, first_line, on_hub", [
    ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct, trained", True),
    ("{tmp}", "{name}, trained", False)])
def test_the_card_names_the_base_and_no_path(run, tmp_path, model, first_line, on_hub):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = read_json(copy / "training_config.json")
    config["settings"]["model"] = model.format(tmp=tmp_path)
    write_json(copy / "training_config.json", config)
    card = export.card(copy, "someone/reasoner")
    assert first_line.format(name=tmp_path.name) in card and str(tmp_path) not in card
    assert (f"base_model: {model}\n" in card) == on_hub


def test_a_model_below_a_run_is_known_by_it(run, notebook, capsys, tmp_path):
    """The system prompt and the questions of the run, wherever its weights are asked for."""
    assert greedy(run / "final") == greedy(run)
    argv = ["--num-prompts", "4", "--answers", str(notebook)]
    assert main(["compare", "reasoning", str(run / "final"), str(run), *argv]) == 0
    for line in capsys.readouterr().out.splitlines()[1:]:
        left, right = line.split("  ", 1)[1].rsplit("  ", 1)
        assert left.strip() == right.strip()


def test_a_damaged_zip_and_an_unfinished_run_are_refused(run, tmp_path):
    export.to_zip(run, tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as good, zipfile.ZipFile(
            tmp_path / "bad.zip", "w") as bad:
        for name in good.namelist():
            data = good.read(name)
            bad.writestr(name, data[:-1] + b"x" if name.endswith(".safetensors") else data)
    with pytest.raises(CourseError, match=r"is damaged: model.safetensors differs"):
        export.from_zip(tmp_path / "bad.zip", tmp_path / "back")
    assert not list((tmp_path / "back").iterdir())
    data = bytearray((tmp_path / "good.zip").read_bytes())
    for name in ("config.json", "model.safetensors"):
        torn = data.copy()
        start = torn.find(name.encode()) + len(name) + 20
        torn[start:start + 9] = b"\xff" * 9
        (tmp_path / "torn.zip").write_bytes(torn)
        with pytest.raises(CourseError, match="cannot unpack"):
            export.from_zip(tmp_path / "torn.zip", tmp_path / "back")
        assert not list((tmp_path / "back").iterdir()), "nothing half-unpacked"
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(CourseError, match="cannot unpack"):
        export.from_zip(tmp_path / "no.zip", tmp_path / "back")
    (tmp_path / "unfinished").mkdir()
    assert main(["export", str(tmp_path / "unfinished"), "--zip", str(tmp_path / "a.zip")]) == 2
    assert not (tmp_path / "a.zip").exists()


class StandIn(BaseHTTPRequestHandler):
    """The Hub's API, as far as an upload of small files and their download need it."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        seen = self.server.seen
        seen.append((self.path, self.headers["Authorization"]))
        answer = {}
        if self.path == "/api/repos/create":
            answer = {"url": f"{self.server.url}/someone/reasoner"}
        elif self.path.endswith("/preupload/main"):
            answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                                for f in json.loads(body)["files"]]}
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            answer = {"commitOid": "1" * 40, "commitUrl":
                      f"{self.server.url}/someone/reasoner/commit/{'1' * 40}",
                      "success": True,
                      "hookOutput": ""}
        self.reply(answer)

    def do_GET(self):
        self.server.seen.append((self.path, self.headers["Authorization"]))
        if "/resolve/" in self.path or "/tree/" in self.path:
            self.file()
        else:
            self.reply({"id": "someone/reasoner", "sha": "0" * 40, "siblings": []})

    def do_HEAD(self):
        self.file()

    def file(self):
        data = self.server.files.get(self.path.rsplit("/", 1)[1])
        self.send_response(404 if data is None else 200)
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("Content-Length", str(len(data or b"")))
        if data is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data or b"")

    def reply(self, answer):
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.url, server.seen, server.files = f"http://127.0.0.1:{server.server_port}", [], {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def with_hub(tmp_path, *argv, **env):
    """A command in a process of its own: the Hub's client reads its settings once."""
    return subprocess.run(
        [sys.executable, "-m", "lib", *argv], capture_output=True, text=True, env={
            **{k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_HUB_OFFLINE")},
            "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", **env})


def test_push_to_a_stand_in_of_the_hub_and_ask_it_there(run, hub, tmp_path):
    done = with_hub(tmp_path, "export", str(run), "--push-to-hub", "someone/reasoner",
                    HF_ENDPOINT=hub.url, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.url}/someone/reasoner"
    with export.exported(run, "someone/reasoner") as folder:
        assert {name: hashlib.sha256(data).hexdigest() for name, data in hub.files.items()} == {
            p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    assert any(token == "Bearer hf_secret" for _, token in hub.seen)
    assert b"hf_secret" not in b"".join(hub.files.values())
    asked = with_hub(tmp_path, "chat", "someone/reasoner", QUESTION, "--temperature", "0",
                     HF_ENDPOINT=hub.url)
    assert asked.stdout.strip() == greedy(run), "with the system prompt of its task, unasked"


@pytest.mark.parametrize("name", ["reasoner", "not a name", "a/b/c", ""])
def test_a_name_that_is_none_is_not_asked_for(run, capsys, name):
    """Without a user the Hub's client would make it under one name and upload to another."""
    assert main(["export", str(run), "--push-to-hub", name]) == 2
    assert f"'{name}' is no name of a repository; it looks like" in capsys.readouterr().err


@pytest.mark.parametrize("env, message", [
    ({}, "no Hub token: make one"),
    ({"HF_TOKEN": "hf_x", "HF_ENDPOINT": "http://127.0.0.1:9"},
     "the Hub cannot be reached; --zip FILE works without it")])
def test_a_push_that_cannot_be_is_one_line(run, tmp_path, env, message):
    done = with_hub(tmp_path, "export", str(run), "--push-to-hub", "someone/reasoner", **env)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1


def test_the_other_verbs_read_a_run(run, notebook, capsys, tmp_path):
    assert main(["compare", "reasoning", "tiny", str(run), "--num-prompts", "8", "--answers",
                 str(notebook), "--save-plot", str(tmp_path / "rates.png")]) == 0
    assert "accuracy, greedy" in capsys.readouterr().out
    assert main(["analyze", str(run)]) == 0
    assert "no clear gain in accuracy" in capsys.readouterr().out
    assert main(["plot", str(run)]) == 0


def test_a_killed_run_goes_on_with_the_same_bits(run, tmp_path, notebook, monkeypatch):
    from tests.training.test_resume import killed, same

    monkeypatch.setattr("tests.training.test_resume.command", command)
    killed(tmp_path / "killed", notebook, after=2, delay=0)
    assert main(command(tmp_path / "killed", notebook, "--resume-from-checkpoint", "auto")) == 0
    same(run, tmp_path / "killed")


def test_a_lora_run_trains_and_exports_whole_weights(tmp_path, notebook, run, few):
    assert main(command(tmp_path / "lora", notebook, "--use-peft", *few)) == 0
    with export.exported(tmp_path / "lora", "lora") as folder:
        assert load_file(folder / "model.safetensors").keys() == load_file(
            run / "final" / "model.safetensors").keys()


def test_search_proposes_trains_and_goes_on(tmp_path, notebook, capsys, few):
    pytest.importorskip("optuna", reason="the extra 'search' is not installed")
    argv = ["search", "reasoning", *FLAGS[:8], "--answers", str(notebook), "--output-dir",
            str(tmp_path / "search"), *few, "--trials"]
    assert main([*argv, "1"]) == 0
    assert main([*argv, "2"]) == 0
    best = read_json(tmp_path / "search" / "best.json")
    figures = [evaluation.side_by_side({"t": tmp_path / "search" / f"trial-{i}"})["t"]["accuracy"][
        "value"] for i in (0, 1)]
    assert best["accuracy"] == max(figures) and not (tmp_path / "search" / "trial-2").exists()
    assert "learning_rate" in best and "best of 2" in capsys.readouterr().out
    assert main([*argv, "1", "--reward-weights", "1,1,1,1,1"]) == 2
    assert "search chooses --num-generations and --reward-weights" in capsys.readouterr().err


def test_every_trial_of_a_search_has_the_same_budget():
    class Trial:
        def suggest_float(self, name, low, high, log=False):
            return (low + high) / 2

        def suggest_categorical(self, name, choices):
            return choices[self.pick]

    given = ReasoningTask.of()
    for Trial.pick in range(3):
        chosen = propose(Trial(), given)
        assert chosen.num_generations == (4, 8, 16)[Trial.pick]
        assert chosen.max_steps == given.max_steps
        assert chosen.step_batch == given.step_batch


def test_trackers_get_metrics_samples_and_the_improvement(tmp_path, notebook, few):
    """Under a name with the run's start: Trackio would take a second run of one name for the
    first one's next steps."""
    pytest.importorskip("wandb", reason="the extra 'trackers' is not installed")
    pytest.importorskip("trackio", reason="the extra 'trackers' is not installed")
    home = tmp_path / "home"
    argv = command(tmp_path / "run", notebook, *few, "--wandb", "--trackio",
                   "--wandb-project", "course")
    done = subprocess.run(
        [sys.executable, "-m", "lib", *argv], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path),
                          "TRACKIO_DIR": str(home), "HF_HOME": str(home)})
    assert done.returncode == 0, done.stderr[-2000:]
    wrote = b"".join(p.read_bytes() for p in tmp_path.glob("wandb/offline-run-*/*.wandb"))
    name = f"1ep_w1-1-1-1-0.5 {read_json(tmp_path / 'run' / 'training_config.json')['started']}"
    for key in (b"improvement/accuracy", b"final/format_rate", b"samples", name.encode(),
                b"validation/reward", b"validation/kl"):
        assert key in wrote
    database = "".join(text for path in home.rglob("course*.db") for text, in sqlite3.connect(
        path).execute("SELECT run_name || CAST(metrics AS TEXT) FROM metrics"))
    for key in ("improvement/accuracy", "samples", name, "validation/reward", "validation/kl"):
        assert key in database
