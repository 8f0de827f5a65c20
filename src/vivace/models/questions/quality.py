"""How well a model explains cells."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from vivace.analysis import fit_quality
from vivace.models.base import BaseModel
from vivace.models.questions.parts import order_of, values_of


def get_elbo(
    model: BaseModel,
    adata: Any = None,
    indices: Any = None,
    batch_size: int | None = None,
    return_mean: bool = True,
) -> torch.Tensor:
    """Evidence lower bound, nats, higher is better.

    SysVI leaves out the constant ``G log(2π) / 2``, and SPLICEVI takes off its alignment penalty.

    Parameters
    ----------
    adata
        Other cells of the same genes; default those of training.
    indices
        Row numbers, a mask or names of cells; default all.
    batch_size
        Cells at a time.
    return_mean
        Mean over cells (0-d), or one value a cell (n,).
    """
    return elbo_of(model, adata, indices, batch_size, return_mean)


def elbo_of(
    model: BaseModel,
    adata: Any,
    indices: Any,
    batch_size: int | None,
    return_mean: bool,
    population: str | None = None,
) -> torch.Tensor:
    """As :func:`get_elbo`, for cells of a named population where a model has several."""
    parts = model._parts(adata, indices, batch_size, population)
    elbo = values_of(parts, partial(fit_quality.cell_elbo, loss_kwargs=model.bound_options))
    return elbo.mean() if return_mean else elbo


def get_reconstruction_error(
    model: BaseModel,
    adata: Any = None,
    indices: Any = None,
    batch_size: int | None = None,
    return_mean: bool = True,
) -> dict[str, torch.Tensor]:
    """Negative log-likelihood of what was observed, given the latent state; nats, lower is better.

    Parameters
    ----------
    adata, indices, batch_size, return_mean
        As in ``get_elbo``.

    Returns
    -------
    ``{"reconstruction_loss": tensor}``; of SPLICEVI one entry each for genes and junctions.
    """
    return error_of(model, adata, indices, batch_size, return_mean)


def error_of(
    model: BaseModel,
    adata: Any,
    indices: Any,
    batch_size: int | None,
    return_mean: bool,
    population: str | None = None,
) -> dict[str, torch.Tensor]:
    """As :func:`get_reconstruction_error`, for cells of a named population."""
    parts = model._parts(adata, indices, batch_size, population)
    found = [
        fit_quality.reconstruction_errors(part.module, part.batches, model.bound_options)
        for part in parts
    ]
    order = order_of(parts)
    errors = {name: torch.cat([one[name] for one in found])[order] for name in found[0]}
    return {name: e.mean() if return_mean else e for name, e in errors.items()}


def get_marginal_ll(
    model: BaseModel,
    adata: Any = None,
    indices: Any = None,
    n_mc_samples: int = 1000,
    batch_size: int | None = None,
    return_mean: bool = True,
    n_mc_samples_per_pass: int = 1,
) -> torch.Tensor:
    """Log-likelihood of the counts by importance sampling, nats, higher is better.

    Parameters
    ----------
    adata, indices, batch_size
        As in ``get_elbo``.
    n_mc_samples
        Draws of the latent state for each cell.
    return_mean
        Mean over cells (0-d), or one value a cell (n,).
    n_mc_samples_per_pass
        Draws at a time; more is faster and takes more memory.
    """
    draws = (n_mc_samples, n_mc_samples_per_pass)
    return marginal_of(model, adata, indices, batch_size, return_mean, draws)


def marginal_of(
    model: BaseModel,
    adata: Any,
    indices: Any,
    batch_size: int | None,
    return_mean: bool,
    draws: tuple[int, int],
    population: str | None = None,
) -> torch.Tensor:
    """As :func:`get_marginal_ll`, for cells of a named population."""
    values = values_of(
        model._parts(adata, indices, batch_size, population),
        lambda module, batches: fit_quality.marginal_log_likelihood(module, batches, *draws),
    )
    return values.mean() if return_mean else values
