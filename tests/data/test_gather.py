"""Rows of a CSR matrix come out as they were asked for, as float32, from any numeric type."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from vivace.data.gather import gather_rows

ROWS = {
    "order": np.array([3, 0, 2]),
    "repeats": np.array([1, 1, 1]),
    "gaps": np.array([0, 2, 5]),
    "all": np.arange(6),
    "one": np.array([4]),
    "none": np.array([], dtype=np.int64),
    "int32": np.array([5, 1], dtype=np.int32),
}


@pytest.fixture
def matrix():
    dense = np.random.default_rng(0).poisson(0.7, (6, 9))
    dense[2] = 0
    return dense


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint16, np.bool_])
def test_rows_in_order(matrix, dtype, rows):
    csr = sparse.csr_array(matrix.astype(dtype))
    data, indices, indptr = gather_rows(csr.data, csr.indices, csr.indptr, rows)
    assert (data.dtype, indices.dtype, indptr.dtype) == (np.float32, np.int32, np.int32)
    found = sparse.csr_array((data, indices, indptr), shape=(len(rows), 9)).toarray()
    np.testing.assert_array_equal(found, matrix.astype(dtype)[rows].astype(np.float32))


def test_index_type_of_large_matrices(matrix):
    csr = sparse.csr_array(matrix.astype(np.float32))
    wide = csr.indices.astype(np.int64), csr.indptr.astype(np.int64)
    for a, b in zip(
        gather_rows(csr.data, *wide, np.array([3, 0])),
        gather_rows(csr.data, csr.indices, csr.indptr, np.array([3, 0])),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_read_only_arrays(matrix):
    csr = sparse.csr_array(matrix)
    csr.data.setflags(write=False)
    assert gather_rows(csr.data, csr.indices, csr.indptr, np.array([0]))[0].sum() == matrix[0].sum()


@pytest.mark.parametrize("rows", [[2, 3], [5], [3, 2], [0, 2]])
def test_what_is_read_is_a_copy(matrix, rows):
    csr = sparse.csr_array(matrix.astype(np.float32))
    for found in gather_rows(csr.data, csr.indices, csr.indptr, np.array(rows)):
        found[:] = 99
    np.testing.assert_array_equal(csr.toarray(), matrix)
