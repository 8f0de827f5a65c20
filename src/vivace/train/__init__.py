"""One training loop, its options and what it leaves behind."""

from vivace.train.loop import fit
from vivace.train.options import TrainOptions
from vivace.train.result import TrainResult

__all__ = ["TrainOptions", "TrainResult", "fit"]
