"""The paths that only a CUDA machine takes, with random weights and no network.

    bash setup.sh test gpu

Elsewhere all of it is skipped. What these models take is measured by benchmarks/gpu.py.
"""

from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from benchmarks.gpu import SHAPES
from lib import memory, models, runs
from lib.files import read_json
from lib.tasks.sentiment import SentimentTask
from lib.training import train
from tests.zoo.look_alikes import ZOO, tokenizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
SETTINGS = {"scorer": "tiny", "max_steps": 3, "save_steps": 2, "batch_size": 8, "accumulation": 2,
            "num_generations": 4, "max_completion_length": 32, "beta": 0.05}


@pytest.fixture(scope="module", params=["gpt2", "Qwen2.5-0.5B"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / request.param
    words = tokenizer(ZOO["qwen2"])
    torch.manual_seed(0)
    config = SHAPES[request.param]
    config.eos_token_id, config.bos_token_id = words.eos_token_id, None
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def trained(model, answers, run_dir, **changes):
    torch.cuda.reset_peak_memory_stats()
    return train(SentimentTask.of(model=str(model), **SETTINGS | changes), answers, run_dir)


@pytest.mark.parametrize("lora", [False, True])
def test_a_run_fits_its_estimate(model, answers, tmp_path, lora):
    run = trained(model, answers, tmp_path / "run", use_peft=lora)
    assert read_json(run / runs.HISTORY)[0]["kl"] == pytest.approx(0, abs=1e-3)
    found = memory.estimate(models.load_config(str(model)), batch=8, step=16, group=4, prompt=16,
                            completion=32, lora=lora)
    assert torch.cuda.max_memory_allocated() == pytest.approx(found.peak, rel=0.25)


def test_resumed_on_a_gpu(model, answers, tmp_path):
    """Within rounding: a GPU adds in an order of its own."""
    run = trained(model, answers, tmp_path / "run")
    before = load_file(run / runs.POLICY / "model.safetensors")
    (run / runs.FINAL).unlink()
    task = SentimentTask.of(model=str(model), **SETTINGS)
    train(task, answers, run, resume=str(run / "checkpoint-2"))
    for name, value in load_file(run / runs.POLICY / "model.safetensors").items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=5e-5)


def test_a_full_gpu_gets_a_smaller_batch(model, answers, tmp_path, capfd):
    config = models.load_config(str(model))
    wanted = memory.estimate(config, batch=64, step=64, group=4, prompt=16, completion=200)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 0.8 * wanted.peak / total))
    try:
        run = trained(model, answers, tmp_path / "run", batch_size=64, accumulation=1,
                      max_completion_length=200, max_steps=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    settings = read_json(run / runs.CONFIG)["settings"]
    assert settings["batch_size"] < 64 and settings["batch_size"] * settings["accumulation"] == 64
    assert "the same step" in capfd.readouterr().err


@pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM: pip install -e '.[gpu]'")
def test_vllm(model, answers, tmp_path):
    run = trained(model, answers, tmp_path / "run", use_vllm=True)
    assert len(read_json(run / runs.HISTORY)) == 3
