"""One training loop, its options and what it leaves behind."""

from vivace.train.callbacks import Callback
from vivace.train.loggers import MLflow, TensorBoard, WeightsAndBiases
from vivace.train.loop import fit
from vivace.train.options import TrainOptions
from vivace.train.result import TrainResult
from vivace.train.rows import by_rows

__all__ = [
    "Callback",
    "MLflow",
    "TensorBoard",
    "TrainOptions",
    "TrainResult",
    "WeightsAndBiases",
    "by_rows",
    "fit",
]
