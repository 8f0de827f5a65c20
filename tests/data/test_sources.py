"""Every source answers the same rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import sparse

from vivace.data.cells import to_tensor
from vivace.data.sources import MemorySource

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(0.15, (20, 7))
FORMS: dict[str, Callable] = {
    "csr": sparse.csr_matrix,
    "csr array": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "dense": np.asarray,
    "dense fortran": np.asfortranarray,
}
TYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Callable:
    return FORMS[request.param]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows", [[3, 1, 1, 19], [], list(range(20))])
def test_rows_in_the_order_asked_for(form: Callable, dtype: str, rows: list[int]):
    matrix = COUNTS.astype(dtype)
    source = MemorySource(form(matrix))
    assert source.shape == (20, 7)
    tensor = to_tensor(source.read(np.array(rows, dtype=np.int64)))
    assert str(tensor.dtype) == "torch.float32"
    np.testing.assert_array_equal(tensor.to_dense().numpy(), matrix[rows].astype(np.float32))


def test_columns_are_chosen_and_ordered(form: Callable):
    source = MemorySource(form(COUNTS), columns=np.array([5, 0]))
    assert source.shape == (20, 2)
    np.testing.assert_array_equal(
        to_tensor(source.read(np.arange(20))).to_dense().numpy(), COUNTS[:, [5, 0]]
    )


def test_a_full_dense_matrix_stays_dense():
    source = MemorySource(np.ones((4, 3)))
    assert to_tensor(source.read(np.arange(2))).layout.__str__() == "torch.strided"


def test_the_users_matrix_is_not_changed(form: Callable):
    matrix = form(COUNTS.astype("float32"))
    before = matrix.copy()
    source = MemorySource(matrix)
    tensor = to_tensor(source.read(np.arange(20)))
    tensor.values().add_(1)
    assert (abs(matrix - before)).sum() == 0


def test_the_zeros_of_a_dense_matrix_are_found_block_by_block(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vivace.data.sources.memory.ROWS_AT_ONCE", 3)
    tensor = to_tensor(MemorySource(COUNTS, columns=np.array([6, 1])).read(np.arange(20)))
    assert tensor.layout is torch.sparse_csr
    np.testing.assert_array_equal(tensor.to_dense().numpy(), COUNTS[:, [6, 1]])
