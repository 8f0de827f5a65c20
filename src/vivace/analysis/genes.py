"""Which genes vary most: a plain choice that needs no further package."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from vivace.errors import InvalidArgumentError, missing_key

TARGET = 1e4


def variable_genes(
    adata: Any, n_top: int = 2000, *, layer: str | None = None, batch_key: str | None = None
) -> np.ndarray:
    """Mask of the genes with the largest variance of log-normalised counts.

    Counts of a cell are scaled to a total of 10,000, then ``log(1 + x)`` is taken; the variance over
    cells is computed gene by gene. With batches it is computed inside each batch and averaged, weighted
    by cells, so that a gene which only differs between batches is not chosen.

    Parameters
    ----------
    adata
        (N, G) AnnData of raw counts; not modified.
    n_top
        Number of genes to keep, >= 1; all where there are fewer.
    layer
        Layer with the counts; ``X`` when not given.
    batch_key
        Column of ``obs``.

    Returns
    -------
    (G,) bool; ties go to the gene that comes first.

    Raises
    ------
    InvalidArgumentError
        ``n_top`` is not positive.
    MissingKeyError
        There is no such layer or column.

    Examples
    --------
    >>> import vivace
    >>> adata = vivace.datasets.simulate("batches", n_cells=100, n_genes=50)
    >>> int(variable_genes(adata, 20, batch_key="batch").sum())
    20
    """
    if n_top < 1:
        msg = f"n_top={n_top} must be >= 1"
        raise InvalidArgumentError(msg)
    if layer is not None and layer not in adata.layers:
        raise missing_key("layer", layer, "adata.layers", adata.layers.keys())
    if batch_key is not None and batch_key not in adata.obs:
        raise missing_key("batch_key", batch_key, "adata.obs", adata.obs.columns)
    counts = adata.X if layer is None else adata.layers[layer]
    logged = log_normalised(counts)
    if batch_key is None:
        groups = [np.arange(adata.n_obs)]
    else:
        groups = list(adata.obs.groupby(batch_key, observed=True).indices.values())
    spread = sum(len(rows) * variance(logged[rows]) for rows in groups)
    mask = np.zeros(adata.n_vars, dtype=bool)
    mask[np.argsort(-np.asarray(spread), kind="stable")[:n_top]] = True
    return mask


def log_normalised(counts: Any) -> sparse.csr_array:
    """Log of counts per 10,000, (N, G); empty cells stay zero."""
    counts = sparse.csr_array(counts, dtype=np.float64)
    totals = counts.sum(axis=1)
    scaled = sparse.diags_array(TARGET / np.where(totals > 0, totals, 1.0)) @ counts
    return sparse.csr_array(scaled).log1p()


def variance(values: sparse.csr_array) -> np.ndarray:
    """Variance of each column, (G,), without a dense copy."""
    mean = values.mean(axis=0)
    return np.asarray(values.power(2).mean(axis=0) - mean**2)
