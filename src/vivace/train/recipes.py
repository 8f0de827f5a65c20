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
        Options of this model for each recipe, where they differ; ``batch_size`` and ``lr`` may be
        functions of the number of cells, ``max_epochs`` one of the number of cells and the batch size.

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
    for name in ("batch_size", "lr"):
        if callable(chosen[name]):
            chosen[name] = chosen[name](n_cells)
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
