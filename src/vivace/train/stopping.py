"""Early stopping, the best weights, and a Ctrl-C that ends training cleanly."""

from __future__ import annotations

import math
import signal
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import nn

from vivace._ranks import ALONE, Ranks
from vivace.train.options import TrainOptions


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights and buffers."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@dataclass
class BestSoFar:
    """The best held-out loss, the weights it had, and how long ago it was."""

    value: float = math.inf
    epoch: int = -1
    weights: dict[str, torch.Tensor] | None = None

    def update(
        self, value: float | None, epoch: int, module: nn.Module, options: TrainOptions
    ) -> None:
        """Keep the weights if ``value`` improves on the best."""
        if value is None or not value < self.value - options.early_stopping_min_delta:
            return
        self.value, self.epoch, self.weights = value, epoch, snapshot(module)

    def is_stale(self, epoch: int, options: TrainOptions) -> bool:
        """Whether early stopping has waited long enough."""
        if not options.early_stopping or epoch < options.early_stopping_warmup_epochs:
            return False
        since = max(self.epoch, options.early_stopping_warmup_epochs - 1)
        return epoch - since >= options.early_stopping_patience


ECHO = 2.0
"""Seconds within which a launcher passes on the Ctrl-C that its processes have had already."""


class Interrupt:
    """While active, a first Ctrl-C sets :attr:`requested`; a second one raises KeyboardInterrupt.

    One of several processes takes what comes within :data:`ECHO` of the first for the same.
    """

    def __init__(self, ranks: Ranks = ALONE):
        self.requested = False
        self._deaf = ECHO if ranks.size > 1 else 0.0
        self._first = 0.0
        self._previous: Any = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, *_: object) -> None:
        now = time.monotonic()
        if not self.requested:
            self.requested, self._first = True, now
        elif now - self._first >= self._deaf:
            raise KeyboardInterrupt
