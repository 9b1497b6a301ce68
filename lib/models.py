"""Which model, on which device, in which precision.

Every tier goes through the same Auto classes: ``tiny`` is only a path into this package.
"""

import contextlib
import re
import socket
import urllib.request
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants, hf_hub_download
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from lib import CourseError
from lib.files import read_json
from lib.runs import CONFIG, POLICY, finished

disable_progress_bar()  # "Loading weights" and "Writing shards" flash by; downloads keep theirs


def pick_device() -> torch.device:
    """The first CUDA GPU if there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def precision(device: torch.device) -> dict[str, bool]:
    """``bf16`` and ``fp16`` for the trainer's mixed precision; weights stay in float32.

    bf16 from compute capability 8.0 (A100, L4); fp16 below (a T4 only emulates bf16);
    plain float32 on a CPU, where bf16 without hardware support is 7 to 20 times slower.
    """
    if device.type != "cuda":
        return {"bf16": False, "fp16": False}
    native = torch.cuda.get_device_capability(device)[0] >= 8
    return {"bf16": native, "fp16": not native}


def policy_path(model: str, task) -> str:
    """Where the policy is: ``tiny`` -> the task's bundled weights, else the path or Hub id itself.

    task: a Task or its class. A run folder stands for its trained policy, ``final/``; an exported
    one is the policy.
    """
    if model == "tiny":
        return str(task.tiny_policy)
    if (Path(model) / CONFIG).is_file() and not (Path(model) / "config.json").is_file():
        return str(finished(model) / POLICY)
    return model


def trained_with(path: str) -> dict:
    """training_config.json of the run that path is, lies in or was exported from; else empty.

    An export on the Hub, USER/NAME, has it too.
    """
    if Path(path).is_dir():
        for folder in (Path(path), Path(path).parent):
            if (folder / CONFIG).is_file():
                return read_json(folder / CONFIG)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", path) and hub_reachable():
        with contextlib.suppress(Exception):  # not ours, gated, no such id: loading it will tell
            return read_json(hf_hub_download(path, CONFIG))
    return {}


def behind_proxy() -> bool:
    """Whether the Hub is asked through a proxy."""
    return bool(urllib.request.getproxies().get(urlsplit(constants.ENDPOINT).scheme))


@cache
def hub_reachable() -> bool:
    """Whether the Hub answers; asked once a process. The Hub's own client would retry for half
    a minute. Behind a proxy the answer is left to that client."""
    if behind_proxy():
        return True
    endpoint = urlsplit(constants.ENDPOINT)
    try:
        address = (endpoint.hostname, endpoint.port or (80 if endpoint.scheme == "http" else 443))
        socket.create_connection(address, 5.0).close()
        return True
    except OSError:
        return False


def _load(auto_class, path: str, **kwargs):
    """``from_pretrained`` with its many failures told in one line."""
    if path.startswith((".", "/", "~", "runs/")) and not Path(path).expanduser().is_dir():
        raise CourseError(f"no such model folder: {path}")
    if not Path(path).is_dir() and not hub_reachable():
        kwargs["local_files_only"] = True  # what the cache holds still works
    try:
        return auto_class.from_pretrained(path, **kwargs)
    except (OSError, ValueError, KeyError) as error:
        if Path(path).is_dir():
            reason = str(error).strip().splitlines()[0]
            raise CourseError(f"the model folder {path} is damaged or incomplete: {reason}; "
                              "build or save it again") from None
        raise CourseError(
            f"cannot get '{path}' from the Hugging Face Hub (no connection, no such id, or a "
            "gated model); offline use tiny, or the path of a local folder") from None
    except Exception as error:  # safetensors and network libraries raise types of their own
        raise CourseError(f"cannot load '{path}': {type(error).__name__}: "
                          f"{str(error).strip().splitlines()[0]}") from None


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a policy, with a pad token (EOS where there is none of its own)."""
    tokenizer = _load(AutoTokenizer, path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def load_policy(path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in float32 on the device, in eval mode, and its tokenizer.

    Raises CourseError when it cannot be loaded or is not a causal language model.
    """
    kind = (getattr(_load(AutoConfig, path), "architectures", None) or [""])[0]
    if kind and not kind.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        raise CourseError(f"'{path}' is a {kind}, not a causal language model; a policy must "
                          "generate text: try --model tiny or --model gpt2")
    tokenizer = load_tokenizer(path)
    model = _load(AutoModelForCausalLM, path, dtype=torch.float32)
    return model.to(pick_device()).eval(), tokenizer


@cache
def load_scorer(path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A five-star classifier in float32 on the device, in eval mode, and its tokenizer.

    Raises CourseError when it cannot be loaded or has not exactly five classes.
    """
    config = _load(AutoConfig, path)
    kind = (getattr(config, "architectures", None) or [""])[0]
    if not kind.endswith("ForSequenceClassification") or config.num_labels != 5:
        raise CourseError(f"'{path}' is a {kind or 'model'} with {config.num_labels} labels, not "
                          "a five-star classifier; try --scorer tiny")
    tokenizer = _load(AutoTokenizer, path)
    model = _load(AutoModelForSequenceClassification, path, dtype=torch.float32)
    return model.to(pick_device()).eval(), tokenizer


def end_tokens(model: PreTrainedModel, tokenizer) -> list[int]:
    """The tokens that end a completion, as TRL's trainer counts them: EOS first, then the model's
    own (an instruct model may have two)."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [] if own is None else [own]
    return list(dict.fromkeys([tokenizer.eos_token_id, *own]))


def prompt_text(tokenizer, prompt) -> str:
    """What the model reads of a prompt: a text, messages, or a row that holds either as "prompt".

    Messages go through the chat template; where the last one is the assistant's, the policy is to
    go on with it. Raises CourseError where the tokenizer has no template.
    """
    if isinstance(prompt, dict):
        prompt = prompt["prompt"]
    if isinstance(prompt, str):
        return prompt
    if not tokenizer.chat_template:
        raise CourseError(f"{tokenizer.name_or_path} has no chat template, which this task needs; "
                          "take an instruct model, such as Qwen/Qwen2.5-0.5B-Instruct")
    if prompt[-1]["role"] == "assistant":
        return prompt_text(tokenizer, prompt[:-1]) + prompt[-1]["content"]
    return tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)


def max_positions(model: PreTrainedModel) -> int:
    """How many tokens fit into the model: prompt and completion together."""
    return getattr(model.config, "max_position_embeddings", None) or 10**9
