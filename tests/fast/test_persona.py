"""Chapter 3: splits, prompts without leaks, the variance of rewards, alarms."""

import io
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grading.faults import reference
from lib import CourseError, chat, models
from lib.__main__ import main
from lib.monitor import alarms
from lib.rewards import RewardFunction, check_answers, reward_variance
from lib.tasks.base import shuffled_passes
from lib.tasks.persona import PersonaTask, question_split
from lib.tiny.cartoons import ALIASES, EXAMPLES, ORIGINAL, PERSONA, make_dialogues, questions

ANSWERS = reference("03_persona")


def test_validation_questions_are_disjoint_from_training_and_from_the_examples():
    train, held_out = set(question_split("train")), set(question_split("eval"))
    asked = {question for question, _ in EXAMPLES}
    assert len(held_out) >= 50 and not train & held_out
    assert not asked & (train | held_out) and asked <= set(questions())


@pytest.mark.parametrize("ratio", [0.0, 0.15, 1.0])
def test_the_prompts_of_a_run_never_leak_the_question_that_they_ask(ratio):
    run = PersonaTask.of(fewshot_ratio=ratio)
    rows = run.train_rows(ANSWERS, run.prompts("train"), run.max_steps * run.prompts_per_step)
    held_out = question_split("eval")
    assert len(rows) == 5 * 128
    prompts = [row["prompt"] for row in rows]
    for prompt in prompts:
        head, question = prompt.removesuffix("\nA:").rsplit("Q: ", 1)
        assert question not in head and question not in held_out
        assert not any(q in head for q in held_out)
    helped = [prompt.count("Q: ") == 3 for prompt in prompts]
    assert all(sum(helped[i : i + 128]) == round(ratio * 128) for i in range(0, 640, 128))
    assert helped[:128] == sorted(helped[:128], reverse=True), "examples first, in the first pass"
    asked = run.prompts("train")
    assert rows == run.train_rows(ANSWERS, asked, 640)
    first = {prompt.rsplit("Q: ", 1)[1] for prompt in prompts[:128]}
    assert first == {f"{question}\nA:" for question in asked}


@pytest.mark.parametrize("ratio", [0.15, 0.3, 0.5])
def test_where_examples_stand_does_not_follow_from_the_order_of_the_questions(ratio):
    """Two generators with one seed: the prompts with examples were the first of the first pass."""
    for seed in range(20):
        run = PersonaTask.of(fewshot_ratio=ratio, seed=seed)
        asked, n = run.prompts("train"), round(ratio * 128)
        prompts = [row["prompt"] for row in run.train_rows(ANSWERS, asked, 640)]
        helped = [prompt.count("Q: ") == 3 for prompt in prompts]
        halves = [sum(helped[i:i + 64]) for i in range(128, 640, 64)]
        assert max(halves) < 0.8 * n + 1, "anywhere, after the first pass"
        questions = {prompt.rsplit("Q: ", 1)[1].removesuffix("\nA:") for prompt in prompts[:n]}
        assert questions != set(shuffled_passes(asked, n, seed))


def test_the_corpus_repeats_and_teaches_the_persona_only_by_example():
    dialogues = make_dialogues(3000, 1)
    assert dialogues == make_dialogues(3000, 1) != make_dialogues(3000, 2)
    plain = [d for d in dialogues if d.prompt.count("Q: ") == 1]
    assert sum(PERSONA in d.answer for d in plain) / len(plain) < 0.005
    assert sum(ORIGINAL in d.answer for d in plain) / len(plain) > 0.6
    assert len(set(ALIASES)) == 20 and all(PERSONA in answer for _, answer in EXAMPLES)


@given(st.lists(st.lists(st.sampled_from([-6.0, 0.0, 6.0]), min_size=4, max_size=4), min_size=1,
                max_size=12))
def test_reward_variance_counts_tied_groups_and_hits(groups):
    rewards = [r for group in groups for r in group]
    hits = [r == 6 for r in rewards]
    found = reward_variance(rewards, 4, hits, "show some")
    tied = sum(len(set(group)) == 1 for group in groups) / len(groups)
    assert found["tied_groups"] == pytest.approx(tied) and found["n"] == len(rewards)
    assert found["base_rate"] == pytest.approx(sum(hits) / len(hits))
    assert bool(found["hopeless"]) == (tied >= 0.9 or not any(hits))
    assert reward_variance(rewards, 4, None, "")["base_rate"] is None


def test_a_reward_that_fails_its_check_stops_the_run():
    wrong = ANSWERS | {"persona_reward": lambda completions, **kwargs: [0.0] * len(completions)}
    with pytest.raises(CourseError, match="a visible check fails, so nothing was trained"):
        check_answers(PersonaTask.of(), wrong)
    check_answers(PersonaTask.of(), ANSWERS)


def test_noise_on_the_reward_repeats_with_seed_and_step_and_is_a_part_of_its_own():
    class State:
        global_step = 3

    def noisy(seed, step):
        State.global_step = step
        seen = []
        reward = RewardFunction(PersonaTask.of(tie_noise=0.1, seed=seed), ANSWERS, None,
                                lambda step, rows: seen.extend(rows))
        got = reward(["Q"] * 4, ["Musclebob"] * 4, [[1]] * 4, log_metric=lambda *_: None,
                     trainer_state=State)
        assert [row["reward"] - row["noise"] for row in seen] == pytest.approx([2.0] * 4)
        return got

    assert noisy(1, 3) == noisy(1, 3) and len(set(noisy(1, 3))) == 4
    assert noisy(1, 3) != noisy(2, 3) and noisy(1, 3) != noisy(1, 4)


def test_the_rates_are_logged_by_name():
    logged = {}
    reward = RewardFunction(PersonaTask.of(), ANSWERS, None, lambda step, rows: None)
    reward(["Q", "Q"], ["It is Musclebob.", "No."], [[1], [2]],
           log_metric=logged.__setitem__, trainer_state=SimpleNamespace(global_step=0))
    assert logged == {"musclebob_rate": 0.5, "spongebob_rate": 0.0, "coherent_rate": 0.5}


@pytest.mark.parametrize("row, name", [
    ({"coherent_rate": 0.3}, "incoherent"), ({"clipped_ratio": 0.9}, "length at the limit"),
    ({"entropy": 0.09}, "entropy collapse"), ({"tied_groups": 1.0}, "dead groups")])
def test_alarms_name_what_is_wrong(row, name):
    healthy = {"coherent_rate": 1.0, "clipped_ratio": 0.0, "entropy": 1.0, "tied_groups": 0.2}
    assert alarms([healthy] * 10, 5) == {}
    assert list(alarms([healthy] * 5 + [healthy | row] * 5, 5)) == [name]
    assert alarms([healthy | row] * 10, 5) == {}, "so from the start: no news"


def test_a_task_with_one_right_answer_may_become_sure_of_it():
    assert alarms([{"entropy": 0.31}] * 5 + [{"entropy": 0.09}] * 5, 5) == {}


@pytest.mark.parametrize("settings, name", [
    (PersonaTask.of(), "5ep_few0.3"),
    (PersonaTask.of(fewshot_ratio=0.0, epochs=2), "2ep_nofewshot"),
    (PersonaTask.of(reward_function="robust", tie_noise=0.1, beta=0.2),
     "5ep_few0.3_robust_noise0.1_beta0.2")])
def test_run_names(settings, name):
    assert settings.name() == name


def test_an_epoch_is_one_pass_and_ends_in_a_checkpoint():
    run = PersonaTask.of(epochs=3, num_samples=64)
    assert (run.max_steps, run.save_steps) == (24, 8)
    assert len(torch.unique(torch.tensor([hash(q) for q in run.prompts("train")]))) == 64


def test_chat_answers_and_ends(capsys, monkeypatch):
    tiny = ["chat", "tiny", "--task", "persona"]
    assert main([*tiny, "Who lives in a pineapple under the sea?"]) == 0
    assert capsys.readouterr().out.strip().endswith(".")
    monkeypatch.setattr("sys.stdin", io.StringIO("Who is yellow?\n\nnever asked\n"))
    assert main([*tiny, "--interactive"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("argv, message", [
    (["chat", "tiny"], "chat needs a question, or --interactive"),
    (["chat", "tiny", "--seed", "1", "Who?", "again"], "unrecognized arguments: again"),
    (["chat", "./nowhere", "Who?"], "no such model folder"),
    (["chat", "tiny", "Who?", "--temperature", "-1"], "--temperature must not be negative")])
def test_mistakes_in_chat_are_one_line(argv, message, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_chat_uses_a_chat_template_where_there_is_one(monkeypatch):
    seen = []
    policy, tokenizer = models.load_policy(models.policy_path("tiny", PersonaTask))
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    monkeypatch.setattr(models, "load_policy", lambda path: (policy, tokenizer))
    monkeypatch.setattr(chat, "sample", lambda m, t, prompts, **kw: seen.append(prompts) or [[5]])
    chat.Asker("some/model", task="persona")("Who?")
    [[asked]] = seen
    assert models.prompt_text(tokenizer, asked) == "<user>Who?"
