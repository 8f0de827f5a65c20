"""Rows of a CSR matrix, picked in any order."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np


def gather_rows(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pick rows of a CSR matrix, without holding the interpreter.

    Parameters
    ----------
    data, indices, indptr
        The matrix, of any numeric type.
    rows
        (n,) row numbers, any order, repeats allowed.

    Returns
    -------
    data, indices, indptr of the (n, G) CSR matrix of these rows: float32, int32 and int32.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> m = sparse.csr_array(np.array([[0, 7], [5, 0]]))
    >>> gather_rows(m.data, m.indices, m.indptr, np.array([1, 1]))
    (array([5., 5.], dtype=float32), array([0, 0], dtype=int32), array([0, 1, 2], dtype=int32))
    """
    starts = indptr[rows]
    out_indptr = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(indptr[np.asarray(rows) + 1] - starts, out=out_indptr[1:])
    out_data = np.empty(out_indptr[-1], dtype=np.float32)
    out_indices = np.empty(out_indptr[-1], dtype=np.int32)
    copy_rows()(data, indices, starts, out_indptr, out_data, out_indices)
    return out_data, out_indices, out_indptr


@cache
def copy_rows() -> Callable:
    """The compiled loop; the compiler is imported when the first minibatch is wanted."""
    from vivace.kernels.jit import compiled

    @compiled
    def copy(data, indices, starts, out_indptr, out_data, out_indices):
        for row in range(starts.shape[0]):
            shift = starts[row] - out_indptr[row]
            for at in range(out_indptr[row], out_indptr[row + 1]):
                out_data[at] = data[at + shift]
                out_indices[at] = indices[at + shift]

    return copy
