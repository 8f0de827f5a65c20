"""A matrix on disk as an AnnData holds it: a shape, a type, and columns that were chosen of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from scipy import sparse

from vivace.data.sources.disk import DiskSource, Part
from vivace.data.sources.protocol import Rows


class LazyMatrix:
    """Cells in files under each other, which an AnnData takes in place of a matrix.

    Indexing reads the rows asked for, as with anndata's own matrices on disk;
    :meth:`choose` selects columns without reading.

    Parameters
    ----------
    parts
        Matrices of files, with the same columns.
    """

    format = "csr"
    ndim = 2

    def __init__(self, parts: Sequence[Part]):
        self.parts = tuple(parts)
        self.dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and columns."""
        return sum(part.stored.shape[0] for part in self.parts), self.parts[0].n_columns

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        files = ", ".join(dict.fromkeys(part.place.file for part in self.parts))
        return f"<{self.shape[0]} x {self.shape[1]} matrix on disk: {files}>"

    def choose(self, columns: np.ndarray) -> LazyMatrix:
        """Some columns, in this order; -1 stands for one that is zero in all cells."""
        return LazyMatrix([part.choose(columns) for part in self.parts])

    def source(self) -> DiskSource:
        """What answers its rows."""
        return DiskSource(self.parts)

    def copy(self) -> LazyMatrix:
        """The same matrix: it can't be written to."""
        return self

    def to_memory(self) -> sparse.csr_matrix:
        """The whole matrix."""
        return self[:]

    def __getitem__(self, index: Any) -> Any:
        rows, columns = index if isinstance(index, tuple) else (index, slice(None))
        n, m = self.shape
        everything = isinstance(columns, slice) and columns == slice(None)
        chosen = self if everything else self.choose(positions(columns, m))
        return as_scipy(chosen.source().read(positions(rows, n)))


def positions(index: Any, n: int) -> np.ndarray:
    """Numbers of an index along one axis: a slice, numbers, a mask, or what ``numpy.ix_`` makes of them.

    Examples
    --------
    >>> positions(slice(2), 9), positions([[4], [1]], 9), positions([True, False], 2)
    (array([0, 1]), array([4, 1]), array([0]))
    """
    return np.atleast_1d(
        np.arange(n)[index if isinstance(index, slice) else np.asarray(index).ravel()]
    )


def as_scipy(rows: Rows) -> Any:
    """Rows as an AnnData holds them in memory."""
    if rows.dense is not None:
        return rows.dense
    return sparse.csr_matrix((rows.data, rows.indices, rows.indptr), shape=rows.shape)


def accepted_by_anndata() -> None:
    """Tell anndata that it may hold these matrices, and how they are loaded."""
    from anndata import abc

    abc.CSRDataset.register(LazyMatrix)
    with suppress(ImportError, AttributeError):  # without: AnnData.to_memory leaves it on disk
        from anndata._core.file_backing import to_memory

        to_memory.register(LazyMatrix, lambda matrix, **_: matrix.to_memory())
