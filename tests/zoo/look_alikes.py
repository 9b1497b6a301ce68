"""Small random look-alikes of the models that people bring: architecture, tokenizer, template.

``make(name, folder)`` saves one as its maker would: the special tokens, the padded embedding, the
wishes for sampling and the precision are those of the model it looks like; only size and weights
are not. Left out: weights that know anything.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from lib.tiny.cartoons import questions
from lib.tiny.corpus import openings
from lib.tiny.problems import SYSTEM_PROMPT, make_problems

WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 1024}
KV = WIDE | {"num_key_value_heads": 2}
GEMMA = KV | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64}

CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
THINKING = CHATML.removesuffix("{% endif %}") + "<think>\n{% endif %}"
HEADED = ("{{ bos_token }}{% for m in messages %}<head {{ m.role }}>\n{{ m.content }}<tail>"
          "{% endfor %}{% if add_generation_prompt %}<head assistant>\n{% endif %}")
NO_SYSTEM = ("{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
             "{{ raise_exception('System role not supported') }}{% endif %}<turn {{ m.role }}>\n"
             "{{ m.content | trim }}\n{% endfor %}{% if add_generation_prompt %}<turn model>\n"
             "{% endif %}")
SYSTEM_DROPPED = ("{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[ask] "
                  "{{ m.content }} [/ask]{% endif %}{% endfor %}")

END = ("<|endoftext|>",)
CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
SP = ("<unk>", "<s>", "</s>", "<pad>")
BEAMS = {"num_beams": 4, "min_new_tokens": 8, "no_repeat_ngram_size": 2, "num_return_sequences": 2}
COLD = {"do_sample": False, "temperature": 0.6, "top_p": 0.9}  # stops save_pretrained



@dataclass(frozen=True)
class Kind:
    """name: of the classes in transformers. special: tokens, in the order of their ids. sp: as
    SentencePiece does, else byte level. bos, behind: put around a text. spare: rows of the
    embedding without a token. ends: what ends a completion, where there are several. gen: what
    generation_config.json asks for."""

    name: str
    config: dict
    special: tuple[str, ...]
    sp: bool = False
    bos: str = ""
    behind: str = ""
    eos: str = "<|endoftext|>"
    pad: str | None = None
    chat: str | None = None
    spare: int = 0
    ends: tuple[str, ...] = ()
    gen: dict = field(default_factory=dict)
    dtype: torch.dtype = torch.float32


ZOO = {
    "gpt2": Kind("GPT2", special=END, gen=BEAMS, config={
        "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024}),
    "llama": Kind("Llama", config=KV, special=SP, sp=True, bos="<s>", eos="</s>", gen=COLD),
    "llama3": Kind("Llama", config=KV, special=("<|begin|>", "<|end|>", "<|eot|>"),
                   bos="<|begin|>", eos="<|eot|>", chat=HEADED, dtype=torch.bfloat16,
                   ends=("<|end|>", "<|eot|>")),
    "qwen2": Kind("Qwen2", config=KV, special=CHAT, eos="<|im_end|>", pad="<|endoftext|>",
                  chat=CHATML, spare=60, ends=("<|im_end|>", "<|endoftext|>"),
                  gen={"do_sample": True, "top_k": 20, "repetition_penalty": 1.1}),
    "qwen3": Kind("Qwen3", config=KV | {"head_dim": 8}, special=CHAT, eos="<|im_end|>",
                  pad="<|endoftext|>", chat=THINKING, dtype=torch.bfloat16),
    "gemma2": Kind("Gemma2", config=GEMMA, special=SP, sp=True, bos="<s>", eos="</s>",
                   pad="<pad>", chat=NO_SYSTEM),
    "gemma3": Kind("Gemma3", config=GEMMA, special=SP, sp=True, bos="<s>", eos="</s>", pad="<pad>",
                   chat=NO_SYSTEM, spare=64, gen={"do_sample": True, "top_k": 64, "top_p": 0.95}),
    "mistral": Kind("Mistral", config=KV | {"sliding_window": 64}, special=SP, sp=True,
                    bos="<s>", eos="</s>", chat=SYSTEM_DROPPED),
    "phi": Kind("Phi", config=WIDE | {"resid_pdrop": 0.1}, special=END, spare=40),
    "phi3": Kind("Phi3", config=KV | {"pad_token_id": 3}, special=SP, sp=True, eos="</s>",
                 pad="<pad>", chat=CHATML),
    "opt": Kind("OPT", special=SP, bos="</s>", eos="</s>", pad="<pad>", config={
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64,
        "word_embed_proj_dim": 32, "max_position_embeddings": 1024, "dropout": 0.1}),
    "bloom": Kind("Bloom", special=SP, eos="</s>", pad="<pad>", config={
        "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "neox": Kind("GPTNeoX", special=END, spare=30, dtype=torch.float16, config=WIDE | {
        "hidden_dropout": 0.1, "attention_dropout": 0.1}),
    "gpt_neo": Kind("GPTNeo", special=END, config={
        "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 1024,
        "attention_types": [[["global", "local"], 1]]}),
    "falcon": Kind("Falcon", special=END, config={
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": False}),
    "mamba": Kind("Mamba", special=END, config={"hidden_size": 32, "num_hidden_layers": 2}),
    "olmo2": Kind("Olmo2", config=KV, special=(*END, "<pad>"), pad="<pad>"),
    "mpt": Kind("Mpt", special=END, config={
        "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 1024}),
    "xglm": Kind("XGLM", special=SP, bos="<s>", behind="</s>", eos="</s>", pad="<pad>",
                 config={"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64,
                         "max_position_embeddings": 1024, "dropout": 0.1}),
}


def tokenizer(kind: Kind) -> PreTrainedTokenizerFast:
    """A tokenizer of the course's own texts, made as this kind's."""
    texts = [*openings(), *questions(), SYSTEM_PROMPT, *(
        problem.row()["question"] for problem in make_problems(100, 1, "train"))]
    if kind.sp:  # a mark for each space, bytes for what is unknown
        bytes_ = [f"<0x{i:02X}>" for i in range(256)]
        raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        raw.normalizer = normalizers.Sequence([
            normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        raw.decoder = decoders.Sequence([
            decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
            decoders.Strip(" ", 1, 0)])
        trainer = trainers.BpeTrainer(vocab_size=656, special_tokens=[*kind.special, *bytes_],
                                      show_progress=False, max_token_length=12)
    else:
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=list(kind.special), show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    raw.train_from_iterator(texts, trainer)
    if around := {kind.bos, kind.behind} - {""}:
        raw.post_processor = processors.TemplateProcessing(
            single=f"{kind.bos} $A {kind.behind}".strip(),
            special_tokens=[(token, raw.token_to_id(token)) for token in sorted(around)])
    given = {"bos_token": kind.bos, "pad_token": kind.pad, "eos_token": kind.eos}
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, **{key: value for key, value in given.items() if value})
    made.chat_template = kind.chat
    return made


def make(name: str, folder: Path) -> Path:
    """Save the look-alike of this name in folder; its own folder."""
    kind, path = ZOO[name], folder / name
    words = tokenizer(kind)
    ends = [words.convert_tokens_to_ids(end) for end in kind.ends] or words.eos_token_id
    head = "LMHeadModel" if kind.name == "GPT2" else "ForCausalLM"
    architecture = getattr(transformers, kind.name + head)
    config = architecture.config_class(
        **{"bos_token_id": words.bos_token_id, "pad_token_id": None} | kind.config,
        vocab_size=len(words) + kind.spare, eos_token_id=ends)
    torch.manual_seed(len(name))
    model = architecture(config).to(kind.dtype)
    model.save_pretrained(path)
    words.save_pretrained(path)
    asked = path / "generation_config.json"
    asked.write_text(json.dumps(json.loads(asked.read_text()) | kind.gen))
    return path
