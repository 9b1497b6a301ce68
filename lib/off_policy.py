"""Chapter 5's loop: rollouts that are used again, other samplers, other uses of the same samples.

The chapter and ``benchmarks.off_policy`` call the same four experiments with the student's
functions. The clip is TRL's own (``lib.trl_loss``). Left out: the KL term, so that nothing but the
clip holds the policy.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch

from lib import models
from lib.files import read_json
from lib.logprobs import positions, right_padded
from lib.prompts import prompt_ids
from lib.rollout import generate, left_padded
from lib.scoring import get_star_probs
from lib.tasks import sentiment
from lib.trl_loss import trl_loss

RESULTS = Path(__file__).with_name("off_policy.json")  # what benchmarks.off_policy measured
GROUP, PROMPTS = 8, 8  # completions a prompt, prompts a batch
EVERY = 2  # batches from one measurement to the next
NO_CLIP = 1e6  # an epsilon that no ratio reaches


@dataclass(frozen=True)
class Rollouts:
    """B completions in groups of GROUP side by side, and what is needed to learn from them."""

    input_ids: torch.Tensor  # (B, P + T): prompts padded on the left, completions on the right
    attention_mask: torch.Tensor  # (B, P + T)
    mask: torch.Tensor  # (B, T), 1 on the completion's tokens
    old_logps: torch.Tensor  # (B, T), of the policy in training when these were sampled
    sampler_logps: torch.Tensor  # (B, T), of the policy that sampled: another where it differs
    rewards: torch.Tensor  # (B,)

    @property
    def tokens(self) -> int:
        return int(self.mask.sum())

    def rows(self, which: torch.Tensor) -> "Rollouts":
        """The completions at these indices."""
        return replace(self, **{name: value[which] for name, value in vars(self).items()})


def five_stars(texts: list[str]) -> torch.Tensor:
    """The classifier's probability of five stars, (B,)."""
    return torch.tensor([float(row[4]) for row in get_star_probs(texts)])


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Chapter 2's: within groups of GROUP, over their standard deviation."""
    groups = rewards.view(-1, GROUP)
    spread = groups.std(1, keepdim=True) + 1e-4
    return ((groups - groups.mean(1, keepdim=True)) / spread).flatten()


def surrogate(ratio: torch.Tensor, pushes: torch.Tensor, mask: torch.Tensor,
              epsilon: float) -> torch.Tensor:
    """TRL's clipped loss of ratios (B, T) or (B, 1) and pushes, the advantages, of either shape."""
    logps = ratio.log().expand_as(mask)
    return trl_loss(logps, torch.zeros_like(logps), None, pushes.expand_as(mask), mask,
                    epsilon=epsilon, loss_type="grpo")


class Learner:
    """The review policy in training, its frozen reference, and dice of its own."""

    def __init__(self, seed: int, learning_rate: float = 2e-4):
        path = models.policy_path("tiny", sentiment.TASK)
        self.policy, self.tokenizer = models.load_policy(path)
        self.reference = models.load_policy(path)[0]
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), learning_rate,
                                           weight_decay=0.0)
        self.dice = torch.Generator().manual_seed(seed)
        self.reward = five_stars

    def prompts(self, n: int = PROMPTS) -> list[str]:
        """n training prompts, drawn anew."""
        known = sentiment.prompts("train")
        return [known[i] for i in torch.randperm(len(known), generator=self.dice)[:n]]

    def sample(self, prompts: list[str], *, sampler=None, temperature: float = 1.0) -> Rollouts:
        """GROUP completions of each prompt, by the policy or by another sampler."""
        sampler = sampler or self.policy
        asked = [ids for ids in prompt_ids(self.tokenizer, prompts) for _ in range(GROUP)]
        seed = int(torch.randint(2**31, (1,), generator=self.dice))
        said = generate(sampler, asked, ends=models.end_tokens(sampler, self.tokenizer),
                        pad_token_id=self.tokenizer.pad_token_id, temperature=temperature,
                        max_completion_length=40, seed=seed)
        ids, seen, _ = left_padded(asked, self.tokenizer.pad_token_id, sampler.device)
        padded, mask = right_padded(said, self.tokenizer.pad_token_id)
        texts = self.tokenizer.batch_decode(said, skip_special_tokens=True)
        nothing = torch.zeros(mask.shape)
        rollouts = Rollouts(torch.cat([ids, padded], 1), torch.cat([seen, mask], 1), mask.float(),
                            nothing, nothing, self.reward(texts))
        with torch.no_grad():
            return replace(rollouts, old_logps=self.logps(rollouts), sampler_logps=self.logps(
                rollouts, sampler, temperature))

    def logps(self, rollouts: Rollouts, model=None, temperature: float = 1.0) -> torch.Tensor:
        """Log-probs (B, T) of the completions' tokens; gradients flow to the policy."""
        seen, width = rollouts.attention_mask, rollouts.mask.shape[1]
        logits = (model or self.policy)(
            input_ids=rollouts.input_ids, attention_mask=seen,
            position_ids=positions(seen)).logits[:, -width - 1:-1] / temperature
        ids = rollouts.input_ids[:, -width:]
        return logits.gather(-1, ids[..., None])[..., 0] - logits.logsumexp(-1)

    def update(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimizer.step()

    def measure(self) -> dict[str, float]:
        """Score and KL(pi||ref), nats a completion, of 128 completions of held-out prompts."""
        rollouts = _afresh(self).sample(sentiment.prompts("eval")[:16])
        with torch.no_grad():
            away = rollouts.old_logps - self.logps(rollouts, self.reference)
        return {"score": float(rollouts.rewards.mean()),
                "kl": float((away * rollouts.mask).sum(1).mean())}


def _afresh(learner: Learner) -> Learner:
    """The same learner with fresh dice and the plain reward: every measurement draws alike."""
    twin = copy.copy(learner)
    twin.dice, twin.reward = torch.Generator().manual_seed(0), five_stars
    return twin


def reuse(student: Mapping[str, Callable], *, updates: int, epsilon: float = 0.2,
          level: str = "token", seed: int = 0, batches: int = 6) -> list[dict]:
    """Several updates on each batch of rollouts; a row every second batch.

    student: ``sequence_ratio`` and ``clip_fraction``. level: of the ratio, token or sequence.
    clipped: the share of tokens held back at the last update of a batch, over two batches.
    """
    learner, rows, held = Learner(seed), [], []
    for batch in range(1, batches + 1):
        rollouts = learner.sample(learner.prompts())
        pushes = advantages(rollouts.rewards)
        for _ in range(updates):
            logps = learner.logps(rollouts)
            ratio = (logps - rollouts.old_logps).exp() if level == "token" else student[
                "sequence_ratio"](logps, rollouts.old_logps, rollouts.mask)[:, None]
            clipped = student["clip_fraction"](
                ratio.detach().expand_as(rollouts.mask), pushes, rollouts.mask, epsilon, epsilon)
            learner.update(surrogate(ratio, pushes[:, None], rollouts.mask, epsilon))
        held.append(float(clipped))
        if batch % EVERY == 0:
            rows.append({"batch": batch, "clipped": fmean(held[-EVERY:]), **learner.measure()})
    return rows


def rounded(model) -> torch.nn.Module:
    """A copy whose weights went through eight bits and back, as a fast sampler's may.

    Two of the bits stand behind the point: each weight moves by up to an eighth of itself.
    """
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for weights in twin.parameters():
            weights.copy_(weights.to(torch.float8_e5m2).to(weights.dtype))
    return twin


def mismatch(student: Mapping[str, Callable], *, level: str | None, temperature: float = 1.0,
             eight_bits: bool = False, seed: int = 0, batches: int = 10,
             cap: float = 3.0) -> list[dict]:
    """Training on the tokens of a sampler that is not the policy; a row every second batch.

    level: of ``truncated_weights``, None for no correction. temperature: the sampler's; the policy
    is trained at 1. eight_bits: the sampler has the policy's weights, rounded anew each batch.
    """
    learner, rows = Learner(seed), []
    for batch in range(1, batches + 1):
        sampler = rounded(learner.policy) if eight_bits else None
        rollouts = learner.sample(learner.prompts(), sampler=sampler, temperature=temperature)
        pushes = advantages(rollouts.rewards)[:, None]
        if level:
            pushes = pushes * student["truncated_weights"](
                rollouts.old_logps, rollouts.sampler_logps, rollouts.mask, cap, level)
        ratio = (learner.logps(rollouts) - rollouts.old_logps).exp()
        learner.update(surrogate(ratio, pushes, rollouts.mask, 0.2))
        if batch % EVERY == 0:
            rows.append({"batch": batch, **learner.measure()})
    return rows


def strict(seed: int) -> Learner:
    """A learner with a strict yes-or-no reward: more than 0.95 for five stars. Many groups tie."""
    learner = Learner(seed)
    learner.reward = lambda texts: (five_stars(texts) > 0.95).float()
    return learner


def budget(student: Mapping[str, Callable], *, dynamic: bool, seed: int = 0,
           tokens: int = 20_000) -> list[dict]:
    """The ``strict`` reward, until so many tokens are generated; a row every second update, and one
    at the end.

    dynamic: go on sampling until ``select_alive`` has found PROMPTS groups that are not tied.
    Without it every batch of PROMPTS groups is an update, tied groups and all.
    """
    learner, rows, spent, steps = strict(seed), [], 0, 0
    while spent < tokens:
        rewards, parts = torch.zeros(0), []
        while True:
            parts.append(learner.sample(learner.prompts()))
            spent += parts[-1].tokens
            rewards = torch.cat([rewards, parts[-1].rewards])
            alive, _ = student["select_alive"](rewards, GROUP, PROMPTS)
            if not dynamic or len(alive) == PROMPTS or spent >= tokens:
                break
        if dynamic and len(alive) < PROMPTS:
            break  # the budget ended before the batch was full
        chosen = set(alive) if dynamic else set(range(PROMPTS))
        loss = 0.0
        for i, part in enumerate(parts):
            mine = [g - i * PROMPTS for g in chosen if g // PROMPTS == i]
            if mine:
                part = part.rows(torch.cat([torch.arange(g * GROUP, (g + 1) * GROUP)
                                            for g in sorted(mine)]))
                ratio = (learner.logps(part) - part.old_logps).exp()
                loss = loss + len(mine) / PROMPTS * surrogate(
                    ratio, advantages(part.rewards)[:, None], part.mask, 0.2)
        learner.update(loss)
        steps += 1
        if steps % EVERY == 0:
            rows.append({"tokens": spent, "updates": steps, **learner.measure()})
    if not rows or rows[-1]["tokens"] != spent:
        rows.append({"tokens": spent, "updates": steps, **learner.measure()})
    return rows


def same_rollouts(student: Mapping[str, Callable], *, method: str, seed: int = 0,
                  rounds: int = 4, updates: int = 4) -> list[dict]:
    """Each round samples once; the method makes so many updates of it. One row a round.

    method: "GRPO" (clipped at 0.2), "best of 8" (likelihood of ``keep_best``), or "DPO" (best
    against worst of each group, ``dpo_loss`` at beta 0.1, against the frozen reference). The first
    round's completions are the same for all three, token for token.
    """
    learner, rows = Learner(seed), []
    for number in range(1, rounds + 1):
        rollouts = learner.sample(learner.prompts())
        best = student["keep_best"](rollouts.rewards, GROUP, 1)
        worst = student["keep_best"](-rollouts.rewards, GROUP, 1)
        with torch.no_grad():
            ref_logps = (learner.logps(rollouts, learner.reference) * rollouts.mask).sum(1)
        for _ in range(updates):
            if method == "GRPO":
                ratio = (learner.logps(rollouts) - rollouts.old_logps).exp()
                loss = surrogate(ratio, advantages(rollouts.rewards)[:, None], rollouts.mask, 0.2)
            elif method == "best of 8":
                kept = rollouts.rows(best)
                loss = -(learner.logps(kept) * kept.mask).sum() / kept.tokens
            else:
                both = rollouts.rows(torch.cat([best, worst]))
                chosen, rejected = (learner.logps(both) * both.mask).sum(1).chunk(2)
                loss = student["dpo_loss"](chosen, rejected, ref_logps[best], ref_logps[worst], 0.1)
            learner.update(loss)
        rows.append({"round": number, **learner.measure()})
    return rows


def measured() -> dict:
    """{experiment: {variant: {seed: rows}}} of ``benchmarks.off_policy``."""
    return read_json(RESULTS)["experiments"]
