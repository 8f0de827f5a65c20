"""Which source a matrix needs: the one place that knows."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from vivace.data.sources.disk import Part
from vivace.data.sources.lazy import LazyMatrix
from vivace.data.sources.memory import MemorySource
from vivace.data.sources.protocol import Source
from vivace.data.sources.stored import Place, open_stored, place_of
from vivace.errors import InvalidDataError

ELSEWHERE = ("dask",)
"""Packages whose matrices are computed when they are asked."""


def open_source(
    matrix: Any, columns: np.ndarray | None = None, where: str = "the matrix"
) -> Source:
    """The source that answers rows of a matrix.

    Parameters
    ----------
    matrix
        (N, G), as a data object holds it, in memory or on disk.
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
    lazy = on_disk(matrix)
    if lazy is not None:
        return (lazy if columns is None else lazy.choose(columns)).source()
    package = type(matrix).__module__.partition(".")[0]
    if package in ELSEWHERE:
        msg = (
            f"{where} lies outside memory, as {package}'s {type(matrix).__name__}; load it first: "
            "adata = adata.to_memory(), or open its file with vivace.open_cells"
        )
        raise InvalidDataError(msg)
    return MemorySource(matrix, columns, where)


def on_disk(matrix: Any) -> LazyMatrix | None:
    """A matrix that lies in files, or None for one in memory."""
    if isinstance(matrix, LazyMatrix) or matrix is None:
        return matrix
    if isinstance(matrix, np.ndarray) or sparse.issparse(matrix):
        return None
    stored = open_stored(matrix)
    return None if stored is None else LazyMatrix([Part.of(stored)])


def places(matrix: Any) -> tuple[Place, ...]:
    """Where a matrix lies, found without reading it; () in memory."""
    if isinstance(matrix, LazyMatrix):
        return tuple(part.place for part in matrix.parts)
    if isinstance(matrix, np.ndarray) or sparse.issparse(matrix):
        return ()
    place = place_of(matrix)
    return () if place is None else (place,)
