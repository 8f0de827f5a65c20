"""Where cells lie, and how large they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vivace.analysis import expression, latent
from vivace.data.loader import ENCODING_BATCH_SIZE
from vivace.errors import InvalidArgumentError
from vivace.models.base import BaseModel
from vivace.models.questions.ranges import to_file


def get_latent_representation(
    model: BaseModel,
    adata: Any = None,
    indices: Any = None,
    give_mean: bool = True,
    batch_size: int | None = None,
    return_dist: bool = False,
    out: str | Path | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Latent state of each cell.

    Parameters
    ----------
    adata
        Other cells of the same genes; default those of training.
    indices
        Row numbers, a mask or names of cells; default all.
    give_mean
        Posterior mean, or one draw.
    batch_size
        Cells at a time.
    return_dist
        Return the posterior's mean and variance instead.
    out
        File (.npy, or .zarr) to write the states to, some cells after others; the array that is
        returned (of numpy, or of zarr) reads from it.

    Returns
    -------
    (n, L) float32, or two of them.

    Raises
    ------
    NotTrainedError
        If the model is not trained.
    InvalidArgumentError
        If ``out`` cannot be written.
    """
    return state_of(model, adata, indices, give_mean, batch_size, return_dist, out=out)


def state_of(
    model: BaseModel,
    adata: Any,
    indices: Any,
    give_mean: bool,
    batch_size: int | None,
    return_dist: bool,
    mc_samples: int = 5000,
    out: str | Path | None = None,
    columns: slice = slice(None),
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """As :func:`get_latent_representation`, of some columns; ``mc_samples`` for a logistic normal mean."""
    if out is not None:
        if return_dist:
            msg = "out takes one array: leave return_dist out, or ask without out"
            raise InvalidArgumentError(msg)
        of = (give_mean, batch_size, return_dist, mc_samples, None, columns)
        ask: Any = lambda cells, rows: state_of(model, cells, rows, *of)  # noqa: E731
        return to_file(model, ask, adata, indices, out)
    batches = model._loader(adata, indices, batch_size or ENCODING_BATCH_SIZE)
    if return_dist:
        mean, variance = latent.latent_distribution(model.encoder_module, batches)
        return mean[:, columns], variance[:, columns]
    if give_mean:
        return latent.latent_mean(model.encoder_module, batches, mc_samples)[:, columns]
    return latent.latent_sample(model.encoder_module, batches)[:, columns]


def get_latent_library_size(
    model: BaseModel,
    adata: Any = None,
    indices: Any = None,
    give_mean: bool = True,
    batch_size: int | None = None,
) -> np.ndarray:
    """Library size of each cell, (n, 1).

    Parameters
    ----------
    adata, indices, batch_size
        As in ``get_latent_representation``.
    give_mean
        Mean of the log-normal posterior; False gives one draw, or the observed size if it is not
        latent.

    Raises
    ------
    InvalidArgumentError
        If a mean is asked for and the library size is not latent.
    """
    if give_mean and model.module.use_observed_lib_size:
        msg = (
            "the library size is observed, not latent: pass give_mean=False for the observed size, "
            "or build the model with use_observed_lib_size=False"
        )
        raise InvalidArgumentError(msg)
    batches = model._loader(adata, indices, batch_size)
    return expression.latent_library_size(model.encoder_module, batches, give_mean=give_mean)
