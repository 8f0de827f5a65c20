"""Boosted trees as a baseline: they learn from other events, and answer where they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

FOLDER = Path(__file__).parents[2] / "benchmarks"
EVENTS = np.array([0, 0, 1, 1, 2, 2])


@pytest.fixture
def boosting(monkeypatch: pytest.MonkeyPatch):
    if not FOLDER.exists():
        pytest.skip("the benchmarks do not travel with the package")
    monkeypatch.syspath_prepend(str(FOLDER))
    return pytest.importorskip("boosting")


def cells(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two events that are used alike in a cell, and a third that is hardly seen; usage of the first."""
    rng = np.random.default_rng(seed)
    usage = rng.choice([0.1, 0.9], n)
    reads = np.zeros((n, 6))
    for event in (0, 1):
        reads[:, 2 * event] = rng.binomial(20, usage)
        reads[:, 2 * event + 1] = 20 - reads[:, 2 * event]
    reads[0, 4:] = 1, 3
    return reads, usage


def test_ratios_are_missing_where_an_event_has_no_reads(boosting):
    found, totals = boosting.ratios(sparse.csr_array([[1.0, 3, 0, 0, 2, 2]]), EVENTS)
    np.testing.assert_array_equal(found, [[0.25, 0.75, np.nan, np.nan, 0.5, 0.5]])
    np.testing.assert_array_equal(totals, [[4, 4, 0, 0, 4, 4]])


def test_a_hidden_event_is_told_from_another_and_a_rare_one_is_left_at_the_mean(boosting):
    (learned, _), (shown, usage) = cells(300, 0), cells(60, 1)
    shown[:, :2] = 0
    genes = np.zeros((300, 1)), np.zeros((60, 1))
    otherwise = np.array([0.5, 0.5, 0.5, 0.5, 0.25, 0.75])
    found = boosting.boosted(
        sparse.csr_array(learned), sparse.csr_array(shown), genes, EVENTS, otherwise
    )
    assert np.abs(found[:, 0] - usage).mean() < 0.1
    np.testing.assert_allclose(found[:, :2].sum(1), 1)
    np.testing.assert_allclose(found[:, 4:], np.tile([0.25, 0.75], (60, 1)))


def test_the_answer_does_not_depend_on_the_hidden_event_itself(boosting):
    learned, _ = cells(100, 0)
    shown, _ = cells(10, 1)
    other = shown.copy()
    other[:, :2] = other[:, 1::-1]
    genes = np.zeros((100, 1)), np.zeros((10, 1))
    one, two = (
        boosting.boosted(
            sparse.csr_array(learned), sparse.csr_array(x), genes, EVENTS, np.full(6, 0.5)
        )
        for x in (shown, other)
    )
    np.testing.assert_array_equal(one[:, :2], two[:, :2])
