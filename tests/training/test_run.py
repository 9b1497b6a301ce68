"""Short real runs: every file, every tier's loading code, LoRA, and that it learns."""

import json
import math
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lib import evaluation, models, rollout
from lib.__main__ import main
from lib.files import read_json
from lib.runs import BASELINE, CURVES, FINAL, HISTORY, PROBES, read_samples
from lib.scoring import get_sentiment_scores
from lib.tasks import sentiment
from lib.tasks.base import shuffled_passes
from lib.tasks.sentiment import SentimentTask
from lib.tiny.corpus import gold_score
from lib.training import grpo_config, train

SMALL = SentimentTask.of(max_steps=3, batch_size=8, accumulation=2, num_generations=4,
                 max_completion_length=10, save_steps=2)


def replaced(settings, **changes):
    from dataclasses import replace

    return replace(settings, **changes)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, answers):
    return train(replaced(SMALL, beta=0.1, kl_type="backward", reward_shaping="exponential"),
                 answers, tmp_path_factory.mktemp("runs") / "small")


def test_a_run_leaves_every_documented_file(run_dir):
    config = read_json(run_dir / "training_config.json")
    assert config["settings"]["beta"] == 0.1 and config["settings"]["seed"] == 42
    assert {"versions", "git_commit", "device", "task"} <= config.keys()
    assert config["versions"]["torch"] == torch.__version__

    history = read_json(run_dir / HISTORY)
    assert [row["step"] for row in history] == [1, 2, 3]
    for row in history:
        assert {"mean_reward", "epoch", "score", "kl", "kl_term", "entropy", "tied_groups",
                "completion_length", "clipped_ratio", "loss", "grad_norm"} <= row.keys()
        assert all(math.isfinite(value) for value in row.values())
    assert history[-1]["epoch"] == pytest.approx(3 * 4 / 168, abs=1e-3)

    for name in (BASELINE, FINAL):
        validation = read_json(run_dir / name)
        assert {"score", "gold", "positive_ratio", "reference_perplexity",
                "first_token_perplexity", "distinct_2", "entropy", "self_ending", "kl",
                "length"} == validation["metrics"].keys() <= SentimentTask.all_metrics().keys()
        assert len(validation["rows"]) == validation["metrics"]["score"]["n"] == 240
        for metric in validation["metrics"].values():
            assert metric["low"] <= metric["value"] <= metric["high"] and metric["n"] >= 12

    samples = read_samples(run_dir)
    assert {row["step"] for row in samples} == {1, 3} and len(samples) == 32
    assert all(row["reward"] == pytest.approx(row["shaped"] + row["kl_term"]) for row in samples)

    probes = read_samples(run_dir, PROBES)
    asked = {step: [row["prompt"] for row in probes if row["step"] == step] for step in (0, 3)}
    assert len(probes) == 2 * 40 and asked[0] == asked[3]
    assert set(asked[0]) <= set(SMALL.prompts("eval"))
    for row in probes:
        assert "".join(row["tokens"]).removesuffix("<|endoftext|>") == row["completion"]
        assert len(row["tokens"]) == len(row["logps"]) == len(row["ref_logps"])
        assert row["reward"] == pytest.approx(row["shaped"] + row["kl_term"])
        assert row["gold"] == gold_score(row["prompt"] + row["completion"])
    assert all(row["kl"] == 0 for row in probes if row["step"] == 0)
    kl = [row["kl"] for row in probes if row["step"] == 3]
    assert history[2]["held_out_kl"] == pytest.approx(sum(kl) / 40)
    assert "held_out_kl" not in history[1]

    assert (run_dir / CURVES).read_bytes().startswith(b"\x89PNG")
    assert {p.name for p in run_dir.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-3"}
    assert not list(run_dir.glob(".*")), "temporary files were left behind"


def test_the_first_kl_is_exactly_zero_and_the_policy_then_moves(run_dir):
    history = read_json(run_dir / HISTORY)
    assert history[0]["kl"] == 0 and history[1]["kl"] > 0
    assert read_json(run_dir / BASELINE)["metrics"]["kl"]["value"] == 0


def test_the_saved_policy_is_the_one_that_was_measured(run_dir):
    rows = evaluation.rows(run_dir)
    policy, tokenizer = models.load_policy(models.policy_path(str(run_dir), "sentiment"))
    reference, _ = models.load_policy(models.policy_path("tiny", SentimentTask))
    again = SMALL.measure({}, partial(rollout.sampled_rows, policy, tokenizer, reference),
                          SMALL.prompts("eval"))["rows"]
    assert [r["completion_ids"] for r in again] == [r["completion_ids"] for r in rows]


def test_a_run_that_is_stopped_has_all_its_files_and_can_go_on(tmp_path, answers, monkeypatch):
    """Ctrl-C or the kernel's stop, while a notebook trains: twice is an ordinary interrupt."""
    reward = answers["sentiment_reward"]
    before = signal.getsignal(signal.SIGINT)

    def pressed(completions, **kwargs):
        state = kwargs.get("trainer_state")
        if state and state.global_step == 1:
            signal.raise_signal(signal.SIGINT)
        return reward(completions, **kwargs)

    settings = replaced(SMALL, max_steps=4)
    stopped = train(settings, answers | {"sentiment_reward": pressed}, tmp_path / "a", live=True)
    assert [row["step"] for row in read_json(stopped / HISTORY)] == [1, 2]
    assert all((stopped / name).exists() for name in (BASELINE, FINAL, CURVES, "final"))
    assert signal.getsignal(signal.SIGINT) is before
    train(settings, answers, stopped, resume="auto")
    whole = train(settings, answers, tmp_path / "b")
    assert read_json(stopped / HISTORY) == read_json(whole / HISTORY)

    def impatient(completions, **kwargs):
        if kwargs.get("trainer_state"):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return reward(completions, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        train(settings, answers | {"sentiment_reward": impatient}, tmp_path / "c", live=True)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_other_verbs_read_a_run(run_dir, capsys, tmp_path):
    picture = tmp_path / "scores.png"
    assert main(["compare", "sentiment", "tiny", str(run_dir), "--num_prompts", "5",
                 "--save-plot", str(picture)]) == 0
    assert "reference perplexity" in capsys.readouterr().out and picture.stat().st_size > 1000
    assert main(["evaluate", "sentiment", str(run_dir), "--num-prompts", "5"]) == 0
    (run_dir / CURVES).unlink()
    assert main(["plot", str(run_dir)]) == 0 and (run_dir / CURVES).exists()
    assert main(["analyze", str(run_dir)]) == 0
    assert "no clear gain in score" in capsys.readouterr().out


def test_an_export_without_room_is_one_line(run_dir, tmp_path):
    """A limit on the size of a file stands for a full TMPDIR."""
    run = subprocess.run(
        [sys.executable, "-m", "lib", "export", str(run_dir), "--zip", str(tmp_path / "a.zip")],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5)))
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert run.stderr.startswith("error: cannot gather the export in")
    assert not list(tmp_path.iterdir())


def test_lora_trains_adapters_only_saves_a_whole_policy_and_resumes(tmp_path, answers):
    settings = replaced(SMALL, use_peft=True, learning_rate=1e-2, beta=0.1)
    whole = train(settings, answers, tmp_path / "whole")
    adapter = load_file(whole / "checkpoint-2" / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in adapter} == {"c_attn", "c_proj"}
    assert read_json(whole / HISTORY)[0]["kl"] == 0, "without its adapter it is the reference"
    base = load_file(SentimentTask.tiny_policy / "model.safetensors")
    final = load_file(whole / "final" / "model.safetensors")
    moved = {k for k in final if not torch.equal(final[k], base[k].float())}
    assert moved and all(k.endswith(("c_attn.weight", "c_proj.weight")) for k in moved)

    import shutil

    resumed = tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoint-3")
    shutil.rmtree(resumed / "final")
    train(settings, answers, resumed, resume="auto")
    assert read_json(resumed / HISTORY) == read_json(whole / HISTORY)
    again = load_file(resumed / "final" / "model.safetensors")
    assert all(torch.equal(final[k], again[k]) for k in final)


@pytest.fixture(scope="module")
def lookalikes(tmp_path_factory):
    """Local stand-ins of the Hub's gpt2 and nlptown scorer: their classes, 5 labels, BPE."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
        GPT2TokenizerFast,
        set_seed,
    )

    from lib.tiny.corpus import make_reviews
    from tools.build_tiny import bpe_tokenizer, wordpiece_tokenizer

    folder = tmp_path_factory.mktemp("hub")
    texts = [r.text for r in make_reviews(300, 5)]
    set_seed(0)
    raw = bpe_tokenizer(texts, 400, 1024)
    raw.save_pretrained(folder / "gpt2")
    tokenizer = GPT2TokenizerFast.from_pretrained(folder / "gpt2")
    assert tokenizer.pad_token is None, "like gpt2, it has no pad token of its own"
    tokenizer.save_pretrained(folder / "gpt2")
    GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tokenizer), n_positions=1024, n_embd=32, n_layer=2, n_head=2,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )).save_pretrained(folder / "gpt2")  # dropout 0.1, as in gpt2
    words = wordpiece_tokenizer(texts, 512)
    words.save_pretrained(folder / "nlptown")
    names = {i: f"{i + 1} star{'s' * (i > 0)}" for i in range(5)}
    BertForSequenceClassification(BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, num_labels=5, id2label=names,
        label2id={v: k for k, v in names.items()})).save_pretrained(folder / "nlptown")
    return folder


@pytest.mark.parametrize("peft", [[], ["--use_peft"]], ids=["full", "lora"])
def test_gpt2_and_the_hub_scorer_go_through_the_same_code(
        lookalikes, tmp_path, solved_notebook, peft):
    run, before = tmp_path / "run", get_sentiment_scores(["Good."])
    assert main(["train", "sentiment", "--model", str(lookalikes / "gpt2"), "--scorer",
                 str(lookalikes / "nlptown"), "--answers", str(solved_notebook), "--output-dir",
                 str(run), "--max_steps", "2", "--batch_size", "8", "--accumulation", "1",
                 "--num-generations", "4", "--max-completion-length", "8", "--beta", "0.05",
                 "--kl_type", "forward", *peft]) == 0
    history = read_json(run / HISTORY)
    assert history[0]["kl"] == pytest.approx(0, abs=1e-9), "dropout is off, so the KL is 0"
    assert history[0]["clipped_ratio"] > 0.5, "an untrained gpt2 seldom ends by itself"
    assert get_sentiment_scores(["Good."]) == before, "a run's scorer is its own"
    config = json.loads((run / "training_config.json").read_text())
    assert sentiment.scorer_path(str(run)) == config["settings"]["scorer"]
    assert main(["evaluate", "sentiment", str(run), "--num-prompts", "3"]) == 0


def test_other_architectures_get_lora_on_all_linear_layers():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=16))
    from peft import get_peft_model

    names = {n.split(".")[-4] for n, p in get_peft_model(
        model, models.lora_config(model)).named_parameters() if p.requires_grad}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("capability, expected", [
    ((7, 5), {"bf16": False, "fp16": True}), ((8, 0), {"bf16": True, "fp16": False}),
    ((9, 0), {"bf16": True, "fp16": False})])
def test_precision_follows_the_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert models.precision(torch.device("cuda", 0)) == expected
    assert models.precision(torch.device("cpu")) == {"bf16": False, "fp16": False}


def test_the_config_names_every_default_that_moves(tmp_path):
    config = grpo_config(SMALL, tmp_path, torch.device("cpu"))
    assert (config.bf16, config.fp16, config.use_cpu) == (False, False, True)
    assert config.generation_batch_size == 16 and config.num_generations == 4
    assert config.report_to == [] and config.disable_dropout and not config.shuffle_dataset


def test_prompt_rows_are_whole_passes():
    rows = shuffled_passes(list("abcde"), 12, seed=1)
    assert sorted(rows[:5]) == sorted(rows[5:10]) == list("abcde") and len(rows) == 12
    assert rows == shuffled_passes(list("abcde"), 12, seed=1)
    assert rows != shuffled_passes(list("abcde"), 12, seed=2)


@pytest.mark.parametrize("settings, name", [
    (SentimentTask.of(), "quick_none"),
    (SentimentTask.of(preset="full", reward_shaping="exponential"), "full_exponential"),
    (SentimentTask.of(kl_type="forward"), "quick_none_kl-forward"),
    (SentimentTask.of(preset="medium", kl_type="backward", kl_coef=0.25),
     "medium_none_kl-backward_c0.25"),
    (SentimentTask.of(beta=0.2), "quick_none_beta0.2")])
def test_run_names(settings, name):
    assert settings.name() == name
