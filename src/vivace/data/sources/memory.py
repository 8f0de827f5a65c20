"""Cells that lie in memory as CSR, CSC or dense arrays of any numeric type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from vivace.data.gather import gather_rows
from vivace.kernels.linear import SPARSE_BELOW

ROWS_AT_ONCE = 4096
"""Of a dense matrix, while its non-zeros are picked out."""


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
    """Rows of a scipy sparse or numpy matrix.

    A dense matrix whose zeros are worth skipping is held as CSR besides, so that they are found once and
    not again in every minibatch; nothing is ever copied as dense.

    Parameters
    ----------
    matrix
        (N, G), CSR, CSC or dense, of any numeric type.
    columns
        Columns to read, in this order; default all as they are.

    Examples
    --------
    >>> import numpy as np
    >>> MemorySource(np.eye(9)).read(np.array([2, 0])).indices
    array([2, 0], dtype=int32)
    """

    def __init__(self, matrix: Any, columns: np.ndarray | None = None):
        if sparse.issparse(matrix):
            matrix = matrix.tocsr()
            matrix = matrix if columns is None else matrix[:, columns]
            columns = None
        else:
            matrix = np.asarray(matrix)
            if np.count_nonzero(matrix) <= SPARSE_BELOW * matrix.size:
                matrix, columns = sparse_copy(matrix, columns), None
        self._matrix, self._columns = matrix, columns

    @property
    def shape(self) -> tuple[int, int]:
        n_rows, n_columns = self._matrix.shape
        return n_rows, n_columns if self._columns is None else len(self._columns)

    def read(self, rows: np.ndarray) -> Rows:
        shape = (len(rows), self.shape[1])
        m = self._matrix
        if sparse.issparse(m):
            return Rows(shape, *gather_rows(m.data, m.indices, m.indptr, rows))
        block = m[rows]
        if self._columns is not None:
            block = block[:, self._columns]
        return Rows(shape, dense=np.ascontiguousarray(block, dtype=np.float32))


def sparse_copy(matrix: np.ndarray, columns: np.ndarray | None) -> sparse.csr_array:
    """These columns of a dense matrix as CSR, float32."""
    chosen = slice(None) if columns is None else columns
    starts = range(0, max(len(matrix), 1), ROWS_AT_ONCE)
    blocks = (matrix[start : start + ROWS_AT_ONCE, chosen] for start in starts)
    return sparse.vstack(
        [sparse.csr_array(block, dtype=np.float32) for block in blocks], format="csr"
    )
