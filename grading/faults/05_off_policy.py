# %% [markdown]
# Chapter 5. Wrong answers that must lose the points of their exercise, and right ones, written
# otherwise, that must keep them.

# %% ex1 right: masked with where
def sequence_ratio(logps, old_logps, mask):
    difference = torch.where(mask.bool(), logps - old_logps, 0.0)
    return torch.exp(difference.sum(-1) / mask.sum(-1).clamp(min=1))

# %% ex1 right: row by row
def sequence_ratio(logps, old_logps, mask):
    rows = []
    for new, old, counts in zip(logps, old_logps, mask.bool(), strict=True):
        rows.append((new[counts] - old[counts]).mean() if counts.any() else new.sum() * 0)
    return torch.stack(rows).exp()

# %% ex1 right: two means
def sequence_ratio(logps, old_logps, mask):
    count = mask.sum(dim=1) + (mask.sum(dim=1) == 0)
    new, old = (logps * mask).sum(1) / count, (old_logps * mask).sum(1) / count
    return (new - old).exp()

# %% ex1 fault: product of the ratios
replace(" / mask.sum(1).clamp(min=1)", "")

# %% ex1 fault: mean of the ratios
def sequence_ratio(logps, old_logps, mask):
    return ((logps - old_logps).exp() * mask).sum(1) / mask.sum(1).clamp(min=1)

# %% ex1 fault: inverted
replace("logps - old_logps", "old_logps - logps")

# %% ex1 fault: no mask
replace("(log_ratio.sum(1) / mask.sum(1).clamp(min=1))", "(logps - old_logps).mean(1)")

# %% ex1 fault: divided by T
replace("mask.sum(1).clamp(min=1)", "mask.shape[1]")

# %% ex1 fault: nan for an empty row
replace(".clamp(min=1)", "")

# %% ex1 fault: no exp
replace(".exp()", "")

# %% ex1 fault: detached
replace("(logps - old_logps)", "(logps - old_logps).detach()")

# %% ex1 fault: one ratio for the batch
def sequence_ratio(logps, old_logps, mask):
    mean = ((logps - old_logps) * mask).sum() / mask.sum().clamp(min=1)
    return mean.exp().expand(len(mask))

# %% ex1 fault: quotient of products, underflows
def sequence_ratio(logps, old_logps, mask):
    ratio = ((logps * mask).sum(1)).exp() / ((old_logps * mask).sum(1)).exp()
    return ratio ** (1 / mask.sum(1).clamp(min=1))

# %% ex2 right: by the sign
def clip_fraction(ratio, advantages, mask, epsilon_low, epsilon_high):
    sign = advantages.sign()[:, None]
    above = (ratio > 1 + epsilon_high) * (sign == 1)
    below = (ratio < 1 - epsilon_low) * (sign == -1)
    count = mask.sum()
    return ((above + below) * mask).sum() / count if count > 0 else torch.tensor(0.0)

# %% ex2 right: in a loop
def clip_fraction(ratio, advantages, mask, epsilon_low, epsilon_high):
    held = total = 0
    for i in range(len(ratio)):
        for j in range(ratio.shape[1]):
            if mask[i, j]:
                total += 1
                a, r = float(advantages[i]), float(ratio[i, j])
                held += (a > 0 and r > 1 + epsilon_high) or (a < 0 and r < 1 - epsilon_low)
    return torch.tensor(held / max(total, 1))

# %% ex2 fault: both sides whatever the advantage
replace(" & (advantages > 0)", "")
replace(" & (advantages < 0)", "")

# %% ex2 fault: sides exchanged
replace("(advantages > 0)", "(advantages <= 0)")
replace("(advantages < 0)", "(advantages >= 0)")

# %% ex2 fault: no mask
def clip_fraction(ratio, advantages, mask, epsilon_low, epsilon_high):
    a = advantages.unsqueeze(1)
    held = (ratio > 1 + epsilon_high) & (a > 0) | (ratio < 1 - epsilon_low) & (a < 0)
    return held.float().mean()

# %% ex2 fault: divided by all
replace("mask.sum().clamp(min=1)", "mask.numel()")

# %% ex2 fault: the bounds exchanged
replace("1 + epsilon_high", "1 + epsilon_low")
replace("1 - epsilon_low", "1 - epsilon_high")

# %% ex2 fault: above only
def clip_fraction(ratio, advantages, mask, epsilon_low, epsilon_high):
    held = (ratio > 1 + epsilon_high) & (advantages.unsqueeze(1) > 0)
    return (held * mask).sum() / mask.sum().clamp(min=1)

# %% ex2 fault: the share that is left alone
replace("return (held * mask)", "return (~held * mask)")

# %% ex2 fault: advantages along time
def clip_fraction(ratio, advantages, mask, epsilon_low, epsilon_high):
    a = advantages if len(advantages) == ratio.shape[1] else advantages.unsqueeze(1)
    held = (ratio > 1 + epsilon_high) & (a > 0) | (ratio < 1 - epsilon_low) & (a < 0)
    return (held * mask).sum() / mask.sum().clamp(min=1)

# %% ex2 fault: nan where nothing counts
replace(".clamp(min=1)", "")

# %% ex2 fault: mean of the rows' shares
replace("(held * mask).sum() / mask.sum().clamp(min=1)",
        "((held * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()")

# %% ex3 right: no_grad and minimum
def truncated_weights(train_logps, sampler_logps, mask, cap, level="token"):
    with torch.no_grad():
        difference = torch.where(mask.bool(), train_logps - sampler_logps, 0.0)
        if level == "sequence":
            difference = difference.sum(-1)[:, None]
        return torch.minimum(difference.exp(), torch.tensor(cap).to(difference))

# %% ex3 right: the cap as a logarithm
def truncated_weights(train_logps, sampler_logps, mask, cap, level="token"):
    difference = (train_logps.detach() - sampler_logps) * mask
    if level != "token":
        difference = difference.sum(dim=1).view(-1, 1)
    limit = torch.log(torch.tensor(cap, dtype=difference.dtype))
    return torch.exp(torch.where(difference > limit, limit, difference))

# %% ex3 right: 0 on padding
def truncated_weights(train_logps, sampler_logps, mask, cap, level="token"):
    ratio = ((train_logps - sampler_logps) * mask).exp().detach()
    if level == "token":
        return ratio.clamp(max=cap) * mask
    return ratio.prod(1, keepdim=True).clamp(max=cap)

# %% ex3 fault: inverted
replace("train_logps - sampler_logps", "sampler_logps - train_logps")

# %% ex3 fault: not truncated
replace(".clamp(max=cap)", "")

# %% ex3 fault: a bound below too
replace("clamp(max=cap)", "clamp(1 / cap, cap)")

# %% ex3 fault: masked, not truncated
def truncated_weights(train_logps, sampler_logps, mask, cap, level="token"):
    log_weights = (train_logps - sampler_logps).detach() * mask
    if level == "sequence":
        log_weights = log_weights.sum(1, keepdim=True)
    weights = log_weights.exp()
    return weights * (weights <= cap)

# %% ex3 fault: the geometric mean
replace("log_weights.sum(1, keepdim=True)",
        "log_weights.sum(1, keepdim=True) / mask.sum(1, keepdim=True)")

# %% ex3 fault: sequences without the mask
replace(".detach() * mask", ".detach()")

# %% ex3 fault: truncated before the product
def truncated_weights(train_logps, sampler_logps, mask, cap, level="token"):
    weights = ((train_logps - sampler_logps).detach() * mask).exp().clamp(max=cap)
    return weights.prod(1, keepdim=True) if level == "sequence" else weights

# %% ex3 fault: a gradient flows
replace(".detach()", "")

# %% ex3 fault: shape (B,)
replace(", keepdim=True", "")

# %% ex3 fault: always a token
replace('level == "sequence"', "False")

# %% ex3 fault: no exp
replace("log_weights.exp()", "(1 + log_weights)")

# %% ex3 fault: quotient of probabilities
def truncated_weights(train_logps, sampler_logps, mask, cap, level="token"):
    weights = (train_logps.exp() / sampler_logps.exp()).detach() ** mask
    if level == "sequence":
        weights = weights.prod(1, keepdim=True)
    return weights.clamp(max=cap)

# %% ex3 fault: the cap hard-wired
replace("max=cap", "max=2.0")

# %% ex4 right: tensors
def select_alive(rewards, num_generations, need):
    groups = rewards.reshape(-1, num_generations)
    alive = (groups != groups[:, :1]).any(1).nonzero()[:, 0]
    sampled = int(alive[need - 1]) + 1 if len(alive) >= need else len(groups)
    return alive[:need].tolist(), sampled

# %% ex4 right: one after another
def select_alive(rewards, num_generations, need):
    kept, sampled = [], 0
    for start in range(0, len(rewards), num_generations):
        if len(kept) == need:
            break
        sampled += 1
        if len(set(rewards[start:start + num_generations].tolist())) > 1:
            kept.append(start // num_generations)
    return kept, sampled

# %% ex4 fault: by the standard deviation
replace("[i for i, group in enumerate(groups) if max(group) > min(group)]",
        "[i for i, s in enumerate(rewards.view(-1, num_generations).std(1)) if s > 0]")

# %% ex4 fault: a tolerance that is too large
replace("max(group) > min(group)", "max(group) > min(group) + 1e-3")

# %% ex4 fault: groups with a hit
replace("max(group) > min(group)", "max(group) > 0")

# %% ex4 fault: the tied ones
replace("max(group) > min(group)", "max(group) == min(group)")

# %% ex4 fault: all live groups
replace("alive[:need]", "alive")

# %% ex4 fault: everything was sampled
replace("alive[need - 1] + 1 if len(alive) >= need else len(groups)", "len(groups)")

# %% ex4 fault: the number of the last one
replace("alive[need - 1] + 1", "alive[need - 1]")

# %% ex4 fault: live groups counted
replace("alive[need - 1] + 1 if len(alive) >= need else len(groups)", "len(alive[:need])")

# %% ex4 fault: groups laid out the other way
replace("rewards.view(-1, num_generations)", "rewards.view(num_generations, -1).T")

# %% ex4 fault: indices of completions
replace("return alive[:need]", "return [i * num_generations for i in alive[:need]]")

# %% ex4 fault: nothing where too few are alive
replace("return alive[:need]", "return (alive if len(alive) >= need else [])[:need]")

# %% ex5 right: sorted
def keep_best(rewards, num_generations, k):
    values, kept = rewards.tolist(), []
    for start in range(0, len(values), num_generations):
        places = sorted(range(start, start + num_generations), key=lambda i: -values[i])
        kept += sorted(places[:k])
    return torch.tensor(kept)

# %% ex5 right: sorted indices of a stable sort
def keep_best(rewards, num_generations, k):
    groups = rewards.reshape(-1, num_generations)
    _, places = torch.sort(-groups, dim=1, stable=True)
    chosen = torch.zeros_like(groups, dtype=torch.bool).scatter(1, places[:, :k], True)
    return chosen.flatten().nonzero()[:, 0]

# %% ex5 fault: the worst
replace("descending=True, ", "")

# %% ex5 fault: places within the group
replace("(starts + best)", "best")

# %% ex5 fault: best of the whole batch
def keep_best(rewards, num_generations, k):
    n = k * len(rewards) // num_generations
    return rewards.argsort(descending=True, stable=True)[:n].sort().values

# %% ex5 fault: not in order
replace(".sort().values", "")

# %% ex5 fault: rewards
replace("return (starts + best).flatten().sort().values",
        "return rewards[(starts + best).flatten()]")

# %% ex5 fault: the later of equals
def keep_best(rewards, num_generations, k):
    groups = rewards.view(-1, num_generations)
    best = groups.argsort(dim=1, stable=True)[:, -k:]
    return (torch.arange(len(groups)).unsqueeze(1) * num_generations + best).flatten().sort().values

# %% ex5 fault: always one
replace("[:, :k]", "[:, :1]")

# %% ex5 fault: a mask
def keep_best(rewards, num_generations, k):
    groups = rewards.view(-1, num_generations)
    return (groups == groups.max(1, keepdim=True).values).flatten()

# %% ex5 equivalent: `groups.argsort.* no dim
# the last axis, which is the default, is axis 1

# %% ex5 equivalent: `groups.argsort.* no stable
# this torch sorts short rows stably anyway; that it does is promised only with stable=True

# %% ex5 equivalent: `True` False
# as without stable

# %% ex6 right: softplus
def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    implicit = beta * (chosen - ref_chosen), beta * (rejected - ref_rejected)
    return torch.nn.functional.softplus(implicit[1] - implicit[0]).mean()

# %% ex6 right: logaddexp
def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = beta * (chosen - rejected - (ref_chosen - ref_rejected))
    return torch.logaddexp(torch.zeros_like(margin), -margin).sum() / len(margin)

# %% ex6 right: cross-entropy with the label 1
def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return torch.nn.functional.binary_cross_entropy_with_logits(margin, torch.ones_like(margin))

# %% ex6 fault: log of sigmoid, overflows
replace("torch.nn.functional.logsigmoid(beta * margin)", "torch.sigmoid(beta * margin).log()")

# %% ex6 fault: exchanged
replace("beta * margin", "-beta * margin")

# %% ex6 fault: sign
replace("return -torch", "return torch")

# %% ex6 fault: no reference
replace("(chosen - ref_chosen) - (rejected - ref_rejected)", "chosen - rejected")

# %% ex6 fault: no beta
replace("beta * margin", "margin")

# %% ex6 fault: beta outside
replace("logsigmoid(beta * margin).mean()", "logsigmoid(margin).mean() * beta")

# %% ex6 fault: summed
replace(".mean()", ".sum()")

# %% ex6 fault: the mean margin
replace("logsigmoid(beta * margin).mean()", "logsigmoid((beta * margin).mean())")

# %% ex6 fault: one a pair
replace(".mean()", "")

# %% ex6 fault: hinge
replace("-torch.nn.functional.logsigmoid(beta * margin)", "(1 - beta * margin).clamp(min=0)")

# %% ex6 fault: references exchanged
replace("(chosen - ref_chosen) - (rejected - ref_rejected)",
        "(chosen - ref_rejected) - (rejected - ref_chosen)")

# %% ex6 fault: the chosen detached
replace("(chosen - ref_chosen)", "(chosen.detach() - ref_chosen)")
