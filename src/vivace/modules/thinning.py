"""Cells as they would be, had they been measured less deeply."""

from __future__ import annotations

import torch

from vivace.kernels.csr import csr_tensor, is_csr, row_sums
from vivace.kernels.draws import draw_thinned

MIN_LIBRARY = 10.0
"""Smallest total that a cell is thinned to, where nothing else is said."""


def thinned_view(x: torch.Tensor, share: float) -> torch.Tensor:
    """Some of the cells thinned, the others as they are.

    A cell is thinned with probability ``share``, to a total that is log-uniform between 10 and its own
    (:func:`sample_thinning_probs`, :func:`binomial_split`).

    Parameters
    ----------
    x
        (B, G) counts, whole numbers, dense or CSR.
    share
        In [0, 1].

    Returns
    -------
    (B, G) stored like ``x``.

    Examples
    --------
    >>> import torch
    >>> x = torch.full((4, 50), 3.0)
    >>> bool((thinned_view(x, 1.0) <= x).all()), bool((thinned_view(x, 0.0) == x).all())
    (True, True)
    """
    keep = sample_thinning_probs(x, MIN_LIBRARY)
    keep = torch.where(torch.rand_like(keep) < share, keep, 1.0)
    return binomial_split(x, keep)[0]


def sample_thinning_probs(x: torch.Tensor, min_library_size: float = MIN_LIBRARY) -> torch.Tensor:
    """Share of the counts that each cell keeps, so that totals are log-uniform below its own.

    Parameters
    ----------
    x
        (B, G) counts, dense or CSR.
    min_library_size
        Smallest total, > 0. Cells that have no more than this are not thinned.

    Returns
    -------
    (B, 1) in (0, 1].

    Examples
    --------
    >>> import torch
    >>> sample_thinning_probs(torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    tensor([[1.],
            [1.]])
    """
    totals = row_sums(x)
    low = totals.new_full((), min_library_size).log()
    high = totals.clamp(min=min_library_size + 1e-6).log()
    target = torch.exp(low + torch.rand_like(totals) * (high - low))
    return (target / totals.clamp(min=1e-6)).clamp(0, 1)


@torch.no_grad()
def binomial_split(
    x: torch.Tensor, p: float | torch.Tensor = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Deal each count to one of two cells at random; work follows the non-zeros of a CSR ``x``.

    Parameters
    ----------
    x
        (B, G) counts, dense or CSR; rounded and cut at 0.
    p
        Probability of the first cell: a number, or (B, 1).

    Returns
    -------
    x1, x2
        (B, G) stored like ``x``, ``x1 ~ Binomial(x, p)`` and ``x1 + x2 = x``; without gradient.

    Examples
    --------
    >>> import torch
    >>> x1, x2 = binomial_split(torch.tensor([[4.0, 0.0]]), 1.0)
    >>> x1, x2
    (tensor([[4., 0.]]), tensor([[0., 0.]]))
    """
    values = x.values() if is_csr(x) else x
    counts = values.round().clamp(min=0)
    p = torch.as_tensor(p, dtype=counts.dtype, device=counts.device)
    keep = p.expand(x.shape[0], 1)
    if not is_csr(x):
        first = draw_thinned(counts, keep)
        return first, counts - first
    first = draw_thinned(_with_values(x, counts), keep)
    return _with_values(x, first), _with_values(x, counts - first)


def _with_values(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return csr_tensor(x.crow_indices(), x.col_indices(), values, x.shape)
