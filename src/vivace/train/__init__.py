"""One training loop, its options and what it leaves behind."""

from vivace.train.loop import fit
from vivace.train.options import TrainOptions
from vivace.train.result import TrainResult
from vivace.train.rows import by_rows

__all__ = ["TrainOptions", "TrainResult", "by_rows", "fit"]
