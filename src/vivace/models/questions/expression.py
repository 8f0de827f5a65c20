"""What cells express: denoised, as parameters of a distribution, or drawn from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from vivace.analysis import correlation, expression, fit_quality
from vivace.errors import InvalidArgumentError, check_choice
from vivace.models.base import BaseModel
from vivace.models.questions.parts import order_of


def draw_seed() -> int:
    """A seed from torch's generator, for what numpy draws."""
    return int(torch.randint(2**31, ()))


def drawn_rows(
    model: BaseModel, cells: Any, indices: Any, n_samples: int, n_samples_overall: int | None
) -> np.ndarray:
    """Rows of the cells, or of as many as ``n_samples_overall``, drawn with replacement."""
    rows = model._rows(cells, indices)
    if n_samples_overall is None:
        return rows
    if n_samples != 1:
        msg = "give n_samples or n_samples_overall, not both"
        raise InvalidArgumentError(msg)
    return np.random.default_rng(draw_seed()).choice(rows, n_samples_overall)


def denoised(
    model: BaseModel,
    adata: Any,
    indices: Any,
    *,
    transform_batch: Any,
    gene_list: Any,
    batch_size: int | None,
    return_mean: bool,
    as_array: bool,
    decode: Callable[..., np.ndarray] | None = None,
    **options: Any,
) -> pd.DataFrame | np.ndarray:
    """Denoised expression as users get it.

    Parameters
    ----------
    adata, indices
        The cells, as the question named them.
    transform_batch, gene_list
        Batches to decode for, genes to return.
    batch_size
        Cells at a time.
    return_mean, as_array
        See :func:`cells_table`.
    decode
        ``f(minibatches, transform_batch=..., genes=..., ...)``; default the module's own decoder.
    **options
        Passed to it, see :func:`vivace.analysis.expression.normalized_expression`.
    """
    cells, genes = model._cells(adata), model._gene_positions(gene_list)
    batches = model._loader(cells, indices, batch_size)
    codes = model._batch_codes(transform_batch)
    if decode is None:
        values = expression.normalized_expression(
            model.module, batches, transform_batch=codes, genes=genes, **options
        )
    else:
        values = decode(batches, transform_batch=codes, genes=genes, **options)
    names = model.var_names if genes is None else model.var_names[genes]
    rows = model._rows(cells, indices)
    return cells_table(values, cells.obs_names[rows], names, average=return_mean, as_array=as_array)


def cells_table(
    values: np.ndarray, cells: pd.Index, names: pd.Index, *, average: bool, as_array: bool
) -> pd.DataFrame | np.ndarray:
    """Decoded values as users get them.

    Parameters
    ----------
    values
        (n, G), or (S, n, G) of S draws.
    cells, names
        (n,) of the rows and (G,) of the columns.
    average
        Average over the draws.
    as_array
        No DataFrame, which draws that are not averaged never are.
    """
    if values.ndim == 3 and average:
        values = values.mean(0)
    return values if as_array or values.ndim == 3 else pd.DataFrame(values, cells, names)


def get_likelihood_parameters(
    model: BaseModel,
    adata: Any = None,
    indices: Any = None,
    n_samples: int = 1,
    give_mean: bool = False,
    batch_size: int | None = None,
) -> dict[str, np.ndarray]:
    """Parameters of the distribution of each observed value.

    Parameters
    ----------
    adata, indices, batch_size
        As in ``get_latent_representation``.
    n_samples
        Posterior draws S of z.
    give_mean
        Average over the draws.

    Returns
    -------
    dict with ``mean`` (n, G) or (S, n, G); ``dispersions``, inverse dispersion, or the standard
    deviation of "normal" and of SysVI (absent for "poisson"); ``dropout``, the probability of a
    technical zero (only "zinb").
    """
    batches = model._loader(adata, indices, batch_size)
    return expression.likelihood_parameters(
        model.module, batches, n_samples=n_samples, give_mean=give_mean
    )


def posterior_predictive_sample(
    model: BaseModel,
    adata: Any = None,
    indices: Any = None,
    transform_batch: Any = None,
    n_samples: int = 1,
    gene_list: Sequence[str] | None = None,
    batch_size: int | None = None,
    return_numpy: bool = False,
) -> sparse.csr_array | list[sparse.csr_array] | np.ndarray:
    """Counts drawn from the fitted model.

    Parameters
    ----------
    adata, indices, batch_size, transform_batch, gene_list
        As in ``get_normalized_expression``.
    n_samples
        Number S of draws.
    return_numpy
        A dense array instead, float32.

    Returns
    -------
    (n, G) CSR array, or a list of S of them; dense (n, G), or (n, G, S).
    """
    which = (adata, indices, transform_batch, n_samples, gene_list, batch_size)
    return predictive_of(model, *which, return_numpy=return_numpy)


def predictive_of(
    model: BaseModel,
    adata: Any,
    indices: Any,
    transform_batch: Any,
    n_samples: int,
    gene_list: Any,
    batch_size: int | None,
    population: str | None = None,
    return_numpy: bool = False,
) -> sparse.csr_array | list[sparse.csr_array] | np.ndarray:
    """As :func:`posterior_predictive_sample`, for cells of a named population."""
    parts = model._parts(adata, indices, batch_size, population)
    found = [
        fit_quality.predictive_samples(
            part.module,
            part.batches,
            n_samples=n_samples,
            transform_batch=model._batch_codes(transform_batch),
            genes=model._gene_positions(gene_list),
        )
        for part in parts
    ]
    order = order_of(parts)
    draws = [
        sparse.csr_array(sparse.vstack(pieces, format="csr")[order])
        for pieces in zip(*found, strict=True)
    ]
    if return_numpy:
        dense = np.stack([draw.toarray() for draw in draws], axis=-1)
        return dense[..., 0] if n_samples == 1 else dense
    return draws[0] if n_samples == 1 else draws


def get_feature_correlation_matrix(
    model: BaseModel,
    adata: Any = None,
    indices: Any = None,
    n_samples: int = 10,
    batch_size: int | None = None,
    rna_size_factor: float = 1000,
    transform_batch: Any = None,
    correlation_type: str = "spearman",
) -> pd.DataFrame:
    """How genes vary together over cells, in expression drawn from the model without counting noise.

    All draws are in memory at once, cells times ``n_samples`` times genes.

    Parameters
    ----------
    adata, indices, batch_size, transform_batch
        As in ``get_normalized_expression``; matrices of several batches are averaged.
    n_samples
        Draws for each cell.
    rna_size_factor
        Library size of every cell, > 0.
    correlation_type
        "spearman", of ranks, or "pearson".

    Returns
    -------
    (G, G) DataFrame; NaN of genes that do not vary.

    Raises
    ------
    InvalidArgumentError
        If the kind of correlation is not known, or an option is out of range.
    """
    check_choice("correlation_type", correlation_type, ("spearman", "pearson"))
    batches = model._loader(adata, indices, batch_size)
    rng = np.random.default_rng(draw_seed())
    found = [
        correlation.correlations(
            correlation.expression_draws(
                model.module,
                batches,
                rng,
                total=rna_size_factor,
                n_samples=n_samples,
                transform_batch=code,
            ),
            correlation_type,
        )
        for code in model._batch_codes(transform_batch)
    ]
    return pd.DataFrame(np.mean(found, axis=0), model.var_names, model.var_names)
