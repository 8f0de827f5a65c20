"""Cells that lie in memory as CSR, CSC or dense arrays of any numeric type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from vivace.data.gather import gather_rows

DENSE_ABOVE = 0.5
"""A dense matrix with a larger share of non-zeros than this gives dense minibatches."""


@dataclass(frozen=True)
class Rows:
    """Rows of a matrix as CSR arrays, or dense; float32."""

    shape: tuple[int, int]
    data: np.ndarray | None = None
    indices: np.ndarray | None = None
    indptr: np.ndarray | None = None
    dense: np.ndarray | None = None


class Source(Protocol):
    """Anything that answers "these rows"."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def read(self, rows: np.ndarray) -> Rows:
        """The rows in the order asked for, repeats allowed."""
        ...


class MemorySource:
    """Rows of a scipy sparse or numpy matrix; never copies the whole as dense.

    Parameters
    ----------
    matrix
        (N, G), CSR, CSC or dense, of any numeric type.
    columns
        Columns to read, in this order; default all as they are.

    Examples
    --------
    >>> import numpy as np
    >>> MemorySource(np.eye(3)).read(np.array([2, 0])).indices
    array([2, 0], dtype=int32)
    """

    def __init__(self, matrix: Any, columns: np.ndarray | None = None):
        if sparse.issparse(matrix):
            matrix = matrix.tocsr()
            self._matrix = matrix if columns is None else matrix[:, columns]
            self._columns, self._dense = None, False
        else:
            self._matrix = np.asarray(matrix)
            self._columns = columns
            nonzero = np.count_nonzero(self._matrix)
            self._dense = nonzero > DENSE_ABOVE * self._matrix.size

    @property
    def shape(self) -> tuple[int, int]:
        n_rows, n_columns = self._matrix.shape
        return n_rows, n_columns if self._columns is None else len(self._columns)

    def read(self, rows: np.ndarray) -> Rows:
        shape = (len(rows), self.shape[1])
        if sparse.issparse(self._matrix):
            m = self._matrix
            return Rows(shape, *gather_rows(m.data, m.indices, m.indptr, rows))
        block = self._matrix[rows]
        if self._columns is not None:
            block = block[:, self._columns]
        block = np.ascontiguousarray(block, dtype=np.float32)
        if self._dense:
            return Rows(shape, dense=block)
        csr = sparse.csr_array(block)
        return Rows(shape, csr.data, csr.indices, csr.indptr)
