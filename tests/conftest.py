"""Fixtures that all tiers share. No test reaches the network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import signal
from pathlib import Path

import pytest

from lib import models
from lib.answers import load_answers
from lib.tasks.sentiment import SentimentTask

# A job in the background is started deaf to Ctrl-C; what tests start and interrupt must not be.
signal.signal(signal.SIGINT, signal.default_int_handler)

EXERCISES = ["sentiment_reward", "exponential_shaping", "forward_kl_bonus",
             "backward_kl_penalty", "kl_estimates", "categorical_kl"]


@pytest.fixture(scope="session")
def solved_notebook(tmp_path_factory) -> Path:
    """The nbgrader source notebook of chapter 1: a student's perfect submission."""
    from grading.release import write_source

    return write_source(tmp_path_factory.mktemp("course"), "01_sentiment")


@pytest.fixture(scope="session")
def answers(solved_notebook) -> dict:
    """The reference answers of chapter 1, by name."""
    return load_answers(solved_notebook, EXERCISES)


@pytest.fixture(scope="session")
def tiny():
    """The tiny policy and its tokenizer."""
    return models.load_policy(models.policy_path("tiny", SentimentTask))


@pytest.fixture
def in_tmp(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
