"""How much memory a training step takes, of any model: ``python -m lib preflight MODEL``.

The model is built and run with PyTorch's fake tensors, which know shapes and hold no numbers: what
autograd would keep for the backward pass is counted tensor by tensor, so no formula for an
architecture is needed. Left out: fragmentation, the libraries' own share of a GPU (about half a
GiB), vLLM.
"""

import dataclasses

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM

from lib import CourseError, models
from lib.tasks.base import Task

FLOAT = 4  # bytes; weights, gradients and Adam's two moments are float32
SAMPLING = 4 + 4 + 8 + 8  # bytes a logit while a token is drawn: logits, softmax, float64, its sum
SCORING = 4 * FLOAT  # on a CPU: logits, the scaled ones, log-softmax, and the gradient of one
RESERVE = 0.9  # share of the free memory that a plan may fill


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes by what they are for. ``peak`` is the larger of sampling and training."""

    weights: int
    reference: int
    gradients: int
    adam: int
    cache: int  # keys and values of all completions of a step
    sampling: int  # the logits of one token of each of them
    activations: int  # of one forward pass
    logits: int  # of its completions
    update: int  # what Adam's step holds for a moment

    @property
    def peak(self) -> int:
        return self.weights + self.reference + self.adam + max(
            self.cache + self.sampling,
            self.gradients + max(self.activations + self.logits, self.update))


def estimate(config, *, batch: int, step: int, group: int, prompt: int, completion: int,
             lora: bool = False, gpu: bool = True) -> Estimate:
    """The memory of one training step.

    config: a transformers config. batch: completions a forward pass; step: completions an optimizer
    step; group: completions a prompt; prompt, completion: tokens. gpu: mixed precision (half of
    the activations, a half-precision copy of the weights) and TRL's head, which holds no logits;
    else float32, and logits.
    """
    with FakeTensorMode():
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        except (ValueError, RuntimeError) as error:  # heads that do not divide the width, say
            raise CourseError(f"no {config.model_type} can be built as this config.json says: "
                              f"{str(error).splitlines()[0]}") from None
        sizes = [p.numel() for p in model.parameters()]
        kept = _saved(model, batch, completion) + _saved(model, -(-batch // group), prompt)
    whole = sum(sizes)
    trained = _lora_size(config) if lora else whole
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    cache = 2 * text.num_hidden_layers * heads * size * (prompt + completion) * step * FLOAT
    vocabulary = text.vocab_size
    return Estimate(
        weights=FLOAT * whole + (2 * whole if gpu else 0), reference=FLOAT * whole,
        gradients=FLOAT * trained, adam=2 * FLOAT * trained,
        cache=cache + cache // text.num_hidden_layers,  # a layer is copied while it grows
        sampling=SAMPLING * step * vocabulary, activations=kept // 2 if gpu else kept,
        logits=0 if gpu else SCORING * batch * completion * vocabulary,
        # A GPU updates all tensors at once, a CPU one after the other, with two copies of it.
        update=FLOAT * trained if gpu else 2 * FLOAT * min(max(sizes), trained))


def _lora_size(config) -> int:
    from peft import get_peft_model  # seconds to import

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    adapted = get_peft_model(model, models.lora_config(model))
    return sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def _saved(model, rows: int, tokens: int) -> int:
    """Bytes that autograd keeps of one forward pass, the weights left out."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    seen = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        seen[storage._cdata] = storage  # held, so that no other gets its place
        return tensor

    ids = torch.zeros(rows, tokens, dtype=torch.long)
    mask = torch.ones(rows, 1, tokens, tokens, dtype=torch.bool)  # of four axes: taken as it is
    model.train()
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
    return sum(storage.nbytes() for place, storage in seen.items() if place not in weights)


def fitting(task: Task, config, free: int, prompt: int, gpu: bool = True
            ) -> tuple[Task, Estimate]:
    """The task with the largest batch, at most its own, whose step fits into free bytes.

    The step stays what it is: accumulation grows as the batch shrinks. Where nothing fits, the
    smallest batch.
    """
    while True:
        found = estimate(config, batch=task.batch_size, step=task.step_batch,
                         group=task.num_generations, prompt=prompt,
                         completion=task.max_completion_length, lora=task.use_peft, gpu=gpu)
        smaller = halved(task)
        if found.peak <= RESERVE * free or smaller is None:
            return task, found
        task = smaller


def halved(task: Task) -> Task | None:
    """The task with half the batch, or the next smaller that divides its step; None at one."""
    sizes = [size for size in range(1, task.batch_size // 2 + 1) if task.step_batch % size == 0]
    if not sizes:
        return None
    return dataclasses.replace(task, batch_size=sizes[-1],
                               accumulation=task.step_batch // sizes[-1])


def told(found: Estimate) -> str:
    """The peak and its parts in GiB, on one line."""
    def gib(size: int) -> str:
        return f"{size / 2**30:.1f}"

    parts = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return f"{gib(found.peak)} GiB, estimated: " + ", ".join(
        f"{name} {gib(size)}" for name, size in parts.items())
