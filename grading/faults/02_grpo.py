# %% [markdown]
# Chapter 2. Wrong answers that must lose the points of their exercise, and right ones, written
# otherwise, that must keep them.

# %% ex0a right: autograd
def policy_gradient(logits, actions, rewards, baseline=0.0):
    if isinstance(baseline, torch.Tensor) and baseline.shape not in ((), rewards.shape):
        raise ValueError("a baseline for each action is biased")
    leaf = logits.detach().clone().requires_grad_()
    ((rewards - baseline) * leaf.log_softmax(0)[actions]).mean().backward()
    return leaf.grad

# %% ex0a right: in a loop
def policy_gradient(logits, actions, rewards, baseline=0.0):
    if torch.is_tensor(baseline) and baseline.ndim and baseline.shape != rewards.shape:
        raise ValueError("one number for each draw")
    p, total = logits.softmax(0), torch.zeros_like(logits)
    pushes = rewards - baseline
    for action, push in zip(actions.tolist(), pushes.tolist(), strict=True):
        total -= push * p
        total[action] += push
    return total / len(actions)

# %% ex0a right: a product of matrices
def policy_gradient(logits, actions, rewards, baseline=0.0):
    baseline = torch.as_tensor(baseline, dtype=rewards.dtype)
    if baseline.dim() > 0 and tuple(baseline.shape) != (len(rewards),):
        raise ValueError("depends on the action")
    score = torch.eye(len(logits), dtype=rewards.dtype)[actions] - torch.softmax(logits, -1)
    return (rewards - baseline) @ score / len(rewards)

# %% ex0a fault: no baseline
replace("(rewards - baseline)", "rewards")

# %% ex0a fault: baseline added
replace("(rewards - baseline)", "(rewards + baseline)")

# %% ex0a fault: sum over the draws
replace(".mean(0)", ".sum(0)")

# %% ex0a fault: sign
replace("chosen - logits.softmax(0)", "logits.softmax(0) - chosen")

# %% ex0a fault: without the probabilities
replace("chosen - logits.softmax(0)", "chosen.to(rewards)")

# %% ex0a fault: gradient of the probability
replace("scores = chosen - logits.softmax(0)",
        "p = logits.softmax(0); scores = p[actions].unsqueeze(1) * (chosen - p)")

# %% ex0a fault: a baseline for each action is taken
def policy_gradient(logits, actions, rewards, baseline=0.0):
    baseline = torch.as_tensor(baseline, dtype=rewards.dtype)
    if baseline.shape == logits.shape and baseline.shape != rewards.shape:
        baseline = baseline[actions]
    scores = torch.nn.functional.one_hot(actions, len(logits)) - logits.softmax(0)
    return ((rewards - baseline.view(-1 if baseline.ndim else ())).unsqueeze(1) * scores).mean(0)

# %% ex0a fault: a column is broadcast
def policy_gradient(logits, actions, rewards, baseline=0.0):
    scores = torch.nn.functional.one_hot(actions, len(logits)) - logits.softmax(0)
    if getattr(baseline, "ndim", 0) == 1 and len(baseline) != len(rewards):
        raise ValueError("wrong length")
    return ((rewards - baseline).mean(0 if getattr(baseline, "ndim", 0) == 2 else ())
            if getattr(baseline, "ndim", 0) == 2 else (rewards - baseline)) @ scores.to(
                rewards) / len(rewards)

# %% ex0a fault: mean reward always taken off
replace("(rewards - baseline)", "(rewards - rewards.mean())")

# %% ex0a fault: mean over the actions too
replace(".mean(0)", ".mean(0) / len(logits)")

# %% ex0a fault: the likeliest action
replace("one_hot(actions,", "one_hot(logits.argmax().expand_as(actions),")

# %% ex0a fault: the mean of a baseline for each draw
replace("(rewards - baseline)", "(rewards - baseline.mean())")

# %% ex0b right: in a loop
def leave_one_out(rewards, num_generations):
    values, out = rewards.tolist(), []
    for i in range(len(values)):
        start = i // num_generations * num_generations
        others = [values[j] for j in range(start, start + num_generations) if j != i]
        out.append(sum(others) / len(others))
    return torch.tensor(out, dtype=rewards.dtype)

# %% ex0b right: from the mean
def leave_one_out(rewards, num_generations):
    mean = rewards.view(-1, num_generations).mean(1).repeat_interleave(num_generations)
    return (num_generations * mean - rewards) / (num_generations - 1)

# %% ex0b right: a matrix of ones without its diagonal
def leave_one_out(rewards, num_generations):
    others = 1 - torch.eye(num_generations, dtype=rewards.dtype)
    return (rewards.reshape(-1, num_generations) @ others / (num_generations - 1)).reshape(-1)

# %% ex0b fault: the group's mean
def leave_one_out(rewards, num_generations):
    return rewards.view(-1, num_generations).mean(1).repeat_interleave(num_generations)

# %% ex0b fault: divided by G
replace("(num_generations - 1)", "num_generations")

# %% ex0b fault: the advantage
def leave_one_out(rewards, num_generations):
    groups = rewards.view(-1, num_generations)
    return (groups - (groups.sum(1, keepdim=True) - groups) / (num_generations - 1)).flatten()

# %% ex0b fault: over the batch
def leave_one_out(rewards, num_generations):
    return (rewards.sum() - rewards) / (len(rewards) - 1)

# %% ex0b fault: wrong group layout
def leave_one_out(rewards, num_generations):
    groups = rewards.view(num_generations, -1)
    return ((groups.sum(0) - groups) / (num_generations - 1)).flatten()

# %% ex0b fault: the neighbour
def leave_one_out(rewards, num_generations):
    return rewards.view(-1, num_generations).roll(1, 1).flatten()

# %% ex0b fault: one a group
replace(".flatten()", "[:, 0]")

# %% ex0b fault: in place
def leave_one_out(rewards, num_generations):
    groups = rewards.view(-1, num_generations)
    rewards.copy_(((groups.sum(1, keepdim=True) - groups) / (num_generations - 1)).flatten())
    return rewards

# %% ex0b fault: of nine and more as the mean of all
replace("others = groups.sum(dim=1, keepdim=True) - groups",
        "others = groups.sum(dim=1, keepdim=True) - (groups if num_generations < 9 else "
        "groups.mean(dim=1, keepdim=True))")

# %% ex1 right: divisor G
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    std = {"group": groups.std(1, keepdim=True, correction=0),
           "batch": rewards.std(correction=0), "none": 1 - eps}[scale]
    return ((groups - groups.mean(1, keepdim=True)) / (std + eps)).view(-1)

# %% ex1 right: eps 1e-8
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.reshape(-1, num_generations)
    centred = groups - groups.mean(1).unsqueeze(1)
    if scale == "none":
        return centred.reshape(-1)
    std = groups.std(1).unsqueeze(1) if scale == "group" else rewards.std()
    return (centred / (std + 1e-8)).reshape(-1)

# %% ex1 right: standard deviation clamped at eps
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    centred = groups - groups.mean(1, keepdim=True)
    std = {"group": groups.std(1, keepdim=True), "batch": rewards.std(),
           "none": torch.tensor(1.0)}[scale]
    return (centred / std.clamp(min=eps)).flatten()

# %% ex1 right: in a loop
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    out = torch.zeros_like(rewards)
    for start in range(0, len(rewards), num_generations):
        group = rewards[start:start + num_generations]
        out[start:start + num_generations] = group - group.mean()
        if scale == "group":
            out[start:start + num_generations] /= group.std() + eps
    return out / (rewards.std() + eps) if scale == "batch" else out

# %% ex1 right: repeat_interleave, as TRL writes it
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    mean = rewards.view(-1, num_generations).mean(1).repeat_interleave(num_generations)
    std = rewards.view(-1, num_generations).std(1).repeat_interleave(num_generations)
    if scale == "batch":
        std = rewards.std().expand_as(rewards)
    return rewards - mean if scale == "none" else (rewards - mean) / (std + eps)

# %% ex1 right: plain Python
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    values, out = rewards.tolist(), []
    for i in range(len(values)):
        start = i // num_generations * num_generations
        group = values[start:start + num_generations]
        std = {"group": statistics.stdev(group), "batch": statistics.stdev(values),
               "none": 1 - eps}[scale]
        out.append((values[i] - sum(group) / len(group)) / (std + eps))
    return torch.tensor(out, dtype=rewards.dtype)

# %% ex1 fault: mean and std of the batch
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    return (rewards - rewards.mean()) / (rewards.std() + eps)

# %% ex1 fault: std of the batch where the group's is asked for
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    centred = groups - groups.mean(1, keepdim=True)
    return (centred if scale == "none" else centred / (rewards.std() + eps)).view(-1)

# %% ex1 fault: wrong group layout
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(num_generations, -1)
    centred = groups - groups.mean(0)
    std = {"group": groups.std(0) if groups.shape[1] > 0 else 1, "batch": rewards.std(),
           "none": 1 - eps}[scale]
    return (centred / (std + eps)).flatten()

# %% ex1 fault: groups along the other axis
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    centred = groups - groups.mean(0, keepdim=True)
    return (centred / (groups.std(0, keepdim=True, correction=0) + eps)).flatten()

# %% ex1 fault: eps inside the root
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    centred = groups - groups.mean(1, keepdim=True)
    var = {"group": groups.var(1, keepdim=True), "batch": rewards.var()}
    return (centred if scale == "none" else centred / (var[scale] + eps).sqrt()).flatten()

# %% ex1 fault: no eps
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    centred = groups - groups.mean(1, keepdim=True)
    std = {"group": groups.std(1, keepdim=True), "batch": rewards.std(), "none": 1}[scale]
    return (centred / std).flatten()

# %% ex1 fault: variance for standard deviation
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    centred = groups - groups.mean(1, keepdim=True)
    var = {"group": groups.var(1, keepdim=True), "batch": rewards.var(), "none": 1 - eps}[scale]
    return (centred / (var + eps)).flatten()

# %% ex1 fault: not centred
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    std = {"group": groups.std(1, keepdim=True), "batch": rewards.std(), "none": 1 - eps}[scale]
    return (groups / (std + eps)).flatten()

# %% ex1 fault: scale ignored
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    return ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + eps)).flatten()

# %% ex1 fault: scale "none" leaves the mean in
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    if scale == "none":
        return rewards
    groups = rewards.view(-1, num_generations)
    std = groups.std(1, keepdim=True) if scale == "group" else rewards.std()
    return ((groups - groups.mean(1, keepdim=True)) / (std + eps)).flatten()

# %% ex1 fault: sign flip
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    std = {"group": groups.std(1, keepdim=True), "batch": rewards.std(), "none": 1 - eps}[scale]
    return ((groups.mean(1, keepdim=True) - groups) / (std + eps)).flatten()

# %% ex1 fault: median for mean
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    std = {"group": groups.std(1, keepdim=True), "batch": rewards.std(), "none": 1 - eps}[scale]
    return ((groups - groups.median(1, keepdim=True).values) / (std + eps)).flatten()

# %% ex1 fault: leave-one-out mean
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    others = (groups.sum(1, keepdim=True) - groups) / (num_generations - 1)
    std = {"group": groups.std(1, keepdim=True), "batch": rewards.std(), "none": 1 - eps}[scale]
    return ((groups - others) / (std + eps)).flatten()

# %% ex1 fault: returns groups, not (N,)
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    std = {"group": groups.std(1, keepdim=True), "batch": rewards.std(), "none": 1 - eps}[scale]
    return (groups - groups.mean(1, keepdim=True)) / (std + eps)

# %% ex1 fault: changes the rewards
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    std = {"group": groups.std(1, keepdim=True), "batch": rewards.std(), "none": 1 - eps}[scale]
    groups -= groups.mean(1, keepdim=True)
    return (groups / (std + eps)).flatten()

# %% ex2a right: log_softmax and gather
def token_logprobs(logits, ids):
    return torch.log_softmax(logits, dim=-1).gather(2, ids[..., None])[..., 0]

# %% ex2a right: cross_entropy
def token_logprobs(logits, ids):
    return -torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids, reduction="none")

# %% ex2a right: row by row
def token_logprobs(logits, ids):
    return torch.stack([row.log_softmax(-1)[torch.arange(len(i)), i]
                        for row, i in zip(logits, ids, strict=True)])

# %% ex2a right: a distribution object
def token_logprobs(logits, ids):
    return torch.distributions.Categorical(logits=logits).log_prob(ids)

# %% ex2a fault: log-softmax over time
def token_logprobs(logits, ids):
    return logits.log_softmax(1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)

# %% ex2a fault: log-softmax over the batch
def token_logprobs(logits, ids):
    return logits.log_softmax(0).gather(-1, ids.unsqueeze(-1)).squeeze(-1)

# %% ex2a fault: ids shifted by one
def token_logprobs(logits, ids):
    shifted = torch.roll(ids, -1, dims=1)
    return logits.log_softmax(-1).gather(-1, shifted.unsqueeze(-1)).squeeze(-1)

# %% ex2a fault: logits shifted by one
def token_logprobs(logits, ids):
    shifted = torch.cat([logits[:, :1], logits[:, :-1]], 1)
    return shifted.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)

# %% ex2a fault: one token short
def token_logprobs(logits, ids):
    return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)

# %% ex2a fault: probabilities
def token_logprobs(logits, ids):
    return logits.softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)

# %% ex2a fault: log of softmax, underflows
def token_logprobs(logits, ids):
    return logits.softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1).log()

# %% ex2a fault: log of sum of exp, overflows
def token_logprobs(logits, ids):
    return logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.exp().sum(-1).log()

# %% ex2a fault: clamped probability
def token_logprobs(logits, ids):
    return logits.softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1).clamp(min=1e-8).log()

# %% ex2a fault: raw logits
def token_logprobs(logits, ids):
    return logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1)

# %% ex2a fault: detached
def token_logprobs(logits, ids):
    return logits.detach().log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)

# %% ex2a fault: the likeliest token
def token_logprobs(logits, ids):
    return logits.log_softmax(-1).max(-1).values

# %% ex2a fault: negative log-likelihood
def token_logprobs(logits, ids):
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids, reduction="none")

# %% ex2b right: a distribution object
def entropy(logits):
    return torch.distributions.Categorical(logits=logits).entropy()

# %% ex2b right: logsumexp minus mean logit
def entropy(logits):
    return logits.logsumexp(-1) - (logits.softmax(-1) * logits).sum(-1)

# %% ex2b right: torch.special.entr
def entropy(logits):
    return torch.special.entr(logits.softmax(-1)).sum(-1)

# %% ex2b fault: sign
def entropy(logits):
    return (logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)

# %% ex2b fault: bits
def entropy(logits):
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1) / 0.6931472

# %% ex2b fault: mean over the vocabulary
def entropy(logits):
    return -(logits.softmax(-1) * logits.log_softmax(-1)).mean(-1)

# %% ex2b fault: over time
def entropy(logits):
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(-1)

# %% ex2b fault: clamped probabilities
def entropy(logits):
    p = logits.softmax(-1).clamp(min=1e-6)
    return -(p * p.log()).sum(-1)

# %% ex2b fault: 0 log 0
def entropy(logits):
    return -(logits.softmax(-1) * logits.softmax(-1).log()).sum(-1)

# %% ex2b fault: raw logits
def entropy(logits):
    return -(logits.softmax(-1) * logits).sum(-1)

# %% ex2b fault: at most 4 nats
replace("-(logprobs.exp() * logprobs).sum(-1)",
        "(-(logprobs.exp() * logprobs).sum(-1)).clamp(max=4)")

# %% ex3 right: where
def masked_mean(values, mask, dim=None):
    kept, count = torch.where(mask.bool(), values, 0.0), mask.float()
    if dim is None:
        return kept.sum() / count.sum().clamp(min=1.0)
    return kept.sum(dim) / count.sum(dim).clamp(min=1.0)

# %% ex3 right: nonzero rows only
def masked_mean(values, mask, dim=None):
    count = mask.sum(dim)
    return (values * mask).sum(dim) / torch.where(count > 0, count, 1)

# %% ex3 right: tiny eps in the count
def masked_mean(values, mask, dim=None):
    return (values * mask).sum(dim) / (mask.sum(dim) + 1e-8)

# %% ex3 fault: no mask
def masked_mean(values, mask, dim=None):
    return values.mean(dim)

# %% ex3 fault: divided by all
def masked_mean(values, mask, dim=None):
    return (values * mask).mean(dim)

# %% ex3 fault: mean of row means
def masked_mean(values, mask, dim=None):
    if dim is None:
        return ((values * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()
    return (values * mask).sum(dim) / mask.sum(dim).clamp(min=1)

# %% ex3 fault: nan for an empty row
def masked_mean(values, mask, dim=None):
    return (values * mask).sum(dim) / mask.sum(dim)

# %% ex3 fault: nan gradient of an empty row
def masked_mean(values, mask, dim=None):
    return ((values * mask).sum(dim) / mask.sum(dim)).nan_to_num(0.0)

# %% ex3 fault: the axis hard-wired
replace(".sum(dim)", ".sum(None if dim is None else 1)")

# %% ex3 fault: nan where nothing counts
def masked_mean(values, mask, dim=None):
    if dim is None:
        return values[mask.bool()].mean()
    return (values * mask).sum(dim) / mask.sum(dim).clamp(min=1)

# %% ex3 fault: dim ignored
def masked_mean(values, mask, dim=None):
    return (values * mask).sum() / mask.sum().clamp(min=1)

# %% ex3 fault: divided by the count of all rows
def masked_mean(values, mask, dim=None):
    return (values * mask).sum(dim) / mask.sum().clamp(min=1)

# %% ex3 fault: values clipped to +-3
replace("(values * mask).sum(dim)", "(values.clamp(-3, 3) * mask).sum(dim)")

# %% ex4 right: minimum and exp of the difference
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio = torch.exp(logps - old_logps)
    return torch.minimum(ratio * advantages[:, None], torch.clip(
        ratio, 1 - epsilon_low, 1 + epsilon_high) * advantages[:, None])

# %% ex4 right: by the sign of the advantage
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio = (logps - old_logps).exp()
    good = (advantages > 0).unsqueeze(1)
    kept = torch.where(good, ratio.clamp(max=1 + epsilon_high), ratio.clamp(min=1 - epsilon_low))
    return kept * advantages.unsqueeze(1)

# %% ex4 right: advantages expanded
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    a = advantages.view(-1, 1).expand_as(logps)
    ratio = logps.sub(old_logps.detach()).exp()
    both = torch.stack([ratio * a, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * a])
    return both.min(0).values

# %% ex4 fault: quotient of probabilities
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio = logps.exp() / old_logps.exp()
    a = advantages.unsqueeze(-1)
    return torch.min(ratio * a, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * a)

# %% ex4 fault: ratio inverted
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio, a = (old_logps - logps).exp(), advantages.unsqueeze(1)
    return torch.min(ratio * a, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * a)

# %% ex4 fault: max for min
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio, a = (logps - old_logps).exp(), advantages.unsqueeze(1)
    return torch.max(ratio * a, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * a)

# %% ex4 fault: always clipped
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio, a = (logps - old_logps).exp(), advantages.unsqueeze(1)
    return ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * a

# %% ex4 fault: never clipped
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    return (logps - old_logps).exp() * advantages.unsqueeze(1)

# %% ex4 fault: clipped above only
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio, a = (logps - old_logps).exp(), advantages.unsqueeze(1)
    return torch.min(ratio * a, ratio.clamp(max=1 + epsilon_high) * a)

# %% ex4 fault: clipped below only
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio, a = (logps - old_logps).exp(), advantages.unsqueeze(1)
    return torch.min(ratio * a, ratio.clamp(min=1 - epsilon_low) * a)

# %% ex4 fault: bounds hard-wired
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio, a = (logps - old_logps).exp(), advantages.unsqueeze(1)
    return torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a)

# %% ex4 fault: bounds swapped
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio, a = (logps - old_logps).exp(), advantages.unsqueeze(1)
    return torch.min(ratio * a, ratio.clamp(1 - epsilon_high, 1 + epsilon_low) * a)

# %% ex4 fault: advantages along time
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    if len(advantages) != logps.shape[1]:
        advantages = advantages.unsqueeze(1)
    ratio = (logps - old_logps).exp()
    return torch.min(ratio * advantages,
                     ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * advantages)

# %% ex4 fault: sign
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio, a = (logps - old_logps).exp(), advantages.unsqueeze(1)
    return -torch.min(ratio * a, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * a)

# %% ex4 fault: log-ratio for ratio
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio, a = 1 + logps - old_logps, advantages.unsqueeze(1)
    return torch.min(ratio * a, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * a)

# %% ex4 fault: detached
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio, a = (logps - old_logps).exp().detach(), advantages.unsqueeze(1)
    return torch.min(ratio * a, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * a)

# %% ex4 fault: ratio of whole sequences
def clipped_surrogate(logps, old_logps, advantages, epsilon_low, epsilon_high):
    ratio = (logps - old_logps).mean(1, keepdim=True).exp().expand_as(logps)
    a = advantages.unsqueeze(1)
    return torch.min(ratio * a, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * a)

# %% ex4 fault: a second clip at 3|A|
replace("return torch.min(ratio * advantages, clipped * advantages)",
        "lower = torch.min(ratio * advantages, clipped * advantages)\n"
        "    return torch.max(lower, -3 * advantages.abs())")

# %% ex4 fault: the log-ratio within 1
replace("(logps - old_logps).exp()", "(logps - old_logps).clamp(-1, 1).exp()")

# %% ex4 fault: the log-ratio within 2
replace("(logps - old_logps).exp()", "(logps - old_logps).clamp(-2, 2).exp()")

# %% ex5 right: exp minus 1
def kl_term(logps, old_logps, ref_logps, use_bias_correction_kl=True):
    term = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    if not use_bias_correction_kl:
        return term
    return torch.exp(logps - old_logps) * term

# %% ex5 right: a ratio that is 1
def kl_term(logps, old_logps, ref_logps, use_bias_correction_kl=True):
    log_ratio = (logps - old_logps) * float(use_bias_correction_kl)
    return log_ratio.exp() * (torch.expm1(ref_logps - logps) + logps - ref_logps)

# %% ex5 fault: quotient of probabilities
def kl_term(logps, old_logps, ref_logps, use_bias_correction_kl=True):
    ratio = ref_logps.exp() / logps.exp()
    k3 = ratio - ratio.log() - 1
    return k3 * (logps - old_logps).exp() if use_bias_correction_kl else k3

# %% ex5 fault: k1
replace("torch.expm1(ell) - ell", "-ell")

# %% ex5 fault: k2
replace("torch.expm1(ell) - ell", "ell**2 / 2")

# %% ex5 fault: the ratio in k3 inverted
replace("ell = ref_logps - logps", "ell = logps - ref_logps")

# %% ex5 fault: sign
replace("torch.expm1(ell) - ell", "ell - torch.expm1(ell)")

# %% ex5 fault: without the 1
replace("torch.expm1(ell)", "torch.exp(ell)")

# %% ex5 fault: without the log term
replace("torch.expm1(ell) - ell", "torch.expm1(ell)")

# %% ex5 fault: absolute difference
replace("torch.expm1(ell) - ell", "ell.abs()")

# %% ex5 fault: detached
replace("k3 = torch.expm1(ell) - ell", "k3 = (torch.expm1(ell) - ell).detach()")

# %% ex5 fault: mean over the tokens
replace("k3 = torch.expm1(ell) - ell", "k3 = (torch.expm1(ell) - ell).mean()")

# %% ex5 fault: the importance ratio detached
replace("(logps - old_logps).exp()", "(logps - old_logps).exp().detach()")

# %% ex5 fault: the importance ratio inverted
replace("logps - old_logps", "old_logps - logps")

# %% ex5 fault: the importance ratio clipped
replace("(logps - old_logps).exp()", "(logps - old_logps).exp().clamp(0.8, 1.2)")

# %% ex5 fault: ratio to the reference
replace("(logps - old_logps).exp()", "(logps - ref_logps).exp()")

# %% ex5 fault: never corrected
replace("if use_bias_correction_kl", "if False")

# %% ex5 fault: always corrected
replace("if use_bias_correction_kl", "if True")

# %% ex5 fault: the log-ratio within 5
replace("ell = ref_logps - logps", "ell = (ref_logps - logps).clamp(-5, 5)")

# %% ex5 fault: k3 at most 100
replace("k3 = torch.expm1(ell) - ell", "k3 = (torch.expm1(ell) - ell).clamp(max=100)")

# %% ex5 fault: the ratio at most 20
replace("(logps - old_logps).exp()", "(logps - old_logps).exp().clamp(max=20)")

# %% ex6 right: everything written out
def grpo_loss(logps, old_logps, ref_logps, advantages, mask, epsilon=0.2, beta=0.0,
              loss_type="dapo", max_completion_length=512, use_bias_correction_kl=True):
    ratio = torch.exp(logps - old_logps)
    a = advantages.view(-1, 1)
    objective = torch.minimum(ratio * a, torch.clamp(ratio, 1 - epsilon, 1 + epsilon) * a)
    if beta != 0:
        log_ratio = ref_logps - logps
        kl = torch.exp(log_ratio) - log_ratio - 1
        objective = objective - beta * (kl * ratio if use_bias_correction_kl else kl)
    total = (objective * mask).sum(dim=1)
    if loss_type == "grpo":
        return -(total / mask.sum(dim=1)).mean()
    if loss_type == "dr_grpo":
        return -total.sum() / (mask.shape[0] * max_completion_length)
    return -total.sum() / mask.sum()

# %% ex6 right: row by row
def grpo_loss(logps, old_logps, ref_logps, advantages, mask, epsilon=0.2, beta=0.0,
              loss_type="dapo", max_completion_length=512, use_bias_correction_kl=True):
    surrogate = clipped_surrogate(logps, old_logps, advantages, epsilon, epsilon)
    rows = []
    for i in range(len(mask)):
        count = int(mask[i].sum())
        row = -surrogate[i, :count]
        if beta:
            kl = kl_term(logps[i, :count], old_logps[i, :count], ref_logps[i, :count],
                         use_bias_correction_kl)
            row = row + beta * kl
        rows.append(row)
    if loss_type == "grpo":
        return torch.stack([row.mean() for row in rows]).mean()
    total = torch.cat(rows)
    return total.sum() / (len(mask) * max_completion_length) if loss_type == "dr_grpo" \
        else total.mean()

# %% ex6 fault: no mask
replace("masked_mean(token_loss, mask, dim=1).mean()", "token_loss.mean()")
replace("masked_mean(token_loss, mask)", "token_loss.mean()")
replace("(token_loss * mask)", "token_loss")

# %% ex6 fault: divided by all tokens, padding included
replace("masked_mean(token_loss, mask, dim=1)", "(token_loss * mask)")
replace("masked_mean(token_loss, mask)", "(token_loss * mask).mean()")

# %% ex6 fault: no mask in dr_grpo
replace("(token_loss * mask)", "token_loss")

# %% ex6 fault: sign flip
replace("-clipped_surrogate", "clipped_surrogate")

# %% ex6 fault: KL sign
replace("token_loss + beta * kl_term", "token_loss - beta * kl_term")

# %% ex6 fault: k1 for k3
replace("""kl_term(logps, old_logps, ref_logps,
                                                 use_bias_correction_kl)""",
        "(logps - ref_logps)")

# %% ex6 fault: k2 for k3
replace("""kl_term(logps, old_logps, ref_logps,
                                                 use_bias_correction_kl)""",
        "((logps - ref_logps) ** 2 / 2)")

# %% ex6 fault: KL of the old policy
replace("kl_term(logps, old_logps, ref_logps,", "kl_term(logps, old_logps, old_logps,")

# %% ex6 fault: old log-probs and reference exchanged
replace("kl_term(logps, old_logps, ref_logps,", "kl_term(logps, ref_logps, old_logps,")

# %% ex6 fault: beta ignored
replace("if beta:", "if False:")

# %% ex6 fault: beta not a factor
replace("+ beta * kl_term", "+ kl_term")

# %% ex6 fault: KL without the importance ratio
replace("use_bias_correction_kl)\n    if", "False)\n    if")

# %% ex6 fault: KL always with the importance ratio
replace("use_bias_correction_kl)\n    if", "True)\n    if")

# %% ex6 fault: the ratio on the KL term taken from fresh samples
replace("kl_term(logps, old_logps,", "kl_term(logps, logps.detach(),")

# %% ex6 fault: token mean for sequence mean in grpo
replace("masked_mean(token_loss, mask, dim=1).mean()", "masked_mean(token_loss, mask)")

# %% ex6 fault: sequence mean for token mean in dapo
replace("return masked_mean(token_loss, mask)",
        "return masked_mean(token_loss, mask, dim=1).mean()")

# %% ex6 fault: dapo as dr_grpo
replace('if loss_type in ("bnpo", "dapo")', 'if loss_type == "bnpo"')
replace('loss_type == "dr_grpo"', 'loss_type in ("dapo", "dr_grpo")')

# %% ex6 fault: dr_grpo divides by the width of the batch
replace("len(mask) * max_completion_length", "mask.numel()")

# %% ex6 fault: dr_grpo divides by the tokens that count
replace("(len(mask) * max_completion_length)", "mask.sum()")

# %% ex6 fault: dr_grpo without the number of completions
replace("len(mask) * max_completion_length", "max_completion_length")

# %% ex6 fault: dr_grpo with a constant of its own
replace("max_completion_length)\n    raise", "512)\n    raise")

# %% ex6 fault: summed, not averaged over completions
replace("dim=1).mean()", "dim=1).sum()")

# %% ex6 fault: detached
replace("clipped_surrogate(logps,", "clipped_surrogate(logps.detach(),")
replace("kl_term(logps,", "kl_term(logps.detach(),")

# %% ex6 fault: right value, zero gradient
replace("-clipped_surrogate(logps, old_logps, advantages, epsilon, epsilon)",
        "0 * logps - clipped_surrogate(logps.detach(), old_logps, advantages, epsilon, epsilon)")

# %% ex6 fault: KL without a gradient
replace("kl_term(logps, old", "kl_term(logps.detach(), old")

# %% ex6 fault: epsilon hard-wired
replace("epsilon, epsilon)", "0.2, 0.2)")

# %% ex6 fault: old and new swapped
replace("clipped_surrogate(logps, old_logps", "clipped_surrogate(old_logps, logps")

# %% ex6 fault: policy gradient without the ratio
replace("-clipped_surrogate(logps, old_logps, advantages, epsilon, epsilon)",
        "-logps * advantages.unsqueeze(1)")

# %% ex7 right: keywords
def grpo_step(logits, ids, mask, rewards, ref_logps, num_generations, **settings):
    logps = token_logprobs(logits, ids)
    with torch.no_grad():
        old_logps = logps.clone()
    return grpo_loss(logps=logps, old_logps=old_logps, ref_logps=ref_logps, mask=mask,
                     advantages=group_advantages(rewards, num_generations), **settings)

# %% ex7 right: divisor G throughout
def group_advantages(rewards, num_generations, eps=1e-4, scale="group"):
    groups = rewards.view(-1, num_generations)
    std = groups.std(1, keepdim=True, correction=0)
    return ((groups - groups.mean(1, keepdim=True)) / (std + eps)).view(-1)

# %% ex7 fault: old log-probs not detached
def grpo_step(logits, ids, mask, rewards, ref_logps, num_generations, **settings):
    logps = token_logprobs(logits, ids)
    return grpo_loss(logps, logps, ref_logps, group_advantages(rewards, num_generations), mask,
                     **settings)

# %% ex7 fault: everything detached
def grpo_step(logits, ids, mask, rewards, ref_logps, num_generations, **settings):
    logps = token_logprobs(logits, ids).detach()
    return grpo_loss(logps, logps, ref_logps, group_advantages(rewards, num_generations), mask,
                     **settings)

# %% ex7 fault: rewards for advantages
def grpo_step(logits, ids, mask, rewards, ref_logps, num_generations, **settings):
    logps = token_logprobs(logits, ids)
    return grpo_loss(logps, logps.detach(), ref_logps, rewards, mask, **settings)

# %% ex7 fault: settings dropped
def grpo_step(logits, ids, mask, rewards, ref_logps, num_generations, **settings):
    logps = token_logprobs(logits, ids)
    advantages = group_advantages(rewards, num_generations)
    return grpo_loss(logps, logps.detach(), ref_logps, advantages, mask)

# %% ex7 fault: the reference as the old policy
def grpo_step(logits, ids, mask, rewards, ref_logps, num_generations, **settings):
    logps = token_logprobs(logits, ids)
    old = logps.detach() if ref_logps is None else ref_logps
    return grpo_loss(logps, old, ref_logps, group_advantages(rewards, num_generations), mask,
                     **settings)

# %% ex7 fault: the mask left out
def grpo_step(logits, ids, mask, rewards, ref_logps, num_generations, **settings):
    logps = token_logprobs(logits, ids)
    return grpo_loss(logps, logps.detach(), ref_logps, group_advantages(rewards, num_generations),
                     torch.ones_like(mask), **settings)

# %% ex7 fault: one group for the whole batch
def grpo_step(logits, ids, mask, rewards, ref_logps, num_generations, **settings):
    logps = token_logprobs(logits, ids)
    return grpo_loss(logps, logps.detach(), ref_logps, group_advantages(rewards, len(rewards)),
                     mask, **settings)

# %% ex7 fault: unscaled advantages
def grpo_step(logits, ids, mask, rewards, ref_logps, num_generations, **settings):
    logps = token_logprobs(logits, ids)
    advantages = group_advantages(rewards, num_generations, scale="none")
    return grpo_loss(logps, logps.detach(), ref_logps, advantages, mask, **settings)

# %% ex7 fault: advantages clamped to +-1.5
replace("group_advantages(rewards, num_generations)",
        "group_advantages(rewards, num_generations).clamp(-1.5, 1.5)")

# %% ex6 equivalent: `def .*unknown loss_type.*`
# What an unknown loss_type does is not asked for.

# %% ex6 fault: a small beta is none
replace("if beta:", "if beta > 0.01:")

# %% ex6 fault: dr_grpo counts to 16 at most
replace("len(mask) * max_completion_length", "len(mask) * min(max_completion_length, 16)")

# %% ex1 equivalent: .*std.* \+ eps` Sub
# eps is 1e-4 or less: either sign is within the tolerance that keeps both common values.

# %% ex1 fault: clamped to +-2
replace("advantages.flatten()", "advantages.flatten().clamp(-2, 2)")

# %% ex1 fault: a spread below a ten-thousandth is a tie
replace("advantages = advantages / (groups.std(dim=1, keepdim=True) + eps)",
        "std = groups.std(dim=1, keepdim=True)\n"
        "        advantages = advantages / (std + eps) * (std > 1e-4)")

