"""Chapter 6's functions against the libraries that they describe, its table against the trainer,
and the bare script, which uses nothing of ours."""

import ast
import builtins
import inspect
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup
from trl import GRPOConfig
from trl.trainer.utils import RepeatSampler

from grading.faults import reference
from grading.release import source_notebook
from lib import training
from lib.checks import project as checks
from lib.tasks import BUNDLED, task_class

CHAPTER = "06_project"
ANSWERS = reference(CHAPTER)


# The plan of a step.

PLANS = {"processes": st.sampled_from([1, 2, 4]), "per_device": st.sampled_from([1, 2, 3, 8]),
         "accumulation": st.sampled_from([1, 2, 4]),
         "num_generations": st.sampled_from([1, 2, 4, 6]),
         "num_prompts": st.integers(0, 40), "times": st.sampled_from([1, 2, 3]),
         "num_iterations": st.sampled_from([1, 2])}


@given(**PLANS)
def test_a_plan_is_refused_where_trl_refuses_it_and_counts_as_its_sampler_does(
        processes, per_device, accumulation, num_generations, num_prompts, times, num_iterations):
    plan = ANSWERS["batch_plan"](processes, per_device, accumulation, num_generations, num_prompts,
                                 accumulation * times, num_iterations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GRPOConfig, "world_size", processes)
        try:
            config = GRPOConfig(
                output_dir="x", per_device_train_batch_size=per_device, use_cpu=True, bf16=False,
                gradient_accumulation_steps=accumulation, num_generations=num_generations,
                num_iterations=num_iterations, steps_per_generation=accumulation * times)
        except ValueError as error:
            said = {"no group": "at least 2 generations", "cut groups": "must be divisible by"}
            assert said[plan] in str(error)
            return
    assert plan not in ("no group", "cut groups")
    sampler = RepeatSampler(
        range(num_prompts), mini_repeat_count=num_generations,
        batch_size=config.generation_batch_size // num_generations,
        repeat_count=num_iterations * config.steps_per_generation)
    rows = len(list(sampler))
    # TRL's loader hands a whole generation batch to each forward pass, which takes its slice of it.
    passes = rows // config.generation_batch_size
    if plan == "no step":
        assert passes == 0
    else:
        assert plan["steps"] == passes // accumulation > 0
        assert plan["updates"] == times * num_iterations
        assert plan["completions"] == processes * per_device * accumulation


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_settings_are_a_plan_of_64_completions_and_eight_prompts(processes):
    given = ANSWERS["grpo_settings"]("runs/x", 5, processes)
    plan = ANSWERS["batch_plan"](
        processes, given["per_device_train_batch_size"], given["gradient_accumulation_steps"],
        given["num_generations"], 8 * given["max_steps"])
    assert plan == {"completions": 64, "prompts": 8, "updates": 1, "steps": given["max_steps"]}


# The learning rate.

@given(total=st.integers(1, 300), data=st.data())
def test_the_rate_is_that_of_transformers(total, data):
    share = data.draw(st.booleans())
    warmup = data.draw(st.sampled_from([0.1, 0.03, 0.5]) if share else st.integers(0, total))
    args = GRPOConfig(output_dir="x", warmup_steps=warmup, use_cpu=True, bf16=False)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, args.get_warmup_steps(total), total)
    for step in data.draw(st.lists(st.integers(0, total), min_size=1, max_size=5)):
        assert ANSWERS["lr_at"](step, 3.0, warmup, total) == pytest.approx(
            3.0 * schedule.lr_lambdas[0](step), abs=1e-9)


# LoRA, counted by PEFT on look-alikes.

GPT2 = {"model_type": "gpt2", "n_embd": 24, "n_layer": 3, "n_head": 4, "n_inner": None}
QWEN = {"model_type": "qwen2", "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": 2}


@pytest.mark.parametrize("config, modules", [
    (GPT2, ["c_attn"]), (GPT2, ["c_attn", "c_proj", "c_fc"]), (GPT2 | {"n_inner": 50}, ["c_proj"]),
    (QWEN, ["q_proj", "v_proj"]),
    (QWEN, ["k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])])
@pytest.mark.parametrize("rank", [1, 8])
def test_lora_is_counted_as_peft_counts_it(config, modules, rank):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {key: value for key, value in config.items() if key != "model_type"}
    kind = AutoConfig.for_model(config["model_type"], vocab_size=11, **fields)
    with torch.device("meta"):
        adapted = get_peft_model(AutoModelForCausalLM.from_config(kind), LoraConfig(
            r=rank, target_modules=modules, fan_in_fan_out=config["model_type"] == "gpt2"))
    counted = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert ANSWERS["lora_parameters"](config, rank, modules) == counted


# Memory.

def test_the_memory_is_that_of_real_tensors():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(Qwen2Config(
        **{key: value for key, value in QWEN.items() if key != "model_type"}, vocab_size=31))
    count = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters())
    out = model(torch.zeros(6, 7, dtype=torch.long), use_cache=True)
    out.logits[:2, -4:].sum().backward()
    optimizer.step()
    kept = {
        "weights": model.parameters(), "gradients": [p.grad for p in model.parameters()],
        "adam": [x for state in optimizer.state.values() for x in state.values() if x.dim()],
        "cache": [x for layer in out.past_key_values.layers for x in (layer.keys, layer.values)],
        "logits": [out.logits[:2, -4:]]}
    found = ANSWERS["memory_estimate"](
        {"parameters": count, "layers": 2, "kv_heads": 2, "head_size": 8, "vocabulary": 31},
        {"trained": count, "beta": 0.1, "batch": 2, "generated": 6, "prompt": 3, "completion": 4})
    assert {name: sum(x.numel() * x.element_size() for x in tensors)
            for name, tensors in kept.items()} == {
                name: size for name, size in found.items() if name != "reference"}
    assert found["reference"] == found["weights"]


# The table of settings.

def set_by_the_course() -> set[str]:
    """Every option that grpo_config, the tasks' optimizers and models.precision set."""
    tree = ast.parse(inspect.getsource(training.grpo_config))
    [call] = [node for node in ast.walk(tree) if isinstance(node, ast.Call)
              and ast.unparse(node.func) == "GRPOConfig"]
    names = {keyword.arg for keyword in call.keywords if keyword.arg}
    for name in BUNDLED:
        names |= task_class(name).of(max_steps=1).optimizer().keys()
    return names | training.models.precision(torch.device("cpu")).keys()


def table() -> list[list[str]]:
    """The rows of the settings' tables: option, here, gpt2, Qwen, 24B, why."""
    text = "\n".join(cell.source for cell in source_notebook(CHAPTER).cells
                     if cell.cell_type == "markdown" and "Every setting, why" in cell.source)
    return [[cell.strip(" `") for cell in row.split("|")[1:-1]]
            for row in re.findall(r"^\| `\w+` \|.*$", text, re.MULTILINE)]


def test_the_table_has_every_option_that_the_course_sets_and_no_other():
    assert all(len(row) == 6 and all(row) for row in table())
    names = [row[0] for row in table()]
    assert len(names) == len(set(names)) and set(names) == set_by_the_course()


@pytest.mark.parametrize("column, task, given", [
    (1, "sentiment", {}), (2, "sentiment", {"model": "gpt2"}),
    (3, "reasoning", {"model": "Qwen/Qwen2.5-0.5B-Instruct", "max_steps": 1})])
def test_the_table_says_what_the_course_sets(column, task, given, tmp_path):
    config = training.grpo_config(task_class(task).of(**given), tmp_path, torch.device("cpu"))
    of_the_device = {"use_cpu", "bf16", "fp16", "dataloader_pin_memory"}
    compared = 0
    for row in table():
        said, value = row[column], getattr(config, row[0])
        if column > 1 and row[0] in of_the_device:
            continue
        if said in ("yes", "no"):
            assert value is (said == "yes"), row[0]
        elif re.fullmatch(r"[\d.e-]*\d[\d.e-]*", said):
            assert value == pytest.approx(float(said)), row[0]
        else:
            continue
        compared += 1
    assert compared >= 30


def test_every_figure_for_24_billion_weights_has_a_source_that_is_named():
    text = "\n".join(cell.source for cell in source_notebook(CHAPTER).cells
                     if cell.cell_type == "markdown" and "Every setting, why" in cell.source)
    named = set(re.findall(r"as \[(\w)\]", text))
    cited = [(row[0], row[4], set(re.findall(r"\[(\w)\]", row[4]))) for row in table()]
    assert set.union(*(sources for *_, sources in cited)) == named
    assert not [name for name, said, sources in cited if re.search(r"\d", said) and not sources]


def test_what_the_table_calls_trls_default_is_its_default():
    told = {"learning_rate": 1e-6, "logging_steps": 10, "gradient_checkpointing": True}
    assert {row[0] for row in table() if "TRL's default" in row[5]} == told.keys()
    assert {name: GRPOConfig.__dataclass_fields__[name].default for name in told} == told


def test_no_default_that_has_moved_is_left_to_trl():
    assert set_by_the_course() >= {
        "epsilon_high", "importance_sampling_level", "multi_objective_aggregation",
        "steps_per_generation", "top_entropy_quantile", "entropy_coef",
        *(name for name in GRPOConfig.__dataclass_fields__
          if name.startswith("vllm_importance_sampling_") and not name.endswith("_cap"))}


# The bare script.

def bare_cell() -> str:
    [cell] = [cell.source for cell in source_notebook(CHAPTER).cells
              if cell.source.startswith("# The bare script")]
    return cell


def test_the_bare_script_has_of_lib_the_path_of_the_tiny_models_alone():
    imported = [f"{node.module}.{alias.name}" for node in ast.walk(ast.parse(bare_cell()))
                if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert [name for name in imported if name.startswith("lib")] == ["lib.tiny.WEIGHTS"]
    assert "trl.GRPOTrainer" in imported and "trl.GRPOConfig" in imported
    tree = ast.parse(bare_cell())
    assert not {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
                for alias in node.names} - {"random", "torch"}
    defined = {node.name for node in ast.walk(tree)
               if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound = defined | {name.split(".")[-1] for name in imported} | {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Store)} | {
        node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} | {"random", "torch"}
    free = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - bound
    assert not free - set(dir(builtins)), "it stands alone"


def test_what_a_description_may_set_are_settings_of_trl_and_not_the_scripts_own():
    assert set(GRPOConfig.__dataclass_fields__) >= checks.SETTINGS
    tree = ast.parse(bare_cell())
    [call] = [node for node in ast.walk(tree) if isinstance(node, ast.Call)
              and ast.unparse(node.func) == "GRPOConfig"]
    assert not checks.SETTINGS & {keyword.arg for keyword in call.keywords}


def test_what_is_off_is_named():
    """A wrong answer's complaint is one sentence that says what is off."""
    def grpo_settings(output_dir, seed, processes=1):
        return ANSWERS["grpo_settings"](output_dir, seed, processes) | {"epsilon_high": None}

    with pytest.raises(AssertionError, match=r"epsilon_high is None, not 0\.28"):
        checks.grpo_settings(grpo_settings)
    with pytest.raises(AssertionError, match="model_init_kwargs: either GRPOConfig has no such"):
        checks.config_of({"model_init_kwargs": {}})
    with pytest.raises(AssertionError, match=r"refuses these settings: .*must be divisible"):
        checks.config_of({"output_dir": "x", "num_generations": 7})
