"""How far apart two clouds of points lie, without a bandwidth to choose."""

from __future__ import annotations

import torch

from vivace._ranks import cells_of_all


def energy_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Energy distance of the distributions that two samples come from (Székely & Rizzo 2013).

    ``2 E|x - y| - E|x - x'| - E|y - y'|`` with Euclidean distances: 0 if and only if both are the same
    distribution, and the squared maximum mean discrepancy of the kernel ``-|a - b|`` (Sejdinovic et al.
    2013). The means within a sample leave out each point's distance to itself, so that the estimate is
    unbiased (it can be below 0) and its gradient draws no sample together that is not apart from the
    other. Where several processes share a minibatch, it is that of all their cells.

    Parameters
    ----------
    x, y
        (..., B, L), the same number of points of both.

    Returns
    -------
    (...), in the unit of the points; 0 for fewer than two points of each.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [2.0]])
    >>> energy_distance(x, x + 10.0)  # 2 * 10 - 2 - 2
    tensor(16.)
    >>> energy_distance(x, x)  # 2 * 1 - 2 - 2
    tensor(-2.)
    """
    x, y = cells_of_all(x), cells_of_all(y)
    n = x.shape[-2]
    if n < 2:
        return x.new_zeros(x.shape[:-2])
    within = (_distances(x, x) + _distances(y, y)).sum((-2, -1)) / (n * (n - 1))
    return 2 * _distances(x, y).mean((-2, -1)) - within


def _distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(..., B, B), computed from differences: products would lose what near points differ by."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
