"""The two named sets of options: "fast", the default, and "classic", the historic schedule."""

from __future__ import annotations

import math
import warnings
from typing import Any

from vivace._arguments import check_names
from vivace.errors import VivaceWarning, check_choice
from vivace.train.options import TrainOptions, option_names

RECIPES = ("fast", "classic")

FAST: dict[str, Any] = {
    "batch_size": 64,
    "lr": 1e-2,
    "lr_schedule": "one_cycle",
    "keep_best": True,
}
FAST_STEPS = 1200
"""Steps that a data set needs, whatever its size, within the bounds on epochs below."""
FAST_EPOCHS = (10, 40)

SCVI_PASSES = 11
"""Passes over up to 20,000 cells; over more cells fewer, in proportion, but at least two."""
SCVI_PASSES_BATCHES = 20
"""The same where there are batches, which go on mixing while all else is learned already."""
SCVI_FEW = 1200
"""With fewer cells than this, minibatches have 32 cells, so that an epoch has enough steps. The cells
are then passed over more often, in proportion to how few they are."""
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

CLASSIC: dict[str, Any] = {"batch_size": 128, "lr": 1e-3, "n_epochs_kl_warmup": 400}


def classic_epochs(n_cells: int) -> int:
    """The historic number of epochs: 400 up to 20,000 cells, fewer for more.

    Examples
    --------
    >>> classic_epochs(1000), classic_epochs(30_000), classic_epochs(10**6)
    (400, 267, 8)
    """
    return max(1, min(400, round(400 * 20_000 / n_cells)))


def fast_epochs(
    n_cells: int, batch_size: int, n_steps: int = FAST_STEPS, most: int = FAST_EPOCHS[1]
) -> int:
    """Epochs that give the number of steps a data set needs.

    Examples
    --------
    >>> fast_epochs(3000, 64), fast_epochs(10**6, 64)
    (26, 10)
    >>> (
    ...     fast_epochs(1000, 64, most=80),
    ...     fast_epochs(100, 64, most=80),
    ...     fast_epochs(10**6, 64, most=80),
    ... )
    (77, 80, 10)
    >>> [fast_epochs(n_cells, 32, 3000) for n_cells in (2774, 330, 10**5)]
    [35, 40, 10]
    """
    return min(most, max(FAST_EPOCHS[0], math.ceil(n_steps * batch_size / n_cells)))


def make_options(
    recipe: str, n_cells: int, overrides: dict[str, Any], model: dict[str, dict] | None = None
) -> TrainOptions:
    """Options of a recipe for a number of training cells.

    Parameters
    ----------
    recipe
        "fast" or "classic".
    n_cells
        Number of training cells.
    overrides
        Options the user gave; they win. None values count as not given.
    model
        Options of this model for each recipe, where they differ; ``batch_size`` may be a function of
        the number of cells, ``max_epochs`` one of the number of cells and the batch size.

    Raises
    ------
    InvalidArgumentError
        If the recipe or an option is not known.
    """
    check_choice("recipe", recipe, RECIPES)
    given = {key: value for key, value in overrides.items() if value is not None}
    chosen = dict(FAST if recipe == "fast" else CLASSIC)
    chosen |= (model or {}).get(recipe, {})
    if {"n_epochs_kl_warmup", "n_steps_kl_warmup"} & given.keys():
        chosen["min_kl_weight"] = 0.0  # a warm-up that the user asks for rises from 0
    chosen |= given
    check_names("training", chosen, option_names())
    if callable(chosen["batch_size"]):
        chosen["batch_size"] = chosen["batch_size"](n_cells)
    if "max_epochs" not in chosen:
        chosen["max_epochs"] = (
            fast_epochs(n_cells, chosen["batch_size"])
            if recipe == "fast"
            else classic_epochs(n_cells)
        )
        if recipe == "classic" and chosen["max_epochs"] == 1:
            warnings.warn(
                f"the classic recipe gives {n_cells} cells a single epoch; consider max_epochs",
                VivaceWarning,
                stacklevel=5,
            )
    if callable(chosen["max_epochs"]):
        chosen["max_epochs"] = chosen["max_epochs"](n_cells, chosen["batch_size"])
    return TrainOptions(**chosen)
