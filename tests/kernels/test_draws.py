"""Counts drawn by inversion follow the negative binomial, on either side of where it is used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from vivace.kernels.csr import csr_tensor
from vivace.kernels.draws import LARGEST_WALK, draw_negative_binomial, draw_thinned

N = 40_000


@pytest.mark.parametrize("theta", [0.05, 0.7, 5.0, 1e4])
@pytest.mark.parametrize("mu", [1e-3, 0.3, 4.0, 29.0, 31.0, 300.0])
def test_draws_have_the_distribution_of_the_model(mu: float, theta: float):
    counts = draw_negative_binomial(torch.full((N, 1), mu), torch.tensor([theta])).numpy().ravel()
    assert (counts == np.round(counts)).all()
    law = stats.nbinom(theta, theta / (theta + mu))
    edges = np.unique(law.ppf([0.1, 0.3, 0.5, 0.7, 0.9, 0.99]))
    for edge in edges:
        expected = law.cdf(edge)
        error = 4.5 * np.sqrt(max(expected * (1 - expected), 1 / N) / N)
        assert (counts <= edge).mean() == pytest.approx(expected, abs=error)


def test_each_gene_has_its_own_mean_and_dispersion():
    mu = torch.tensor([[0.0, 0.5, 3.0, 200.0]]).expand(N, 4)
    theta = torch.tensor([1.0, 0.3, 2.0, 50.0])
    counts = draw_negative_binomial(mu, theta)
    assert (counts[:, 0] == 0).all()
    torch.testing.assert_close(counts.mean(0), mu[0], rtol=0.05, atol=0.0)
    variance = mu[0] + mu[0] ** 2 / theta
    torch.testing.assert_close(counts.var(0), variance, rtol=0.1, atol=0.0)


def test_shape_and_input_are_kept():
    mu = torch.rand(2, 3, 5) * 2 * LARGEST_WALK
    before = mu.clone()
    assert draw_negative_binomial(mu, torch.ones(5)).shape == mu.shape
    torch.testing.assert_close(mu, before)


def test_the_seed_of_torch_fixes_the_draws():
    mu, theta = torch.rand(50, 4) * 60, torch.ones(4)
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(draw_negative_binomial(mu, theta))
    torch.testing.assert_close(draws[0], draws[1])


def test_double_precision_goes_the_plain_way():
    counts = draw_negative_binomial(torch.full((N, 1), 2.0).double(), torch.ones(1).double())
    assert counts.dtype == torch.float64
    assert counts.mean().item() == pytest.approx(2.0, abs=0.1)


# what is left of counts


def csr(dense: torch.Tensor) -> torch.Tensor:
    m = dense.to_sparse_csr()
    return csr_tensor(m.crow_indices(), m.col_indices(), m.values(), m.shape)


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.5, 0.7, 0.99])
@pytest.mark.parametrize("n", [1, 2, 7, 45, 70, 4000])
def test_what_is_kept_is_binomial(n: int, keep: float):
    x = csr(torch.full((N // 2, 2), float(n)))
    kept = draw_thinned(x, torch.full((N // 2, 1), keep)).numpy()
    assert (kept == np.round(kept)).all()
    assert kept.min() >= 0
    assert kept.max() <= n
    law = stats.binom(n, keep)
    for edge in np.unique(law.ppf([0.1, 0.3, 0.5, 0.7, 0.9, 0.99])):
        expected = law.cdf(edge)
        error = 4.5 * np.sqrt(max(expected * (1 - expected), 1 / N) / N)
        assert (kept <= edge).mean() == pytest.approx(expected, abs=error)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_row_has_its_own_probability_and_ends_are_exact(dtype: torch.dtype):
    dense = torch.tensor([[3.0, 0.0, 900.0], [0.0, 0.0, 0.0], [5.0, 1.0, 900.0]], dtype=dtype)
    kept = draw_thinned(csr(dense), torch.tensor([[1.0], [0.5], [0.0]]))
    assert kept.dtype == dtype
    assert kept.tolist() == [3.0, 900.0, 0.0, 0.0, 0.0]


def test_values_of_one_row_are_drawn_apart():
    x = csr(torch.ones(4000, 2))
    kept = draw_thinned(x, torch.full((4000, 1), 0.5)).view(-1, 2)
    assert abs(np.corrcoef(kept.T.numpy())[0, 1]) < 0.08


def test_the_seed_fixes_what_is_kept_whatever_the_threads():
    x, keep = csr(torch.poisson(torch.full((64, 30), 40.0))), torch.rand(64, 1)
    draws, before = [], torch.get_num_threads()
    try:
        for n_threads in (1, 2, 1):
            torch.set_num_threads(n_threads)
            torch.manual_seed(3)
            draws.append(draw_thinned(x, keep))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draw_thinned(x, keep))
