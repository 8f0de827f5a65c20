"""Counts drawn at random, fast where they are small, as those of single genes are."""

from __future__ import annotations

import torch

from vivace.kernels.csr import is_csr, row_of_value
from vivace.kernels.dispatch import loops_compile
from vivace.kernels.threads import run_in_threads

LARGEST_WALK = 30.0
"""Expected count up to which a draw by inversion, which takes a step for every count, is the fastest."""
MAX_RATE = 1e8
"""torch draws no Poisson counts of higher rates."""


@torch.no_grad()
def draw_negative_binomial(mu: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Counts with mean ``mu`` and inverse dispersion ``theta``.

    On the processor, means up to 30 are drawn by inversion of one uniform number each (of 24 bits, so
    that tails of a probability below 6e-8 are cut); larger ones, and all on other devices, as Poisson
    counts of a gamma distributed rate. All chance is torch's, so that its seed fixes it.

    Parameters
    ----------
    mu
        (..., G) means >= 0.
    theta
        (G,) inverse dispersion > 0.

    Returns
    -------
    (..., G), dtype of ``mu``.

    Examples
    --------
    >>> import torch
    >>> counts = draw_negative_binomial(torch.full((2000, 3), 4.0), torch.full((3,), 100.0))
    >>> bool((counts.mean() - 4.0).abs() < 0.2)
    True
    """
    if mu.device.type != "cpu" or mu.dtype != torch.float32 or not loops_compile():
        return _gamma_poisson(mu, theta.expand_as(mu))
    from vivace.kernels.inversion import invert_rows

    flat = mu.contiguous().view(-1, mu.shape[-1])
    share = flat / (theta + flat)
    zero = torch.exp(-theta * torch.log1p(flat / theta))  # probability of no count
    counts = torch.rand_like(flat)  # overwritten in place
    arrays = [a.numpy() for a in (flat, share, zero, theta.detach().contiguous(), counts)]
    run_in_threads(invert_rows, len(flat), LARGEST_WALK, *arrays)
    rows, genes = torch.nonzero(~(flat <= LARGEST_WALK), as_tuple=True)
    if len(rows):
        counts[rows, genes] = _gamma_poisson(flat[rows, genes], theta[genes])
    return counts.view(mu.shape)


def _gamma_poisson(mu: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    rate = torch._standard_gamma(theta.contiguous()) * (mu / theta)
    return torch.poisson(rate.clamp(max=MAX_RATE))


@torch.no_grad()
def draw_thinned(x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """How many of the counts of some cells are kept, ``Binomial(x, keep)``.

    On the processor by inversion of one uniform number (of 24 bits) for each count above 0, where no
    more than 30 are expected to be kept, or to be dropped; others, and all on other devices, as torch
    draws them. All chance is torch's, so that its seed fixes it. Zeros draw nothing on the processor, so
    that it does not matter whether and how they are stored.

    Parameters
    ----------
    x
        (B, G) whole numbers >= 0, CSR or dense.
    keep
        (B, 1) probabilities.

    Returns
    -------
    Of CSR (nnz,) stored values, else (B, G); dtype of ``x``.

    Examples
    --------
    >>> from vivace.kernels import csr_tensor
    >>> x = csr_tensor([0, 2, 3], [0, 1, 1], [3.0, 8.0, 5.0], (2, 2))
    >>> draw_thinned(x, torch.tensor([[1.0], [0.0]]))
    tensor([3., 8., 0.])
    """
    counts = x.values() if is_csr(x) else x
    if x.device.type != "cpu" or counts.dtype != torch.float32 or not loops_compile():
        each = keep.to(counts.dtype)
        each = each[row_of_value(x), 0] if is_csr(x) else each.expand(x.shape)
        return torch.binomial(counts, each)
    flat = counts.detach().flatten()
    there = flat.nonzero()[:, 0]
    rows = (row_of_value(x) if is_csr(x) else torch.arange(flat.numel()) // x.shape[1])[there]
    kept = torch.zeros_like(flat)
    kept[there] = _inverted(flat[there], rows, keep[:, 0].contiguous())
    return kept.view_as(counts)


def _inverted(counts: torch.Tensor, rows: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """How many of counts above 0 are kept, (n,), of rows in order with their probabilities (B,)."""
    from vivace.kernels.thinning import thin_rows

    starts = torch.zeros(len(keep) + 1, dtype=torch.int64)
    starts[1:] = torch.bincount(rows, minlength=len(keep)).cumsum(0)
    kept = torch.rand_like(counts)  # overwritten in place
    arrays = [a.numpy() for a in (starts, counts, keep, kept)]
    run_in_threads(thin_rows, len(keep), LARGEST_WALK, *arrays)
    many = torch.nonzero(kept < 0).flatten()
    if len(many):
        kept[many] = torch.binomial(counts[many], keep.to(counts.dtype)[rows[many]])
    return kept
