"""Splits: sizes, order, small last minibatches, errors."""

from __future__ import annotations

import numpy as np
import pytest

from vivace.data.split import split_cells, split_sizes
from vivace.errors import InvalidArgumentError, VivaceWarning


@pytest.mark.parametrize(
    ("n", "sizes"), [(400, (360, 40)), (143, (128, 15)), (144, (128, 16)), (1422, (1280, 142))]
)
def test_published_sizes(n: int, sizes: tuple[int, int]):
    assert split_sizes(n, None, None, 128) == sizes


@pytest.mark.parametrize(
    ("train_size", "validation_size", "sizes"),
    [(0.9, None, (129, 14)), (1.0, None, (143, 0)), (0.5, 0.25, (72, 35)), (0.5, 0.0, (72, 0))],
)
def test_given_shares(train_size, validation_size, sizes):
    assert split_sizes(143, train_size, validation_size, 128) == sizes


@pytest.mark.parametrize(
    ("train_size", "validation_size", "match"),
    [
        (0.0, None, "train_size"),
        (1.1, None, "train_size"),
        (0.9, 1.0, "validation_size"),
        (0.9, -0.1, "validation_size"),
        (0.9, 0.2, "more than 1"),
    ],
)
def test_shares_out_of_range(train_size, validation_size, match):
    with pytest.raises(InvalidArgumentError, match=match):
        split_sizes(100, train_size, validation_size, 128)


def test_parts_are_disjoint_complete_and_seeded():
    rows = np.arange(50) + 7
    a = split_cells(rows, 0.6, 0.2, seed=1)
    assert (len(a.train), len(a.validation), len(a.test)) == (30, 10, 10)
    np.testing.assert_array_equal(np.sort(np.concatenate([a.train, a.validation, a.test])), rows)
    b = split_cells(rows, 0.6, 0.2, seed=1)
    assert (a.train == b.train).all()
    assert not (a.train == split_cells(rows, 0.6, 0.2, seed=2).train).all()


def test_validation_comes_first_without_shuffling():
    split = split_cells(np.arange(10), 0.5, 0.2, shuffle=False)
    assert split.validation.tolist() == [0, 1]
    assert split.train.tolist() == [2, 3, 4, 5, 6]
    assert split.test.tolist() == [7, 8, 9]


def test_external_indexing():
    rows = np.arange(10)
    split = split_cells(rows, external_indexing=[np.arange(6), np.arange(6, 10)])
    assert split.train.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(split.test) == 0
    with pytest.raises(InvalidArgumentError, match="share or repeat"):
        split_cells(rows, external_indexing=[np.arange(6), np.arange(5, 10)])
    with pytest.raises(InvalidArgumentError, match=r"0 \.\. 9"):
        split_cells(rows, external_indexing=[np.arange(11)])
    with pytest.raises(InvalidArgumentError, match="empty"):
        split_cells(rows, external_indexing=[np.arange(0), np.arange(10)])
    with pytest.warns(VivaceWarning, match="4 cells unused"):
        split_cells(rows, external_indexing=[np.arange(6)])


def test_external_rows_that_are_not_to_be_split_are_left_out():
    """As of two populations, each of which is split by the same three arrays."""
    parts = [np.array([4, 3, 2]), np.array([5, 8]), np.array([7, 6])]
    split = split_cells(np.array([2, 4, 6, 8]), external_indexing=parts)
    assert split.train.tolist() == [4, 2]
    assert split.validation.tolist() == [8]
    assert split.test.tolist() == [6]


def test_no_cells_are_no_training_cells():
    with pytest.raises(InvalidArgumentError, match="no training cells are left of 0"):
        split_cells(np.arange(0))
