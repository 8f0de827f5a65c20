"""Rows of a CSR matrix, picked in any order."""

from __future__ import annotations

import numpy as np


def gather_rows(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pick rows of a CSR matrix.

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
    lengths = indptr[rows + 1] - indptr[rows]
    out_indptr = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(lengths, out=out_indptr[1:])
    take = np.repeat(indptr[rows] - out_indptr[:-1], lengths) + np.arange(out_indptr[-1])
    return data[take].astype(np.float32), indices[take].astype(np.int32), out_indptr
