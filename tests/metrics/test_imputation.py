"""Hiding events and scoring predictions of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from vivace.errors import InvalidArgumentError
from vivace.metrics import hide_events, imputation_scores
from vivace.metrics.imputation import group_means, hidden_entries, within_groups

EVENTS = np.array([0, 0, 1, 2, 2, 2])


def counts(n: int = 40) -> sparse.csr_array:
    rng = np.random.default_rng(0)
    return sparse.csr_array(rng.poisson(1.0, (n, 6)).astype(float))


def totals(matrix: sparse.csr_array) -> np.ndarray:
    return np.stack([np.bincount(EVENTS, row, 3) for row in matrix.toarray()])


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9])
def test_whole_events_are_hidden_in_the_share_asked_for(fraction: float):
    kept, hidden = hide_events(counts(), EVENTS, fraction)
    assert ((kept + hidden) != counts()).nnz == 0
    a, b = totals(kept) > 0, totals(hidden) > 0
    assert not (a & b).any()
    seen = (totals(counts()) > 0).sum(1)
    wanted = np.minimum(seen, np.maximum(1, np.floor(fraction * seen)))
    np.testing.assert_array_equal(b.sum(1), wanted)
    again = hide_events(counts(), EVENTS, fraction)[1]
    assert (again != hidden).nnz == 0
    assert (hide_events(counts(), EVENTS, fraction, seed=1)[1] != hidden).nnz > 0


def test_shares_out_of_range_are_refused():
    for fraction in (0.0, 1.0):
        with pytest.raises(InvalidArgumentError, match="fraction"):
            hide_events(counts(), EVENTS, fraction)


def test_entries_are_all_junctions_of_hidden_events_with_a_choice():
    hidden = sparse.csr_array(np.array([[2.0, 0, 5, 0, 0, 0], [0, 0, 0, 1, 0, 3]]))
    cell, junction, reads, total, pair = hidden_entries(hidden, EVENTS)
    assert cell.tolist() == [0, 0, 1, 1, 1]
    assert junction.tolist() == [0, 1, 3, 4, 5]
    assert reads.tolist() == [2, 0, 1, 0, 3]
    assert total.tolist() == [2, 2, 4, 4, 4]
    assert pair.tolist() == [0, 0, 1, 1, 1]


def test_scores_by_hand():
    reads, total = np.array([3.0, 1.0]), np.array([4.0, 4.0])
    junction, pair = np.array([0, 1]), np.array([0, 0])
    found = imputation_scores(np.array([0.5, 0.5]), reads, total, junction, pair)
    assert found["mae"] == 0.25
    assert found["log_likelihood"] == pytest.approx(np.log(0.5))
    assert found["log_likelihood_read"] == pytest.approx(np.log(4 * 0.5**4) / 4)  # 4 orders
    assert np.isnan(found["spearman"])
    truth = imputation_scores(reads / total, reads, total, junction, pair)
    assert truth["mae"] == 0
    assert truth["log_likelihood_read"] > found["log_likelihood_read"]


def test_a_prediction_alike_in_all_cells_has_nothing_within_junctions():
    psi, junction = np.random.default_rng(0).random(30), np.arange(30) % 3
    means = np.bincount(junction, psi)[junction] / 10
    assert np.isnan(within_groups(means, psi, junction))
    assert within_groups(psi, psi, junction) == pytest.approx(1)


def test_means_of_groups_start_from_the_mean_of_all():
    group = np.arange(40) % 2
    group[:] = 0
    means = group_means(counts(), EVENTS, group, 2)
    overall = group_means(counts(), EVENTS, np.zeros(40, int), 1)[0]
    np.testing.assert_allclose(means[1], overall, atol=1e-3)  # a group without cells
    sums = np.stack([np.bincount(EVENTS, m) for m in means])
    np.testing.assert_allclose(sums, 1)
