"""Chapter 4: data, rewards on real rows, prompts, chat log, export."""

import json
import random
import re
import sys
from collections import Counter
from importlib.machinery import ModuleSpec
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.faults import reference
from grading.release import write_source
from lib import CourseError, chat, models, trackers
from lib.__main__ import build_parser, main, task_of_flags
from lib.chat import append
from lib.checks import reasoning as checks
from lib.intervals import rate_interval
from lib.rewards import RewardFunction
from lib.tasks.persona import PersonaTask
from lib.tasks.reasoning import (
    REWARDS,
    XML_COT_FORMAT,
    ReasoningTask,
    begun,
    get_gsm8k_questions,
    messages,
    steps_written,
)
from lib.tasks.sentiment import SentimentTask
from lib.tiny import problems
from tools import build_tiny as build

ANSWERS = reference("04_reasoning")
QUESTION = get_gsm8k_questions("eval")[0]["question"]
GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "train-2000.jsonl"


def paid(texts, answers):
    """What each of the five rewards gives for completions of conversations."""
    return {name: ANSWERS[name](prompts=checks.said(*["Q"] * len(texts)),
                                completions=checks.said(*texts), answer=answers)
            for name in REWARDS}


@pytest.mark.parametrize("after, finding", [
    ({"accuracy": 170, "format_rate": 236, "accuracy_greedy": 234}, None),
    ({"accuracy": 84, "format_rate": 236, "accuracy_greedy": 234}, "no clear gain"),
    ({"accuracy": 170, "format_rate": 200, "accuracy_greedy": 234}, "malformed"),
    ({"accuracy": 170, "format_rate": 236, "accuracy_greedy": 190}, "at the price of content")])
def test_findings_say_what_is_wrong(after, finding):
    def metrics(hits):
        return {name: rate_interval(n, 240) for name, n in hits.items()}

    before = {"accuracy": 82, "format_rate": 84, "accuracy_greedy": 233}
    found = ReasoningTask.findings(metrics(before), metrics(after))
    assert len(found) == (finding is not None) and (not finding or finding in found[0])


def rows_of(source):
    return [row for split in ("train", "eval") for row in get_gsm8k_questions(split, source)]


@pytest.mark.parametrize("source", ["tiny", str(GSM8K)])
def test_every_row_parses_and_its_reference_answer_is_perfect(source):
    if source != "tiny" and not Path(source).exists():
        pytest.skip("GSM8K's rows are not here")
    rows = rows_of(source)
    answers = [ANSWERS["extract_hash_answer"](row["answer"]) for row in rows]
    assert len(rows) >= 800 and None not in answers
    perfect = [XML_COT_FORMAT.format(reasoning=row["answer"].split("####")[0].strip(), answer=a)
               for row, a in zip(rows, answers, strict=True)]
    parts = paid(perfect, answers)
    assert {name: set(values) for name, values in parts.items()} == {
        name: {worth} for name, worth in REWARDS.items()}
    assert sum(REWARDS.values()) == 4.0
    wrong = [XML_COT_FORMAT.format(reasoning="x", answer=float(a) + 1) for a in answers]
    assert not any(paid(wrong, answers)["correctness_reward_func"])


WORDS = {"finds": "+", "adds": "+", "gives": "-", "takes": "-", "are": "*"}


def chain_of(question):
    """The chain of numbers of a question, read from its words."""
    start, *happens = re.findall(r"[^.?]+", question)[:-1]
    found = re.search(r"\d+", start)[0]
    for sentence in happens:
        [op] = {WORDS[word] for word in sentence.split() if word in WORDS}
        found += op + re.search(r"\d+", sentence)[0]
    return found


def test_tiny_problems_are_right_disjoint_and_repeat():
    train, held_out = (get_gsm8k_questions(split) for split in ("train", "eval"))
    assert len(held_out) >= 200 and train == get_gsm8k_questions("train")
    for row in train[:300]:
        steps = []
        for line in row["answer"].splitlines()[:-1]:
            left, right = line.split("<<")[1].split(">>")[0].split("=")
            assert eval(left) == int(right) > 0
            steps.append(left)
        assert row["answer"].endswith(f"#### {right}")
        assert chain_of(row["question"]) == steps[0] + "".join(
            re.sub(r"^\d+", "", step) for step in steps[1:])
    ours, theirs = ({chain_of(row["question"]) for row in rows} for rows in (train, held_out))
    assert not ours & theirs, "another name or noun makes no other problem"
    assert Counter(row["answer"].count("<<") for row in held_out) == {2: 96, 3: 96, 4: 48}
    assert all(p.answer == eval_chain(chain_of(p.question)) and len(p.steps) == 5
               for p in problems.make_problems(20, 1, "eval", problems.BEYOND))


def eval_chain(chain):
    """Worked out from left to right."""
    value, *rest = re.findall(r"[-+*]?\d+", chain)
    for part in rest:
        value = eval(f"({value}){part}")
    return int(value)


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_every_answer_of_the_bases_text_is_true_and_of_its_share(seed, at_once, in_full):
    rng = random.Random(seed)
    problem = problems.make_problem(rng, rng.choice((2, 3, 4)))
    text = problems.true_answer(rng, problem, at_once, in_full)
    for left, right in re.findall(r"(\d+[-+*]\d+)=(\d+)", text):
        assert eval(left) == int(right)
    assert re.search(rf"\b{problem.answer}\b", text)
    written, steps = steps_written(text), len(problem.steps)
    assert problems.true_answer(rng, problem, 1, 0).count("=") == 0
    assert problems.true_answer(rng, problem, 0, 1).count("=") == steps
    assert 0 < problems.true_answer(rng, problem, 0, 0).count("=") < steps and written <= steps


@pytest.mark.parametrize("text, n", [
    ("<reasoning>\n5+3=8\n8*2=16\n</reasoning>", 2), ("5 + 3 = 8 and 8 - $2 = $6", 2),
    ("48/2 = <<48/2=24>>24", 1), ("x = 5", 0), ("I see it.", 0), ("2-7=-5", 1), ("", 0)])
def test_written_steps_are_counted(text, n):
    assert steps_written(text) == n


def test_a_policy_goes_on_with_words_put_into_its_mouth():
    tokenizer = models.load_tokenizer(models.policy_path("tiny", ReasoningTask))
    [row] = begun([{"prompt": messages("How many?"), "answer": "5"}], ["<reasoning>\n5"])
    assert row["answer"] == "5"
    assert models.prompt_text(tokenizer, row) == build.chat_prompt("How many?") + "<reasoning>\n5"


def test_a_price_is_paid_by_right_answers_alone_and_shown_nowhere_else():
    task = ReasoningTask.of(max_steps=1, token_cost=0.05, reward_weights=(1, 0, 0, 0, 0))
    assert "token_cost_reward" in task.needed_answers() and task.name() == "1ep_w1-0-0-0-0_cost0.05"
    parts = task.parts(checks.said(checks.PERFECT, "6"), answers=ANSWERS, ref_logps=None,
                       prompts=["Q"] * 2, answer=["5", "5"], steps=[2, 2],
                       completion_ids=[[1] * 10, [1]])
    assert parts["reward"] == [1.5, 0] and parts["correctness_reward_func"] == [2, 0]
    assert parts["worked"] == [1, 0]


@given(st.integers(-10**6, 10**6), st.sampled_from(["{:d}", "{:,d}", "${:,d}", "{:d}.0", " {:d} kg",
                                                    "x = {:d}.", "**{:,d}**"]))
def test_one_number_in_many_dresses(number, dress):
    assert ANSWERS["parse_number"](dress.format(number)) == number


@given(st.text("<>/answerig \n15", max_size=60))
def test_no_text_breaks_a_reward_and_strict_implies_soft_and_the_full_count(text):
    parts = {name: values[0] for name, values in paid([text], ["5"]).items()}
    assert all(value <= REWARDS[name] for name, value in parts.items())
    if parts["strict_format_reward_func"]:
        assert parts["soft_format_reward_func"] == parts["xmlcount_reward_func"] == 0.5


def test_the_sum_is_weighted_and_every_part_is_kept():
    logged = {}
    seen = []
    task = ReasoningTask.of(max_steps=1, reward_weights=(2.0, 0, 0, 0, 1.0))
    reward = RewardFunction(task, ANSWERS, None, lambda step, rows: seen.extend([step, *rows]))
    texts = [checks.PERFECT, "5"]
    got = reward(prompts=[messages("How many?")] * 2, completions=checks.said(*texts),
                 completion_ids=[[1], [2]], answer=["5", "5"], steps=[2, 2],
                 log_metric=logged.__setitem__, trainer_state=SimpleNamespace(global_step=7))
    assert got == [4.5, 0.0]
    assert logged["correctness_reward_func"] == 1.0 and set(logged) == {*REWARDS, "worked"}
    step, first, _ = seen
    assert step == 8 and (first["prompt"], first["completion"]) == ("How many?", texts[0])
    assert first["int_reward_func"] == 0.5


def test_the_chat_template_is_what_the_policy_was_trained_on():
    tokenizer = models.load_tokenizer(models.policy_path("tiny", ReasoningTask))
    text = models.prompt_text(tokenizer, messages("How many?"))
    assert text == build.chat_prompt("How many?")
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text and ids.count(tokenizer.eos_token_id) == 2
    assert all(len(tokenizer(digits)["input_ids"]) == len(digits) for digits in ("7", "42", "100"))


def test_a_policy_without_a_chat_template_is_refused():
    tokenizer = models.load_tokenizer(models.policy_path("tiny", SentimentTask))
    with pytest.raises(CourseError, match=r"no chat template.*instruct model"):
        models.prompt_text(tokenizer, messages("How many?"))
    with pytest.raises(CourseError, match="no chat template"):
        chat.Asker(models.policy_path("tiny", PersonaTask), task="reasoning")("How many?")


@pytest.mark.parametrize("lines, message", [
    (['{"question": "a", "answer": "#### 1"}', "{nope"], "line 2: no JSON"),
    (['["question"]'], "line 1: wants an object"),
    (['{"question": "a"}'], "line 1: wants an object"),
    (["", '{"question": "a", "answer": 4}'], "line 2: wants an object"),
    (['{"question": "a", "answer": "4"}'], 'line 1: "answer" must end in'),
    ([], "holds no question for train")])
def test_a_bad_data_file_is_told_with_its_line(in_tmp, capsys, lines, message):
    Path("data.jsonl").write_text("\n".join(lines))
    assert main(["train", "reasoning", "--data", "data.jsonl"]) == 2
    error = capsys.readouterr().err
    assert "data.jsonl" in error and message in error and error.count("\n") == 1


@pytest.mark.parametrize("argv, message", [
    (["--data", "missing.jsonl"], "cannot read the data file"),
    (["--model", "Qwen/Qwen2.5-0.5B-Instruct"], "work offline with --model tiny"),
    (["--reward-weights", "1,2"], "wants 5 numbers"),
    (["--reward-weights", "1,1,1,1,-1"], "must not be negative"),
    (["--reward-weights", "0,0,0,0,0"], "nothing to learn from"),
    (["--reward-weights", "a"], "invalid weights value"),
    (["--token-cost", "-0.1"], "--token-cost must not be negative"),
    (["--pass-at", "-1"], "--pass-at must not be negative"),
    (["--use-vllm"], "needs a CUDA GPU"),
    (["--wandb"], "--wandb knows no account; run `wandb login`"),
    (["--epochs", "0"], "at least 1")])
def test_bad_flags_are_one_line(in_tmp, tmp_path_factory, capsys, monkeypatch, argv, message):
    monkeypatch.setattr(models, "hub_reachable", lambda: False)
    if "--wandb" in argv:  # its stand-in: the package is an extra
        monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(
            __spec__=ModuleSpec("wandb", None)))
        monkeypatch.setenv("NETRC", str(in_tmp / "netrc"))
        for name in ("WANDB_MODE", "WANDB_API_KEY"):
            monkeypatch.delenv(name, raising=False)
    argv = ["train", "reasoning", *argv]
    if "--use-vllm" in argv:  # found out only after the answers were read
        argv += ["--answers", str(write_source(tmp_path_factory.mktemp("course"), "04_reasoning"))]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not Path("runs").exists()


def test_a_login_of_wandb_is_found_where_it_is_kept(in_tmp, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(in_tmp / "netrc"))
    (in_tmp / "netrc").write_text("machine other.host login user password none\n")
    with pytest.raises(CourseError, match="knows no account"):
        trackers.check_login()
    (in_tmp / "netrc").write_text("machine api.wandb.ai login user password key\n")
    trackers.check_login()


def test_a_run_may_have_a_name_of_its_own_for_trackers():
    argv = ["train", "reasoning", "--wandb-run-name", "mine"]
    args = build_parser(argv).parse_args(argv)
    assert task_of_flags(args).run_name == "mine"


def test_the_reference_configuration_is_that_of_the_chapter():
    run = ReasoningTask.of(model="some/model", max_steps=1, data=str(GSM8K))
    assert (run.learning_rate, run.num_generations, run.max_completion_length) == (5e-6, 16, 200)
    assert run.save_steps == 100 and run.epochs == 1 and run.step_batch == 64
    assert run.optimizer() == {
        "lr_scheduler_type": "cosine", "warmup_steps": 0.1, "weight_decay": 0.1,
        "adam_beta1": 0.9, "adam_beta2": 0.99, "max_grad_norm": 0.1}


@pytest.mark.parametrize("split", ["test", "validation"])
def test_another_split_is_refused(split):
    """GSM8K calls its held-out split "test": to take it for the training one would be a leak."""
    for source in ("tiny", None, str(GSM8K)):
        with pytest.raises(CourseError, match=f"there is no split '{split}'"):
            get_gsm8k_questions(split, source)


def test_a_file_is_read_as_json_means_it(tmp_path):
    row = {"question": "How many\u2028are \x85 there?", "answer": "#### 4"}
    lines = [json.dumps(row | {"question": f"{i} {row['question']}"}, ensure_ascii=False)
             for i in range(80)]
    path = tmp_path / "data.jsonl"
    path.write_text("\ufeff" + "\r\n".join(lines) + "\n", encoding="utf-8")
    rows = get_gsm8k_questions("train", str(path)) + get_gsm8k_questions("eval", str(path))
    assert {r["question"] for r in rows} == {json.loads(line)["question"] for line in lines}
    path.write_bytes(path.read_bytes() + "é".encode("latin-1"))
    with pytest.raises(CourseError, match="line 81: the data file is not UTF-8"):
        get_gsm8k_questions("train", str(path))


def test_chat_writes_reasoning_and_answer_apart(tmp_path):
    log = tmp_path / "new" / "log.jsonl"
    ask = chat.Asker("tiny", task="reasoning", temperature=0.0, jsonl=log)
    assert log.exists(), "a log that cannot be written is told before anything is asked"
    texts = [ask(QUESTION), ask(QUESTION)]
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(rows) == 2 and texts[0] == texts[1] == rows[0]["text"], "greedy repeats"
    assert rows[0]["prompt"] == messages(QUESTION) and rows[0]["model"] == "tiny"
    assert rows[0]["answer"] == ANSWERS["extract_xml_answer"](texts[0]) != ""
    assert rows[0]["reasoning"] and rows[0]["reasoning"] in texts[0]
    assert rows[1]["settings"]["seed"] == 1
    assert rows[0]["time"].endswith("+00:00")


def test_tags_that_are_not_closed_are_read_all_the_same():
    assert chat.sections("<reasoning>\n5+3=8\n<answer>\n8") == {
        "reasoning": "5+3=8", "answer": "8"}
    assert chat.sections("<reasoning>\n<<5+3=8>>8\n</reasoning>\n<answer>\n8\n</answer>") == {
        "reasoning": "<<5+3=8>>8", "answer": "8"}
    assert chat.sections("8") == {}


def test_a_line_that_a_dead_writer_left_is_not_written_on(tmp_path):
    (tmp_path / "log").write_text('{"i": 0}\n{"i": 1, "te')
    append(tmp_path / "log", {"i": 2}, {"i": 3})
    lines = (tmp_path / "log").read_text().split("\n")
    assert lines == ['{"i": 0}', '{"i": 1, "te', '{"i": 2}', '{"i": 3}', ""]


def test_a_bad_question_does_not_end_the_conversation(capsys):
    ask = chat.Asker("tiny", task="reasoning", temperature=0.0)
    chat.interactive(ask, ["How many? " * 200, QUESTION])
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "error: the question is too long for this model"
    assert "<answer>" in "".join(said[2:])


def test_a_model_that_does_not_say_its_task_is_not_guessed_at(capsys):
    assert main(["chat", "tiny", "How many?"]) == 2
    assert "say --task sentiment, persona or reasoning" in capsys.readouterr().err


def test_lines_of_several_writers_do_not_mix(tmp_path):
    def write(writer):
        for i in range(60):
            append(tmp_path / "log", {"writer": writer, "i": i, "text": "x" * 20000})

    writers = [get_context("fork").Process(target=write, args=(w,)) for w in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    rows = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    for w in range(3):
        assert [row["i"] for row in rows if row["writer"] == w] == list(range(60))


def test_a_log_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["chat", "tiny", "How many?", "--task", "reasoning", "--jsonl",
                 str(tmp_path / "file" / "log")]) == 2
    assert "cannot append to" in capsys.readouterr().err
