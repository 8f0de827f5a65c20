"""What a question is asked of: cells of one kind, the module that knows them, their places in the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vivace.data import Loader
from vivace.modules.base import BaseModule


@dataclass(frozen=True)
class Part:
    """Some of the cells of a question.

    Attributes
    ----------
    module
        Answers for them.
    batches
        Their minibatches.
    places
        (n,) positions of these cells among all that were asked for.
    """

    module: BaseModule
    batches: Loader
    places: np.ndarray


def order_of(parts: Sequence[Part]) -> np.ndarray:
    """What puts the answers of all parts, one after the other, into the order of the cells."""
    return np.argsort(np.concatenate([part.places for part in parts]))


def values_of(
    parts: Sequence[Part], ask: Callable[[BaseModule, Any], torch.Tensor]
) -> torch.Tensor:
    """One value a cell, (n,), in the order of the cells.

    Parameters
    ----------
    parts
        Of the cells.
    ask
        ``f(module, minibatches)``: a value for each cell of a part.
    """
    return torch.cat([ask(part.module, part.batches) for part in parts])[order_of(parts)]
