"""The run folder: what its files are called, how it takes its place in one step, and reading it.

Nothing here needs torch: the report reads a run without a model.
"""

from vivace.runs.read import Run

__all__ = ["Run"]
