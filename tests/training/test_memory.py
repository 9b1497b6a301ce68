"""The estimate of a step's memory against the memory that steps take, and the page made from it."""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from benchmarks import gpu
from lib import memory
from lib.tasks import task_class
from lib.trl_overrides import Trainer

PROMPT = 24
# Shape, whether LoRA, completions a pass, passes, tokens: a large share for what is kept for the
# backward pass, then one for the weights and Adam's moments.
CASES = [("gpt2", False, 8, 1, 96), ("gpt2", True, 8, 1, 96), ("Qwen2.5-0.5B", False, 2, 1, 24)]


def case_task(lora: bool, batch: int, passes: int, tokens: int):
    return task_class("sentiment").of(
        model="gpt2", use_peft=lora, max_steps=2, batch_size=batch, accumulation=passes, beta=0.05,
        num_generations=2, max_completion_length=tokens)


def peak(name: str, *case) -> int:
    """Bytes that this process takes at most for two steps, beyond what it has before them."""
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        gpu.steps(Trainer, name, case_task(*case), PROMPT, folder)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}{', LoRA' * case[1]}")
def test_a_step_takes_what_was_estimated(case):
    if psutil.virtual_memory().available < 14 * 2**30:
        pytest.skip("needs 14 GiB of free memory")
    name, lora, batch, passes, tokens = case
    took = int(subprocess.run(
        [sys.executable, "-m", "tests.training.test_memory", json.dumps(case)], check=True,
        cwd=Path(__file__).parents[2], capture_output=True, text=True).stdout.splitlines()[-1])
    found = memory.estimate(gpu.SHAPES[name], batch=batch, step=batch * passes, group=2,
                            prompt=PROMPT, completion=tokens, lora=lora, gpu=False)
    print(f"{case}: {took / 2**30:.2f} GiB; {memory.told(found)}")
    assert took == pytest.approx(found.peak, rel=0.25)


def page_rows() -> list[str]:
    return gpu.PAGE.read_text().partition(gpu.MARKS[0])[2].partition(gpu.MARKS[1])[0].splitlines()


def test_the_page_has_a_row_a_model_and_that_of_the_smallest_is_fresh():
    rows = page_rows()[2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows[::2]] == list(gpu.SHAPES)
    assert rows[0] == gpu.row("gpt2", False), "run python -m benchmarks.gpu --table"


def test_the_large_model_of_the_page():
    text = " ".join(gpu.PAGE.read_text().split())
    for lora, trained in ((True, "LoRA"), (False, "all weights")):
        found = memory.estimate(gpu.SHAPES["Mistral-Small-24B"], batch=1, step=4, group=4,
                                prompt=64, completion=64, lora=lora)
        assert f"{found.peak / 2**30:.0f} GiB with {trained}" in text
    assert f"{2 * found.reference / memory.FLOAT / 2**30:.0f} GiB, and a step fits" in text
    assert f"of about {gpu.seconds('Qwen2.5-0.5B', False):.0f} seconds" in text


@pytest.mark.slow
def test_the_page_is_fresh():
    assert "\n".join(page_rows()) == gpu.table(), "run python -m benchmarks.gpu --table"


if __name__ == "__main__":
    print(peak(*json.loads(sys.argv[1])))
