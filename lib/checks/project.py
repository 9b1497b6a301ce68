"""Visible checks of chapter 6."""

from collections.abc import Callable

from lib.checks import attempt, expect, passed, visible

# What a description of a run may set. The rest of GRPOConfig reads files and changes the process.
SETTINGS = frozenset(
    "output_dir seed data_seed run_name max_steps per_device_train_batch_size "
    "gradient_accumulation_steps generation_batch_size steps_per_generation num_generations "
    "num_iterations max_completion_length temperature top_p top_k min_p repetition_penalty beta "
    "use_bias_correction_kl loss_type epsilon epsilon_high importance_sampling_level scale_rewards "
    "multi_objective_aggregation top_entropy_quantile entropy_coef mask_truncated_completions "
    "learning_rate optim lr_scheduler_type warmup_steps weight_decay adam_beta1 adam_beta2 "
    "adam_epsilon max_grad_norm reward_weights logging_strategy logging_steps report_to "
    "save_strategy save_steps use_vllm remove_unused_columns".split())


def config_of(settings: dict, processes: int = 1):
    """TRL's GRPOConfig of keyword arguments, on a CPU, as in a run of so many processes.

    AssertionError where there is none.
    """
    from trl import GRPOConfig  # seconds to import: only this check pays for them

    assert isinstance(settings, dict), "return a dictionary of keyword arguments for GRPOConfig"
    unknown = sorted(map(str, settings.keys() - SETTINGS))
    assert not unknown, (f"{', '.join(unknown)}: either GRPOConfig has no such setting, or the "
                         "script sets it, or the description does not ask for it")
    try:
        launched = type("GRPOConfig", (GRPOConfig,), {"world_size": processes})
        return launched(**settings, use_cpu=True, bf16=False)
    except Exception as error:  # of many kinds, for values of a wrong type too
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise AssertionError(f"GRPOConfig refuses these settings: {first}") from None


# Attribute of the config -> (its value, what to say where it has another).
WANTED = {
    "output_dir": ("runs/check", "the folder is an argument"),
    "seed": (3, "the seed is an argument"),
    "max_steps": (24, "24 updates"),
    "per_device_train_batch_size": (16, "16 completions in a forward pass of a process"),
    "num_generations": (8, "eight completions a prompt"),
    "num_iterations": (1, "each completion is used for one update"),
    "max_completion_length": (40, "at most 40 tokens"),
    "temperature": (1.0, "drawn at temperature 1"),
    "top_p": (1.0, "drawn from the policy as it is: no filter"),
    "repetition_penalty": (1.0, "drawn from the policy as it is: no penalty"),
    "beta": (0.1, "the weight of the KL term; left out it is 0, and there is no reference"),
    "epsilon": (0.2, "a distance from 1: the ratio counts from 1 - 0.2"),
    "epsilon_high": (0.28, "a distance from 1: the ratio counts up to 1 + 0.28; left out it "
                           "equals epsilon"),
    "learning_rate": (3e-4, "the rate at its highest; left out it is 1e-6, and nothing moves"),
    "lr_scheduler_type": ("cosine", "it falls along a cosine; left out it is a line"),
    "weight_decay": (0.0, "no weight decay"),
    "max_grad_norm": (1.0, "a longer gradient is cut to 1"),
    "reward_weights": ([1.0, 0.5], "the first function counts once, the second half"),
    "logging_strategy": ("steps", "every step is logged"),
    "logging_steps": (1, "every step is logged; left out it is every tenth"),
    "report_to": ([], 'no tracker: "none"'),
    "save_strategy": ("steps", "checkpoints are counted in steps"),
    "save_steps": (12, "every 12 steps there is a checkpoint; left out it is every 500"),
}


def _same(got, right) -> bool:
    if isinstance(right, float) and isinstance(got, int | float):
        return abs(got - right) < 1e-9
    return got == right


@visible
def grpo_settings(function: Callable) -> None:
    """Exercise 1."""
    for processes in (1, 2, 4):
        config = config_of(attempt(
            function, "it takes output_dir, seed and processes", "runs/check", 3, processes),
            processes)
        passes = config.gradient_accumulation_steps
        step = config.per_device_train_batch_size * passes * processes
        assert step == 64, (
            f"with processes={processes} a step has {config.per_device_train_batch_size} x "
            f"{passes} x {processes} = {step} completions (batch x accumulation x processes), the "
            "description has 64")
        assert config.steps_per_generation == passes, (
            f"TRL would generate for {config.steps_per_generation} forward passes at once and make "
            f"an update every {passes}: each batch of completions is to be used for one update")
        for name, (right, why) in WANTED.items():
            got = getattr(config, name)
            got = getattr(got, "value", got)  # of an enumeration
            assert _same(got, right), f"{name} is {got!r}, not {right!r}: {why}"
        assert not config.top_k, f"top_k is {config.top_k}: drawn from the policy as it is"
        rising = config.get_warmup_steps(24)
        assert rising == 3, f"warmup_steps: the rate rises over {rising} updates, not 3"
    passed(function)


@visible
def batch_plan(function: Callable) -> None:
    """Exercise 2."""
    def compare(what, arguments, right, mistakes):
        got = attempt(function, "all are ints, but steps_per_generation may be None", *arguments)
        for mistake, wrong in mistakes.items():
            if got == wrong:
                raise AssertionError(f"{what}: {mistake}")
        if isinstance(right, dict) and isinstance(got, dict):
            for name, value in right.items():
                assert got.get(name) == value, (
                    f"{what}: {name} should be {value}, yours is {got.get(name)}")
        assert got == right, f"{what}: should be {right!r}, yours is {got!r}"
        assert isinstance(got, str) or all(type(value) is int for value in got.values()), (
            f"{what}: yours is {got!r}; whole numbers, so divide with //")

    def plan(*numbers):
        return dict(zip(("completions", "prompts", "updates", "steps"), numbers, strict=True))

    compare("2 processes, batch 4, accumulation 3, groups of 8, 20 prompts", (2, 4, 3, 8, 20),
            plan(24, 3, 1, 6), {
                "processes count too: each has its own batch": "cut groups",
                "the last, partial batch is dropped": plan(24, 3, 1, 7),
                "completions of the whole step, not of one forward pass": plan(8, 3, 1, 6)})
    compare("batch 4, accumulation 2, groups of 4, 20 prompts, steps_per_generation 6",
            (1, 4, 2, 4, 20, 6), plan(8, 6, 3, 9), {
                "a generation batch feeds several updates here: its prompts are more than a "
                "step's": plan(8, 2, 3, 30),
                "an epoch's generation batches each give several updates": plan(8, 6, 3, 3),
                "steps_per_generation counts forward passes; an update takes accumulation of them":
                    plan(8, 6, 6, 18)})
    compare("the same with num_iterations 2", (1, 4, 2, 4, 20, 6, 2), plan(8, 6, 6, 18), {
        "num_iterations is not used": plan(8, 6, 3, 9)})
    compare("groups of one", (1, 4, 1, 1, 20), "no group", {})
    compare("batch 4, accumulation 1, groups of 8", (1, 4, 1, 8, 20), "cut groups", {
        "prompts are whole": plan(4, 0, 1, 0)})
    compare("batch 2, accumulation 4, groups of 8", (1, 2, 4, 8, 20), plan(8, 1, 1, 20), {
        "a group may be spread over the forward passes of one generation": "cut groups"})
    compare("batch 4, accumulation 1, groups of 8, steps_per_generation 2", (1, 4, 1, 8, 20, 2),
            plan(4, 1, 2, 40), {"the generation batch holds whole groups, not each step":
                                "cut groups"})
    compare("batch 3, accumulation 1, groups of 2, no prompts", (1, 3, 1, 2, 0), "cut groups", {
        "of two reasons the first one counts": "no step"})
    compare("batch 16, accumulation 2, groups of 8, 3 prompts", (1, 16, 2, 8, 3), "no step", {
        "an epoch without a step is none: say so": plan(32, 4, 1, 0)})
    compare("the same with 4 prompts", (1, 16, 2, 8, 4), plan(32, 4, 1, 1), {
        "just enough prompts are enough": "no step"})
    passed(function)


@visible
def lr_at(function: Callable) -> None:
    """Exercise 3."""
    def rates(warmup, total, *steps):
        return [float(attempt(function, "all are numbers", step, 2.0, warmup, total))
                for step in steps]

    expect("updates 0 to 4 of a warm-up over 4, peak 2", rates(4, 20, 0, 1, 2, 3, 4),
           [0, 0.5, 1, 1.5, 2], {
               "the first update has the rate 0: steps count from 0": [0.5, 1, 1.5, 2, 2],
               "peak is not used": [0, 0.25, 0.5, 0.75, 1]})
    expect("updates 4, 8, 12 and 20 of 20 after a warm-up over 4", rates(4, 20, 4, 8, 12, 20),
           [2, 1.7071068, 1, 0], {
               "the cosine begins after the warm-up and has all that is left":
                   [1.8090170, 1.3090170, 0.6909830, 0],
               "half a wave: from 1 to -1, mapped to 1 to 0": [2, 1.4142136, 0, -2],
               "this is a line": [2, 1.5, 1, 0],
               "the whole wave: use pi, not 2 pi": [2, 1, 0, 2]})
    expect("no warm-up", rates(0, 10, 0, 5, 10), [2, 1, 0], {})
    expect("a warm-up of 0.25 in 10 updates: three of them", rates(0.25, 10, 1, 2, 3),
           [2 / 3, 4 / 3, 2], {
               "below 1 it is a share of the run": [1.9594930, 1.8412535, 1.6548607],
               "a share is rounded up": [1, 2, 1.9238795]})
    expect("a warm-up of 1: one update, no share", rates(1, 10, 0, 1), [0, 2], {
        "1 is a number of updates; only below 1 it is a share": [0, 0.2]})
    expect("a warm-up as long as the run", rates(5, 5, 4, 5), [1.6, 2], {})
    passed(function)


def _checkpoint(*left_out, empty=(), weights="model.safetensors", dice=("rng_state.pth",)) -> dict:
    files = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "config.json", weights, *dice)
    return {file: 0 if file in empty else 100 for file in files if file not in left_out}


@visible
def newest_complete(function: Callable) -> None:
    """Exercise 4."""
    def compare(what, listing, right, processes=1, mistakes=None):
        got = attempt(function, "listing is {folder: {file: bytes}}", listing, processes)
        for wrong, mistake in (mistakes or {}).items():
            assert got != wrong, f"{what}: {mistake}"
        assert got == right, f"{what}: should be {right!r}, yours is {got!r}"

    whole = _checkpoint()
    compare("no folder at all", {}, None)
    compare("checkpoint-9 and checkpoint-10", {"checkpoint-10": whole, "checkpoint-9": whole},
            "checkpoint-10", mistakes={"checkpoint-9": "compare numbers: as texts, 9 comes after "
                                                       "10"})
    for other, mistake in {
            "final": "only folders called checkpoint-NUMBER count",
            "checkpoint-best": "what follows the dash has to be a number",
            "tmp-checkpoint-30": "the name begins with checkpoint-",
            "12": "the name begins with checkpoint-"}.items():
        compare(f"{other} and checkpoint-2", {"checkpoint-2": whole, other: whole},
                "checkpoint-2", mistakes={other: mistake})
    half = {"checkpoint-12": "that one is not complete"}
    for file in ("optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth",
                 "model.safetensors"):
        compare(f"checkpoint-12 without {file}, and a whole checkpoint-6", {
            "checkpoint-6": whole, "checkpoint-12": _checkpoint(file)}, "checkpoint-6",
            mistakes=half)
    compare("checkpoint-12 whose optimizer.pt has 0 bytes", {
        "checkpoint-12": _checkpoint(empty=("optimizer.pt",))}, None, mistakes={
            "checkpoint-12": "a file of 0 bytes counts as missing"})
    lora = _checkpoint(weights="adapter_model.safetensors")
    compare("the checkpoint of a LoRA run", {"checkpoint-3": lora}, "checkpoint-3")
    two = _checkpoint(dice=("rng_state_0.pth", "rng_state_1.pth"))
    compare("two processes", {"checkpoint-3": two, "checkpoint-4": whole}, "checkpoint-3", 2, {
        "checkpoint-4": "with two processes there are two random states"})
    compare("one process, and a checkpoint of two", {"checkpoint-3": two}, None)
    passed(function)


@visible
def lora_parameters(function: Callable) -> None:
    """Exercise 5."""
    gpt2 = {"model_type": "gpt2", "n_embd": 12, "n_inner": None, "n_layer": 3, "n_head": 4}
    qwen = {"model_type": "qwen2", "hidden_size": 24, "intermediate_size": 50,
            "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2}

    def value(config, rank, *modules):
        got = attempt(function, "the keys of config are those of the two tables", config, rank,
                      list(modules))
        assert type(got) is int, f"return a whole number, not {got!r}"
        return got

    expect("c_attn of a GPT-2 with d = 12, 3 layers, rank 5", value(gpt2, 5, "c_attn"), 720, {
        "once a layer": 240, "rank is not used": 144,
        "these are the weights of W, not of A and B": 1296,
        "A and B both count: rank x (in + out)": 180})
    expect("its c_proj", value(gpt2, 5, "c_proj"), 1260, {
        "there are two of this name, of attention and of the MLP": 360,
        "attention's c_proj counts too": 900,
        "the MLP's c_proj reads 4 d": 720})
    expect("c_attn, c_proj and c_fc together", value(gpt2, 5, "c_attn", "c_proj", "c_fc"), 2880, {})
    expect("c_fc where n_inner is 20", value(gpt2 | {"n_inner": 20}, 5, "c_fc"), 480, {
        "n_inner is used where it is a number": 900})
    expect("k_proj of a Qwen2, 6 heads of which 2 for keys and values, rank 3",
           value(qwen, 3, "k_proj"), 192, {
               "keys have num_key_value_heads heads: fewer columns": 288,
               "a head's size is hidden_size / num_attention_heads": 288})
    expect("q_proj and v_proj", value(qwen, 3, "q_proj", "v_proj"), 480, {
        "values have as few heads as keys": 576})
    expect("gate_proj, up_proj and down_proj",
           value(qwen, 3, "gate_proj", "up_proj", "down_proj"), 1332, {
               "there are two that go up, and one down": 888})
    expect("o_proj", value(qwen, 3, "o_proj"), 288, {
        "o_proj reads all heads": 192})
    passed(function)


@visible
def memory_estimate(function: Callable) -> None:
    """Exercise 6."""
    model = {"parameters": 1000, "layers": 3, "kv_heads": 2, "head_size": 5, "vocabulary": 70}
    run = {"trained": 1000, "beta": 0.1, "batch": 4, "generated": 16, "prompt": 6, "completion": 9}

    def part(name, **changes):
        got = attempt(function, "model and run are dictionaries", model, run | changes)
        assert isinstance(got, dict) and name in got, f"the dictionary has no part {name!r}"
        assert type(got[name]) is int, f"{name}: bytes are whole numbers, not {got[name]!r}"
        return got[name]

    expect("weights of 1,000 parameters", part("weights"), 4000, {"float32 has 4 bytes": 1000})
    expect("gradients of LoRA with 10", part("gradients", trained=10), 40, {
        "only what is trained has a gradient": 4000})
    expect("Adam's means of 1,000", part("adam"), 8000, {"there are two of them": 4000,
                                                         "4 bytes each": 2000})
    expect("Adam's means of LoRA with 10", part("adam", trained=10), 80, {
        "only what is trained has them": 8000})
    expect("the reference", part("reference"), 4000, {})
    expect("the reference without a KL term", part("reference", beta=0.0), 0, {
        "with beta 0 there is none": 4000})
    expect("the reference with LoRA", part("reference", trained=10), 0, {
        "it is the model without its adapter: no copy": 4000})
    expect("the cache of 16 completions of 6 + 9 tokens", part("cache"), 57600, {
        "keys and values: twice": 28800, "in every layer": 19200,
        "all completions that are generated at once, not those of a forward pass": 14400,
        "prompts are in the cache too": 34560})
    expect("the logits of 4 completions of 9 tokens", part("logits"), 10080, {
        "of one forward pass, not of all that is generated": 40320,
        "only completions are scored": 16800})
    passed(function)
