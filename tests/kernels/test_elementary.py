"""The hand-written exp and log against numpy in higher precision."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from vivace.kernels import elementary


def vectorise(function, part=None):
    @njit(error_model="numpy")
    def loop(values, out):
        for i in range(values.shape[0]):
            if part is None:
                out[i] = function(values[i])
            else:
                out[i] = function(values[i])[part]

    def call(values):
        out = np.empty_like(values)
        loop(values, out)
        return out

    return call


def relative_error(found, exact):
    return np.max(np.abs(found - exact) / np.abs(exact))


def test_exp():
    x = np.random.uniform(-86, 87, 10_000).astype(np.float32)
    assert relative_error(vectorise(elementary.exp)(x), np.exp(x.astype(np.float64))) < 2e-7


def test_expm1_near_zero():
    x = np.concatenate([-np.logspace(-30, 1.9, 5000), np.logspace(-30, 1.9, 5000)])
    x = x.astype(np.float32)
    expm1 = vectorise(elementary.exp_and_expm1, 1)
    assert relative_error(expm1(x), np.expm1(x.astype(np.float64))) < 3e-7


def test_log1p_and_what_is_left_of_it():
    z = np.logspace(-13, 9, 10_000).astype(np.float32)

    @njit(error_model="numpy")
    def both(z, log, lag):
        for i in range(z.shape[0]):
            inverse = elementary.ONE / (elementary.ONE + z[i])
            log[i], lag[i] = elementary.log1p_and_lag(z[i], inverse)

    log, lag = np.empty_like(z), np.empty_like(z)
    both(z, log, lag)
    exact = z.astype(np.longdouble)
    series = exact**2 / 2 - 2 * exact**3 / 3 + 3 * exact**4 / 4
    exact_lag = np.where(exact < 1e-5, series, np.log1p(exact) - exact / (1 + exact))
    assert relative_error(log, np.log1p(exact)) < 3e-7
    assert relative_error(lag, exact_lag) < 3e-6


@pytest.mark.parametrize("spread", [300.0, 1e-3, 1e-9])
def test_wide_log(spread):
    u = np.exp(np.random.uniform(-1, 1, 10_000) * spread)
    exact = np.log(u.astype(np.longdouble))
    found = vectorise(elementary.wide_log)(u)
    np.testing.assert_allclose(found, exact.astype(np.float64), rtol=5e-12, atol=1e-30)


def test_nan_goes_through():
    nan = np.full(20, np.nan, dtype=np.float32)
    assert np.isnan(vectorise(elementary.exp)(nan)).all()
    assert np.isnan(vectorise(elementary.wide_log)(nan.astype(np.float64))).all()
