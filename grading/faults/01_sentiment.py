# %% [markdown]
# Chapter 1. Wrong answers that must lose the points of their exercise, and right ones, written
# otherwise, that must keep them.

# %% ex1 right: one by one
def sentiment_reward(completions, **kwargs):
    return [get_sentiment_scores([text])[0] for text in completions]

# %% ex1 right: from the stars
def sentiment_reward(completions, **kwargs):
    return [sum(s * float(p) for s, p in enumerate(row)) / 4
            for row in get_star_probs(completions)]

# %% ex1 right: a tuple
def sentiment_reward(completions, **kwargs):
    return tuple(get_sentiment_scores(list(completions)))

# %% ex1 fault: another order
replace("return get_sentiment_scores(list(completions))",
        "return get_sentiment_scores(list(completions))[::-1]")

# %% ex1 fault: sorted
replace("get_sentiment_scores(list(completions))",
        "sorted(get_sentiment_scores(list(completions)))")

# %% ex1 fault: a tensor
replace("get_sentiment_scores(list(completions))",
        "torch.tensor(get_sentiment_scores(list(completions)))")

# %% ex1 fault: one mean
def sentiment_reward(completions, **kwargs):
    scores = get_sentiment_scores(list(completions))
    return [sum(scores) / max(len(scores), 1)] * len(scores)

# %% ex1 fault: stars from 1 to 5
replace("get_sentiment_scores(list(completions))",
        "[1 + 4 * s for s in get_sentiment_scores(list(completions))]")

# %% ex1 fault: five stars alone
def sentiment_reward(completions, **kwargs):
    return [float(row[4]) for row in get_star_probs(list(completions))]

# %% ex1 fault: the likeliest star
def sentiment_reward(completions, **kwargs):
    return [float(row.argmax()) / 4 for row in get_star_probs(list(completions))]

# %% ex1 fault: negative is good
replace("get_sentiment_scores(list(completions))",
        "[1 - s for s in get_sentiment_scores(list(completions))]")

# %% ex1 fault: no keywords
replace(", **kwargs", "")

# %% ex1 fault: the prompt too
replace("get_sentiment_scores(list(completions))",
        "get_sentiment_scores([p + c for p, c in zip(kwargs.get('prompts', completions), "
        "completions)])")

# %% ex1 fault: rounded
replace("get_sentiment_scores(list(completions))",
        "[round(s, 1) for s in get_sentiment_scores(list(completions))]")

# %% ex1 fault: no empty list
replace("return get", "completions[0]\n    return get")

# %% ex2 right: expm1
def exponential_shaping(scores, temperature):
    return [math.expm1(s / temperature) for s in scores]

# %% ex2 right: by tensors
def exponential_shaping(scores, temperature):
    return torch.expm1(torch.tensor(scores, dtype=torch.float64) / temperature).tolist()

# %% ex2 right: a loop
def exponential_shaping(scores, temperature):
    shaped = []
    for score in scores:
        shaped.append(math.e ** (score / temperature) - 1.0)
    return shaped

# %% ex2 fault: no minus 1
replace(" - 1", "")

# %% ex2 fault: multiplied
replace("score / temperature", "score * temperature")

# %% ex2 fault: no temperature
replace("score / temperature", "score")

# %% ex2 fault: temperature outside
replace("math.exp(score / temperature) - 1", "(math.exp(score) - 1) / temperature")

# %% ex2 fault: sign
replace("score / temperature", "-score / temperature")

# %% ex2 fault: normalised
def exponential_shaping(scores, temperature):
    values = [math.exp(s / temperature) - 1 for s in scores]
    return [v / max(values) for v in values]

# %% ex2 fault: in place
def exponential_shaping(scores, temperature):
    for i, score in enumerate(scores):
        scores[i] = math.exp(score / temperature) - 1
    return scores

# %% ex2 fault: sorted
replace("for score in scores", "for score in sorted(scores)")

# %% ex2 fault: hard-wired
replace("score / temperature", "score / 0.5")

# %% ex2 fault: another base
replace("math.exp(score / temperature)", "2 ** (score / temperature)")

# %% ex2 fault: the 1 inside
replace("math.exp(score / temperature) - 1", "math.exp(score / temperature - 1)")

# %% ex2b right: in plain Python
def same_advantages(rewards_a, rewards_b, num_generations):
    def advantages(rewards):
        found = []
        for i in range(0, len(rewards), num_generations):
            part = rewards[i:i + num_generations]
            mean, std = statistics.fmean(part), statistics.pstdev(part)
            found += [(r - mean) / std if max(part) > min(part) else 0.0 for r in part]
        return found

    return all(abs(a - b) < 0.01
               for a, b in zip(advantages(rewards_a), advantages(rewards_b), strict=True))

# %% ex2b right: numpy, without epsilon
def same_advantages(rewards_a, rewards_b, num_generations):
    import numpy
    both = []
    for rewards in (rewards_a, rewards_b):
        groups = numpy.array(rewards, dtype=float).reshape(-1, num_generations)
        spread = numpy.ptp(groups, axis=1, keepdims=True)
        std = numpy.where(spread > 0, groups.std(axis=1, ddof=1, keepdims=True), numpy.inf)
        both.append((groups - groups.mean(axis=1, keepdims=True)) / std)
    return bool(numpy.allclose(*both, rtol=0, atol=0.005))

# %% ex2b right: positive affine within each group
def same_advantages(rewards_a, rewards_b, num_generations):
    for i in range(0, len(rewards_a), num_generations):
        a, b = rewards_a[i:i + num_generations], rewards_b[i:i + num_generations]
        low, high = min(a), max(a)
        if low == high or max(b) == min(b):
            if (low == high) != (max(b) == min(b)):
                return False
            continue
        x, y = a.index(low), a.index(high)
        factor = (b[y] - b[x]) / (high - low)
        spread = max(b) - min(b)
        if factor <= 0 or any(abs(b[x] + factor * (r - low) - s) > 0.003 * spread
                              for r, s in zip(a, b, strict=True)):
            return False
    return True

# %% ex2b right: in float32, cosine of the centred groups
def same_advantages(rewards_a, rewards_b, num_generations):
    a, b = (torch.tensor(r).view(-1, num_generations) for r in (rewards_a, rewards_b))
    tied_a, tied_b = (x.max(1).values == x.min(1).values for x in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    alike = torch.nn.functional.cosine_similarity(a, b) > 1 - 1e-5
    return bool((torch.where(tied_a | tied_b, tied_a == tied_b, alike)).all())

# %% ex2b fault: the rewards themselves
def same_advantages(rewards_a, rewards_b, num_generations):
    return all(abs(a - b) < 0.01 for a, b in zip(rewards_a, rewards_b, strict=True))

# %% ex2b fault: one mean for the batch
replace("groups.mean(1, keepdim=True)", "groups.mean()")

# %% ex2b fault: one spread for the batch
replace("groups.std(1, keepdim=True)", "groups.std()")

# %% ex2b fault: not scaled
replace(" / (groups.std(1, keepdim=True) + 1e-4)", "")

# %% ex2b fault: the sizes of the advantages
replace("advantages(rewards_a) - advantages(rewards_b)",
        "advantages(rewards_a).abs() - advantages(rewards_b).abs()")

# %% ex2b fault: the order alone
def same_advantages(rewards_a, rewards_b, num_generations):
    a, b = (torch.tensor(r).view(-1, num_generations) for r in (rewards_a, rewards_b))
    return bool((a.argsort(dim=1, stable=True) == b.argsort(dim=1, stable=True)).all())

# %% ex2b fault: sorted advantages
replace("return centred / (groups.std(1, keepdim=True) + 1e-4)",
        "return (centred / (groups.std(1, keepdim=True) + 1e-4)).sort(1).values")

# %% ex2b fault: no epsilon, nan is never the same
replace(" + 1e-4", "")

# %% ex2b fault: no epsilon, nan passes
replace("bool((apart < 0.01).all())", "not bool((apart > 0.01).any())")
replace(" + 1e-4", "")

# %% ex2b fault: some completion
replace(".all()", ".any()")

# %% ex2b fault: on average
replace("bool((apart < 0.01).all())", "bool(apart.mean() < 0.25)")

# %% ex2b fault: exactly
replace("apart < 0.01", "apart == 0")

# %% ex2b fault: the first group alone
replace("apart < 0.01", "apart[0] < 0.01")

# %% ex2b fault: groups laid out the other way
replace("view(-1, num_generations)", "view(num_generations, -1).T")

# %% ex2b fault: any factor, a negative one too
def same_advantages(rewards_a, rewards_b, num_generations):
    def advantages(rewards):
        groups = torch.tensor(rewards, dtype=torch.float64).view(-1, num_generations)
        centred = groups - groups.mean(1, keepdim=True)
        scaled = centred / (groups.std(1, keepdim=True) + 1e-4)
        return scaled * scaled[:, :1].sign()
    return bool(((advantages(rewards_a) - advantages(rewards_b)).abs() < 0.01).all())

# %% ex2b fault: tied groups are left out
replace("apart < 0.01", "(apart < 0.01) | (advantages(rewards_b) == 0)")

# %% ex2b fault: the other way round
replace("return bool", "return not bool")

# %% ex2b equivalent: `.*0.01.*` LtE
# No test comes near the tolerance.

# %% ex2b equivalent: `0.01` 0.0105
# No test comes near the tolerance.

# %% ex2b equivalent: `0.0001` 0.000105
# An epsilon is left to the student.

# %% ex2b equivalent: .*0.0001` Sub
# An epsilon is left to the student, and this one is as small.

# %% ex2b equivalent: .*float64.* no dtype
# float32 is exact enough for a tolerance of 0.01.

# %% ex2c right: by a list of those that keep them
def changes_nothing():
    return {letter: letter in "aefg" for letter in "abcdefgh"}

# %% ex2c fault: the sign does not matter
replace('"b": False', '"b": True')

# %% ex2c fault: a cap does not matter
replace('"c": False', '"c": True')

# %% ex2c fault: the order is all
replace('"d": False', '"d": True')
replace('"h": False', '"h": True')

# %% ex2c fault: an exponential always matters
replace('"e": True', '"e": False')

# %% ex2c fault: a bonus for the prompt matters
replace('"f": True', '"f": False')

# %% ex2c fault: the batch's scale matters
replace('"g": True', '"g": False')

# %% ex2c fault: linear shaping is shaping
replace('"a": True', '"a": False')

# %% ex2c fault: all of them
def changes_nothing():
    return dict.fromkeys("abcdefgh", True)

# %% ex2 fault: the exponent at most 10
replace("score / temperature)", "min(score / temperature, 10))")

# %% ex3a right: statistics
def forward_kl_bonus(ref_logps, kl_coef):
    import statistics
    return [kl_coef * statistics.fmean(row) for row in ref_logps]

# %% ex3a right: tensors
def forward_kl_bonus(ref_logps, kl_coef):
    return [float(kl_coef * torch.tensor(row).mean()) for row in ref_logps]

# %% ex3a fault: a sum
replace(" / len(row)", "")

# %% ex3a fault: sign
replace("kl_coef * sum", "-kl_coef * sum")

# %% ex3a fault: no coefficient
replace("kl_coef * ", "")

# %% ex3a fault: probabilities
replace("sum(row)", "sum(math.exp(v) for v in row)")

# %% ex3a fault: the mean of all
def forward_kl_bonus(ref_logps, kl_coef):
    tokens = [v for row in ref_logps for v in row]
    return [kl_coef * sum(tokens) / len(tokens)] * len(ref_logps)

# %% ex3a fault: the last token
replace("sum(row) / len(row)", "row[-1]")

# %% ex3a fault: divided by the batch
replace("/ len(row)", "/ len(ref_logps)")

# %% ex3a fault: the least likely token
replace("sum(row) / len(row)", "min(row)")

# %% ex3a fault: the first ten tokens
replace("sum(row) / len(row)", "sum(row[:10]) / len(row[:10])")

# %% ex3a fault: no token below -10
replace("sum(row) / len(row)", "sum(max(p, -10.0) for p in row) / len(row)")

# %% ex3a fault: a mean of at least -5
replace("sum(row) / len(row)", "max(-5.0, sum(row) / len(row))")

# %% ex3b right: numpy
def backward_kl_penalty(ref_logps, kl_coef):
    import numpy
    return [-kl_coef * float(numpy.exp(min(-numpy.mean(row), 20.0))) for row in ref_logps]

# %% ex3b right: clamp by tensors
def backward_kl_penalty(ref_logps, kl_coef):
    return [float(-kl_coef * (-torch.tensor(row, dtype=torch.float64).mean()).clamp(max=20).exp())
            for row in ref_logps]

# %% ex3b fault: sign outside
replace("[-kl_coef", "[kl_coef")

# %% ex3b fault: sign inside
replace("min(-mean", "min(mean")

# %% ex3b fault: no clamp
replace("min(-mean, 20.0)", "-mean")

# %% ex3b fault: clamp at 10
replace("20.0", "10.0")

# %% ex3b fault: a sum
replace(" / len(row)", "")

# %% ex3b fault: the mean of exponentials
def backward_kl_penalty(ref_logps, kl_coef):
    return [-kl_coef * sum(math.exp(min(-v, 20.0)) for v in row) / len(row) for row in ref_logps]

# %% ex3b fault: each token clamped
replace("sum(row) / len(row)", "sum(max(v, -20.0) for v in row) / len(row)")

# %% ex3b fault: no coefficient
replace("-kl_coef *", "-")

# %% ex3b fault: minus 1
replace("20.0)) for", "20.0)) + kl_coef for")

# %% ex3b fault: base 2
replace("math.exp(", "2 ** (")

# %% ex3b fault: the first ten tokens
replace("sum(row) / len(row)", "sum(row[:10]) / len(row[:10])")

# %% ex3b fault: no token below -40
replace("sum(row) / len(row)", "sum(max(p, -40.0) for p in row) / len(row)")

# %% ex4a right: exp minus 1
replace("torch.expm1(log_ratio)", "log_ratio.exp() - 1")

# %% ex4a right: the ratio by itself
def kl_estimates(policy_logps, ref_logps):
    ratio = (ref_logps - policy_logps).exp()
    d = policy_logps - ref_logps
    return [d, d * d / 2, (ratio - 1) + d]

# %% ex4a fault: k1 with the other sign
replace("return -log_ratio", "return log_ratio")

# %% ex4a fault: k2 without the half
replace("0.5 * ", "")

# %% ex4a fault: k2 is no square
replace("log_ratio**2", "log_ratio.abs()")

# %% ex4a fault: k3 inverted
replace("torch.expm1(log_ratio) - log_ratio", "torch.expm1(-log_ratio) + log_ratio")

# %% ex4a fault: k3 without the log
replace("torch.expm1(log_ratio) - log_ratio", "torch.expm1(log_ratio)")

# %% ex4a fault: k3 without the 1
replace("torch.expm1(log_ratio)", "torch.exp(log_ratio)")

# %% ex4a fault: means
replace("return -log_ratio", "log_ratio = log_ratio.mean()\n    return -log_ratio")

# %% ex4a fault: exponents of probabilities
replace("ref_logps - policy_logps", "ref_logps.exp() - policy_logps.exp()")

# %% ex4a fault: k1 twice
replace("0.5 * log_ratio**2", "-log_ratio")

# %% ex4a fault: exchanged
replace("ref_logps - policy_logps", "policy_logps - ref_logps")

# %% ex4a fault: another order
def kl_estimates(policy_logps, ref_logps):
    d = ref_logps - policy_logps
    return -d, torch.expm1(d) - d, 0.5 * d**2

# %% ex4a fault: the log-ratio within 10
replace("log_ratio = ref_logps - policy_logps",
        "log_ratio = (ref_logps - policy_logps).clamp(-10, 10)")

# %% ex4a fault: k3 at most 3000
replace("torch.expm1(log_ratio) - log_ratio",
        "(torch.expm1(log_ratio) - log_ratio).clamp(max=3000)")

# %% ex4a fault: equal to a hundredth is equal
replace("log_ratio = ref_logps - policy_logps",
        "d = ref_logps - policy_logps\n    log_ratio = d * (d.abs() > 0.01)")

# %% ex4b right: xlogy
def categorical_kl(p, q):
    return torch.special.xlogy(p, p).sum() - torch.special.xlogy(p, q).sum()

# %% ex4b right: where
def categorical_kl(p, q):
    return torch.where(p > 0, p * (p / q).log(), torch.zeros_like(p)).sum()

# %% ex4b fault: exchanged
replace("(p[there] * (p[there] / q[there]).log()).sum()", "(q * (q / p).log()).sum()")

# %% ex4b fault: sign
replace("p[there] / q[there]", "q[there] / p[there]")

# %% ex4b fault: the mean
replace(".sum()", ".mean()")

# %% ex4b fault: base 2
replace(".log()", ".log2()")

# %% ex4b fault: the cross-entropy
replace("p[there] / q[there]", "1 / q[there]")

# %% ex4b fault: 0 log 0
replace("there = p > 0", "there = p >= 0")

# %% ex4b fault: an epsilon
replace("q[there]", "(q[there] + 1e-3)")

# %% ex4b fault: not weighted
replace("p[there] * ", "")

# %% ex4b fault: never infinite
def categorical_kl(p, q):
    there = (p > 0) & (q > 0)
    return (p[there] * (p[there] / q[there]).log()).sum()

# %% ex4b fault: symmetric
def categorical_kl(p, q):
    p, q = p.clamp(min=1e-12), q.clamp(min=1e-12)
    return ((p - q) * (p / q).log()).sum() / 2

# %% ex4b fault: what is rarer than 1 in 1000 is not there
replace("p > 0", "p > 1e-3")

# %% ex4b fault: q at least a millionth
replace("p[there] / q[there]", "p[there] / q[there].clamp(min=1e-6)")
replace(".sum()", ".sum() if q[there].min() > 0 else torch.tensor(math.inf)")
