"""Spots made of the decoder's own expression, with proportions that are known: what encoders learn from."""

from __future__ import annotations

import torch
from torch.distributions import Dirichlet


def draw_proportions(
    n: int, expected: torch.Tensor, concentration: tuple[float, float]
) -> torch.Tensor:
    """Proportions of simulated spots, from spots of one type to spots of many.

    Dirichlet with given means, and a concentration that is itself drawn for every spot, uniformly on
    the log scale.

    Parameters
    ----------
    n
        Number of spots.
    expected
        (C,) mean proportions, which sum to 1.
    concentration
        Smallest and largest concentration a type has on average, > 0.

    Returns
    -------
    (n, C), rows sum to 1.

    Examples
    --------
    >>> import torch
    >>> draw_proportions(5, torch.full((3,), 1 / 3), (0.1, 0.5)).shape
    torch.Size([5, 3])
    """
    low, high = concentration
    of_spot = low * (high / low) ** torch.rand(n, 1, device=expected.device)
    return Dirichlet(of_spot * (len(expected) * expected), validate_args=False).sample()


def mix_profiles(
    profiles: torch.Tensor, proportions: torch.Tensor, chosen: torch.Tensor, group: torch.Tensor
) -> torch.Tensor:
    """Expected expression of spots whose types each take one profile of a pool.

    Parameters
    ----------
    profiles
        (n, C, P, G): in each of n groups (batches) P profiles of every type.
    proportions
        (M, C) of each spot.
    chosen
        (M, C) int64, which profile of the type a spot takes.
    group
        (M,) int64, the group of each spot.

    Returns
    -------
    (M, G)

    Examples
    --------
    >>> import torch
    >>> profiles = torch.eye(2).reshape(1, 2, 1, 2)
    >>> zeros = torch.zeros(1, 2, dtype=torch.long)
    >>> mix_profiles(profiles, torch.tensor([[0.3, 0.7]]), zeros, zeros[:, 0])
    tensor([[0.3000, 0.7000]])
    """
    out = profiles.new_zeros(len(proportions), profiles.shape[-1])
    for c in range(proportions.shape[1]):  # a type at a time: no (M, C, G) tensor
        out.addcmul_(profiles[group, c, chosen[:, c]], proportions[:, c, None])
    return out
