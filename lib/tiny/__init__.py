"""The embedded tier: corpora that we generate, the builder, and the weights it wrote."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
