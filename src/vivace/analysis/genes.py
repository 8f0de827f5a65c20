"""Which genes vary most: a plain choice that needs no further package."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import sparse

from vivace.data.columns import categories_of, column
from vivace.data.facts import Watched, are_known
from vivace.data.matrices import ROWS_AT_ONCE, as_matrix, find_matrix, read_matrix
from vivace.data.sources import Source, on_disk
from vivace.data.sources.normalise import log_normalise
from vivace.errors import InvalidArgumentError


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
    InvalidDataError
        Counts are negative, missing or infinite.

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
    if batch_key is None:
        codes = np.zeros(adata.n_obs, dtype=np.int64)
    else:
        batches = column(adata.obs, batch_key, "batch_key", "adata.obs")
        codes, _ = categories_of(batches, batch_key, "batch_key")
    mask = np.zeros(adata.n_vars, dtype=bool)
    mask[np.argsort(-_variance(adata, layer, codes), kind="stable")[:n_top]] = True
    return mask


def _variance(adata: Any, layer: str | None, codes: np.ndarray) -> np.ndarray:
    """Variance within groups of counts, which are checked before; of a file, in the same pass."""
    lazy = on_disk(find_matrix(adata, layer))
    in_one_pass = (
        lazy is not None
        and all(part.columns is None for part in lazy.parts)
        and not are_known(lazy.source())
        and (codes >= 0).all()
    )
    if lazy is None or not in_one_pass:
        return variance_within(read_matrix(adata, layer, "counts")[0], codes)
    watched = Watched(lazy.source())
    with np.errstate(all="ignore"):  # what is no count is refused when all of it is known
        variance = variance_within(watched, codes, watched.blocks())
    watched.remember()
    read_matrix(adata, layer, "counts")
    return variance


def variance_within(
    source: Source, codes: np.ndarray, blocks: Iterable[np.ndarray] | None = None
) -> np.ndarray:
    """Variance of each gene's log-normalised counts inside groups, (G,), in one pass over the cells.

    Averaged over the groups by their number of cells; cells of code -1 are in none. ``blocks`` are
    the rows to read together, if not any are as good.
    """
    n_groups = int(codes.max(initial=0)) + 1
    sums, squares = np.zeros((2, n_groups, source.shape[1]))
    rows = np.flatnonzero(codes >= 0)
    if blocks is None:
        blocks = (rows[at : at + ROWS_AT_ONCE] for at in range(0, len(rows), ROWS_AT_ONCE))
    for chosen in blocks:
        values = as_matrix(log_normalise(source.read(chosen))).astype(np.float64)
        groups = sparse.csr_array(
            (np.ones(len(chosen)), (codes[chosen], np.arange(len(chosen)))), (n_groups, len(chosen))
        )
        sums += _dense(groups @ values)
        squares += _dense(groups @ (values * values))
    sizes = np.maximum(np.bincount(codes[rows], minlength=n_groups), 1)[:, None]
    return (squares - sums**2 / sizes).sum(0) / max(len(rows), 1)


def _dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sparse.issparse(matrix) else matrix
