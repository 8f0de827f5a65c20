"""Where the cells of a sample lie in the latent space, as a density."""

from __future__ import annotations

import numpy as np
import torch
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    StudentT,
)

AT_ONCE = 1 << 22
"""Numbers that a density is computed with at a time: bounds memory."""


def mixture_of_posteriors(
    means: np.ndarray, variances: np.ndarray, dof: float | None = None
) -> MixtureSameFamily:
    """The posteriors of some cells, mixed with equal weights.

    Parameters
    ----------
    means, variances
        (N, L) of each cell's posterior.
    dof
        Degrees of freedom of Student's t in place of the normal distribution, which has lighter tails.

    Examples
    --------
    >>> import numpy as np
    >>> law = mixture_of_posteriors(np.array([[0.0], [2.0]]), np.ones((2, 1)))
    >>> law.mean
    tensor([1.], dtype=torch.float64)
    """
    loc, scale = torch.from_numpy(means), torch.from_numpy(variances).sqrt()
    of_cell: Distribution = (
        Normal(loc, scale) if dof is None else StudentT(torch.as_tensor(dof).to(loc), loc, scale)
    )
    return MixtureSameFamily(Categorical(torch.ones(len(loc))), Independent(of_cell, 1))


def log_densities(law: MixtureSameFamily, points: np.ndarray) -> np.ndarray:
    """Log density of points (N, L) under a mixture, (N,), some at a time."""
    step = max(1, AT_ONCE // law.component_distribution.mean.numel())
    blocks = torch.from_numpy(points).split(step)
    return torch.cat([law.log_prob(block) for block in blocks]).numpy()
