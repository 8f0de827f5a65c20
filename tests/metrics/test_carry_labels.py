"""Labels carried over to new cells, against a plain count of neighbours; and what lies apart from all."""

from __future__ import annotations

import numpy as np
import pytest

from vivace.errors import InvalidArgumentError
from vivace.metrics import carry_labels, predict_labels

RNG = np.random.default_rng(0)
CELLS = np.concatenate([RNG.normal(0, 1, (200, 3)), RNG.normal(6, 1, (100, 3))])
LABELS = np.array(["a"] * 200 + ["b"] * 100, dtype=object)


def test_label_and_share_are_those_of_the_nearest_cells():
    query = RNG.normal(3, 2, (40, 3))
    found = carry_labels(CELLS, LABELS, query, k=7)
    for row, (label, share) in zip(query, found[["label", "share"]].to_numpy(), strict=True):
        nearest = np.argsort(((CELLS - row) ** 2).sum(1))[:7]
        assert share == pytest.approx((LABELS[nearest] == label).mean())
        assert share >= 0.5
    assert list(found["label"]) == list(predict_labels(CELLS, LABELS, query, k=7))


def test_cells_of_the_reference_are_near_and_others_far():
    inside = carry_labels(CELLS, LABELS, RNG.normal(0, 1, (500, 3)))
    assert inside["far"].mean() < 0.05
    outside = carry_labels(CELLS, LABELS, RNG.normal(-9, 1, (50, 3)))
    assert outside["far"].all()
    assert (outside["share"] == 1).all(), "a large share alone does not tell"


def test_moving_and_turning_both_changes_nothing():
    query = RNG.normal(2, 2, (30, 3))
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    found = carry_labels(CELLS, LABELS, query)
    moved = carry_labels(CELLS @ turn * 3 + 5, LABELS, query @ turn * 3 + 5)
    assert found.equals(moved)


@pytest.mark.parametrize(
    ("reference", "labels", "query", "far"),
    [
        ([[0.0]], ["a"], [[5.0]], [False]),  # nothing to compare a distance with
        ([[0.0], [1.0]], ["a", "b"], [[0.1]], [False]),
        ([[0.0], [1.0]], ["a", "b"], [[50.0]], [True]),
    ],
)
def test_a_reference_of_a_cell_or_two(reference, labels, query, far):
    assert list(carry_labels(reference, labels, query)["far"]) == far


def test_spaces_that_differ_are_refused():
    with pytest.raises(InvalidArgumentError, match="query has 2 dimensions"):
        carry_labels(CELLS, LABELS, np.zeros((1, 2)))
