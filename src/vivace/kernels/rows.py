"""Log-likelihood of rows of counts and its gradient, one row at a time while it is in cache.

Every gene of a row is first treated as a zero, in vectorised float32 and without gamma functions; the
non-zeros are then done over, gathered so that they vectorise as well: whole counts of a few molecules,
most of all, by short products in float32, the others by gamma functions in float64.

The loops write to sections of one scratch array at fixed distances, and the results are copied on:
with one array for each result, the compiler could not prove that they do not overlap. A section is
named by where it starts: ``tile[BY_MU + i]``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import float32, float64, int32, int64, uint32

from vivace.kernels.elementary import (
    HALF,
    ONE,
    exp,
    exp_and_expm1,
    inlined,
    log1p_and_lag,
    log_near,
    reinterpret,
    wide_log,
)
from vivace.kernels.jit import compiled

TILE = 512  # genes, or non-zeros, in a section
# results of a count: its value and the gradients by the mean, by log(theta) and by zi_logits
RESULTS = VALUE, BY_MU, BY_LOG_THETA, BY_ZI = tuple(range(0, 4 * TILE, TILE))
# what zeros need besides, and what the results of non-zeros are made of
NOT_P, ZERO_PROBABILITY = range(4 * TILE, 6 * TILE, TILE)
GIVEN = X, MU, THETA, ZI = tuple(range(4 * TILE, 8 * TILE, TILE))
MOST = 4  # molecules of a count that is done over in float32; nb_small_counts has a term for each
SOFTMAX, SOFTPLUS, IDENTITY = 0, 1, 2
ZERO = float32(0.0)
NEGLIGIBLE = 1e-8  # of counts: smaller ones are zeros; of rates: the floor inside x log(rate)
MIN_RATE = float32(NEGLIGIBLE)
TINY = float32(1e-37)
NO_DROPOUT = -100.0  # logits of a dropout probability that float64 does not see
HALF_LOG_TAU = 0.5 * np.log(2 * np.pi)


class Counts(NamedTuple):
    """(B, G) counts as CSR; later rows of the logits start over with its first row."""

    data: np.ndarray  # (nnz,) float32
    indices: np.ndarray  # (nnz,) int32
    indptr: np.ndarray  # (B + 1,) int32


class Dispersion(NamedTuple):
    """Inverse dispersion of each gene; ``rows`` says which row a cell has, if not its own."""

    theta: np.ndarray  # (K, G) float32
    inverse: np.ndarray  # (K, G) float32, 1 / theta
    rows: np.ndarray  # (B,) int64, or (0,): row i of the logits has row i


# the rate ---------------------------------------------------------------------------------------


@compiled
def largest(values):
    """Maximum by way of integers in the same order: that vectorises, and NaN comes out on top."""
    top = int32(-0x80000000)
    for i in range(values.shape[0]):
        b = reinterpret(values[i])
        ordered = int32(b ^ int32(int32(b >> int32(31)) & int32(0x7FFFFFFF)))
        top = max(top, ordered)
    return reinterpret(int32(top ^ int32(int32(top >> int32(31)) & int32(0x7FFFFFFF))))


@compiled(reorder=True)
def exp_and_sum(logits, top, out):
    """``exp(logits - top)`` into ``out``; returns its sum."""
    total = ZERO
    for i in range(logits.shape[0]):
        e = exp(logits[i] - top)
        out[i] = e
        total += e
    return total


@compiled
def softplus_and_sigmoid(x):
    """``log(1 + exp(x))`` and its derivative."""
    e = exp(-abs(x))
    one_e = ONE + e
    softplus = max(x, ZERO) + log_near(one_e, e)
    return softplus, (ONE if x >= ZERO else e) / one_e


@compiled
def set_rate(logits, exp_library, scale, rate):
    """``exp(library) * scale(logits)`` into ``rate``."""
    if scale == SOFTMAX:
        factor = float32(exp_library / exp_and_sum(logits, largest(logits), rate))
        for i in range(logits.shape[0]):
            rate[i] *= factor
    elif scale == SOFTPLUS:
        for i in range(logits.shape[0]):
            rate[i] = float32(exp_library) * softplus_and_sigmoid(logits[i])[0]
    else:
        for i in range(logits.shape[0]):
            rate[i] = float32(exp_library) * logits[i]


@compiled(reorder=True)
def dot(a, b):
    """Sum of products."""
    result = ZERO
    for i in range(a.shape[0]):
        result += a[i] * b[i]
    return result


@compiled(reorder=True)
def total(values):
    """Sum of values."""
    result = ZERO
    for i in range(values.shape[0]):
        result += values[i]
    return result


@compiled
def set_logits_gradient(logits, exp_library, scale, rate, by_rate, out):
    """From the gradient by the rate to that by the logits; returns the one by the log library."""
    by_library = dot(rate, by_rate)
    if scale == SOFTMAX:
        mean = ZERO if exp_library == 0.0 else float32(by_library / exp_library)
        for i in range(logits.shape[0]):
            out[i] = rate[i] * (by_rate[i] - mean)
    elif scale == SOFTPLUS:
        for i in range(logits.shape[0]):
            sigmoid = softplus_and_sigmoid(logits[i])[1]
            out[i] = float32(exp_library) * by_rate[i] * sigmoid
    else:
        for i in range(logits.shape[0]):
            out[i] = float32(exp_library) * by_rate[i]
    return by_library


# zeros ------------------------------------------------------------------------------------------


@compiled
def poisson_zeros(rate, value, by_rate):
    """Minus the rate, which is at least MIN_RATE, and the gradient by it."""
    for i in range(rate.shape[0]):
        negligible = rate[i] < MIN_RATE
        value[i] = -MIN_RATE if negligible else -rate[i]
        by_rate[i] = ZERO if negligible else -ONE


@compiled
def nb_zeros(rate, theta, inverse_theta, tile):
    """``theta log(theta / (theta + mu))``; gradients by mu and log(theta)."""
    for i in range(rate.shape[0]):
        z = rate[i] * inverse_theta[i]
        share = ONE / (ONE + z)
        log, lag = log1p_and_lag(z, share)
        tile[VALUE + i] = -theta[i] * log
        tile[BY_MU + i] = -share
        tile[BY_LOG_THETA + i] = -theta[i] * lag


@compiled
def zinb_zeros(rate, theta, inverse_theta, zi_logits, tile):
    """``log(p + (1 - p) q)``, q the probability of a zero count; the gradient by the logits.

    Until the last loop VALUE holds log(q), then the probability that the gene is seen, and BY_ZI holds
    p. In four loops with a short chain of operations each: the processor overlaps several turns of
    those, but not of one long chain.
    """
    nb_zeros(rate, theta, inverse_theta, tile)
    for i in range(rate.shape[0]):
        pi = zi_logits[i]
        e = exp(-abs(pi))
        larger = ONE / (ONE + e)
        tile[BY_ZI + i] = larger if pi >= ZERO else e * larger  # p
        tile[NOT_P + i] = e * larger if pi >= ZERO else larger  # 1 - p
    for i in range(rate.shape[0]):
        q, q_minus_1 = exp_and_expm1(tile[VALUE + i])
        p, not_p = tile[BY_ZI + i], tile[NOT_P + i]
        not_zero = -not_p * q_minus_1
        zero = ONE - not_zero if not_zero < HALF else p + not_p * q
        tile[VALUE + i] = not_zero
        tile[NOT_P + i] = not_p * q
        tile[ZERO_PROBABILITY + i] = max(zero, TINY)
    for i in range(rate.shape[0]):
        not_zero, zero = tile[VALUE + i], tile[ZERO_PROBABILITY + i]
        inverse = ONE / zero
        by_count = tile[NOT_P + i] * inverse  # probability that a zero is a count
        tile[VALUE + i] = log_near(zero, -not_zero)
        tile[BY_MU + i] *= by_count
        tile[BY_LOG_THETA + i] *= by_count
        tile[BY_ZI + i] *= not_zero * inverse


@compiled
def copy_section(tile, section, out):
    """The start of a section of the scratch array into ``out``.

    Everything is copied with this: to compile ``a[:] = b`` takes numba a second, most of it for the
    message that shapes differ.
    """
    for i in range(out.shape[0]):
        out[i] = tile[section + i]


# non-zeros --------------------------------------------------------------------------------------


@inlined
def stirling(r):
    """``lgamma(z) - ((z - 1/2) log(z) - z + log(2 pi) / 2)`` with ``r = 1 / z``; 3e-9 if ``z >= 4``."""
    q = r * r
    return r * (1 / 12 - q * (1 / 360 - q * (1 / 1260 - q * (1 / 1680))))


@inlined
def stirling_slope(r):
    """``digamma(z) - log(z)`` with ``r = 1 / z``, to 1e-8 for ``z >= 4``."""
    q = r * r
    return -0.5 * r - q * (1 / 12 - q * (1 / 120 - q * (1 / 252 - q * (1 / 240))))


@inlined
def rising(a):
    """``a (a + 1) (a + 2) (a + 3)`` and its derivative."""
    u = a * (a + 3.0)
    return u * (u + 2.0), (2.0 * a + 3.0) * (2.0 * u + 2.0)


@compiled
def poisson_counts(n, wide):
    """``x log(mu) - mu - lgamma(x + 1)`` and its gradient by mu."""
    for i in range(n):
        x, rate = wide[X + i], wide[MU + i]
        mu = max(rate, NEGLIGIBLE)
        r = 1.0 / (x + 5.0)
        factor = rising(x + 1.0)[0] * (r * r * r * r * np.sqrt(r))
        log_factorial = HALF_LOG_TAU + stirling(r) - (x + 5.0) - wide_log(factor)
        wide[VALUE + i] = x * wide_log(mu * r) - mu - log_factorial
        wide[BY_MU + i] = x / mu - 1.0 if rate >= NEGLIGIBLE else 0.0


@compiled
def nb_counts(n, wide):
    """RESULTS of the first ``n`` counts from what is GIVEN, in float64.

    The gamma functions are shifted by 4 and taken from Stirling's series: ``z`` are the shifted
    arguments, ``r`` their inverses, all from one division. What is left of the shift, and the
    dropout probability, share one logarithm.
    """
    for i in range(n):
        x, mu, theta = wide[X + i], wide[MU + i], wide[THETA + i]
        pi = float32(wide[ZI + i])
        both, mean = theta + x, theta + mu
        z_theta, z_both, z = theta + 4.0, both + 4.0, x + 5.0
        zz, means = z_theta * z_both, theta * mean
        inverse = 1.0 / (zz * z * means)
        r_means, r_z = inverse * (zz * z), inverse * (zz * means)
        r_zz = inverse * (z * means)
        r_theta, r_both = r_zz * z_both, r_zz * z_theta
        r_mean = r_means * theta
        below, below_slope = rising(theta)
        above, above_slope = rising(both)
        e = float64(exp(-abs(pi)))
        dropout = 1.0 + e
        inverse_rest = 1.0 / (above * below * dropout)
        factor = rising(x + 1.0)[0] * (r_z * r_z * r_z * r_z * np.sqrt(r_z))
        log_rest = wide_log(below * factor * (below * inverse_rest))
        log_mean = wide_log(mean * (mean * r_means))
        log_z = wide_log(z_both * r_theta)
        log_x = wide_log(max(mu, NEGLIGIBLE) * z_both * (r_mean * r_z))
        wide[VALUE + i] = (
            x * log_x
            - theta * log_mean
            + (z_theta - 0.5) * log_z
            + (log_rest - max(float64(pi), 0.0))
            + (stirling(r_both) - stirling(r_theta) - stirling(r_z) + 5.0 - HALF_LOG_TAU)
        )
        by_log = x / mu if mu >= NEGLIGIBLE else 0.0
        wide[BY_MU + i] = by_log - both * r_mean
        digamma = log_z + stirling_slope(r_both) - stirling_slope(r_theta)
        digamma += (below_slope * above - above_slope * below) * (dropout * inverse_rest)
        wide[BY_LOG_THETA + i] = theta * (digamma - log_mean + (mu - x) * r_mean)
        wide[BY_ZI + i] = -(1.0 if pi >= ZERO else e) * (above * below * inverse_rest)


@inlined
def molecule(x, number, mu, theta, ratio):
    """Factor of the molecule of that number and what it adds to the slope, if the count goes so far."""
    before = number - ONE
    beyond = theta + before
    factor, slope = beyond * ratio / number, (mu - before) / beyond
    return factor if x >= number else ONE, slope if x >= number else ZERO


@compiled
def nb_small_counts(n, narrow):
    """The same in float32, of whole counts from 1 to MOST, whose gamma functions are products.

    ``Γ(θ + x) / (Γ(θ) x!) (μ / (θ + μ))**x`` is the product of ``(θ + k) / (k + 1) μ / (θ + μ)`` over
    ``k < x``; the gradients are written so that nothing cancels when θ is large.
    """
    for i in range(n):
        x, mu, theta = narrow[X + i], narrow[MU + i], narrow[THETA + i]
        pi = narrow[ZI + i]
        r_mean = ONE / (theta + mu)
        share, ratio = theta * r_mean, max(mu, MIN_RATE) * r_mean
        log, lag = log1p_and_lag(mu / theta, share)
        e = exp(-abs(pi))
        larger = ONE / (ONE + e)
        of_2, slope_2 = molecule(x, float32(2), mu, theta, ratio)
        of_3, slope_3 = molecule(x, float32(3), mu, theta, ratio)
        of_4, slope_4 = molecule(x, float32(4), mu, theta, ratio)
        product = max(larger * theta * ratio * of_2 * of_3 * of_4, TINY)
        slope = mu / theta + slope_2 + slope_3 + slope_4
        narrow[VALUE + i] = log_near(product, product - ONE) - max(pi, ZERO) - theta * log
        narrow[BY_MU + i] = (x - mu) * share / mu if mu >= MIN_RATE else -(theta + x) * r_mean
        narrow[BY_LOG_THETA + i] = share * slope - theta * lag
        narrow[BY_ZI + i] = -larger if pi >= ZERO else -e * larger


@compiled
def gather(counts, at, stop, rate, theta, zi_logits, narrow, columns):
    """Up to TILE non-zeros from position ``at`` on; returns how many, and the position after them."""
    n = 0
    while at < stop and n < TILE:
        x = counts.data[at]
        if not abs(x) < NEGLIGIBLE:  # a stored zero is a zero; NaN is not
            column = uint32(counts.indices[at])  # one that is not negative need not be checked
            columns[n] = column
            narrow[X + n] = x
            narrow[MU + n] = rate[column]
            if theta is not None:
                narrow[THETA + n] = theta[column]
                narrow[ZI + n] = NO_DROPOUT if zi_logits is None else zi_logits[column]
            n += 1
        at += 1
    return n, at


@compiled
def widen(n, narrow, smallest, wide, places):
    """The counts from ``smallest`` on and those that are not whole, in float64; returns how many."""
    n_wide = 0
    for i in range(n):
        x = narrow[X + i]
        if not (x < smallest and x == float32(int32(x)) and x > ZERO):
            for section in GIVEN:
                wide[section + n_wide] = narrow[section + i]
            places[n_wide] = i
            n_wide += 1
    return n_wide


@compiled
def put_back(n_wide, wide, places, narrow):
    """Write the results in float64 back to where their counts came from."""
    for j in range(n_wide):
        for section in RESULTS:
            narrow[section + places[j]] = wide[section + j]


@compiled
def scatter(narrow, columns, n, value, by_rate, by_log_theta, by_zi_logits):
    """Results of the non-zeros over those of zeros; returns the sum of their values."""
    result = 0.0
    for i in range(n):
        column = columns[i]
        result += narrow[VALUE + i]
        value[column] = ZERO
        by_rate[column] = narrow[BY_MU + i]
        by_log_theta[column] = narrow[BY_LOG_THETA + i]
        by_zi_logits[column] = narrow[BY_ZI + i]
    return result


# rows -------------------------------------------------------------------------------------------


@compiled
def all_as_zeros(rate, theta, inverse_theta, zi_logits, tile, value, by_rate, by_theta, by_zi):
    """Value and gradients of a row as if every count were zero."""
    if theta is None:
        poisson_zeros(rate, value, by_rate)
        return
    for start in range(0, rate.shape[0], TILE):
        here = slice(start, min(start + TILE, rate.shape[0]))
        if zi_logits is None:
            nb_zeros(rate[here], theta[here], inverse_theta[here], tile)
        else:
            zinb_zeros(rate[here], theta[here], inverse_theta[here], zi_logits[here], tile)
            copy_section(tile, BY_ZI, by_zi[here])
        copy_section(tile, VALUE, value[here])
        copy_section(tile, BY_MU, by_rate[here])
        copy_section(tile, BY_LOG_THETA, by_theta[here])


@compiled
def correct_nonzeros(
    counts,
    cell,
    rate,
    theta,
    zi_logits,
    narrow,
    wide,
    columns,
    places,
    value,
    by_rate,
    by_theta,
    by_zi,
):
    """Put the non-zeros of a row in place of their zeros; returns the sum of their values."""
    result = 0.0
    at, stop = int64(counts.indptr[cell]), counts.indptr[cell + 1]  # of one type all along
    while at < stop:
        n, at = gather(counts, at, stop, rate, theta, zi_logits, narrow, columns)
        if theta is None:
            n_wide = widen(n, narrow, ZERO, wide, places)
            poisson_counts(n_wide, wide)
        else:
            nb_small_counts(n, narrow)
            n_wide = widen(n, narrow, float32(MOST + 1), wide, places)
            nb_counts(n_wide, wide)
        put_back(n_wide, wide, places, narrow)
        result += scatter(narrow, columns, n, value, by_rate, by_theta, by_zi)
    return result


@compiled
def add(bias, row):
    """Add a bias to a row in place; one of no genes adds nothing."""
    for i in range(bias.shape[0]):
        row[i] += bias[i]


@compiled(allocates=True)
def row_or_scratch(wanted, row, scratch):
    """Where a gradient is written: its row if it is wanted, else scratch memory."""
    return wanted[row] if wanted.shape[0] else scratch


@compiled(allocates=True)
def log_likelihood_of_rows(
    first,
    last,
    counts,
    logits,
    library,
    dispersion,
    zi_logits,
    bias,
    zi_bias,
    scale,
    value,
    gradients,
):
    """Value and gradients of the rows from ``first`` to before ``last``.

    Parameters
    ----------
    counts
        :class:`Counts` of B cells; R is a multiple of B.
    logits, library
        (R, G) and (R,) float32.
    dispersion
        :class:`Dispersion`, or None for Poisson.
    zi_logits
        (R, G) float32, or None.
    bias, zi_bias
        (G,) float32, added to the logits in place first; or (0,).
    scale
        SOFTMAX, SOFTPLUS or IDENTITY.
    value
        (R,) float32, written to.
    gradients
        :class:`vivace.kernels.fused.Gradients` of arrays, written to; those by the logits may be the
        logits themselves.
    """
    n_genes = logits.shape[1]
    tile = np.empty(6 * TILE, float32)
    narrow, wide = np.empty(8 * TILE, float32), np.empty(8 * TILE, float64)
    columns, places = np.empty(TILE, uint32), np.empty(TILE, uint32)
    rate, of_zeros = np.empty(n_genes, float32), np.empty(n_genes, float32)
    by_rate, spare = np.empty(n_genes, float32), np.empty(n_genes, float32)
    by_zi = np.empty(n_genes, float32)  # not written where zi_logits may still be read
    for row in range(first, last):
        cell = row % (counts.indptr.shape[0] - 1)
        theta, inverse_theta, zi = None, None, None
        if dispersion is not None:
            at = dispersion.rows[cell] if dispersion.rows.shape[0] else row
            theta, inverse_theta = dispersion.theta[at], dispersion.inverse[at]
        if zi_logits is not None:
            zi = zi_logits[row]
            add(zi_bias, zi)
        by_theta = row_or_scratch(gradients.log_theta, row, spare)
        exp_library = np.exp(float64(library[row]))
        add(bias, logits[row])
        set_rate(logits[row], exp_library, scale, rate)
        all_as_zeros(rate, theta, inverse_theta, zi, tile, of_zeros, by_rate, by_theta, by_zi)
        of_counts = correct_nonzeros(
            counts,
            cell,
            rate,
            theta,
            zi,
            narrow,
            wide,
            columns,
            places,
            of_zeros,
            by_rate,
            by_theta,
            by_zi,
        )
        value[row] = total(of_zeros) + of_counts
        if gradients.logits.shape[0]:
            gradients.library[row] = set_logits_gradient(
                logits[row], exp_library, scale, rate, by_rate, gradients.logits[row]
            )
        if gradients.zi_logits.shape[0]:
            copy_section(by_zi, 0, gradients.zi_logits[row])


@compiled
def weighted_sum(weights, rows, out):
    """Sum of the rows with the given weights, in their order, into ``out``."""
    out[:] = ZERO
    for row in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            out[i] += weights[row] * rows[row, i]


@compiled(allocates=True)
def dense_to_csr(x):
    """:class:`Counts` of a dense (B, G) array."""
    indptr = np.zeros(x.shape[0] + 1, np.int32)
    for row in range(x.shape[0]):
        n = 0
        for column in range(x.shape[1]):
            n += x[row, column] != ZERO
        indptr[row + 1] = indptr[row] + n
    data, indices = np.empty(indptr[-1], float32), np.empty(indptr[-1], np.int32)
    for row in range(x.shape[0]):
        at = indptr[row]
        for column in range(x.shape[1]):
            if x[row, column] != ZERO:
                data[at], indices[at] = x[row, column], column
                at += 1
    return data, indices, indptr
