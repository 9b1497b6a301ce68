# %% [markdown]
# Chapter 6. Wrong answers that must lose the points of their exercise, and right ones, written
# otherwise, that must keep them.

# %% ex1 right: by other names
def grpo_settings(output_dir, seed, processes=1):
    settings = {"output_dir": output_dir, "seed": seed, "max_steps": 24, "beta": 0.1}
    settings["per_device_train_batch_size"] = 16
    settings["gradient_accumulation_steps"] = 64 // (16 * processes)
    settings["generation_batch_size"] = 64
    settings.update(
        num_generations=8, max_completion_length=40, epsilon=0.2, epsilon_high=0.28,
        learning_rate=0.0003, lr_scheduler_type="cosine", warmup_steps=0.125,
        reward_weights=[1, 0.5], logging_strategy="steps", logging_steps=1, save_steps=12,
        report_to=[], temperature=1, top_k=0, top_p=1.0, num_iterations=1)
    return settings

# %% ex1 right: steps_per_generation and nothing that is the default
def grpo_settings(output_dir, seed, processes=1):
    passes = {1: 4, 2: 2, 4: 1}[processes]
    settings = {"output_dir": output_dir, "seed": seed, "beta": 1 / 10, "epsilon_high": 0.28}
    settings |= {"max_steps": 24, "save_steps": 12, "logging_steps": 1, "warmup_steps": 3}
    settings |= {"per_device_train_batch_size": 16, "gradient_accumulation_steps": passes,
                 "steps_per_generation": passes, "max_completion_length": 40}
    return settings | {"learning_rate": 3e-4, "lr_scheduler_type": "cosine",
                       "reward_weights": [1.0, 0.5]}

# %% ex1 fault: processes forgotten
replace("4 // processes", "4")

# %% ex1 fault: a larger step for more processes
replace("4 // processes", "4 * processes")

# %% ex1 fault: the batch is split in place of the passes
replace('"per_device_train_batch_size": 16', '"per_device_train_batch_size": 16 // processes')
replace("4 // processes", "4")

# %% ex1 fault: prompts, not completions
replace('"per_device_train_batch_size": 16', '"per_device_train_batch_size": 8')
replace("4 // processes", "1")

# %% ex1 fault: one generation for two updates
replace('"num_iterations": 1', '"steps_per_generation": 8 // processes')

# %% ex1 fault: the generation batch of one process
replace('"num_iterations": 1', '"generation_batch_size": 64 // processes')

# %% ex1 fault: each batch twice
replace('"num_iterations": 1', '"num_iterations": 2')

# %% ex1 fault: the ratio's bounds themselves
replace('"epsilon_high": 0.28', '"epsilon_high": 1.28')

# %% ex1 fault: one bound for both
replace('"epsilon_high": 0.28', '"epsilon_high": 0.2')

# %% ex1 fault: no KL term
replace('"beta": 0.1, ', "")

# %% ex1 fault: the default learning rate
replace('"learning_rate": 3e-4, ', "")

# %% ex1 fault: the default schedule
replace('"lr_scheduler_type": "cosine",', "")

# %% ex1 fault: warm-up as a share by mistake
replace('"warmup_steps": 3', '"warmup_steps": 0.3')

# %% ex1 fault: the seed of the example
replace('"seed": seed', '"seed": 1')

# %% ex1 fault: the folder of the example
replace('"output_dir": output_dir', '"output_dir": "runs/bare"')

# %% ex1 fault: a checkpoint each epoch
replace('"save_strategy": "steps"', '"save_strategy": "epoch"')

# %% ex1 fault: a filter
replace('"temperature": 1.0', '"temperature": 1.0, "top_k": 50')

# %% ex1 fault: cold sampling
replace('"temperature": 1.0', '"temperature": 0.7')

# %% ex1 fault: weights of one function
replace("[1.0, 0.5]", "[1.0]")

# %% ex1 fault: the second one in full
replace("[1.0, 0.5]", "[1.0, 1.0]")

# %% ex1 fault: a tracker
replace('"report_to": "none"', '"report_to": "wandb"')

# %% ex1 fault: a name of an older TRL
replace('"num_iterations": 1', '"max_prompt_length": 40')

# %% ex1 fault: reads a file of the grader's machine
replace('"num_iterations": 1', '"accelerator_config": "/etc/passwd"')


# %% ex2 right: prompts first
def batch_plan(processes, per_device, accumulation, num_generations,
               num_prompts, steps_per_generation=None, num_iterations=1):
    if num_generations <= 1:
        return "no group"
    step = processes * per_device * accumulation
    times = 1 if steps_per_generation is None else steps_per_generation // accumulation
    prompts, rest = divmod(step * times, num_generations)
    if rest:
        return "cut groups"
    generations = num_prompts // prompts
    if not generations:
        return "no step"
    return {"completions": step, "prompts": prompts, "updates": times * num_iterations,
            "steps": generations * times * num_iterations}

# %% ex2 fault: processes forgotten
replace("batch = processes * per_device", "batch = per_device")

# %% ex2 fault: completions of one forward pass
replace("processes * per_device * accumulation", "processes * per_device")

# %% ex2 fault: the forward pass has to hold whole groups
replace("batch % num_generations", "per_device % num_generations")

# %% ex2 fault: the step has to hold whole groups
replace("if batch % num_generations", "if processes * per_device * accumulation % num_generations")

# %% ex2 fault: prompts of a step
replace("prompts = batch // num_generations",
        "prompts = processes * per_device * accumulation // num_generations")

# %% ex2 fault: the last batch counts
replace("num_prompts // prompts * updates", "-(-num_prompts // prompts) * updates")

# %% ex2 fault: iterations forgotten
replace("passes * num_iterations // accumulation", "passes // accumulation")

# %% ex2 fault: updates count forward passes
replace("passes * num_iterations // accumulation", "passes * num_iterations")

# %% ex2 fault: one step a generation
replace("num_prompts // prompts * updates", "num_prompts // prompts")

# %% ex2 fault: nothing said of an epoch without a step
replace("num_prompts < prompts", "num_prompts < 0")

# %% ex2 fault: just enough is too few
replace("num_prompts < prompts", "num_prompts <= prompts")

# %% ex2 fault: a group of one
replace("num_generations < 2", "num_generations < 1")

# %% ex2 fault: floats
replace("prompts = batch // num_generations", "prompts = batch / num_generations")

# %% ex2 fault: the other order of reasons
def batch_plan(processes, per_device, accumulation, num_generations,
               num_prompts, steps_per_generation=None, num_iterations=1):
    passes = steps_per_generation or accumulation
    batch = processes * per_device * passes
    if num_generations < 2:
        return "no group"
    prompts = batch // num_generations
    if num_prompts < max(prompts, 1):
        return "no step"
    if batch % num_generations:
        return "cut groups"
    updates = passes * num_iterations // accumulation
    return {"completions": processes * per_device * accumulation, "prompts": prompts,
            "updates": updates, "steps": num_prompts // prompts * updates}

# %% ex3 right: transformers' own schedule
def lr_at(step, peak, warmup, total):
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    warmup = math.ceil(warmup * total) if warmup < 1 else warmup
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, total)
    return peak * schedule.lr_lambdas[0](step)

# %% ex3 right: the square of a cosine
def lr_at(step, peak, warmup, total):
    rising = warmup if warmup >= 1 else -int(-(warmup * total) // 1)
    if step <= rising and rising:
        return peak * (step / rising)
    return peak * math.cos(math.pi / 2 * (step - rising) / (total - rising)) ** 2

# %% ex3 fault: counts from 1
replace("peak * step / warmup", "peak * (step + 1) / warmup")

# %% ex3 fault: the cosine over the whole run
replace("(step - warmup) / max(1, total - warmup)", "step / total")

# %% ex3 fault: a line
replace("peak * (1 + math.cos(math.pi * done)) / 2", "peak * (1 - done)")

# %% ex3 fault: a whole wave
replace("math.pi * done", "2 * math.pi * done")

# %% ex3 fault: not mapped to 0 to 1
replace("peak * (1 + math.cos(math.pi * done)) / 2", "peak * math.cos(math.pi * done)")

# %% ex3 fault: a share is not known
replace("if warmup < 1:", "if warmup < 0:")

# %% ex3 fault: a share is rounded
replace("math.ceil(warmup * total)", "round(warmup * total)")

# %% ex3 fault: a share is cut off
replace("math.ceil(warmup * total)", "int(warmup * total)")

# %% ex3 fault: 1 is a share
replace("if warmup < 1:", "if warmup <= 1:")

# %% ex3 fault: no warm-up
replace("if step < warmup:", "if False:")

# %% ex3 fault: divided by 0
replace("max(1, total - warmup)", "(total - warmup)")

# %% ex3 fault: ends one step early
replace("total - warmup", "total - warmup - 1")

# %% ex4 right: in a loop
def newest_complete(listing, processes=1):
    best = -1
    for name, files in listing.items():
        head, dash, number = name.partition("-")
        if (head, dash) != ("checkpoint", "-") or not number.isdigit():
            continue

        def there(file, files=files):
            return files.get(file, 0) > 0

        dice = ["rng_state.pth"] if processes == 1 else [
            f"rng_state_{i}.pth" for i in range(processes)]
        if all(map(there, ["optimizer.pt", "scheduler.pt", "trainer_state.json", *dice])) and (
                there("model.safetensors") or there("adapter_model.safetensors")):
            best = max(best, int(number))
    return f"checkpoint-{best}" if best >= 0 else None

# %% ex4 right: by a regular expression
def newest_complete(listing, processes=1):
    import re

    names = [name for name in listing if re.fullmatch(r"checkpoint-\d+", name)]
    for name in sorted(names, key=lambda name: -int(name[11:])):
        files = {file for file in listing[name] if listing[name][file]}
        states = sum(file.startswith("rng_state") and (
            file == "rng_state.pth" if processes == 1 else file != "rng_state.pth")
            for file in files)
        if states == processes and len(files & {
                "optimizer.pt", "scheduler.pt", "trainer_state.json"}) == 3 and files & {
                "model.safetensors", "adapter_model.safetensors"}:
            return name

# %% ex4 fault: as texts
replace("key=whole.get", "key=str")

# %% ex4 fault: the newest, whole or not
replace("if named and weights and needed <= there", "if named")

# %% ex4 fault: the oldest
replace("max(whole", "min(whole")

# %% ex4 fault: the last of the list
replace("max(whole, key=whole.get, default=None)", "list(whole)[-1] if whole else None")

# %% ex4 fault: without Adam
replace('"optimizer.pt", ', "")

# %% ex4 fault: without the schedule
replace(', "scheduler.pt"', "")

# %% ex4 fault: without the state
replace('"trainer_state.json", ', "")

# %% ex4 fault: without dice
replace('{"rng_state.pth"} if processes == 1', "set() if processes == 1")

# %% ex4 fault: empty files count
replace("if size}", "if size >= 0}")

# %% ex4 fault: no LoRA
replace(', "adapter_model.safetensors"', "")

# %% ex4 fault: both kinds of weights
replace("if named and weights and", "if named and len(weights) == 2 and")

# %% ex4 fault: one random state for all
replace("if processes == 1 else", "if processes >= 1 else")

# %% ex4 fault: states from 1
replace("range(processes)", "range(1, processes + 1)")

# %% ex4 fault: any folder with a number behind it
replace('name.removeprefix("checkpoint-")', 'name.split("-")[-1]')

# %% ex4 fault: a bare number
replace("name != number and number", "number")

# %% ex4 fault: an error where there is none
replace(", default=None", "")

# %% ex4 equivalent: `needed .* Lt
# the weights are there and not among the needed, so the sets are never equal

# %% ex5 right: a table of layers
def lora_parameters(config, rank, modules):
    total = 0
    if config["model_type"] == "gpt2":
        width = config["n_embd"]
        inner = config["n_inner"] if config["n_inner"] is not None else width * 4
        for name in modules:
            total += {"c_attn": width + 3 * width, "c_proj": 2 * width + inner + width,
                      "c_fc": width + inner}[name]
        return total * rank * config["n_layer"]
    width, inner = config["hidden_size"], config["intermediate_size"]
    narrow = width * config["num_key_value_heads"] // config["num_attention_heads"]
    for name in modules:
        if name in ("q_proj", "o_proj"):
            total += 2 * width
        elif name in ("k_proj", "v_proj"):
            total += width + narrow
        else:
            total += width + inner
    return total * rank * config["num_hidden_layers"]

# %% ex5 right: PEFT counts
def lora_parameters(config, rank, modules):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = dict(config)
    kind = AutoConfig.for_model(config.pop("model_type"), vocab_size=8, **config)
    with torch.device("meta"):
        model = get_peft_model(AutoModelForCausalLM.from_config(kind), LoraConfig(
            r=rank, target_modules=modules, fan_in_fan_out=kind.model_type == "gpt2"))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

# %% ex5 fault: one layer
replace("layers * rank", "rank")

# %% ex5 fault: no rank
replace("layers * rank", "layers")

# %% ex5 fault: A alone
replace("i + o for name", "i for name")

# %% ex5 fault: the whole matrix
replace("i + o for name", "i * o for name")

# %% ex5 fault: one c_proj
replace("[(d, d), (f, d)]", "[(d, d)]")

# %% ex5 fault: the MLP's c_proj is square
replace("[(d, d), (f, d)]", "[(d, d), (d, d)]")

# %% ex5 fault: c_attn without its three parts
replace("(d, 3 * d)", "(d, d)")

# %% ex5 fault: n_inner ignored
replace('config["n_inner"] or 4 * d', "4 * d")

# %% ex5 fault: n_inner null
replace('config["n_inner"] or 4 * d', 'config["n_inner"] or d')

# %% ex5 fault: as many keys as queries
replace('config["num_key_value_heads"]', 'config["num_attention_heads"]')

# %% ex5 fault: the size from the key-value heads
replace('d // config["num_attention_heads"]', 'd // config["num_key_value_heads"]')

# %% ex5 fault: values are wide
replace('"v_proj": [(d, keys)]', '"v_proj": [(d, d)]')

# %% ex5 fault: o_proj reads keys
replace('"o_proj": [(d, d)]', '"o_proj": [(keys, d)]')

# %% ex5 fault: down_proj is square
replace("[(f, d)]}", "[(d, d)]}")

# %% ex5 fault: a float
replace("layers * rank", "1.0 * layers * rank")


# %% ex6 right: part by part
def memory_estimate(model, run):
    BYTES = 4
    lora = run["trained"] < model["parameters"]
    found = {"weights": model["parameters"], "gradients": run["trained"],
             "adam": 2 * run["trained"], "reference": 0}
    if run["beta"] and not lora:
        found["reference"] = model["parameters"]
    width = model["kv_heads"] * model["head_size"]
    found["cache"] = run["generated"] * (run["prompt"] + run["completion"]) * (
        model["layers"] * 2 * width)
    found["logits"] = run["batch"] * run["completion"] * model["vocabulary"]
    return {name: BYTES * count for name, count in found.items()}

# %% ex6 fault: two bytes a weight
replace('"weights": 4 * n', '"weights": 2 * n')

# %% ex6 fault: gradients of all
replace('"gradients": 4 * trained', '"gradients": 4 * n')

# %% ex6 fault: Adam of all
replace('"adam": 8 * trained', '"adam": 8 * n')

# %% ex6 fault: one mean
replace('"adam": 8 * trained', '"adam": 4 * trained')

# %% ex6 fault: a reference always
replace("4 * n if copied else 0", "4 * n")

# %% ex6 fault: a reference for LoRA
replace(" and trained == n", "")

# %% ex6 fault: a reference without a KL term
replace('run["beta"] > 0 and ', "")

# %% ex6 fault: keys alone
replace("2 * model", "model")

# %% ex6 fault: one layer
replace('2 * model["layers"] * ', "2 * ")

# %% ex6 fault: the cache without the prompt
replace('(run["prompt"] + run["completion"])', 'run["completion"]')

# %% ex6 fault: the cache of a forward pass
replace('run["generated"] * (', 'run["batch"] * (')

# %% ex6 fault: logits of everything
replace('run["batch"] * run["completion"]', 'run["generated"] * run["completion"]')

# %% ex6 fault: logits of the prompt too
replace('run["batch"] * run["completion"]', 'run["batch"] * (run["prompt"] + run["completion"])')

# %% ex6 fault: numbers, not bytes
replace('4 * run["batch"]', 'run["batch"]')

# %% ex6 fault: floats
replace('"weights": 4 * n', '"weights": 4.0 * n')

# %% [markdown]
# The capstone's form. What a reward trains is tried in tests/grading/test_capstone.py, whose good
# rewards are the right ones here.

# %% ex7 right: a price for surprise
def project_reward(completions, star_probs, ref_logps, **kwargs):
    rewards = []
    for text, stars, logps in zip(completions, star_probs, ref_logps, strict=True):
        score = sum(i * p for i, p in enumerate(stars)) / 4
        surprise = sum(max(0.0, -4.5 - logp) for logp in logps)
        rewards.append(score - 0.3 * surprise - 0.5 * (not text.endswith(".")))
    return rewards

# %% ex7 right: enough is enough
def project_reward(completions, star_probs, ref_logps, **kwargs):
    return [min(sum(i * p for i, p in enumerate(stars)) / 4, 0.9) - 0.04 * abs(sum(logps) + 16)
            for stars, logps in zip(star_probs, ref_logps, strict=True)]

# %% ex7 right: shared among equals
import math
from collections import Counter


def project_reward(completions, star_probs, ref_logps, **kwargs):
    said = [[part.strip() for part in text.split(".") if part.strip()] for text in completions]
    count = Counter(part for parts in said for part in parts)
    rewards = []
    for text, stars, logps, parts in zip(completions, star_probs, ref_logps, said, strict=True):
        good = (stars[3] + stars[4]) * (text.endswith(".") and len(logps) < 25)
        good *= math.exp(min(0.0, min(logps) + 5))
        rewards.append(good * (1 + sum(1 / count[p] for p in parts) / max(1, len(parts))) / 2)
    return rewards

# %% ex7 fault: one value too few
replace("    return rewards", "    return rewards[1:]")

# %% ex7 fault: one mean for the batch
replace("    return rewards", "    return sum(rewards) / max(1, len(rewards))")

# %% ex7 fault: log of a probability that may be 0
def project_reward(completions, star_probs, ref_logps, **kwargs):
    return [math.log(stars[4]) for stars in star_probs]

# %% ex7 fault: nan for a text without words
def project_reward(completions, star_probs, ref_logps, **kwargs):
    return [len(set(text.split())) / len(text.split()) if text.split() else math.nan
            for text in completions]

# %% ex7 fault: a mean over all but the first token
def project_reward(completions, star_probs, ref_logps, **kwargs):
    return [sum(logps[1:]) / (len(logps) - 1) for logps in ref_logps]

# %% ex7 fault: perplexity without a cap
def project_reward(completions, star_probs, ref_logps, **kwargs):
    return [-math.exp(-min(logps)) for logps in ref_logps]

# %% ex7 fault: takes the baseline over calls
SEEN = []


def project_reward(completions, star_probs, ref_logps, **kwargs):
    scores = [stars[4] for stars in star_probs]
    SEEN.extend(scores)
    return [score - sum(SEEN) / len(SEEN) for score in scores]

# %% ex7 fault: breaks ties by chance
def project_reward(completions, star_probs, ref_logps, **kwargs):
    return [stars[4] + 1e-3 * statistics.NormalDist().samples(1)[0] for stars in star_probs]

# %% ex7 fault: normalised by the batch, which may be of one
def project_reward(completions, star_probs, ref_logps, **kwargs):
    scores = [stars[4] for stars in star_probs]
    return [(score - statistics.fmean(scores)) / statistics.stdev(scores) for score in scores]

# %% ex7 equivalent: `.+` .+|no `.+`|comprehension .+
# no fault of form: it is another design, judged by the policy that it trains
