"""Every kind of model goes the whole way in every task that it can do: train, resume, measure,
compare, export, chat.

Four kinds in the normal run, with a task each; ``bash setup.sh test zoo`` takes all. Each first one
of a kind: GPT-2 (learnt positions), SentencePiece with BOS, a template without a system turn, one
that opens thinking.
"""

import inspect
import json

import pytest
import torch

from lib import chat, models, prompts, rollout, runs
from lib.__main__ import main
from lib.answers import load_answers
from lib.files import read_json
from lib.runs import FINAL, HISTORY
from lib.tasks import task_class
from lib.training import check_lengths
from tests.zoo.look_alikes import ZOO, make

QUICK = ("gpt2", "llama", "gemma2", "qwen3")
NO_LORA = ("mamba",)  # PEFT refuses its out_proj
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ZOO]
TASKS = ("sentiment", "persona", "reasoning")  # the last needs a chat template
USUAL = {True: "reasoning", False: "sentiment"}  # with a chat template, and without
WAYS = [pytest.param(name, task, marks=() if name in QUICK and task == USUAL[bool(kind.chat)]
                     else pytest.mark.slow)
        for name, kind in ZOO.items() for task in TASKS if kind.chat or task != "reasoning"]
ODD = "Zoë’s  naïve 😀 film\n was… 3,5 €"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    from grading.release import write_source

    root = tmp_path_factory.mktemp("course")
    return {task: write_source(root, task_class(task).chapter) for task in TASKS}


def made(name, folder):
    return folder / name if (folder / name).exists() else make(name, folder)


@pytest.fixture
def questions(in_tmp):
    rows = [{"question": f"Tom has {i} apples and gets {i % 7} more. How many?",
             "answer": f"Sum.\n#### {i + i % 7}"} for i in range(60)]
    (in_tmp / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (in_tmp / "prompts.txt").write_text("\n".join(f"Film number {i} was" for i in range(12)))
    return in_tmp / "data.jsonl"


def run(*argv):
    assert main([str(arg) for arg in argv]) == 0


# Where a run asks its policy, by the function that does it.
ASKING = {"check_reward_variance", "measure", "ask_probes", "_generate_single_turn"}


class Ear:
    """Notes the prompts that the sampler is given, by who asks."""

    def __init__(self, monkeypatch):
        self.asked, self.generate = {}, rollout.generate
        monkeypatch.setattr(rollout, "generate", self)

    def __call__(self, model, prompt_ids, **kwargs):
        who = next((frame.function for frame in inspect.stack() if frame.function in ASKING), None)
        self.asked.setdefault(who, set()).update(map(tuple, prompt_ids))
        return self.generate(model, prompt_ids, **kwargs)


def assert_one_way(asked, run, notebook, task):
    """Signal check, training, probes, validation, length check and chat of a run read the same
    ids: those of its rows."""
    config = read_json(run / runs.CONFIG)
    task = task.of_record(config["settings"])
    answers = load_answers(notebook, task.needed_answers())
    policy, tokenizer = models.load_policy(task.model)
    training = task.train_rows(answers, task.prompts("train"),
                               task.max_steps * task.prompts_per_step)
    held_out = task.eval_rows(answers, task.prompts("eval"))
    trained, measured = (set(map(tuple, prompts.prompt_ids(tokenizer, rows)))
                         for rows in (training, held_out))
    assert asked.keys() == ASKING
    assert asked["_generate_single_turn"] == trained
    assert asked["check_reward_variance"] == trained
    assert asked["measure"] == measured and asked["ask_probes"] <= measured
    longest = max(map(len, trained | measured))
    assert check_lengths(policy, tokenizer, [*training, *held_out], 1) == longest


@pytest.mark.parametrize("name, task", WAYS)
def test_the_whole_way(name, task, folder, notebooks, in_tmp, questions, monkeypatch):
    path, ear = made(name, folder), Ear(monkeypatch)
    own = {"reasoning": ["--data", questions], "persona": [],
           "sentiment": ["--scorer", "tiny", "--prompts", in_tmp / "prompts.txt"]}[task]
    settings = [*own, "--answers", notebooks[task]]
    flags = ["--model", path, "--beta", "0.05", "--batch-size", "4", "--accumulation", "2",
             "--num-generations", "4", "--max-completion-length", "6", "--max-steps", "2",
             "--save-steps", "1", *settings]
    run("train", task, *flags, "--output-dir", "run")
    history = read_json(in_tmp / "run" / HISTORY)
    assert history[0]["kl"] == pytest.approx(0, abs=1e-7), "no dropout, and the same positions"
    assert_one_way(ear.asked, in_tmp / "run", notebooks[task], task_class(task))
    asks = [*own, *["--answers", notebooks[task]] * task_class(task).judged_by_answers]
    run("evaluate", task, path, "--num-prompts", "2", *asks)
    run("compare", task, path, "run", "--num-prompts", "2", *asks)
    run("export", "run", "--zip", "run.zip")
    run("chat", "run.zip", "How many?", "--max-completion-length", "4")
    if name in NO_LORA:
        assert main([str(a) for a in ["train", task, *flags, "--use-peft", "--output-dir",
                                      "lora"]]) == 2
        assert not (in_tmp / "lora").exists()
        return
    run("train", task, *flags, "--use-peft", "--output-dir", "lora")
    (in_tmp / "lora" / FINAL).unlink()
    run("train", task, *flags, "--use-peft", "--output-dir", "lora", "--resume-from-checkpoint",
        in_tmp / "lora" / "checkpoint-1")
    adapter, _ = models.load_policy(str(in_tmp / "lora" / "checkpoint-2"))
    final, _ = models.load_policy(str(in_tmp / "lora" / "final"))
    for a, b in zip(adapter.parameters(), final.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


class Watch:
    """Notes the prompts that the sampler is given, instead of sampling."""

    def __init__(self, monkeypatch):
        self.seen = []
        monkeypatch.setattr(rollout, "generate", self)

    def __call__(self, model, prompt_ids, **kwargs):
        self.seen += [tuple(ids) for ids in prompt_ids]
        return [[kwargs["ends"][0]] for _ in prompt_ids]


@pytest.mark.parametrize("name", NAMES)
def test_one_way_from_prompt_to_ids(name, folder, monkeypatch):
    """Sampler, chat and trainer ask with the same ids, those of an independent count: one BOS, no
    end, the template's text as it is."""
    path = str(made(name, folder))
    policy, tokenizer = models.load_policy(path)
    watch = Watch(monkeypatch)
    cases = ["sentiment", "persona"] + ["reasoning"] * bool(tokenizer.chat_template)
    for task in cases:
        question = "How many apples has Tom?"
        ask = chat.Asker(path, task=task, max_completion_length=4)
        ask.conversational = False  # as a run of the task records it
        prompt = task_class(task).chat_prompt(question, False)
        del watch.seen[:]
        ask(question)
        rollout.sampled_rows(policy, tokenizer, policy, [{"prompt": prompt}],
                             max_completion_length=4)
        [ids] = prompts.prompt_ids(tokenizer, [prompt])
        assert watch.seen == [tuple(ids)] * 2
        assert tokenizer.eos_token_id not in ids[1:] or tokenizer.chat_template
        if tokenizer.bos_token_id is not None:
            assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
        text = tokenizer.decode(ids)
        assert question in text
        if task == "reasoning":
            assert prompt[0]["content"].strip() in text, "the system turn is in it"


@pytest.mark.parametrize("name", NAMES)
def test_the_tokens_of_a_text_join_to_it(name, folder):
    tokenizer = models.load_tokenizer(str(made(name, folder)))
    ids = tokenizer(ODD, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    parts = prompts.pieces(tokenizer, ids)
    assert len(parts) == len(ids) and "�" not in "".join(parts)
    assert "".join(parts) == tokenizer.decode(ids, skip_special_tokens=True)
    assert sum(map(bool, parts)) > 10, "not all in one piece"


@pytest.mark.parametrize("name", NAMES)
def test_sampling_is_plain_whatever_the_model_asks_for(name, folder):
    """Against the model's own next-token probabilities, row by row and without a cache."""
    policy, tokenizer = models.load_policy(str(made(name, folder)))
    asked = policy.generation_config.to_diff_dict()
    assert not asked.keys() - {"eos_token_id", "bos_token_id", "pad_token_id",
                               "transformers_version", "_from_model_config"}
    rows = prompts.prompt_ids(tokenizer, ["The film", "I have to say that the acting was"])
    found = rollout.generate(policy, rows, ends=[], pad_token_id=tokenizer.pad_token_id,
                             temperature=0.0, max_completion_length=5, seed=0)
    for row, completion in zip(rows, found, strict=True):
        for token in completion:
            with torch.no_grad():
                logits = policy(torch.tensor([row])).logits[0, -1]
            assert logits[token] > logits.max() - 1e-4
            row = [*row, token]
