"""The trainer: TRL's GRPOTrainer with six of its methods replaced. Read in TRL 1.16.

- ``_tokenize_prompts``: ids come from ``lib.prompts``, as everywhere else.
- ``_generate_single_turn``: completions come from ``lib.rollout``, the sampler that measures too.
  It is the narrowest door: token ids in, token ids out. (``rollout_func``, which TRL offers, is
  experimental, and would have to tokenize and apply chat templates as well.)
- ``_get_per_token_logps_and_entropies``: positions are counted from each row's first real token.
  TRL passes none, and GPT-2, OPT and their like then count left padding: the policy gradient, the
  KL and the reference would be taken at other positions than those that were sampled. On a CPU it
  is also a plain log-softmax over completion positions, and reads a prompt once for its whole
  group; TRL's chunked head, which saves memory, costs three times as much there.
- ``__init__``: the reference is the model that is there already; TRL would load it once more, from
  the path that the policy's config remembers.
- ``_prepare_inputs``: micro-batches hold completions of like length. The loss is a sum over tokens,
  so its gradient is the same up to rounding, and short ones carry less padding.
- ``_save_checkpoint``: is done when all processes are.

vLLM, and models that are spread over machines, go through TRL's own code. tests/training/
test_overrides.py says so when TRL moves.
"""

from functools import cached_property, partial

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from lib import rollout
from lib.logprobs import positions, takes
from lib.prompts import prompt_ids


class Trainer(GRPOTrainer):
    """See the module. Used as GRPOTrainer is; reference: the frozen model of the KL term."""

    def __init__(self, *, args, reference=None, **kwargs):
        beta, shared = args.beta, reference is not None and args.beta and not kwargs.get(
            "peft_config")  # an adapter's reference is the model without it
        if shared:
            args.beta = 0.0
        super().__init__(args=args, **kwargs)
        if shared:
            self.args.beta = self.beta = beta
            add_fused_lm_head(reference, temperature=self.temperature)
            self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)

    @cached_property
    def _placed(self) -> bool:
        return takes(self.accelerator.unwrap_model(self.model), "position_ids")

    @property
    def _spread(self) -> bool:
        return self.is_deepspeed_enabled or self.is_fsdp_enabled

    def _tokenize_prompts(self, prompts: list):
        return prompt_ids(self._tokenizer, prompts), None, {}

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations,
                              *args, **kwargs):
        if self.use_vllm or self._spread or images:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields,
                                                 num_generations, *args, **kwargs)
        model = self.accelerator.unwrap_model(self.model)
        # From seed and step alone: a resumed run throws the same dice.
        seed = (self.args.seed * 1_000_003 + self.state.global_step) * 1_009
        with rollout.eval_mode(model):
            ids = rollout.generate(
                model, prompt_ids, ends=self.eos_token_ids, temperature=self.temperature,
                pad_token_id=self._tokenizer.pad_token_id, seed=seed,
                before=self.accelerator.process_index * len(prompt_ids),
                max_completion_length=self.max_completion_length)
        return ids, None

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep,
                                           batch_size=None, compute_entropy=False, **kwargs):
        """Log-probs and entropies (B, logits_to_keep), at padding 0 where nothing is computed."""
        if not self._placed:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy,
                **kwargs)
        score = self._fused
        if input_ids.device.type == "cpu":
            score = partial(self._plain, compute_entropy=compute_entropy)
        size = batch_size or len(input_ids)
        # Chunks of like length: the last columns that no row of a chunk needs are not computed.
        order = length_order(input_ids, attention_mask[:, -logits_to_keep:])
        parts = [score(model, input_ids[rows], attention_mask[rows], logits_to_keep)
                 for rows in order.split(size)]
        back = order.argsort()
        logps, entropies = (torch.cat(part)[back] for part in zip(*parts, strict=True))
        return logps, entropies if compute_entropy else None, None

    def _plain(self, model, ids, mask, keep: int, *, compute_entropy: bool):
        """Columns in which no row has a real token are cut off, and their results are 0."""
        real = mask.any(0).nonzero()[:, 0]
        first, last = int(real[0]), int(real[-1]) + 1
        missing = ids.shape[1] - last
        ids, mask, kept = ids[:, first:last], mask[:, first:last], keep - missing
        with self.accelerator.autocast():
            logits = completion_logits(model, ids, mask, kept)
        logps = (logits.float() / self.temperature).log_softmax(-1)
        chosen = logps.gather(-1, ids[:, -kept:, None])[..., 0]
        entropies = torch.zeros_like(chosen)
        if compute_entropy:
            with torch.no_grad():
                entropies = -(logps.exp() * logps).sum(-1)
        return tuple(torch.nn.functional.pad(x, (0, missing)) for x in (chosen, entropies))

    def _fused(self, model, ids, mask, keep: int):
        """TRL's own head, which never holds all logits, told the positions."""
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, :-keep] = -100
        with self.accelerator.autocast():
            out = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True,
                        position_ids=positions(mask))
        entropies = torch.zeros_like(out.log_probs) if out.entropy is None else out.entropy
        return out.log_probs[:, -keep:], entropies[:, -keep:]

    def _save_checkpoint(self, *args, **kwargs):
        super()._save_checkpoint(*args, **kwargs)
        self.accelerator.wait_for_everyone()  # each process saves its dice; then come checksums

    def _prepare_inputs(self, generation_batch):
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is before or len(self._buffered_inputs) < 2:
            return inputs
        self._buffered_inputs = by_length(self._buffered_inputs)
        return self._buffered_inputs[self._step % len(self._buffered_inputs)]


def completion_logits(model, ids, mask, keep: int) -> torch.Tensor:
    """Logits (B, keep, V) that predict the last columns of ids (B, T), mask (B, T).

    A prompt that several rows share, as those of a group do, is read once and its keys and values
    are repeated; the gradient flows through them.
    """
    where, cache = positions(mask), prompt_cache(model)
    if cache is None:
        return model(input_ids=ids, attention_mask=mask, position_ids=where, use_cache=False,
                     logits_to_keep=keep + 1).logits[:, -keep - 1:-1]
    distinct, row = torch.cat([ids[:, :-keep], mask[:, :-keep]], 1).unique(
        dim=0, return_inverse=True)
    prompts, prompt_mask = distinct.chunk(2, dim=1)
    first = model(input_ids=prompts, attention_mask=prompt_mask, past_key_values=cache,
                  position_ids=positions(prompt_mask), use_cache=True,
                  logits_to_keep=1).logits[:, -1:]
    # Not first[row]: the gradient of that adds up in whatever order two threads come along.
    first = first.index_select(0, row)
    if keep == 1:
        return first
    cache.reorder_cache(row)  # by index_select as well
    rest = model(input_ids=ids[:, -keep:-1], attention_mask=mask[:, :-1], past_key_values=cache,
                 position_ids=where[:, -keep:-1], use_cache=True).logits
    return torch.cat([first, rest], dim=1)


def prompt_cache(model) -> DynamicCache | None:
    """An empty cache for prompts that rows share, or None where a model must be asked in one pass:
    wrapped for several processes, recomputing activations, or keeping more than keys and values."""
    if not hasattr(model, "config") or getattr(model, "is_gradient_checkpointing", False):
        return None
    cache = DynamicCache(config=model.config)
    return cache if all(type(layer) is DynamicLayer for layer in cache.layers) else None


def length_order(ids, completion_mask) -> torch.Tensor:
    """Which rows of ids (B, T) come first: short completions, and equally long ones by their ids.

    Policy and reference, whose rows arrive in other orders, then read them in the same chunks. In
    others they would be rounded otherwise, and the first KL would not be exactly 0.
    """
    rows = torch.cat([completion_mask.sum(1, keepdim=True), ids], 1)
    return rows.unique(dim=0, return_inverse=True)[1].argsort(stable=True)


def by_length(batches: list[dict]) -> list[dict]:
    """The same rows in as many batches, those of like completion length together.

    Values that are no tensor with a row a completion (the number of tokens, None) stay.
    """
    ids, masks = (torch.cat([torch.cat([batch[name] for name in names], 1) for batch in batches])
                  for names in (("prompt_ids", "completion_ids"), ("completion_mask",)))
    order, size = length_order(ids, masks), len(ids) // len(batches)

    def sorted_again(name):
        values = [batch[name] for batch in batches]
        if not isinstance(values[0], torch.Tensor) or values[0].dim() == 0:
            return values
        return torch.cat(values)[order].split(size)

    columns = {name: sorted_again(name) for name in batches[0]}
    return [{name: values[i] for name, values in columns.items()} for i in range(len(batches))]
