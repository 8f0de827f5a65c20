"""Compiled loops over the observed entries of splicing counts: pairs, logits, likelihoods, gradients.

An *entry* is a junction of an event that has reads in a cell; a *pair* is such an event and cell.
Entries are sorted by pair, pairs by cell, so every sum runs over neighbours. All sums and special
functions are taken in float64, whatever the arrays hold.
"""

from __future__ import annotations

import math

import numpy as np

from vivace.kernels.elementary import inlined
from vivace.kernels.jit import compiled

FEW = 16
"""Counts up to here are summed term by term: exact, and faster than gamma functions."""
SERIES_FROM = 8.0
LOG_TINY = -600.0
"""A concentration whose logarithm is lower is handled by its logarithm alone."""
LOG_FACTORIAL = np.array([math.lgamma(n + 1.0) for n in range(256)])


# special functions ------------------------------------------------------------------------------


@inlined
def log_factorial(n):
    """``log(n!)``, of whole numbers or not."""
    whole = int(n)
    if n == whole and whole < LOG_FACTORIAL.shape[0]:
        return LOG_FACTORIAL[whole]
    return math.lgamma(n + 1.0)


@inlined
def stirling(z):
    """``lgamma(z) - (z - 1/2) log(z) + z - log(2 pi) / 2``, to 1e-14 for ``z >= 8``."""
    q = 1.0 / (z * z)
    series = 1 / 1260 - q * (1 / 1680 - q * (1 / 1188 - q * (691 / 360360 - q / 156)))
    return (1 / 12 - q * (1 / 360 - q * series)) / z


@inlined
def stirling_slope(z):
    """``digamma(z) - log(z) + 1 / (2 z)``, to 1e-14 for ``z >= 8``."""
    q = 1.0 / (z * z)
    series = 1 / 252 - q * (1 / 240 - q * (1 / 132 - q * (691 / 32760 - q / 12)))
    return -q * (1 / 12 - q * (1 / 120 - q * series))


@compiled
def digamma(z):
    """Digamma of ``z > 0``."""
    shift = 0.0
    while z < SERIES_FROM:
        shift += 1.0 / z
        z += 1.0
    return math.log(z) - 0.5 / z + stirling_slope(z) - shift


@compiled
def rise(a, log_a, x):
    """``lgamma(a + x) - lgamma(a) - x log(a)``, and ``a`` times the derivative of its first two terms.

    Free of cancellation for every ``a``, down to values that underflow: then ``log_a`` is what counts.
    """
    if x <= 0.0:
        return 0.0, 0.0
    if x <= FEW and x == int(x):
        value, slope = 0.0, 1.0
        if log_a > LOG_TINY:
            inverse = 1.0 / a
            for t in range(1, int(x)):
                value += math.log1p(t * inverse)
                slope += a / (a + t)
        else:
            for t in range(1, int(x)):
                value += math.log(t) - log_a
        return value, slope
    if a >= SERIES_FROM:
        log_share = math.log1p(x / a)
        value = (a + x - 0.5) * log_share - x + stirling(a + x) - stirling(a)
        slope = log_share + 0.5 * x / (a * (a + x)) + stirling_slope(a + x) - stirling_slope(a)
        return value, a * slope
    value = math.lgamma(a + x) - math.lgamma(a + 1.0) - (x - 1.0) * log_a
    return value, 1.0 + a * (digamma(a + x) - digamma(a + 1.0))


@inlined
def log_sigmoid(x):
    """``log(1 / (1 + exp(-x)))``, finite for every finite ``x``."""
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


# likelihoods ------------------------------------------------------------------------------------


@compiled
def dirichlet_multinomial_pairs(logits, count, start, total, log_phi, value, by_logits, by_log_phi):
    """Log-likelihood of each pair, and its gradients by its entries' logits and by log(phi)."""
    for q in range(total.shape[0]):
        first, last = start[q], start[q + 1]
        log_f = float(log_phi[q])
        phi = math.exp(log_f)
        top = float(logits[first])
        for e in range(first + 1, last):
            top = max(top, float(logits[e]))
        mass = 0.0
        for e in range(first, last):
            mass += math.exp(float(logits[e]) - top)
        log_mass = top + math.log(mass)
        n = float(total[q])
        of_total, total_slope = rise(phi, log_f, n)
        result, slopes = log_factorial(n) - of_total, 0.0
        for e in range(first, last):
            y = float(count[e])
            slope = 0.0
            if y > 0.0:
                log_p = float(logits[e]) - log_mass
                log_a = log_f + log_p
                of_count, slope = rise(math.exp(log_a), log_a, y)
                result += y * log_p + of_count - log_factorial(y)
            by_logits[e] = slope
            slopes += slope
        for e in range(first, last):
            by_logits[e] -= math.exp(float(logits[e]) - log_mass) * slopes
        value[q] = result
        by_log_phi[q] = slopes - total_slope


@compiled
def binomial_entries(logits, count, total, value, by_logits):
    """Log-likelihood of each entry, coefficient included, and its gradient by the logit."""
    for e in range(count.shape[0]):
        y, n, x = float(count[e]), float(total[e]), float(logits[e])
        yes, no = log_sigmoid(x), log_sigmoid(-x)
        coefficient = log_factorial(n) - log_factorial(y) - log_factorial(n - y)
        value[e] = coefficient + y * yes + (n - y) * no
        by_logits[e] = y * math.exp(no) - (n - y) * math.exp(yes)


@compiled
def beta_binomial_entries(logits, count, total, log_phi, value, by_logits, by_log_phi):
    """Log-likelihood of each entry, and its gradients by its logit and log(phi)."""
    for e in range(count.shape[0]):
        y, n, x, log_f = float(count[e]), float(total[e]), float(logits[e]), float(log_phi[e])
        yes, no = log_sigmoid(x), log_sigmoid(-x)
        of_y, slope_y = rise(math.exp(log_f + yes), log_f + yes, y)
        of_rest, slope_rest = rise(math.exp(log_f + no), log_f + no, n - y)
        of_n, slope_n = rise(math.exp(log_f), log_f, n)
        coefficient = log_factorial(n) - log_factorial(y) - log_factorial(n - y)
        value[e] = coefficient + y * yes + (n - y) * no + of_y + of_rest - of_n
        by_logits[e] = math.exp(no) * slope_y - math.exp(yes) * slope_rest
        by_log_phi[e] = slope_y + slope_rest - slope_n


# logits of entries ------------------------------------------------------------------------------


@compiled(reorder=True)
def entry_products(h, weight, bias, cell, junction, out):
    """``out[e] = h[cell] . weight[junction] + bias[junction]``."""
    for e in range(cell.shape[0]):
        a, b = h[cell[e]], weight[junction[e]]
        result = bias[junction[e]]
        for k in range(a.shape[0]):
            result += a[k] * b[k]
        out[e] = result


@compiled(reorder=True)
def entry_products_backward(grad, h, weight, cell, junction, by_h, by_weight, by_bias):
    """Gradients of :func:`entry_products`, added to arrays of zeros."""
    for e in range(cell.shape[0]):
        g, i, j = grad[e], cell[e], junction[e]
        by_bias[j] += g
        for k in range(h.shape[1]):
            by_h[i, k] += g * weight[j, k]
        for k in range(h.shape[1]):
            by_weight[j, k] += g * h[i, k]


# pairs ------------------------------------------------------------------------------------------


@compiled(allocates=True)
def count_pairs(indptr, indices, data, event_of, n_events, event_start):
    """Number of pairs and of entries of a (B, J) CSR matrix of junction counts."""
    seen = np.full(n_events, -1, np.int64)
    n_pairs, n_entries = 0, 0
    for i in range(indptr.shape[0] - 1):
        for at in range(indptr[i], indptr[i + 1]):
            event = event_of[indices[at]]
            if data[at] > 0 and seen[event] != i:
                seen[event] = i
                n_pairs += 1
                n_entries += event_start[event + 1] - event_start[event]
    return n_pairs, n_entries


@compiled(allocates=True)
def fill_pairs(
    indptr,
    indices,
    data,
    event_of,
    rank,
    event_start,
    event_junctions,
    cell,
    junction,
    count,
    pair,
    start,
    pair_cell,
    pair_event,
    total,
):
    """Pairs in order of (cell, event) and their entries; counts and totals start at zero."""
    n_events = event_start.shape[0] - 1
    pair_of = np.full(n_events, -1, np.int64)
    found = np.empty(n_events, np.int64)
    q, e = 0, 0
    for i in range(indptr.shape[0] - 1):
        n, first = 0, q
        for at in range(indptr[i], indptr[i + 1]):
            event = event_of[indices[at]]
            if data[at] > 0 and pair_of[event] < first:
                pair_of[event] = first  # known in this cell; its place follows
                found[n] = event
                n += 1
        for event in np.sort(found[:n]):
            pair_of[event], pair_cell[q], pair_event[q], start[q] = q, i, event, e
            for slot in range(event_start[event], event_start[event + 1]):
                cell[e], junction[e], pair[e] = i, event_junctions[slot], q
                e += 1
            q += 1
        for at in range(indptr[i], indptr[i + 1]):
            if data[at] > 0:
                j = indices[at]
                here = pair_of[event_of[j]]
                count[start[here] + rank[j]] += data[at]
                total[here] += data[at]
    start[q] = e
