"""Which model, on which device, in which precision.

Every tier goes through the same Auto classes: ``tiny`` is only a path into this package.
"""

import contextlib
import copy
import json
import os
import re
import socket
import urllib.request
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants, hf_hub_download
from safetensors import SafetensorError, safe_open
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from lib import CourseError
from lib.files import read_json
from lib.logprobs import OUT_OF_MEMORY
from lib.progress import tell_once
from lib.prompts import prompt_text as prompt_text  # notebooks ask for it here
from lib.runs import CONFIG, POLICY, finished, read_config

SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
NAMES_BASE = "base_model_name_or_path"  # in adapter_config.json

disable_progress_bar()  # "Loading weights" and "Writing shards" flash by; downloads keep theirs


def pick_device() -> torch.device:
    """The first CUDA GPU if there is one, else the CPU; of several processes each has its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


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
    model = expanded(model)
    if (Path(model) / CONFIG).is_file() and not any(
            (Path(model) / name).is_file() for name in ("config.json", "adapter_config.json")):
        policy = finished(model) / POLICY
        if not policy.is_dir():
            raise CourseError(f"the run {model} has lost its folder {POLICY}/; copy the whole run "
                              "again, or train it again")
        return str(policy)
    return model


def expanded(path: str) -> str:
    """The path with ``~`` resolved, which a shell leaves alone in ``--model=~/mine``."""
    with contextlib.suppress(RuntimeError):  # nobody of that name: a folder called so, perhaps
        return str(Path(path).expanduser()) if path.startswith("~") else path
    return path


def trained_with(path: str) -> dict:
    """training_config.json of the run that path is, lies in or was exported from; else empty.

    An export on the Hub, USER/NAME, has it too.
    """
    path = expanded(path)
    if Path(path).is_dir():
        for folder in (Path(path), Path(path).parent):
            if (folder / CONFIG).is_file():
                return read_config(folder)
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
    path = expanded(path)
    here = path.startswith((".", "/", "runs/")) or os.path.lexists(path)
    if here and not Path(path).is_dir():
        raise CourseError(f"no such model folder: {path}")
    if not Path(path).is_dir() and not hub_reachable():
        kwargs["local_files_only"] = True  # what the cache holds still works
    try:
        return auto_class.from_pretrained(path, trust_remote_code=False, **kwargs)
    except Exception as error:  # each library raises types of its own
        if Path(path).is_dir():
            raise CourseError(_what_is_wrong(Path(path), error)) from None
        if not isinstance(error, OSError | ValueError | KeyError):
            raise CourseError(f"cannot load '{path}': {_first_line(error)}") from None
        if base := _base_of_hub_adapter(path):
            raise CourseError(f"'{path}' is a LoRA adapter of {base}, not a whole model; fetch it "
                              f"with `hf download {path} --local-dir DIR` and name that folder"
                              ) from None
        raise CourseError(
            f"cannot get '{path}' from the Hugging Face Hub (no connection, no such id, or a "
            "gated model); offline use tiny, or the path of a local folder") from None


def _file(path: str, name: str) -> Path | None:
    """A file of a model: in its folder, on the Hub, or in the Hub's cache. None: it has none."""
    if Path(path).is_dir():
        file = Path(path) / name
        return file if file.is_file() else None
    with contextlib.suppress(Exception):  # no such file, id or connection: loading the model tells
        return Path(hf_hub_download(path, name, local_files_only=not hub_reachable()))
    return None


def _base_of_hub_adapter(path: str) -> str | None:
    """The base model of a LoRA adapter on the Hub or in its cache; None of anything else."""
    with contextlib.suppress(CourseError):
        if file := _file(path, "adapter_config.json"):
            return read_json(file, NAMES_BASE)[NAMES_BASE]
    return None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"


def _what_is_wrong(folder: Path, error: Exception) -> str:
    """Why a model folder cannot be loaded, in one line; damaged is what cannot be read."""
    for file in sorted(folder.iterdir()):
        try:
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
        except (OSError, ValueError, SafetensorError):
            return f"the file {file} is damaged or incomplete; build, save or copy it again"
    if not (folder / "config.json").is_file():
        return (f"{folder} holds no config.json, so it is no model folder; a run's trained policy "
                f"is its folder {POLICY}/")
    config = read_json(folder / "config.json", "model_type")
    if config["model_type"] not in CONFIG_MAPPING:
        code = " and brings code of its own, which the course does not run" * (
            "auto_map" in config)
        return (f"{folder} is a model of the type '{config['model_type']}', which this "
                f"transformers does not know{code}; take a model that it knows")
    return f"the model folder {folder} cannot be loaded: {_first_line(error)}"


def _weights(auto_class, path: str, **kwargs) -> PreTrainedModel:
    """The model in float32. Raises CourseError where weights are missing: they would be random."""
    model, told = _load(auto_class, path, dtype=torch.float32, output_loading_info=True, **kwargs)
    if missing := sorted(told["missing_keys"]):
        raise CourseError(f"the weights of {path} lack {len(missing)} of this model's tensors, "
                          f"{missing[0]} among them; take the whole model, or save it again")
    return model


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a policy, with a pad token (EOS where there is none of its own).

    Raises CourseError where there is none, or no token that ends a completion.
    """
    tokenizer = _load(AutoTokenizer, path)
    if not tokenizer("The film", add_special_tokens=False)["input_ids"]:
        raise CourseError(f"{path} has no tokenizer files, or empty ones; save the tokenizer of "
                          "the model there too")
    if tokenizer.eos_token_id is None:
        raise CourseError(f"the tokenizer of {path} names no end token (eos_token), so no "
                          "completion could end; set tokenizer.eos_token and save it again")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    tokenizer.model_input_names = ["input_ids", "attention_mask"]  # no token_type_ids
    return tokenizer


def load_policy(path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in float32 on the device, in eval mode, and its tokenizer.

    A LoRA adapter is merged into its base. Sampling is plain and dropout off, whatever the model's
    files say. Raises CourseError when it cannot be loaded, is not a causal language model, or does
    not fit its tokenizer.
    """
    path = expanded(path)
    if (Path(path) / "adapter_config.json").is_file() and not (
            Path(path) / "config.json").is_file():
        model, tokenizer = _load_adapter(path)
    else:
        config = load_config(path)
        tokenizer = load_tokenizer(path)
        model = _weights(AutoModelForCausalLM, path,
                         generation_config=_special_tokens(path, config))
    _check_fit(path, model, tokenizer)
    return _on_device(plain(model), path), tokenizer


def _special_tokens(path: str, config) -> GenerationConfig:
    """What generation_config.json says of special tokens, or config where there is no such file.

    Nothing else of it is read: some of what stands in such files stops transformers from loading.
    """
    file, text = _file(path, "generation_config.json"), config.get_text_config()
    found = read_json(file) if file else {name: getattr(text, name, None) for name in SPECIAL}
    if not isinstance(found, dict):
        raise CourseError(f"{file} holds no object; mend it, or remove it")
    for name in SPECIAL:
        ids = found.get(name)
        if not all(one is None or type(one) is int for one in (
                ids if isinstance(ids, list) else [ids])):
            raise CourseError(f"{file} gives {name} as {ids!r}, which is no id; mend it there")
    return GenerationConfig(**{name: found.get(name) for name in SPECIAL})


def _on_device(model: PreTrainedModel, path: str) -> PreTrainedModel:
    try:
        return model.to(pick_device()).eval()
    except OUT_OF_MEMORY:
        raise CourseError(f"the weights of {path} do not fit into the GPU's memory; take a smaller "
                          "model, or end what else uses the GPU") from None


def load_config(path: str):
    """The transformers config of the causal language model at path; its weights are not read."""
    config = _load(AutoConfig, path)
    _check_kind(path, config)
    return config


def _load_adapter(path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from peft import PeftModel  # seconds to import

    base = read_json(Path(path) / "adapter_config.json", NAMES_BASE)[NAMES_BASE]
    if not isinstance(base, str) or Path(base).resolve() == Path(path).resolve():
        raise CourseError(f"{path} is a LoRA adapter that does not name its base model; write it "
                          f"into adapter_config.json as {NAMES_BASE}")
    try:
        model, tokenizer = load_policy(base)
        if (Path(path) / "tokenizer_config.json").is_file():
            tokenizer = load_tokenizer(path)
        model = PeftModel.from_pretrained(model, path).merge_and_unload()
    except Exception as error:  # of the base, or of an adapter that does not fit it
        raise CourseError(f"{path} is a LoRA adapter of {base}, and the two cannot be joined "
                          f"({error}); a run's trained policy is its folder {POLICY}/") from None
    model.name_or_path = model.config._name_or_path = base
    return model, tokenizer


def _check_kind(path: str, config) -> None:
    """Raise CourseError unless config is that of a causal language model."""
    kind = (getattr(config, "architectures", None) or [""])[0]
    two_parts = getattr(config, "is_encoder_decoder", False)
    if two_parts or (kind and not kind.endswith(
            ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))):
        what = f"an encoder-decoder ({kind or config.model_type})" if two_parts else f"a {kind}"
        raise CourseError(f"'{path}' is {what}, not a causal language model; a policy must "
                          "generate text: try --model tiny or --model gpt2")


def _check_fit(path: str, model: PreTrainedModel, tokenizer) -> None:
    """Raise CourseError where the tokenizer has ids that the embedding lacks."""
    rows = model.get_input_embeddings().weight.shape[0]
    token, last = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if last >= rows:
        raise CourseError(f"the tokenizer of {path} does not fit the model: its token {token!r} "
                          f"has the id {last}, and the embedding has {rows} rows; take the "
                          "model's own tokenizer, or call resize_token_embeddings and save both")


def plain(model: PreTrainedModel) -> PreTrainedModel:
    """The model without its own wishes for sampling and without dropout.

    generation_config.json may ask for beams, filters and penalties; some combinations also stop
    ``save_pretrained``, at the first checkpoint. TRL turns off ``nn.Dropout``; OPT, GPT-NeoX and
    others keep rates as numbers, in their modules or in the config that these read. With any left
    on, policy and reference differ before the first step.
    """
    asked = model.generation_config
    model.generation_config = GenerationConfig(**{name: getattr(asked, name) for name in SPECIAL})
    for owner in (*model.modules(), model.config, model.config.get_text_config()):
        for name, value in list(vars(owner).items()):
            if re.search("drop|jitter", name) and isinstance(value, float):
                setattr(owner, name, 0.0)
        if isinstance(owner, torch.nn.Dropout):
            owner.p = 0.0
    return model


STAR_WORDS = ("very negative", "negative", "neutral", "positive", "very positive")


def star_order(path: str, labels: dict[int, str]) -> list[int]:
    """Which output of a classifier is one star, which two, ..., read from its labels.

    labels: the config's id2label. The number in a label counts its stars; the five words from
    "very negative" to "very positive" are understood too; ``LABEL_0`` to ``LABEL_4`` say nothing
    and are taken in their order, with a word. Raises CourseError for any others.
    """
    names = [str(labels[i]).strip().lower() for i in range(5)]
    if names == [f"label_{i}" for i in range(5)]:
        tell_once(f"note: {path} does not say what its labels mean; taken as one to five stars, "
                  "in this order")
        return list(range(5))
    words = [re.sub(r"[\s_-]+", " ", name) for name in names]
    stars = [re.fullmatch(r"([1-5])( ?stars?)?|stars? ?([1-5])", name) for name in words]
    if all(stars):
        words, wanted = [match[1] or match[3] for match in stars], tuple("12345")
    else:
        wanted = STAR_WORDS
    if sorted(words) != sorted(wanted):
        raise CourseError(f"the labels of '{path}' are no stars ({', '.join(names)}); a scorer "
                          "wants the labels 1 star to 5 stars: try --scorer tiny")
    return [words.index(word) for word in wanted]


@cache
def load_scorer(path: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[int]]:
    """A five-star classifier in float32 on the device, in eval mode, its tokenizer, and which of
    its outputs is one star, two stars, ... (``star_order``).

    Raises CourseError when it cannot be loaded, or its classes are not five stars.
    """
    path = expanded(path)
    config = _load(AutoConfig, path)
    kind = (getattr(config, "architectures", None) or [""])[0]
    if not kind.endswith("ForSequenceClassification") or config.num_labels != 5:
        raise CourseError(f"'{path}' is a {kind or 'model'} with {config.num_labels} labels, not "
                          "a five-star classifier; try --scorer tiny")
    order = star_order(path, config.id2label)
    tokenizer = _load(AutoTokenizer, path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise CourseError(f"the tokenizer of {path} names no token to pad with; set "
                          "tokenizer.pad_token and save it again")
    model = _weights(AutoModelForSequenceClassification, path)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id  # where GPT-2's text ends
    _check_fit(path, model, tokenizer)
    return _on_device(model, path), tokenizer, order


def end_tokens(model: PreTrainedModel, tokenizer) -> list[int]:
    """The tokens that end a completion, as TRL's trainer counts them: EOS first, then the model's
    own (an instruct model may have two)."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [] if own is None else [own]
    return list(dict.fromkeys([tokenizer.eos_token_id, *own]))


def max_positions(model: PreTrainedModel) -> int:
    """How many tokens fit into the model: prompt and completion together."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or getattr(
        config, "max_seq_len", None) or 10**9
    for name, module in model.named_modules():  # RoBERTa counts from its padding id + 1
        if name.endswith("embeddings.position_embeddings") and getattr(
                module, "padding_idx", None) is not None:
            limit = min(limit, module.num_embeddings - module.padding_idx - 1)
    return limit


def lora_config(model):
    """LoRA of rank 8 on ``c_attn`` and ``c_proj`` of a GPT-2, else on every linear layer."""
    from peft import LoraConfig

    gpt2 = model.config.model_type == "gpt2"
    return LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, task_type="CAUSAL_LM",
                      target_modules=["c_attn", "c_proj"] if gpt2 else "all-linear",
                      fan_in_fan_out=gpt2)  # GPT-2 stores its weights transposed (Conv1D)


def check_lora(model) -> None:
    """Raise CourseError where PEFT finds no layers to adapt, or refuses those that it finds (a
    Mamba's kernels read weights past their layers), before a run folder is made."""
    from peft import get_peft_model

    with torch.device("meta"):  # names and shapes alone, no weights
        skeleton = type(model)(copy.deepcopy(model.config))
    try:
        get_peft_model(skeleton, lora_config(model))
    except ValueError as error:
        why = re.sub(r"^\[PEFT:\S+\] ", "", str(error).splitlines()[0]).split(". ")[0]
        raise CourseError(f"--use-peft cannot adapt a {type(model).__name__} ({why}); leave it "
                          "out, and all weights are trained") from None
