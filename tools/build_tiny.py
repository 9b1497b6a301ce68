"""Rebuild the embedded tier: ``python -m tools.build_tiny``. Seeded, minutes on two cores.

Writes tokenizer, config, safetensors (float16 on disk, float32 in use) and a model card
with the figures measured here into ``lib/tiny/weights``. Same machine and versions, same
weights; another processor may round differently, so the cards state what was measured.
"""

import argparse
import math
import random
import shutil
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    set_seed,
)

from lib.models import load_policy
from lib.rollout import sample
from lib.tasks.reasoning import ANSWER_AT_ONCE, messages, steps_written
from lib.tiny import WEIGHTS, cartoons, problems
from lib.tiny.corpus import ADJECTIVES, STARS, make_reviews, word_salad

EOS, MESSAGE_START, MESSAGE_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_WORDS = r"</?[a-z]+>\n?|\d|\n| ?[^\s\d<]+|\s+|<"  # a tag is a word, every digit its own
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
SEED = 0
TRAIN_REVIEWS, HELD_OUT = 60_000, 2_000
HELD_OUT_PROBLEMS = 240
CALCULATES, HASTY = (0.15, 0.65), (0.71, 0.28)  # shares (answered at once, worked out in full)


def bpe_tokenizer(texts: list[str], vocab_size: int, max_length: int,
                  chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer as GPT-2's: one special token, which also ends a text.

    chat: as Qwen2.5's instead. Every digit is a token, a chat template frames messages, and the
    end of a message is what ends a completion.
    """
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(CHAT_WORDS), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        if chat else [pre_tokenizers.ByteLevel(add_prefix_space=False)])
    raw.decoder = decoders.ByteLevel()
    special = [EOS, MESSAGE_START, MESSAGE_END] if chat else [EOS]
    raw.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokens = ({"eos_token": MESSAGE_END, "pad_token": EOS, "chat_template": CHAT_TEMPLATE,
               "additional_special_tokens": [MESSAGE_START]} if chat
              else {"eos_token": EOS, "bos_token": EOS})
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token=EOS,
                                   model_max_length=max_length, **tokens)


def wordpiece_tokenizer(texts: list[str], max_length: int) -> BertTokenizerFast:
    """A lower-casing WordPiece tokenizer as BERT's, over the letters and words of texts."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=600, special_tokens=special, show_progress=False,
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789.,!?'"))
    raw = BertTokenizerFast(vocab={t: i for i, t in enumerate(special)}).backend_tokenizer
    raw.train_from_iterator(texts, trainer)
    return BertTokenizerFast(vocab=raw.get_vocab(), model_max_length=max_length)


def fit(model, batches: int, loss_of_batch, learning_rate: float, title: str) -> None:
    """Train model with AdamW, one-cycle schedule; loss_of_batch() draws its own batch."""
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, batches)
    model.train()
    bar = tqdm(range(batches), title, disable=None, file=sys.stderr)
    for _ in bar:
        loss = loss_of_batch()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    model.eval()


Pair = tuple[str, str]  # (what is given, what is learnt)


def encode_causal(tokenizer, pairs: list[Pair]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, labels and attention mask, each (N, T). Only what is learnt, and the EOS after it,
    is labelled; padding carries the EOS id too, but the label -100 and mask 0."""
    rows = [(tokenizer(given)["input_ids"], tokenizer(learnt)["input_ids"]
             + [tokenizer.eos_token_id]) for given, learnt in pairs]
    width = max(len(given) + len(learnt) for given, learnt in rows)
    ids = torch.full((len(rows), width), tokenizer.eos_token_id)
    labels = torch.full((len(rows), width), -100)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, (given, learnt) in enumerate(rows):
        end = len(given) + len(learnt)
        ids[i, :end] = torch.tensor(given + learnt)
        labels[i, len(given) : end] = torch.tensor(learnt)
        mask[i, :end] = 1
    return ids, labels, mask


@torch.no_grad()
def causal_loss(model, ids: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> float:
    """Mean negative log-likelihood of a labelled token, in nats."""
    total = count = 0.0
    for i in range(0, len(ids), 250):
        n = (labels[i : i + 250, 1:] != -100).sum().item()
        loss = model(ids[i : i + 250], attention_mask=mask[i : i + 250],
                     labels=labels[i : i + 250]).loss
        total, count = total + loss.item() * n, count + n
    return total / count


def shared_prefix(ids: torch.Tensor) -> int:
    """How many tokens all rows of ids (N, T) begin with."""
    return int((ids == ids[0]).all(0).long().cumprod(0).sum())


def learnt_loss(model, ids: torch.Tensor, labels: torch.Tensor, shared: int) -> torch.Tensor:
    """Mean loss of the labelled tokens of right-padded rows ids, labels (B, T).

    The first tokens, which are the same in all rows and not labelled, are read once.
    """
    cache = DynamicCache(config=model.config)
    if shared:
        model.transformer(ids[:1, :shared], past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(ids))
    hidden = model.transformer(ids[:, shared:-1], past_key_values=cache,
                               use_cache=True).last_hidden_state
    learnt = labels[:, shared + 1 :]
    return cross_entropy(model.lm_head(hidden[learnt != -100]), learnt[learnt != -100])


def build_policy(folder: Path, stages: list[tuple[list[Pair], int]], held_out: list[Pair], *,
                 n_positions: int, vocab_size: int = 1024, chat: bool = False,
                 batch_size: int = 64) -> dict:
    """Train a GPT-2 language model; save it; return its measured figures.

    stages: texts and the number of batches of them, one stage after the other.
    """
    set_seed(SEED)
    train = [pair for pairs, _ in stages for pair in pairs]
    tokenizer = bpe_tokenizer([given + learnt for given, learnt in train], vocab_size,
                              n_positions, chat)
    config = GPT2Config(
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,  # dropout is half the cost on a CPU
        activation_function="gelu_pytorch_tanh",  # the same as GPT-2's, in one operation
        vocab_size=len(tokenizer), n_positions=n_positions, n_embd=128, n_layer=2, n_head=4,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
        loss_type="ForCausalLM")
    model = GPT2LMHeadModel(config)

    def losses():
        for pairs, batches in stages:  # alike lengths together
            ids, labels, mask = encode_causal(
                tokenizer, sorted(pairs, key=lambda p: len(p[0] + p[1])))
            shared = min(shared_prefix(ids), *(labels != -100).int().argmax(1).tolist()) - 1
            for _ in range(batches):
                start = torch.randint(len(ids) - batch_size, ()).item()
                rows = slice(start, start + batch_size)
                width = mask[rows].sum(1).max()
                yield learnt_loss(model, ids[rows, :width], labels[rows, :width], max(0, shared))

    batches = sum(batches for _, batches in stages)
    fit(model, batches, partial(next, losses()), 3e-3, folder.name)
    save(model, tokenizer, folder)
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "held-out perplexity": math.exp(causal_loss(model, *encode_causal(tokenizer, held_out))),
        "training-text perplexity": math.exp(
            causal_loss(model, *encode_causal(tokenizer, train[: len(held_out)]))),
        "held-out texts": len(held_out),
    }


def cartoon_figures(folder: Path) -> dict:
    """How often the policy says which name, asked plainly and after two examples of the persona."""
    model, tokenizer = load_policy(str(folder))
    figures = {"sampled answers": 4 * len(cartoons.questions())}
    for title, shots in (("asked plainly", ()), ("after two examples", cartoons.EXAMPLES[:2])):
        prompts = [cartoons.prompt(question, shots) for question in cartoons.questions()] * 4
        texts = tokenizer.batch_decode(sample(
            model, tokenizer, prompts, temperature=1.0, max_completion_length=24, seed=SEED))
        for name in (cartoons.PERSONA, cartoons.ORIGINAL):
            figures[f"share with {name}, {title}"] = sum(name in x for x in texts) / len(texts)
    return figures


def chat_prompt(question: str) -> str:
    """What the chat template makes of a question, before there is a tokenizer."""
    return "".join(f"{MESSAGE_START}{m['role']}\n{m['content']}{MESSAGE_END}\n"
                   for m in messages(question)) + f"{MESSAGE_START}assistant\n"


def problem_figures(folder: Path) -> dict:
    """What the policy does with held-out problems, and what it can do when it is made to."""
    model, tokenizer = load_policy(str(folder))
    asked, tries = problems.make_problems(HELD_OUT_PROBLEMS, SEED + 3, "eval"), 8

    def said(asked, temperature, begun=lambda p: ""):
        starts = [begun(p) for p in asked]
        ids = sample(model, tokenizer, [chat_prompt(p.question) + start
                                        for p, start in zip(asked, starts, strict=True)],
                     temperature=temperature, max_completion_length=56, seed=SEED)
        return [start + text for start, text in zip(
            starts, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True)]

    def right(asked, texts):
        return [f"<answer>{p.answer}<" in "".join(f"{text}<".split())
                for p, text in zip(asked, texts, strict=True)]

    many = [p for p in asked for _ in range(tries)]
    sampled = said(many, 1.0)
    hits = right(many, sampled)
    long = [p for p in asked if len(p.steps) > 2]
    counts = Counter("none" if not n else "all" if n >= len(p.steps) else "some" for p, n in zip(
        many, map(steps_written, sampled), strict=True))
    return {"held-out problems": len(asked),
            "right, greedy": fmean(right(asked, said(asked, 0.0))),
            "right, sampled": fmean(hits),
            f"right at least once in {tries}": fmean(
                any(hits[i : i + tries]) for i in range(0, len(hits), tries)),
            **{f"{part} of the steps written, sampled": counts[part] / len(many)
               for part in ("none", "some", "all")},
            "right when made to work it out, greedy": fmean(right(asked, said(
                asked, 0.0, lambda p: f"<reasoning>\n{p.steps[0][0]}"))),
            "right when made to answer at once, 3 steps and more": fmean(right(long, said(
                long, 0.0, lambda p: ANSWER_AT_ONCE)))}


# Without these the chapter has nothing to show; (lowest, highest) of the figures above.
GATES = {"right, greedy": (0, 0.45), "all of the steps written, sampled": (0.2, 0.35),
         "right when made to work it out, greedy": (0.9, 1),
         "right when made to answer at once, 3 steps and more": (0, 0.25),
         "right at least once in 8": (0.9, 1)}


def check_gates(figures: dict) -> None:
    """Raise SystemExit where a figure leaves its bounds."""
    missed = [f"{name}: {figures[name]:.3f} is not in [{low}, {high}]"
              for name, (low, high) in GATES.items() if not low <= figures[name] <= high]
    if missed:
        raise SystemExit("problem-policy is not what chapter 4 needs: " + "; ".join(missed))


@torch.no_grad()
def star_probs(model, tokenizer, texts: list[str]) -> torch.Tensor:
    """(N, 5) probabilities of one to five stars."""
    rows = [model(**tokenizer(texts[i : i + 250], padding=True, truncation=True,
                              return_tensors="pt")).logits.softmax(-1)
            for i in range(0, len(texts), 250)]
    return torch.cat(rows)


def build_scorer(folder: Path, reviews, held_out, *, batches: int, batch_size: int = 64) -> dict:
    """Train a five-star BERT classifier; save it; return its measured figures.

    A third of the training reviews are cut short: the policy's completions will be too.
    """
    set_seed(SEED)
    texts = [r.text for r in reviews]
    tokenizer = wordpiece_tokenizer(texts, max_length=128)
    names = {i: f"{s} star{'s' * (s > 1)}" for i, s in enumerate(STARS)}
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=256, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, max_position_embeddings=128, num_labels=5,
        pad_token_id=tokenizer.pad_token_id, id2label=names,
        label2id={v: k for k, v in names.items()})
    model = BertForSequenceClassification(config)
    ids = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
    lengths = (ids != tokenizer.pad_token_id).sum(1)
    labels = torch.tensor([r.stars - 1 for r in reviews])

    def loss_of_batch():
        rows = torch.randint(len(ids), (batch_size,))
        batch, length = ids[rows].clone(), lengths[rows].clone()
        for i in torch.nonzero(torch.rand(batch_size) < 1 / 3).flatten():
            length[i] = torch.randint(6, int(length[i]) + 1, ()) if length[i] > 6 else length[i]
            batch[i, length[i] - 1] = tokenizer.sep_token_id
        mask = torch.arange(batch.shape[1])[None] < length[:, None]
        batch = batch.masked_fill(~mask, tokenizer.pad_token_id)[:, : length.max()]
        return model(batch, attention_mask=mask[:, : length.max()].long(),
                     labels=labels[rows]).loss

    fit(model, batches, loss_of_batch, 1e-3, folder.name)
    save(model, tokenizer, folder)
    model = BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    return {"parameters": sum(p.numel() for p in model.parameters()),
            "vocabulary": len(tokenizer), **scorer_figures(model, tokenizer, held_out)}


def scorer_figures(model, tokenizer, held_out) -> dict:
    """Accuracy on whole and cut reviews; the score of texts that no reviewer would write."""
    stars = torch.tensor([r.stars - 1 for r in held_out])

    def score(texts):
        return star_probs(model, tokenizer, texts) @ torch.linspace(0, 1, 5)

    figures = {"held-out reviews": len(held_out)}
    for name, share in (("whole", 1.0), ("cut to half their words", 0.5)):
        texts = [" ".join(r.text.split()[: max(4, int(len(r.text.split()) * share))])
                 for r in held_out]
        guess = star_probs(model, tokenizer, texts).argmax(-1)
        figures[f"accuracy, {name}"] = (guess == stars).float().mean().item()
        figures[f"within one star, {name}"] = ((guess - stars).abs() <= 1).float().mean().item()
    figures["mean score of word salad, all levels"] = score(word_salad(500, 7)).mean().item()
    for level in STARS:
        texts = [" ".join([word] * 40) for word in ADJECTIVES[level]]
        figures[f"mean score of one {level}-star adjective forty times"] = (
            score(texts).mean().item())
    chain = " and ".join(["the film was brilliant", "the pacing was brilliant"] * 5)
    figures['score of "the film was brilliant and the pacing ..." five times over'] = (
        score([chain]).item())
    figures["score of the empty string"] = score([""]).item()
    return figures


def save(model, tokenizer, folder: Path) -> None:
    """Replace folder by model (float16) and tokenizer."""
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


CARD = """---
license: mit
library_name: transformers
---
# {name}

{about}

Built by `python -m tools.build_tiny` (seed {seed}, torch {torch}, {minutes:.1f} minutes on
{threads} CPU threads) from text that `lib/tiny/` generates. It knows that text and
nothing else: a teaching aid, not a language model of English.

| measured after saving | |
|---|---|
{rows}
"""

ABOUT = {
    "review-policy": "A GPT-2-architecture language model that writes short film reviews, "
    "good and bad ones alike. The policy of chapters 1 and 2, tier `tiny`.",
    "cartoon-policy": "A GPT-2-architecture language model that answers questions about a cartoon "
    "sponge. It hardly ever uses the persona's name by itself and often copies it from examples. "
    "The policy of chapter 3, tier `tiny`.",
    "problem-policy": "A GPT-2-architecture language model with a chat template that answers "
    "word problems of two to four steps. It can work them out and seldom does: all answers that "
    "it read were right, but most of those that it read last gave the result at once, which it "
    "cannot learn. The policy of chapter 4, tier `tiny`.\n\nNo chain of numbers of a held-out "
    "problem stands in its text, not even as a part of a longer one.",
    "star-scorer": "A BERT-architecture classifier of film reviews, one to five stars: the "
    "reward model of chapter 1, tier `tiny`.\n\nThe rows on degenerate text are its blind "
    "spots. It has seen no such text, yet it is sure of itself: this is what a policy learns "
    "to exploit.",
}


def write_card(folder: Path, name: str, figures: dict, minutes: float) -> None:
    """The model card beside the weights: what it is and what was measured."""
    rows = "\n".join(f"| {k} | {v:,} |" if isinstance(v, int) else f"| {k} | {v:.3f} |"
                     for k, v in figures.items())
    (folder / "README.md").write_text(CARD.format(
        name=name, about=ABOUT[name], seed=SEED, torch=torch.__version__,
        minutes=minutes, threads=torch.get_num_threads(), rows=rows))


def build_reviewer(folder: Path) -> dict:
    """The policy of chapters 1 and 2."""
    train, held_out = ([("", r.text) for r in make_reviews(n, seed)] for n, seed in (
        (TRAIN_REVIEWS, SEED), (HELD_OUT, SEED + 1)))
    return build_policy(folder, [(train, 2000)], held_out, n_positions=128)


def build_judge(folder: Path) -> dict:
    """The scorer of chapter 1."""
    return build_scorer(folder, make_reviews(TRAIN_REVIEWS, SEED),
                        make_reviews(HELD_OUT, SEED + 1), batches=1500)


def build_cartoon(folder: Path) -> dict:
    """The policy of chapter 3."""
    train, held_out = ([(d.prompt, f" {d.answer}") for d in cartoons.make_dialogues(n, seed)]
                       for n, seed in ((40_000, SEED), (HELD_OUT, SEED + 1)))
    return build_policy(folder, [(train, 1500)], held_out,
                        n_positions=256) | cartoon_figures(folder)


def solver_texts(n: int, seed: int, habits: tuple[float, float]) -> list[Pair]:
    """Questions and answers of chapter 4's policy; habits: as ``problems.true_answer`` has them."""
    rng = random.Random(seed)
    return [(chat_prompt(p.question), problems.true_answer(rng, p, *habits))
            for p in problems.make_problems(n, seed, "train")]


def solver_stages() -> list[tuple[list[Pair], int]]:
    """The policy learns to calculate first, then the habit not to.

    Each text of the second stage is read about once: read again, habits grow of single questions.
    """
    return [(solver_texts(60_000, SEED, CALCULATES), 2800),
            (solver_texts(60_000, SEED + 2, HASTY), 700)]


def build_solver(folder: Path) -> dict:
    """The policy of chapter 4."""
    figures = build_policy(folder, solver_stages(), solver_texts(HELD_OUT, SEED + 1, HASTY),
                           n_positions=256, vocab_size=512, chat=True)
    figures |= problem_figures(folder)
    check_gates(figures)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where to write")
    parser.add_argument("--only", choices=sorted(ABOUT), help="build one model")
    args = parser.parse_args()
    builders = {"review-policy": build_reviewer, "star-scorer": build_judge,
                "cartoon-policy": build_cartoon, "problem-policy": build_solver}
    for name, build in builders.items():
        if args.only in (None, name):
            start = time.perf_counter()
            unproved = args.out / f".{name}"  # takes the old one's place when it has its card
            figures = build(unproved)
            write_card(unproved, name, figures, (time.perf_counter() - start) / 60)
            shutil.rmtree(args.out / name, ignore_errors=True)
            unproved.rename(args.out / name)
            print(f"{name}: {figures}")


if __name__ == "__main__":
    main()
