"""Cells as they would be, had they been measured less deeply."""

from __future__ import annotations

import torch

from vivace.kernels.csr import csr_tensor, is_csr, row_of_value, row_sums
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
        first = _kept(counts.flatten(), keep, x.shape[1]).view_as(counts)
        return first, counts - first
    whole = _with_values(x, counts)
    first = draw_thinned(whole, keep) if counts.all() else _kept(counts, keep, row_of_value(x))
    return _with_values(x, first), _with_values(x, counts - first)


def _kept(counts: torch.Tensor, keep: torch.Tensor, row: torch.Tensor | int) -> torch.Tensor:
    """How many of each count are kept. Zeros draw nothing, so that how cells are stored changes no answer.

    Parameters
    ----------
    counts
        (n,), in the order of the rows.
    keep
        (B, 1) probabilities.
    row
        (n,) row of each, or how many each row has.
    """
    there = counts.nonzero()[:, 0]
    rows = there // row if isinstance(row, int) else row[there]
    starts = torch.zeros(len(keep) + 1, dtype=torch.int64, device=counts.device)
    starts[1:] = torch.bincount(rows, minlength=len(keep)).cumsum(0)
    kept = torch.zeros_like(counts)
    shape = (len(keep), max(1, len(counts)))
    kept[there] = draw_thinned(csr_tensor(starts, there, counts[there], shape), keep)
    return kept


def _with_values(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return csr_tensor(x.crow_indices(), x.col_indices(), values, x.shape)
