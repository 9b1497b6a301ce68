"""Chapter 4's experiments: what is asked, what is done to reasoning, the controls, the record."""

from pathlib import Path
from statistics import fmean

import pytest

from benchmarks.reasoning import table
from grading.faults import reference
from lib import models, thinking
from lib.logprobs import completion_logprobs
from lib.prompts import prompt_ids
from lib.tasks.reasoning import ANSWER_NOW, ReasoningTask, steps_written
from lib.tiny.problems import equation, make_problems, solve

ANSWERS = reference("04_reasoning")
ROWS = thinking.rows_of(make_problems(12, 3, "eval"))
TASK = ReasoningTask.of()


@pytest.fixture(scope="module")
def base():
    return models.load_policy(models.policy_path("tiny", TASK))


def test_a_changed_first_result_leads_where_the_same_operations_lead():
    for problem in make_problems(40, 8, "train"):
        value = solve(problem.steps[0]) + 1
        for _, op, operand in problem.steps[1:]:
            value = {"+": value + operand, "-": value - operand, "*": value * operand}[op]
        assert thinking.from_first("\n".join(map(equation, problem.steps))) == value


def test_the_policy_is_made_to_begin_as_told(base):
    policy, tokenizer = base
    exam = thinking.Exam(ANSWERS, tokenizer, 56)
    said = {way: exam.said(policy, ROWS, starts)
            for way, starts in thinking.starts_of(ROWS).items()}
    assert all(text.count("=") == 0 and ANSWER_NOW in text for text in said["at once"])
    assert all(steps_written(text) >= 1 for text in said["worked out"])
    assert sum(exam.right(ROWS, said["worked out"])) > 9 > 6 > sum(exam.right(ROWS, said["free"]))
    assert exam.ways(policy, ROWS)["free"] == thinking.by_steps(
        ROWS, exam.right(ROWS, said["free"]))


def test_operations_are_done_to_right_answers_alone(base):
    policy, tokenizer = base
    found = thinking.Exam(ANSWERS, tokenizer, 56).operated(policy, ROWS)
    assert 9 < found["n"] <= len(ROWS) and found["all"] == 1.0 > found["none"]
    assert 0.8 < min(found["last"], found["first"]) <= 1.0


def test_the_random_reward_does_not_read_the_answer():
    rewards = []
    for answer in ("5", "6"):
        thinking.COIN.seed(4)
        rewards.append(thinking.RandomReward.of().parts(
            [[{"role": "assistant", "content": "<answer>5</answer>"}]] * 200, answers=ANSWERS,
            ref_logps=None, prompts=["Q"] * 200, answer=[answer] * 200, steps=[2] * 200)["reward"])
    assert rewards[0] == rewards[1] and set(rewards[0]) == {0.0, 2.0}
    assert 70 < rewards[0].count(2.0) < 130


def test_imitation_makes_the_policys_own_right_answers_likelier(base, monkeypatch):
    monkeypatch.setattr(thinking, "ASKED_AT_ONCE", 4)
    seen = []

    class Watched(ReasoningTask):
        def successes(self, answers, rows, texts):
            hits = super().successes(answers, rows, texts)
            seen.extend(zip(rows, texts, hits, strict=True))
            return hits

    task = Watched.of(max_steps=4, batch_size=16, accumulation=1)
    probes = thinking.Probes(lambda policy: {"metrics": {
        key: {"value": 0.0} for key in thinking.PROBED}}, 2)
    policy = thinking.imitate(task, ANSWERS, 2000, probes)
    assert probes.columns["step"] == [0, 2, 4]
    before, tokenizer = base
    asked = prompt_ids(tokenizer, [row for row, _, _ in seen])
    said = [tokenizer(text)["input_ids"] for _, text, _ in seen]
    gain = {True: [], False: []}
    for old, new, (_, _, hit) in zip(*(completion_logprobs(model, asked, said,
                                                           tokenizer.pad_token_id)
                                       for model in (before, policy)), seen, strict=True):
        gain[hit].append(sum(new) - sum(old))
    assert fmean(gain[True]) > max(0, fmean(gain[False]))


def test_what_is_stored_is_whole():
    stored = thinking.measured()
    assert {"command", "date", "processor", "threads", "versions"} <= stored.keys()
    assert {variant: len(seeds) for variant, seeds in stored["runs"].items()} == {
        "all five": 5, "correctness only": 3, "form only": 3, "random reward": 3,
        "random reward, beta 0.02": 3, "own right answers": 3, "0.05 a token": 3}
    for seeds in stored["runs"].values():
        for seed, run in seeds.items():
            assert run["curve"]["step"][0] == 0 and run["curve"]["step"][-1] == 200
            assert all(len(column) == len(run["curve"]["step"])
                       for column in run["curve"].values())
            for m in run["final"].values():
                assert m["n"] == 240 and m["low"] <= m["value"] <= m["high"]
            assert run["tokens"] == pytest.approx(
                stored["runs"]["all five"][seed]["tokens"], rel=0.5)
    for seed, run in stored["runs"]["own right answers"].items():
        assert run["tokens"] == stored["runs"]["all five"][seed]["tokens"]


def test_the_page_of_results_shows_what_is_stored():
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    assert table(thinking.measured()) in page
