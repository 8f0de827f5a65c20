"""Summed log-likelihood of counts on CUDA devices, in Triton: one program a row, three passes over it.

Inside it works in float64: the arithmetic of a minibatch takes microseconds even where float64 is
slow, and launching dominates. It follows the formulas of :mod:`vivace.kernels.reference`.

The numbers it gives are held to the reference in Triton's interpreter, and it compiles for cards that
are not there (``make test-kernels``). **No card has run or timed it** at the time of writing:
``benchmarks/gpu.py`` does both.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from vivace.kernels.affine import Affine
from vivace.kernels.csr import to_dense
from vivace.kernels.fused import Arguments, Backend, Gradients, Wanted, log_likelihood

BLOCK, WARPS = 256, 8
"""Genes in one go, and warps that share them: one gene a thread takes 94 registers and a second to
assemble (zinb, compute capability 9.0). Eight genes spill 15 KB a thread and take 18 seconds."""
SCALES = {"softmax": 0, "softplus": 1, "identity": 2}
NEGLIGIBLE = tl.constexpr(1e-8)
HALF_LOG_TAU = tl.constexpr(0.5 * math.log(2 * math.pi))


def count_log_likelihood(
    x: torch.Tensor,
    logits: torch.Tensor | Affine,
    library: torch.Tensor,
    log_theta: torch.Tensor | None = None,
    zi_logits: torch.Tensor | Affine | None = None,
    *,
    scale: str = "softmax",
    theta_rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-likelihood of each cell, summed over genes; see :func:`vivace.kernels.count_log_likelihood`."""
    return log_likelihood(BACKEND, x, logits, library, log_theta, zi_logits, scale, theta_rows)


def run(rows: Arguments, wanted: Wanted) -> tuple[torch.Tensor, Gradients]:
    """Value (R,) and gradients of rows."""
    for logits, bias in ((rows.logits, rows.bias), (rows.zi_logits, rows.zi_bias)):
        if logits is not None and bias is not None:
            logits.add_(bias)
    value = rows.logits.new_empty(rows.logits.shape[0])
    gradients = Gradients.allocate(rows.logits, wanted)
    x, nothing = to_dense(rows.x).float().contiguous(), value
    _rows[(rows.logits.shape[0],)](
        x,
        rows.logits,
        rows.library,
        nothing if rows.log_theta is None else rows.log_theta,
        nothing if rows.theta_rows is None else rows.theta_rows,
        nothing if rows.zi_logits is None else rows.zi_logits,
        value,
        *gradients,
        rows.logits.shape[1],
        x.shape[0],
        scale=SCALES[rows.scale],
        has_theta=rows.log_theta is not None,
        theta_by_cell=rows.theta_rows is not None,
        has_zi=rows.zi_logits is not None,
        want_logits=wanted.logits,
        want_theta=wanted.log_theta,
        want_zi=wanted.zi_logits,
        block=BLOCK,
        num_warps=WARPS,
    )
    return value, gradients


def weighted_sum(weights: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(1, G)"""
    return weights.unsqueeze(0) @ rows


BACKEND = Backend(run, weighted_sum)


@triton.jit
def _at_least(z, floor):
    """The larger of both; where ``z`` is nan, nan, which the maximum of cards would drop."""
    return tl.where(z < floor, floor, z)


@triton.jit
def _log1p(z):
    u = 1.0 + z
    return tl.log(u) + (z - (u - 1.0)) / u


@triton.jit
def _lag(z):
    near = z * z * (0.5 - z * (2 / 3 - z * (0.75 - z * 0.8)))
    return tl.where(z < 1e-3, near, _log1p(z) - z / (1.0 + z))


@triton.jit
def _rising(a):
    u = a * (a + 3.0)
    return u * (u + 2.0), (2.0 * a + 3.0) * (2.0 * u + 2.0)


@triton.jit
def _log_gamma(a):
    z = a + 4.0
    r = 1.0 / z
    q = r * r
    tail = r * (1 / 12 - q * (1 / 360 - q * (1 / 1260 - q / 1680)))
    product, _ = _rising(a)
    return (z - 0.5) * tl.log(z) - z + HALF_LOG_TAU + tail - tl.log(product)


@triton.jit
def _digamma(a):
    z = a + 4.0
    r = 1.0 / z
    q = r * r
    tail = -0.5 * r - q * (1 / 12 - q * (1 / 120 - q * (1 / 252 - q / 240)))
    product, slope = _rising(a)
    return tl.log(z) + tail - slope / product


@triton.jit
def _rate(logits, exp_library, top, total, scale: tl.constexpr):
    """Rate, and its derivative by the logit without what softmax shares between genes."""
    if scale == 0:
        rate = exp_library * tl.exp(logits - top) / total
        return rate, rate
    if scale == 1:
        e = tl.exp(-tl.abs(logits))
        sigmoid = tl.where(logits >= 0, 1.0, e) / (1.0 + e)
        return exp_library * (_at_least(logits, 0.0) + _log1p(e)), exp_library * sigmoid
    return exp_library * logits, exp_library + 0.0 * logits


@triton.jit
def _softmax_parts(logits_start, n_genes, block: tl.constexpr):
    """Largest logit, and the sum of exponentials relative to it."""
    lanes = tl.arange(0, block)
    largest = tl.full((block,), float("-inf"), tl.float32)
    for start in range(0, n_genes, block):
        at = start + lanes
        logits = tl.load(logits_start + at, mask=at < n_genes, other=float("-inf"))
        largest = tl.maximum(largest, logits)
    top = tl.max(largest, axis=0).to(tl.float64)
    sums = tl.zeros((block,), tl.float64)
    for start in range(0, n_genes, block):
        at = start + lanes
        logits = tl.load(logits_start + at, mask=at < n_genes, other=float("-inf"))
        sums += tl.exp(logits.to(tl.float64) - top)
    return top, tl.sum(sums, axis=0)


@triton.jit
def _share_between_genes(
    logits_start, by_logits_start, of_library, top, total, n_genes, block: tl.constexpr
):
    """Softmax's second term: each gene's share of the sum of all gradients."""
    lanes = tl.arange(0, block)
    for start in range(0, n_genes, block):
        at = start + lanes
        inside = at < n_genes
        logits = tl.load(logits_start + at, mask=inside, other=0.0).to(tl.float64)
        own = tl.load(by_logits_start + at, mask=inside, other=0.0).to(tl.float64)
        out = own - tl.exp(logits - top) / total * of_library
        tl.store(by_logits_start + at, out.to(tl.float32), mask=inside)


@triton.jit
def _poisson(x, rate):
    """Value and gradient by the rate."""
    mu = _at_least(rate, NEGLIGIBLE)
    value = tl.where(x != 0, x * tl.log(mu) - _log_gamma(x + 1.0), 0.0) - mu
    return value, tl.where(rate >= NEGLIGIBLE, x / mu - 1.0, 0.0)


@triton.jit
def _nb(x, mu, theta):
    """Value and gradients by the mean and log(theta); log-probability of a zero for ``x = 0``."""
    z = mu / theta
    of_zero, both = -theta * _log1p(z), theta + x
    mean = theta + mu
    floored = _at_least(mu, NEGLIGIBLE)
    gammas = _log_gamma(both) - _log_gamma(theta) - _log_gamma(x + 1.0)
    value = of_zero + tl.where(x != 0, x * tl.log(floored / mean) + gammas, 0.0)
    by_mu = tl.where(mu >= NEGLIGIBLE, x / floored, 0.0) - both / mean
    digammas = _digamma(both) - _digamma(theta) - x / mean
    by_log_theta = theta * (tl.where(x != 0, digammas, 0.0) - _lag(z))
    return value, by_mu, by_log_theta


@triton.jit
def _zero_inflate(is_zero, value, by_mu, by_log_theta, pi):
    """The same with dropout, and the gradient by its logits."""
    e = tl.exp(-tl.abs(pi))
    p = tl.where(pi >= 0, 1.0, e) / (1.0 + e)
    not_p = tl.where(pi >= 0, e, 1.0) / (1.0 + e)
    q = tl.exp(value)
    series = value * (1.0 + value / 2 * (1.0 + value / 3 * (1.0 + value / 4)))
    not_zero = -not_p * tl.where(value > -1e-3, series, q - 1.0)
    zero = tl.where(not_zero < 0.5, 1.0 - not_zero, _at_least(p + not_p * q, 1e-300))
    by_count = tl.where(is_zero, not_p * q / zero, 1.0)
    of_zero = tl.where(not_zero < 0.5, _log1p(-not_zero), tl.log(zero))
    of_count = value - _at_least(pi, 0.0) - _log1p(e)
    by_pi = tl.where(is_zero, p * not_zero / zero, -p)
    value = tl.where(is_zero, of_zero, of_count)
    return value, by_mu * by_count, by_log_theta * by_count, by_pi


@triton.jit
def _rows(
    x_start,
    logits_start,
    library_start,
    log_theta_start,
    theta_rows_start,
    zi_start,
    value_start,
    by_logits_start,
    by_library_start,
    by_theta_start,
    by_zi_start,
    n_genes,
    n_cells,
    scale: tl.constexpr,
    has_theta: tl.constexpr,
    theta_by_cell: tl.constexpr,
    has_zi: tl.constexpr,
    want_logits: tl.constexpr,
    want_theta: tl.constexpr,
    want_zi: tl.constexpr,
    block: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    cell = row % n_cells
    here = row * n_genes
    theta_row = row
    if theta_by_cell:
        theta_row = tl.load(theta_rows_start + cell)
    exp_library = tl.exp(tl.load(library_start + row).to(tl.float64))
    lanes = tl.arange(0, block)

    top, total = 0.0 * exp_library, exp_library
    if scale == 0:
        top, total = _softmax_parts(logits_start + here, n_genes, block)

    values = tl.zeros((block,), tl.float64)
    by_library = tl.zeros((block,), tl.float64)
    for start in range(0, n_genes, block):
        at = start + lanes
        inside = at < n_genes
        logits = tl.load(logits_start + here + at, mask=inside, other=0.0).to(tl.float64)
        x = tl.load(x_start + cell * n_genes + at, mask=inside, other=0.0).to(tl.float64)
        is_zero = tl.abs(x) < NEGLIGIBLE
        x = tl.where(is_zero, 0.0, x)
        rate, slope = _rate(logits, exp_library, top, total, scale)
        if has_theta:
            log_theta = tl.load(log_theta_start + theta_row * n_genes + at, mask=inside, other=0.0)
            value, by_rate, by_theta = _nb(x, rate, tl.exp(log_theta.to(tl.float64)))
            if has_zi:
                pi = tl.load(zi_start + here + at, mask=inside, other=0.0).to(tl.float64)
                value, by_rate, by_theta, by_zi = _zero_inflate(
                    is_zero, value, by_rate, by_theta, pi
                )
                if want_zi:
                    tl.store(by_zi_start + here + at, by_zi.to(tl.float32), mask=inside)
            if want_theta:
                tl.store(by_theta_start + here + at, by_theta.to(tl.float32), mask=inside)
        else:
            value, by_rate = _poisson(x, rate)
        values += tl.where(inside, value, 0.0)
        by_library += tl.where(inside, rate * by_rate, 0.0)
        if want_logits:
            tl.store(by_logits_start + here + at, (slope * by_rate).to(tl.float32), mask=inside)
    tl.store(value_start + row, tl.sum(values, axis=0).to(tl.float32))

    if want_logits:
        of_library = tl.sum(by_library, axis=0)
        tl.store(by_library_start + row, of_library.to(tl.float32))
        if scale == 0:
            _share_between_genes(
                logits_start + here, by_logits_start + here, of_library, top, total, n_genes, block
            )
