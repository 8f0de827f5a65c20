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
    if are_consecutive(rows):
        return slice_rows(data, indices, indptr[rows[0] : rows[-1] + 2])
    starts = indptr[rows]
    out_indptr = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(indptr[np.asarray(rows) + 1] - starts, out=out_indptr[1:])
    out_data = np.empty(out_indptr[-1], dtype=np.float32)
    out_indices = np.empty(out_indptr[-1], dtype=np.int32)
    copy_rows()(data, indices, starts, out_indptr, out_data, out_indices)
    return out_data, out_indices, out_indptr


def are_consecutive(rows: np.ndarray) -> bool:
    """Whether each row is the one after that before it.

    Examples
    --------
    >>> are_consecutive(np.array([4, 5, 6])), are_consecutive(np.array([4, 6, 5]))
    (True, False)
    """
    return len(rows) > 0 and bool((np.diff(rows) == 1).all())


def slice_rows(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows between the given pointers, in one piece; a copy, as no one may write to the matrix."""
    stored = slice(indptr[0], indptr[-1])
    return (
        data[stored].astype(np.float32),
        indices[stored].astype(np.int32),
        (indptr - indptr[0]).astype(np.int32),
    )


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
