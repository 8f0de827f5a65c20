"""Which source a matrix needs: the one place that knows."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from vivace.data.sources.memory import MemorySource
from vivace.data.sources.protocol import Source
from vivace.errors import InvalidDataError

OUTSIDE_MEMORY = ("h5py", "zarr", "anndata", "dask")
"""Packages whose matrices are read when they are asked."""


def open_source(
    matrix: Any, columns: np.ndarray | None = None, where: str = "the matrix"
) -> Source:
    """The source that answers rows of a matrix.

    Parameters
    ----------
    matrix
        (N, G), as a data object holds it.
    columns
        Columns to read, in this order; default all as they are.
    where
        What the matrix is called in messages.

    Raises
    ------
    InvalidDataError
        If the matrix cannot be read, saying what it is and what to do.

    Examples
    --------
    >>> open_source(np.eye(3)).shape
    (3, 3)
    """
    if isinstance(matrix, np.ndarray) or sparse.issparse(matrix):
        return MemorySource(matrix, columns, where)
    package = type(matrix).__module__.partition(".")[0]
    if package in OUTSIDE_MEMORY:
        msg = (
            f"{where} lies outside memory, as {package}'s {type(matrix).__name__}; load it first: "
            "adata = adata.to_memory()"
        )
        raise InvalidDataError(msg)
    return MemorySource(matrix, columns, where)
