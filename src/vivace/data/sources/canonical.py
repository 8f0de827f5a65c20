"""The one form that compiled loops read: each entry once, rows in order, a plain type of this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from vivace.errors import InvalidDataError

PLAIN = frozenset(map(np.dtype, ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")))
"""Types that need no conversion: these sizes, in this machine's byte order."""


def canonical(matrix: Any, where: str) -> sparse.csr_array | np.ndarray:
    """A matrix as CSR with every entry stored once, or as a dense array, of a plain type.

    Arrays that are so already are shared, not copied; the user's matrix is never changed. Entries that
    are stored twice for one cell and gene, as R's Matrix and sums of sparse matrices leave them, are
    summed.

    Raises
    ------
    InvalidDataError
        If the values are no numbers, or the arrays of a sparse matrix contradict each other.

    Examples
    --------
    >>> twice = sparse.csr_array((np.array([200, 100], dtype="u1"), [1, 1], [0, 2]), shape=(1, 3))
    >>> canonical(twice, "X").toarray()
    array([[  0., 300.,   0.]])
    """
    if sparse.issparse(matrix):
        return _csr(matrix, where)
    if isinstance(matrix, np.ma.MaskedArray) and np.ma.is_masked(matrix):
        msg = f"{where} has masked values; fill them: {where}.filled(0)"
        raise InvalidDataError(msg)
    values = plain_numbers(np.asarray(matrix), where)
    if values.ndim != 2:
        msg = f"{where} must have two dimensions, cells and genes; found shape {values.shape}"
        raise InvalidDataError(msg)
    return values


def plain_numbers(values: np.ndarray, where: str) -> np.ndarray:
    """Values as bool, whole numbers, float32 or float64 of this machine's byte order."""
    if values.dtype in PLAIN:
        return values
    if values.dtype.kind in "fiu":
        native = values.dtype.newbyteorder("=")
        if native not in PLAIN:  # half and long double
            native = np.dtype(np.float32 if native.itemsize < 4 else np.float64)
        with np.errstate(over="ignore"):  # beyond float64: infinite, and refused as that
            return values.astype(native)
    if values.dtype.kind == "O" and not any(isinstance(v, str | bytes) for v in values.flat):
        try:
            return values.astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            pass
    msg = f"{where} must be numeric; found dtype {values.dtype}"
    raise InvalidDataError(msg)


def _csr(matrix: Any, where: str) -> sparse.csr_array:
    try:
        csr = _checked(matrix, where).tocsr()
        if csr.has_canonical_format:
            return csr
        csr = csr.astype(np.float64)  # a copy, in which sums of small whole numbers do not overflow
        csr.sum_duplicates()
    except InvalidDataError:
        raise
    except (ValueError, IndexError, TypeError, RuntimeError) as error:
        msg = f"{where} is no valid sparse matrix: {error}"
        raise InvalidDataError(msg) from error
    return csr


def _checked(matrix: Any, where: str) -> Any:
    """The matrix as an object of its own, since flags that scipy keeps with the user's may be wrong."""
    if matrix.format not in ("csr", "csc"):
        matrix = matrix.tocoo()
        places = tuple(_native(axis) for axis in matrix.coords)
        return sparse.coo_array((plain_numbers(matrix.data, where), places), shape=matrix.shape)
    made = sparse.csr_array if matrix.format == "csr" else sparse.csc_array
    parts = (
        plain_numbers(matrix.data, where),
        _native(matrix.indices),
        _native(matrix.indptr),
    )
    own = made(parts, shape=matrix.shape)
    own.check_format(full_check=True)
    return own


def _native(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
