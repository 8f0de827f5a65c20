"""What a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

from vivace.train.history import History


@dataclass(frozen=True)
class TrainResult:
    """Outcome of :func:`vivace.train.fit`.

    Attributes
    ----------
    history
        Metrics by epoch.
    stopped
        "finished", "early stopping" or "interrupted".
    epochs
        Number of epochs run in all.
    best_epoch
        Epoch (from 0) whose weights the module has, if they are not the last ones.
    seconds
        Wall time of this call.
    """

    history: History
    stopped: str
    epochs: int
    best_epoch: int | None
    seconds: float
