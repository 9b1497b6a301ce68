"""The instructor's side: release, grade, check the release. Gradebook and feedback: nbgrader's.

Knows ``lib`` and ``solutions``; neither knows it.
"""

import logging
import os
import sys
import warnings
from pathlib import Path

# nbgrader calls `alembic` by name; without an activated environment it is not on the path.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

warnings.filterwarnings("ignore", module="nbgrader")  # its talks with SQLAlchemy
# Where nbgrader writes the traceback of what it raises as well, and the user reads in one line.
logging.getLogger("tornado.application").setLevel(logging.CRITICAL)

ROOT = Path(__file__).parent.parent
SOLUTIONS, NOTEBOOKS = ROOT / "solutions", ROOT / "notebooks"
CONFIG = Path(__file__).parent / "nbgrader_config.py"
COURSE = ROOT / "course"  # the default nbgrader course folder; never committed


def chapters() -> list[str]:
    """Names of the chapters that exist, in order; each is an nbgrader assignment."""
    return sorted(path.stem for path in SOLUTIONS.glob("[0-9][0-9]_*.py"))
