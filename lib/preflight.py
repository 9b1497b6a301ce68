"""One screen about this machine: what it has, which tier to use, how long it takes.

Minutes and memory come from ``timings.json``, which ``python -m grading timings`` measures.
"""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from lib import models
from lib.files import read_json
from lib.memory import fitting, told
from lib.tasks import BUNDLED, task_class

TIMINGS = Path(__file__).with_name("timings.json")
LIBRARIES = ("transformers", "trl", "datasets", "peft", "matplotlib", "ipywidgets")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def advice(device: torch.device) -> str:
    """Which tier this machine is for."""
    if device.type != "cuda":
        return "tiny (no GPU found; real models need one)"
    total = torch.cuda.get_device_properties(device).total_memory / 2**30
    if total < 7:
        return f"tiny ({total:.0f} GiB of GPU memory; gpt2 wants 8)"
    if not network():
        return "tiny (the Hub cannot be reached, so only models on this machine)"
    return "tiny to begin with, then gpt2" + (" or Qwen2.5-0.5B" if total > 14 else "")


def network() -> bool:
    """Whether models can be fetched; nothing is asked where HF_HUB_OFFLINE forbids it."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    return not offline and models.hub_reachable()


def memory(device: torch.device) -> str:
    """Free memory of the machine, and of the GPU where there is one."""
    def said(free: int, total: int, what: str) -> str:
        return f"{free / 2**30:.1f} of {total / 2**30:.0f} GiB {what} free"

    machine = psutil.virtual_memory()
    text = said(machine.available, machine.total, "memory")
    if device.type == "cuda":
        text += ", " + said(*torch.cuda.mem_get_info(device), "GPU memory")
    return text


def total(parts: list[dict]) -> tuple[float, int]:
    """Minutes and peak MiB of all sections of a chapter."""
    return sum(part["seconds"] for part in parts) / 60, max(part["mib"] for part in parts)


def sections(chapter: str) -> list[str]:
    """The measured minutes and peak memory of a chapter's sections, as lines; none unmeasured."""
    timings = read_json(TIMINGS)
    parts = timings["chapters"].get(chapter, [])
    if not parts:
        return []
    rows = [(part["title"], part["seconds"] / 60, part["mib"]) for part in parts]
    return [f"measured with tier tiny on {timings['machine']}:",
            f"  {'section':<60} {'minutes':>7} {'MiB':>6}",
            *(f"  {title[:60]:<60} {minutes:7.1f} {mib:6.0f}"
              for title, minutes, mib in [*rows, ("all", *total(parts))])]


PROMPT = 200  # tokens, as a plan assumes them: GSM8K's questions with the system prompt


def plans(model: str) -> list[str]:
    """How much memory a step of each bundled task takes with a model, and the batch that fits into
    what is free here, as lines."""
    device, lines = models.pick_device(), []
    free = (torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else
            psutil.virtual_memory().available)
    for name in BUNDLED:
        for peft in (False, True):
            task = task_class(name).of(model=model, use_peft=peft, max_steps=1)
            config = models.load_config(models.policy_path(model, task))
            task, found = fitting(task, config, free, PROMPT, gpu=device.type == "cuda")
            verdict = "fits with" if found.peak <= free else "does not fit, not even with"
            lines.append(f"{name}{', LoRA' * peft}: {told(found)}; {verdict} --batch-size "
                         f"{task.batch_size} --accumulation {task.accumulation}")
    return [f"one training step of {model}, prompts of {PROMPT} tokens, {free / 2**30:.1f} GiB "
            "free:", *lines]


def report(chapter: str | None = None) -> str:
    """The preflight as text: the machine, the tier, and the chapter's (default: all) minutes."""
    device = models.pick_device()
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else (
        f"CPU, {threads} thread{'s' * (threads > 1)}")
    dtype = next((k for k, on in models.precision(device).items() if on), "fp32")
    rows = [("device", f"{name}, {dtype}; {memory(device)}"),
            ("network", "none: offline models only" if not network() else
             "through a proxy, not tried" if models.behind_proxy() else "the Hub answers"),
            ("versions", f"Python {platform.python_version()}, torch {torch.__version__},"),
            ("", ", ".join(f"{lib} {_version(lib)}" for lib in LIBRARIES[:3])),
            ("tier", advice(device))]
    if not chapter:
        rows += [("Python", sys.executable),
                 ("libraries", ", ".join(f"{lib} {_version(lib)}" for lib in LIBRARIES[3:])),
                 ("disk", f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free here")]
        for name, parts in read_json(TIMINGS)["chapters"].items():
            minutes, mib = total(parts)
            rows.append((f"chapter {int(name[:2])}",
                         f"{minutes:.0f} minute{'s' * (round(minutes) != 1)}, {mib} MiB with tier "
                         "tiny, as measured"))
    lines = [f"{key:>9}  {value}" for key, value in rows]
    return "\n".join(lines + (sections(chapter) if chapter else []))
