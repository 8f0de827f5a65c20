"""Ways in which the same counts are brought: kinds of storage and of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse


def unsorted(matrix: np.ndarray) -> sparse.csr_matrix:
    """CSR whose columns run backwards in every row."""
    m = sparse.csr_matrix(matrix)
    parts = [np.arange(a, b)[::-1] for a, b in zip(m.indptr[:-1], m.indptr[1:], strict=True)]
    order = np.concatenate([np.empty(0, dtype=int), *parts])
    return sparse.csr_matrix((m.data[order], m.indices[order], m.indptr), shape=m.shape)


def twice(matrix: np.ndarray) -> sparse.csr_matrix:
    """CSR in which every entry is stored as one and the rest, or as nothing and all where that is exact."""
    m = sparse.csr_matrix(matrix)
    first = np.where(m.data <= 2048, np.minimum(m.data, 1), 0).astype(m.dtype)
    rest = (m.data.astype("float64") - first).astype(m.dtype)
    data = np.stack([first, rest], axis=1).ravel()
    return sparse.csr_matrix((data, np.repeat(m.indices, 2), m.indptr * 2), shape=m.shape)


def with_zeros(matrix: np.ndarray) -> sparse.csr_matrix:
    """CSR that stores every entry, zeros too."""
    n, g = matrix.shape
    places = np.tile(np.arange(g), n), np.arange(n + 1) * g
    return sparse.csr_matrix((matrix.ravel(), *places), shape=matrix.shape)


def long_pointers(matrix: np.ndarray) -> sparse.csr_matrix:
    """CSR with 64-bit indices."""
    m = sparse.csr_matrix(matrix)
    m.indices, m.indptr = m.indices.astype(np.int64), m.indptr.astype(np.int64)
    return m


STORED: dict[str, Callable[[np.ndarray], Any]] = {
    "csr": sparse.csr_matrix,
    "csr array": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_matrix,
    "unsorted": unsorted,
    "stored twice": twice,
    "stored zeros": with_zeros,
    "64-bit indices": long_pointers,
    "dense": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "table": pd.DataFrame,
}
SPARSE_ONLY = [name for name, form in STORED.items() if sparse.issparse(form(np.eye(2)))]
DTYPES = [
    "bool", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64",
    "longdouble", ">i4", ">f8", "object",
]  # fmt: skip
UNKNOWN_TO_SCIPY = ("float16", ">i4", ">f8", "object")


def stored(counts: np.ndarray, form: str, dtype: str) -> Any:
    """Counts in one kind of storage and of numbers."""
    if form not in SPARSE_ONLY or dtype not in UNKNOWN_TO_SCIPY:
        return STORED[form](counts.astype(dtype))
    made = STORED[form](counts.astype("float64"))
    if dtype != "object":  # files hold what scipy itself would convert
        made.data = made.data.astype(dtype)
    return made
