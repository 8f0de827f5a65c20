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


def pick_columns(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, columns: np.ndarray, n_columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pick columns of a CSR matrix, in any order.

    Parameters
    ----------
    data, indices, indptr
        The matrix, float32 data; each column at most once in a row.
    columns
        (m,) the column that each new one is, none twice; -1 for one without values.
    n_columns
        Of the matrix.

    Returns
    -------
    data, indices, indptr of the (n, m) matrix.

    Examples
    --------
    >>> import numpy as np
    >>> row = (
    ...     np.array([7, 5], dtype="f4"),
    ...     np.array([0, 2], dtype="i4"),
    ...     np.array([0, 2], dtype="i4"),
    ... )
    >>> pick_columns(*row, np.array([2, -1, 0]), 3)[:2]
    (array([7., 5.], dtype=float32), array([2, 0], dtype=int32))
    """
    there = columns >= 0
    new = np.full(n_columns, -1, dtype=np.int32)
    new[columns[there]] = np.flatnonzero(there)
    kept, out_indices = np.empty_like(data), np.empty(len(data), dtype=np.int32)
    out_indptr = np.zeros_like(indptr)
    keep_columns()(data, indices, indptr, new, kept, out_indices, out_indptr)
    n = out_indptr[-1]
    return kept[:n].copy(), out_indices[:n].copy(), out_indptr


@cache
def keep_columns() -> Callable:
    """The compiled loop of :func:`pick_columns`."""
    from vivace.kernels.jit import compiled

    @compiled
    def keep(data, indices, indptr, new, out_data, out_indices, out_indptr):
        n = 0
        for row in range(indptr.shape[0] - 1):
            for at in range(indptr[row], indptr[row + 1]):
                column = new[indices[at]]
                if column >= 0:
                    out_data[n] = data[at]
                    out_indices[n] = column
                    n += 1
            out_indptr[row + 1] = n

    return keep


@cache
def columns_state() -> Callable:
    """A compiled loop: 2 if a column is beyond the last, 1 if a row is not in order, otherwise 0."""
    from vivace.kernels.jit import compiled

    @compiled
    def state(indices, indptr, n_columns):
        found = 0
        for row in range(indptr.shape[0] - 1):
            last = -1
            for at in range(indptr[row], indptr[row + 1]):
                column = indices[at]
                if column < 0 or column >= n_columns:
                    return 2
                if column <= last:
                    found = 1
                last = column
        return found

    return state
