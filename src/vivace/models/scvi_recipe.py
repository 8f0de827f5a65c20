"""SCVI's fast recipe: minibatches, passes and weights, and why they are what they are."""

from __future__ import annotations

import math
from typing import Any

SCVI_PASSES = 11
"""Passes over up to 20,000 cells; over more cells fewer, in proportion, but at least two."""
SCVI_PASSES_BATCHES = 20
"""The same where there are batches, which go on mixing while all else is learned already."""
SCVI_FEW = 1200
"""With fewer cells than this, minibatches have 32 cells, so that an epoch has enough steps, and the
cells are passed over more often, in proportion to how few they are."""
SCVI_PASSES_FEW = 30
"""The most passes that few cells get for that reason: with more, the model over-fits."""
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


def scvi_epochs(n_cells: int, batch_size: int, passes: int = SCVI_PASSES) -> int:
    """Epochs of SCVI's fast recipe.

    Examples
    --------
    >>> [scvi_epochs(n_cells, 64) for n_cells in (640, 3000, 10**5, 10**6)]
    [21, 11, 3, 2]
    """
    per_pass = math.ceil(n_cells / batch_size)
    few_cells = min(SCVI_PASSES_FEW, math.ceil(passes * SCVI_FEW / n_cells))
    passes = max(2, min(passes, math.ceil(passes * 20_000 / n_cells)))
    return max(passes, few_cells, math.ceil(SCVI_LEAST_STEPS / per_pass))


def scvi_epochs_batches(n_cells: int, batch_size: int) -> int:
    """Epochs of SCVI's fast recipe where there are batches.

    Examples
    --------
    >>> [scvi_epochs_batches(n_cells, 64) for n_cells in (640, 3000, 10**5, 10**6)]
    [30, 20, 4, 2]
    """
    return scvi_epochs(n_cells, batch_size, SCVI_PASSES_BATCHES)


SCVI_FAST: dict[str, Any] = {
    "batch_size": scvi_batch_size,
    "lr": 6e-2,
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
