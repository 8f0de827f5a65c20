"""Dropout: the laws of torch's, from fewer random numbers."""

import numpy as np
import pytest
import torch
from scipy import stats

from vivace.nn.dropout import Dropout

P = (0.0, 0.1, 0.25, 0.5, 0.999)


@pytest.mark.parametrize("p", P)
def test_units_are_dropped_independently_with_probability_p(p):
    torch.manual_seed(0)
    dropped = (Dropout(p)(torch.ones(4000, 50)) == 0).numpy()
    n = dropped.size
    assert stats.binomtest(int(dropped.sum()), n, p).pvalue > 1e-3
    if 0 < p < 0.9:  # four units come from one number: neighbours must not know of each other
        of_four = dropped.reshape(-1, 4).sum(1)
        expected = stats.binom.pmf(np.arange(5), 4, p) * len(of_four)
        assert stats.chisquare(np.bincount(of_four, minlength=5), expected).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_stays_is_scaled_and_so_is_its_gradient(dtype):
    x = torch.randn(30, 7).to(dtype).requires_grad_()
    y = Dropout(0.25)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    kept = y != 0
    assert y.dtype == dtype
    assert torch.equal(gradient, kept.to(dtype).mul(1 / 0.75))
    torch.testing.assert_close(y[kept], x[kept] / 0.75)


def test_the_seed_of_torch_fixes_the_units():
    x = torch.ones(9, 11)
    torch.manual_seed(3)
    first = Dropout(0.5)(x)
    second = Dropout(0.5)(x)
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.5)(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 2, 5), ()])
def test_any_shape(shape):
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_everything_and_nothing():
    x = torch.randn(8, 8)
    assert torch.equal(Dropout(0.3).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(8, 8))
