"""The sampler and the trainer's overrides against oracles that share no code with them:
transformers' own generate, an enumerated model, and unpadded float64 log-probs, row by row."""

import copy
import inspect
import itertools
import math
from importlib.metadata import version

import pytest
import torch
from datasets import Dataset
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    set_seed,
)
from trl import GRPOTrainer

from lib import models, rollout
from lib.tasks import task_class
from lib.training import grpo_config
from lib.trl_overrides import Trainer, by_length, completion_logits

V, END, PAD = 40, 1, 0
WIDE = {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 64, "bos_token_id": 2,
        "eos_token_id": END, "pad_token_id": PAD}
MADE = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(
        vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=2,
        eos_token_id=END, resid_pdrop=0.1)),
    "opt": lambda: OPTForCausalLM(OPTConfig(
        vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48,
        max_position_embeddings=64, word_embed_proj_dim=32, bos_token_id=2, eos_token_id=END,
        pad_token_id=PAD, dropout=0.0)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**WIDE, num_key_value_heads=2)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**WIDE, num_key_value_heads=2)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**WIDE, num_key_value_heads=2, head_dim=8)),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**WIDE)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**WIDE, num_key_value_heads=1, head_dim=8))}


def made(name: str, scale: float = 6.0):
    """A random model whose next tokens are neither sure nor all alike."""
    set_seed(len(name))
    model = MADE[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale if name != "gemma" else 2.0)
    return model


def unequal(n: int, seed: int = 0) -> list[list[int]]:
    dice = torch.Generator().manual_seed(seed)
    return [torch.randint(3, V, (1 + 3 * i % 11,), generator=dice).tolist() for i in range(n)]


def exact_logps(model, prompt: list[int], completion: list[int], temperature: float = 1.0):
    """(log-probs, entropies) of one completion: one row, no padding, float64."""
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + completion]), use_cache=False).logits[0]
    logps = (logits[len(prompt) - 1:-1] / temperature).log_softmax(-1)
    return logps[range(len(completion)), completion], -(logps.exp() * logps).sum(-1)


@pytest.mark.parametrize("name", MADE)
def test_greedy_ids_are_those_of_generate(name):
    model, prompts = made(name), unequal(6)
    ours = rollout.generate(model, prompts, ends=[END], pad_token_id=PAD, temperature=0,
                            max_completion_length=12, seed=0)
    for prompt, completion in zip(prompts, ours, strict=True):  # each alone: no padding there
        out = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False,
                             eos_token_id=END, pad_token_id=PAD)[0, len(prompt):].tolist()
        assert completion == out


def test_sampled_frequencies_are_the_models_probabilities():
    """Every completion of at most three tokens over a vocabulary of five, enumerated."""
    set_seed(3)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=5, n_embd=16, n_layer=1, n_head=2, n_positions=16,
                                       bos_token_id=0, eos_token_id=END)).eval()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
    n, prompt, temperature = 20_000, [2, 4], 0.8

    def probability(completion):
        return math.exp(float(exact_logps(model, prompt, list(completion), temperature)[0].sum()))

    texts = [t for k in (1, 2, 3) for t in itertools.product(range(5), repeat=k)
             if END not in t[:-1] and (t[-1] == END or k == 3)]
    expected = {t: n * probability(t) for t in texts}
    assert sum(expected.values()) == pytest.approx(n)
    ids = rollout.generate(model, [[3], prompt] * n, ends=[END], pad_token_id=PAD,
                           temperature=temperature, max_completion_length=3, seed=7)[1::2]
    seen = dict.fromkeys(texts, 0)
    for row in ids:
        seen[tuple(row)] += 1
    rare = [t for t in texts if expected[t] < 5]
    cells = [(seen[t], expected[t]) for t in texts if t not in rare]
    cells += [(sum(seen[t] for t in rare), sum(expected[t] for t in rare))] * bool(rare)
    statistic = sum((got - want) ** 2 / want for got, want in cells)
    # Wilson and Hilferty: a chi-square's cube root is nearly normal. 3.09: p = 0.001.
    k = len(cells) - 1
    z = ((statistic / k) ** (1 / 3) - (1 - 2 / (9 * k))) / math.sqrt(2 / (9 * k))
    assert k > 20 and z < 3.09, (statistic, k)


def test_a_row_does_not_depend_on_its_neighbours_and_the_global_dice_stay():
    model, prompts = made("gpt2"), unequal(8)
    how = {"ends": [END, 5], "pad_token_id": PAD, "temperature": 1.0, "max_completion_length": 20}
    state = torch.get_rng_state()
    all_of_them = rollout.generate(model, prompts, seed=1, **how)
    assert torch.equal(state, torch.get_rng_state())
    assert rollout.generate(model, prompts[:5], seed=1, **how) == all_of_them[:5]
    assert rollout.generate(model, prompts, seed=2, **how) != all_of_them
    for row in all_of_them:
        assert not {END, 5} & set(row[:-1]) and (len(row) == 20 or row[-1] in (END, 5))


def test_a_completion_that_has_ended_costs_no_further_steps():
    model, prompts = made("gpt2"), unequal(8)
    asked = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: asked.append(len(kwargs["input_ids"])), with_kwargs=True)
    rows = rollout.generate(model, prompts, ends=list(range(1, 12)), pad_token_id=PAD,
                            temperature=1.0, max_completion_length=30, seed=3)
    lengths = [len(row) for row in rows]
    assert len(asked) == max(lengths) < 30
    assert asked[1:] == [sum(length > step for length in lengths)
                         for step in range(1, max(lengths))]


class Watched(Trainer):
    """Keeps what TRL computes: per-token log-probs of policy and reference, and entropies."""

    def _generate_and_score_completions(self, inputs):
        outputs = super()._generate_and_score_completions(inputs)
        self.made = outputs
        return outputs

    def _compute_loss(self, model, inputs):
        self.model_then = copy.deepcopy(self.accelerator.unwrap_model(model))
        loss = super()._compute_loss(model, inputs)
        self.seen.append((inputs, *self.scored))
        return loss

    def _get_per_token_logps_and_entropies(self, model, *args, compute_entropy=False, **kwargs):
        out = super()._get_per_token_logps_and_entropies(
            model, *args, compute_entropy=compute_entropy, **kwargs)
        if compute_entropy:
            self.scored = [x.detach() for x in out[:2]]
        return out


def length_reward(completions, **kwargs):
    return [float(len(text) % 7) for text in completions]


def step_of(policy, tokenizer, prompts, folder, beta=0.1, peft=None, trainer=Watched):
    task = task_class("sentiment").of(max_steps=1, batch_size=8, accumulation=2, beta=beta,
                                      num_generations=4, max_completion_length=12)
    config = grpo_config(task, folder, policy.device)
    config.save_strategy = "no"
    made = trainer(model=policy, processing_class=tokenizer, args=config, peft_config=peft,
                   reward_funcs=[length_reward],
                   train_dataset=Dataset.from_dict({"prompt": prompts}))
    made.seen = []
    made.train()
    return made


def assert_right_positions(trainer, before, reference):
    """Each completion of the step against the oracle; returns how many rows were padded."""
    padded = 0
    for inputs, logps, entropies in trainer.seen:
        for i in range(len(logps)):
            prompt = inputs["prompt_ids"][i][inputs["prompt_mask"][i].bool()].tolist()
            real = inputs["completion_mask"][i].bool()
            completion = inputs["completion_ids"][i][real].tolist()
            padded += len(prompt) < inputs["prompt_ids"].shape[1]
            right, entropy = exact_logps(before, prompt, completion)
            ref, _ = exact_logps(reference, prompt, completion)
            assert torch.allclose(logps[i][real].double(), right, atol=1e-5)
            assert torch.allclose(entropies[i][real].double(), entropy, atol=1e-5)
            assert torch.allclose(inputs["ref_per_token_logps"][i][real].double(), ref, atol=1e-5)
    return padded


@pytest.mark.parametrize("task", ["sentiment", "persona", "reasoning"])
@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_positions_of_the_bundled_policies(task, peft, tmp_path):
    cls = task_class(task)
    policy, tokenizer = models.load_policy(models.policy_path("tiny", cls))
    before = copy.deepcopy(policy)
    asked = sorted((models.prompt_text(tokenizer, p) for p in cls.of(max_steps=1).prompts("train")
                    [:60]), key=lambda text: len(tokenizer(text)["input_ids"]))
    trainer = step_of(policy, tokenizer, [asked[0], asked[-1], asked[20], asked[40]], tmp_path,
                      peft=models.lora_config(policy) if peft else None)
    assert assert_right_positions(trainer, before, before) >= 4, "prompts of unequal length"


@pytest.mark.parametrize("name", ["gpt2", "opt", "llama", "qwen2", "gpt_neox"])
def test_positions_of_other_architectures(name, tmp_path, tiny):
    tokenizer = copy.deepcopy(tiny[1])
    policy = made(name, scale=1.5)
    policy.resize_token_embeddings(len(tokenizer))
    policy.generation_config.eos_token_id = policy.config.eos_token_id = tokenizer.eos_token_id
    policy.config.pad_token_id = tokenizer.pad_token_id
    policy.save_pretrained(tmp_path / "model")  # the reference is loaded from there
    policy = type(policy).from_pretrained(tmp_path / "model")
    before = copy.deepcopy(policy)
    trainer = step_of(policy, tokenizer, ["The film", "I have to say that the acting was", "It",
                                          "Honestly, the music of this film was"], tmp_path)
    assert assert_right_positions(trainer, before, before) >= 4


def test_the_oracle_sees_trls_own_positions(tiny, tmp_path):
    """Without the override it fails by far: this is the bug, and the alarm for its mend."""
    policy, tokenizer = copy.deepcopy(tiny[0]), tiny[1]

    class Stock(Watched):
        _placed = False

    before = copy.deepcopy(policy)
    trainer = step_of(policy, tokenizer, ["The film", "I have to say that the acting was",
                                          "Honestly", "It"], tmp_path, trainer=Stock)
    with pytest.raises(AssertionError):
        assert_right_positions(trainer, before, before)
    source = inspect.getsource(GRPOTrainer._get_per_token_logps_and_entropies)
    assert '"position_ids"' not in source, (
        f"TRL {version('trl')} passes positions itself: Trainer._get_per_token_logps_and_entropies "
        "in lib/trl_overrides.py may go, and the lesson in the chapter is history")


def test_what_is_overridden_is_still_there():
    for name, parameters in {
            "_generate_single_turn": ["self", "prompt_ids", "images", "multimodal_fields",
                                      "num_generations"],
            "_get_per_token_logps_and_entropies": [
                "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size",
                "compute_entropy"],
            "_prepare_inputs": ["self", "generation_batch"]}.items():
        found = list(inspect.signature(getattr(GRPOTrainer, name)).parameters)
        assert found[:len(parameters)] == parameters, (
            f"TRL {version('trl')} calls {name} otherwise: read lib/trl_overrides.py again")


def test_our_head_and_trls_lead_to_the_same_weights(tiny, tmp_path):
    """Five steps on the same rollouts: equal prompts, so that positions are no matter."""
    class Chunked(Trainer):
        def _get_per_token_logps_and_entropies(self, *args, **kwargs):
            return GRPOTrainer._get_per_token_logps_and_entropies(self, *args, **kwargs)

        _prepare_inputs = GRPOTrainer._prepare_inputs

    ends = []
    for kind in (Trainer, Chunked):
        policy, tokenizer = copy.deepcopy(tiny[0]), tiny[1]
        task = task_class("sentiment").of(max_steps=5, batch_size=8, accumulation=4, beta=0.1,
                                          num_generations=4, max_completion_length=16)
        config = grpo_config(task, tmp_path, policy.device)
        config.save_strategy = "no"
        # Adam divides by the gradient's own size: where that is rounding alone, so is the step.
        config.adam_epsilon = 1e-6
        kind(model=policy, processing_class=tokenizer, args=config,
             reward_funcs=[length_reward],
             train_dataset=Dataset.from_dict({"prompt": ["The film was"] * 40})).train()
        ends.append(policy)
    moved = max(float((a - b).abs().max()) for a, b in zip(
        ends[0].parameters(), tiny[0].parameters(), strict=True))
    apart = max(float((a - b).abs().max()) for a, b in zip(
        *(end.parameters() for end in ends), strict=True))
    assert moved > 5e-4 and apart < 1e-5, (moved, apart)


def test_two_threads_give_the_same_gradient_every_time():
    """Rows of one prompt add up its gradient in an order that must not be chance: with advanced
    indexing it was, and neither a seed nor a resumed run gave the same bits."""
    set_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=256, n_embd=128, n_layer=2,
                                       n_head=4, bos_token_id=0, eos_token_id=0)).eval()
    ids = torch.randint(1, 64, (16, 130))
    ids[:, :100] = ids[0, :100]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = set()
        for _ in range(12):
            model.zero_grad()
            completion_logits(model, ids, torch.ones_like(ids), 30).logsumexp(-1).sum().backward()
            found.add(tuple(p.grad.double().sum().item() for p in model.parameters()))
        assert len(found) == 1
    finally:
        torch.set_num_threads(threads)


def test_micro_batches_hold_the_same_rows_by_length():
    dice = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (12,), generator=dice)
    mask = (torch.arange(8) < lengths[:, None]).long()
    batches = [{"prompt_ids": r[:, None], "completion_ids": m, "completion_mask": m, "row": r,
                "num_items_in_batch": torch.tensor(5), "none": None}
               for m, r in zip(mask.split(4), torch.arange(12).split(4), strict=True)]
    again = by_length(batches)
    rows = torch.cat([batch["row"] for batch in again])
    assert sorted(rows.tolist()) == list(range(12))
    assert lengths[rows].tolist() == sorted(lengths.tolist())
    assert all(torch.equal(batch["completion_mask"], mask[batch["row"]]) for batch in again)
    assert all(batch["none"] is None and batch["num_items_in_batch"] == 5 for batch in again)
