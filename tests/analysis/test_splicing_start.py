"""Where training of a splicing model starts, against loops over cells and events in float64."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from vivace.analysis.splicing_start import (
    PAIRS_TO_TRUST,
    concentrations,
    junction_directions,
    leading_directions,
    mean_usage,
)

CODES = np.array([1, 0, 1, 0, 1, 2, 2])
"""Events of the junctions, which need not lie side by side."""


def reads(n_cells: int, phi: float, seed: int = 0) -> np.ndarray:
    """Dirichlet-multinomial reads around unequal usage; a third of the events is not seen."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n_cells, len(CODES)))
    for event in range(3):
        own = np.flatnonzero(event == CODES)
        usage = np.arange(1, len(own) + 1) / np.arange(1, len(own) + 1).sum()
        for cell in np.flatnonzero(rng.random(n_cells) < 2 / 3):
            n = 1 + rng.poisson(6)
            counts[cell, own] = rng.multinomial(n, rng.dirichlet(phi * usage))
    return counts


def totals_of(counts: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(CODES, row) for row in counts])


def test_mean_usage_is_weighted_by_reads_and_equal_where_nothing_was_read():
    counts = reads(20, 3.0)
    counts[:, CODES == 2] = 0
    totals = totals_of(counts).sum(0)
    wanted = [
        counts[:, j].sum() / totals[e] if totals[e] else 0.5 for j, e in enumerate(CODES)
    ]  # the event that is not seen has two junctions
    np.testing.assert_allclose(mean_usage(sparse.csr_array(counts), CODES), wanted)


def by_hand(counts: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """Moments pair by pair: sum |y - n psi|^2 has mean n (1 - |psi|^2) (1 + (n - 1) rho)."""
    excess, slope, pairs = np.zeros(3), np.zeros(3), np.zeros(3)
    for event in range(3):
        own = event == CODES
        uneven = 1 - (psi[own] ** 2).sum()
        for row in counts[:, own]:
            n = row.sum()
            excess[event] += ((row - n * psi[own]) ** 2).sum() - n * uneven
            slope[event] += n * (n - 1) * uneven
            pairs[event] += n > 1
    log_phi = lambda rho: np.log(1 / np.clip(rho, 1 / 10_001, 1 / 1.5) - 1)  # noqa: E731
    weight = pairs / (pairs + PAIRS_TO_TRUST)
    return weight * log_phi(excess / slope) + (1 - weight) * log_phi(excess.sum() / slope.sum())


@pytest.mark.parametrize("phi", [1.0, 10.0])
def test_concentrations_are_those_of_the_moments(phi: float):
    counts = reads(60, phi)
    psi = mean_usage(sparse.csr_array(counts), CODES)
    found = concentrations(
        sparse.csr_array(counts), sparse.csr_array(totals_of(counts)), CODES, psi
    )
    np.testing.assert_allclose(found, by_hand(counts, psi), rtol=1e-9)


def test_many_cells_tell_the_concentration():
    counts = reads(3000, 4.0)
    psi = mean_usage(sparse.csr_array(counts), CODES)
    found = concentrations(
        sparse.csr_array(counts), sparse.csr_array(totals_of(counts)), CODES, psi
    )
    np.testing.assert_allclose(np.exp(found), 4.0, rtol=0.12)


def test_leading_directions_are_those_of_an_exact_decomposition():
    """Of a matrix with structure; in noise they hold most of what the exact ones do."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(300, 4)) * [8, 4, 2, 1] @ rng.normal(size=(4, 200))
    for matrix, captured in (
        (signal + rng.normal(size=(300, 200)), 0.9999),
        (rng.normal(size=(300, 200)), 0.9),
    ):
        exact = np.linalg.svd(matrix)[2][:4].T
        found = leading_directions(sparse.csr_array(matrix.astype(np.float32)), 4, rng)
        np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-5)
        assert np.square(matrix @ found).sum() >= captured * np.square(matrix @ exact).sum()


def test_directions_are_singular_vectors_of_the_deviations_from_mean_ratios():
    counts = reads(80, 1.0)
    totals = totals_of(counts)
    psi = mean_usage(sparse.csr_array(counts), CODES)
    found = junction_directions(sparse.csr_array(counts), CODES, psi, n_components=2, seed=0)
    seen = totals[:, CODES] > 0
    ratio = counts / np.maximum(totals[:, CODES], 1)
    wanted = np.linalg.svd(np.where(seen, ratio - psi, 0))[2][:2].T
    assert found.shape == (7, 2)
    cosine = np.abs((found * wanted).sum(0)) / np.linalg.norm(found, axis=0)
    np.testing.assert_allclose(cosine, 1, atol=1e-3)
