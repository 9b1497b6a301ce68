import math

import pytest
import torch

from lib import CourseError
from lib.logprobs import completion_logprobs
from lib.rewards import RewardFunction, validate_rewards
from lib.tasks.sentiment import SentimentTask

TEXTS = [" awful.", " superb. I loved every minute."]


def parts_of(answers, texts, *, prompts=("p", "p"), completion_ids=((1,), (2,)),
             reference_logps=None, **settings):
    """The parts of the texts' rewards under a run with these settings."""
    reward = RewardFunction(SentimentTask.of(**settings), answers, reference_logps, None)
    return reward.parts(list(prompts), texts, [list(ids) for ids in completion_ids])


@pytest.mark.parametrize(("values", "message"), [
    ([1.0], "1 values for 2 completions"), ([1.0, math.nan], "value 1 is nan"),
    ([math.inf, 0.0], "value 0 is inf"), (torch.ones(2), "a Tensor"), (None, "NoneType"),
    (0.5, "float"), ([0.5, None], "value 1 is a NoneType"), ([True, 0.5], "is a bool"),
    (["0.5", 0.5], "is a str"), ([torch.tensor(1.0), 0.5], "is a Tensor"),
])
def test_a_wrong_reward_is_told_by_what_it_is(values, message):
    with pytest.raises(CourseError, match=f"my_reward: .*{message}"):
        validate_rewards("my_reward", values, 2)


def test_floats_and_integers_are_rewards():
    assert validate_rewards("f", [1, 0.5], 2) == [1.0, 0.5]


def test_an_exception_inside_the_students_function_is_one_line_with_its_name():
    def sentiment_reward(completions, **kwargs):
        return [1 / 0 for _ in completions]

    with pytest.raises(CourseError, match=r"sentiment_reward: it raised ZeroDivisionError"):
        parts_of({"sentiment_reward": sentiment_reward}, TEXTS)


def test_without_shaping_and_kl_the_reward_is_the_score(answers):
    assert parts_of(answers, TEXTS)["reward"] == answers["sentiment_reward"](TEXTS)


@pytest.mark.parametrize("kl_type", ["forward", "backward"])
def test_parts_add_up_and_the_reference_reads_the_sampled_ids(answers, tiny, kl_type):
    model, tokenizer = tiny
    prompts, ids = ["The film was"] * 2, tokenizer(TEXTS)["input_ids"]
    ids = [[*row, tokenizer.eos_token_id] for row in ids]
    logps = completion_logprobs(model, tokenizer(prompts)["input_ids"], ids, 0)
    got = parts_of(answers, TEXTS, prompts=prompts, completion_ids=ids,
                   reference_logps=lambda prompts, ids: logps, reward_shaping="exponential",
                   shaping_temperature=0.5, kl_type=kl_type, kl_coef=0.3)
    for i, (score, logp) in enumerate(zip(answers["sentiment_reward"](TEXTS), logps, strict=True)):
        mean = sum(logp) / len(logp)
        term = 0.3 * mean if kl_type == "forward" else -0.3 * math.exp(-mean)
        assert got["reward"][i] == pytest.approx(math.exp(score / 0.5) - 1 + term, rel=1e-5)
        assert got["kl_term"][i] == pytest.approx(term, rel=1e-5)


def test_a_shaping_that_changes_its_argument_does_not_change_the_logged_score(answers):
    def exponential_shaping(scores, temperature):
        scores.sort()
        return [0.0] * len(scores)

    parts = parts_of({**answers, "exponential_shaping": exponential_shaping}, TEXTS[::-1],
                     reward_shaping="exponential")
    assert parts["score"] == answers["sentiment_reward"](TEXTS[::-1])
