"""Every source answers the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from forms_on_disk import STORED
from vivace.data.cells import to_tensor
from vivace.data.matrices import warn_of_empty_cells
from vivace.data.sources import Layout, LazyMatrix, MemorySource, Source, on_disk, open_source
from vivace.errors import VivaceWarning

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(0.15, (20, 7))
MEMORY: dict[str, Callable] = {
    "csr": sparse.csr_matrix,
    "csr array": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "dense": np.asarray,
    "dense fortran": np.asfortranarray,
}
TYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]


@pytest.fixture(params=MEMORY)
def form(request: pytest.FixtureRequest) -> Callable:
    return MEMORY[request.param]


class Elsewhere(MemorySource):
    """A source that the package does not know, best read in blocks."""

    layout = Layout(block=2, pool=8)


@pytest.fixture(params=[*MEMORY, *STORED, "several files", "elsewhere"])
def source_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable:
    """``f(matrix, columns)``: the source of a matrix that is kept in one of the ways there are."""

    def make(matrix: np.ndarray, columns: np.ndarray | None = None) -> Source:
        if request.param in MEMORY:
            return open_source(MEMORY[request.param](matrix), columns)
        if request.param in STORED:
            return open_source(STORED[request.param](matrix, tmp_path / "x"), columns)
        if request.param == "elsewhere":
            return Elsewhere(matrix, columns)
        return several_files(matrix, columns, tmp_path)

    return make


def several_files(matrix: np.ndarray, columns: np.ndarray | None, folder: Path) -> Source:
    """The rows in three files of three kinds, one of which holds no cell that is asked for."""
    cuts = [(0, 3, "h5ad csr"), (3, 11, "zarr v3 csr"), (11, len(matrix), "h5ad dense")]
    parts = [
        on_disk(STORED[kind](matrix[start:stop], folder / f"{start}")).parts[0]
        for start, stop, kind in cuts
    ]
    return open_source(LazyMatrix(parts), columns)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows", [[3, 1, 1, 19], [], list(range(20))])
def test_rows_in_the_order_asked_for(source_of: Callable, dtype: str, rows: list[int]):
    matrix = COUNTS.astype(dtype)
    source = source_of(matrix)
    assert source.shape == (20, 7)
    tensor = to_tensor(source.read(np.array(rows, dtype=np.int64)))
    assert str(tensor.dtype) == "torch.float32"
    np.testing.assert_array_equal(tensor.to_dense().numpy(), matrix[rows].astype(np.float32))


def test_columns_are_chosen_and_ordered(source_of: Callable):
    source = source_of(COUNTS, np.array([5, 0]))
    assert source.shape == (20, 2)
    np.testing.assert_array_equal(
        to_tensor(source.read(np.arange(20))).to_dense().numpy(), COUNTS[:, [5, 0]]
    )


def test_values_are_all_there_once(source_of: Callable):
    values = np.concatenate([piece.ravel() for piece in source_of(COUNTS).values()])
    np.testing.assert_array_equal(np.sort(values[values != 0]), np.sort(COUNTS[COUNTS != 0]))


def test_cells_without_counts_are_warned_of_wherever_they_lie(source_of: Callable):
    some = np.where(np.arange(20)[:, None] < 3, 0, COUNTS + 1)
    with pytest.warns(VivaceWarning, match="3 cells have no counts"):
        warn_of_empty_cells(source_of(some))


def test_a_full_dense_matrix_stays_dense_wherever_it_lies(source_of: Callable):
    source = source_of(COUNTS + 1.0)
    np.testing.assert_array_equal(
        to_tensor(source.read(np.arange(3, 20))).to_dense().numpy(), COUNTS[3:] + 1
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
