"""One screen about this machine: what it has, which tier to use, how long it takes."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from lib import models

# Measured with the tiny tier on two cores of a 2.5 GHz Xeon: see README, "Expected results".
SECONDS_PER_STEP = {"no KL": 0.8, "beta or a KL term": 1.1}
LIBRARIES = ("transformers", "trl", "datasets", "peft", "matplotlib", "ipywidgets")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def memory_gib() -> float:
    """Memory of the machine in GiB; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        return 0.0


def advice(device: torch.device) -> str:
    """Which tier this machine is for."""
    if device.type != "cuda":
        return "tiny (no GPU found; real models need one)"
    total = torch.cuda.get_device_properties(device).total_memory / 2**30
    if total < 7:
        return f"tiny ({total:.0f} GiB of GPU memory; gpt2 wants 8)"
    return "tiny to begin with, then gpt2" + (" or Qwen2.5-0.5B" if total > 14 else "")


def report(short: bool = False) -> str:
    """The preflight as text; short: one line, for the first cell of a notebook."""
    device = models.pick_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else (
        f"CPU, {torch.get_num_threads()} threads")
    dtype = next((k for k, on in models.precision(device).items() if on), "fp32")
    minutes = {kind: 50 * s / 60 for kind, s in SECONDS_PER_STEP.items()}
    if short:
        return f"{name}, {dtype}; advised tier: {advice(device)}; torch {torch.__version__}"
    rows = [
        ("Python", f"{platform.python_version()} ({sys.executable})"),
        ("torch", torch.__version__), ("device", f"{name}, {dtype}"),
        ("memory", f"{memory_gib():.0f} GiB"),
        ("disk", f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free here"),
        ("libraries", ", ".join(f"{lib} {_version(lib)}" for lib in LIBRARIES)),
        ("advised tier", advice(device)),
        ("tiny, 50 steps", ", ".join(f"{kind}: about {m:.1f} min" for kind, m in minutes.items())
         + " on two cores"),
    ]
    return "\n".join(f"{key:>15}  {value}" for key, value in rows)
