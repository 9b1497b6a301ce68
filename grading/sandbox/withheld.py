"""What a submission cannot import: ready answers to graded exercises.

TRL's loss is chapter 2's ``grpo_loss``, and through it come the surrogate, the KL term and the
masked mean. It stays on the trusted side: in the jail its folder is empty, and so are the files of
``lib`` that call it. Other libraries that train with GRPO are treated alike. What torch offers,
such as ``torch.distributions``, is fair use of a library. The grammar of the reviews, which knows
a good one, would be a ready reward for the capstone.
"""

import sys
from importlib.util import cache_from_source
from pathlib import Path

PACKAGES = ("trl", "liger_kernel", "openrlhf", "torchrl", "unsloth", "unsloth_zoo", "verl")
FILES = ("trl_loss.py", "trl_overrides.py", "off_policy.py", "tiny/corpus.py")  # of lib
MODULES = (*PACKAGES, *(f"lib.{name.removesuffix('.py').replace('/', '.')}" for name in FILES),
           "grading.capstone", "grading.trainer")


def forbid() -> None:
    """Let this process import none of it, whatever the files say: for jails with no own root."""
    sys.modules.update(dict.fromkeys(MODULES))  # None: the import system raises ImportError


def hidden_paths(visible: list[str], lib: Path) -> list[Path]:
    """The folders and files, compiled ones too, that are to be empty below the visible paths."""
    places = [place for path in map(Path, visible) for place in (
        path, *path.glob("site-packages"), *path.glob("python3*/*-packages"))]
    sources = [lib / name for name in FILES]
    return [path for path in (*(place / name for place in places for name in PACKAGES),
                              *sources, *(Path(cache_from_source(str(s))) for s in sources))
            if path.exists()]
