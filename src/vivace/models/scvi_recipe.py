"""SCVI's fast recipe: minibatches, passes and weights, and why they are what they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Passes:
    """How often the cells are passed over.

    Attributes
    ----------
    most
        Passes, unless there are too many cells or too few.
    of_many
        Cells that go by in all, where that takes fewer passes; at least two.
    of_few
        The same with fewer than ``SCVI_FEW`` cells, in at most ``SCVI_PASSES_FEW`` passes.
    """

    most: int
    of_many: int
    of_few: int


SCVI_PASSES = Passes(20, of_many=220_000, of_few=13_200)
SCVI_PASSES_BATCHES = Passes(30, of_many=400_000, of_few=24_000)
"""Batches go on mixing when all else is learned already."""
SCVI_FEW = 1200
"""With fewer cells than this, minibatches have 32 cells, so that a pass has enough steps."""
SCVI_PASSES_FEW = 30
"""With more passes over few cells, the model over-fits."""
SCVI_LEAST_STEPS = 200
"""Steps that even the smallest data set gets."""


def scvi_batch_size(n_cells: int) -> int:
    """Minibatch of SCVI's fast recipe.

    Examples
    --------
    >>> scvi_batch_size(700), scvi_batch_size(3000)
    (32, 64)
    """
    return 32 if n_cells < SCVI_FEW else 64


def scvi_lr(n_cells: int) -> float:
    """Peak of the learning rate in SCVI's fast recipe.

    A higher one loses directions of the latent space in its first steps, which shallow cells and fine
    types miss. With few cells it did no harm, and a lower one fitted them worse.

    Examples
    --------
    >>> scvi_lr(700), scvi_lr(3000)
    (0.06, 0.03)
    """
    return 6e-2 if n_cells < SCVI_FEW else 3e-2


def scvi_epochs(n_cells: int, batch_size: int, passes: Passes = SCVI_PASSES) -> int:
    """Epochs of SCVI's fast recipe.

    Examples
    --------
    >>> [scvi_epochs(n_cells, 64) for n_cells in (640, 3000, 10**5, 10**6)]
    [21, 20, 3, 2]
    """
    if n_cells < SCVI_FEW:
        found = min(SCVI_PASSES_FEW, math.ceil(passes.of_few / n_cells))
    else:
        found = max(2, min(passes.most, math.ceil(passes.of_many / n_cells)))
    return max(found, math.ceil(SCVI_LEAST_STEPS / math.ceil(n_cells / batch_size)))


def scvi_epochs_batches(n_cells: int, batch_size: int) -> int:
    """Epochs of SCVI's fast recipe where there are batches.

    Examples
    --------
    >>> [scvi_epochs_batches(n_cells, 64) for n_cells in (640, 3000, 10**5, 10**6)]
    [30, 30, 4, 2]
    """
    return scvi_epochs(n_cells, batch_size, SCVI_PASSES_BATCHES)


SCVI_FAST: dict[str, Any] = {
    "batch_size": scvi_batch_size,
    "lr": scvi_lr,
    "max_epochs": scvi_epochs,
    "batch_norm_momentum": 0.1,
}
"""What SCVI's fast recipe has of its own; docs/recipe.md says how it was found."""
SCVI_FAST_BATCHES: dict[str, Any] = SCVI_FAST | {
    "max_epochs": scvi_epochs_batches,
    "min_kl_weight": 2.0,
    "kl_warmup_fraction": 0.8,
}
"""A KL term that is strong while much is still moving drives batches out of the latent space."""
