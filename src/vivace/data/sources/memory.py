"""Cells that lie in memory as CSR or dense arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from vivace.data.gather import gather_rows
from vivace.data.sources.canonical import canonical
from vivace.data.sources.protocol import Rows
from vivace.kernels.linear import SPARSE_BELOW

ROWS_AT_ONCE = 4096
"""Of a dense matrix, while its non-zeros are picked out."""
VALUES_AT_ONCE = 1 << 16
"""Values that are looked at together; they stay in the cache."""


class MemorySource:
    """Rows of a scipy sparse or numpy matrix.

    A dense matrix whose zeros are worth skipping is held as CSR besides, so that they are found once and
    not again in every minibatch; nothing is ever copied as dense.

    Parameters
    ----------
    matrix
        (N, G), sparse or dense, of any numeric type.
    columns
        Columns to read, in this order; default all as they are.
    where
        What the matrix is called in messages.

    Raises
    ------
    InvalidDataError
        If the values are no numbers, or the arrays of a sparse matrix contradict each other.

    Examples
    --------
    >>> import numpy as np
    >>> MemorySource(np.eye(9)).read(np.array([2, 0])).indices
    array([2, 0], dtype=int32)
    """

    layout = None

    def __init__(self, matrix: Any, columns: np.ndarray | None = None, where: str = "the matrix"):
        matrix = canonical(matrix, where)
        if sparse.issparse(matrix):
            matrix = matrix if columns is None else matrix[:, columns]
            columns = None
        elif np.count_nonzero(matrix) <= SPARSE_BELOW * matrix.size:
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
        return Rows(
            shape, dense=np.ascontiguousarray(self._dense_columns(m[rows]), dtype=np.float32)
        )

    def values(self) -> Iterator[np.ndarray]:
        m = self._matrix
        if sparse.issparse(m):
            for start in range(0, len(m.data), VALUES_AT_ONCE):
                yield m.data[start : start + VALUES_AT_ONCE]
        else:
            step = max(1, VALUES_AT_ONCE // max(m.shape[1], 1))
            for start in range(0, len(m), step):
                yield self._dense_columns(m[start : start + step])

    def shares(self, matrix: Any) -> bool:
        """Whether rows are read from the arrays of this very matrix, whatever they hold by then."""
        own = self._matrix.data if sparse.issparse(self._matrix) else self._matrix
        theirs = matrix.data if sparse.issparse(matrix) else matrix
        return isinstance(theirs, np.ndarray) and np.may_share_memory(own, theirs)

    def _dense_columns(self, block: np.ndarray) -> np.ndarray:
        return block if self._columns is None else block[:, self._columns]


def sparse_copy(matrix: np.ndarray, columns: np.ndarray | None) -> sparse.csr_array:
    """These columns of a dense matrix as CSR, float32."""
    chosen = slice(None) if columns is None else columns
    starts = range(0, max(len(matrix), 1), ROWS_AT_ONCE)
    blocks = (matrix[start : start + ROWS_AT_ONCE, chosen] for start in starts)
    with np.errstate(over="ignore"):  # beyond float32: infinite, and refused as that
        return sparse.vstack(
            [sparse.csr_array(block.astype(np.float32)) for block in blocks], format="csr"
        )
