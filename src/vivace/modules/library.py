"""The prior of a latent library size: a normal distribution of its log in each batch."""

from __future__ import annotations

import numpy as np
import torch
from torch.distributions import Normal

from vivace.errors import InvalidArgumentError

MIN_LIBRARY_VARIANCE = 1e-8
"""Floor of the library prior's variance: a batch of one cell has none."""


def library_prior_tables(
    means: np.ndarray | None, variances: np.ndarray | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and variances (1, n_batch) of the log library size as float32 tensors.

    Raises
    ------
    InvalidArgumentError
        If one of them is missing.
    """
    if means is None or variances is None:
        msg = (
            "use_observed_lib_size=False makes the library size latent, which needs its prior: "
            "pass library_log_means and library_log_vars, each of shape (1, n_batch)"
        )
        raise InvalidArgumentError(msg)
    floored = np.maximum(np.asarray(variances), MIN_LIBRARY_VARIANCE)
    return torch.from_numpy(np.asarray(means)).float(), torch.from_numpy(floored).float()


def library_prior(
    means: torch.Tensor, variances: torch.Tensor, batch_index: torch.Tensor
) -> Normal:
    """Prior of the log library of each cell, (B, 1), by its batch code (B, 1).

    Examples
    --------
    >>> import torch
    >>> means, variances = library_prior_tables(np.array([[2.0, 3.0]]), np.ones((1, 2)))
    >>> library_prior(means, variances, torch.tensor([[1], [0]])).loc.flatten()
    tensor([3., 2.])
    """
    codes = batch_index.flatten()
    if means.shape[1] == 1:  # of a single batch, whatever its code
        codes = torch.zeros_like(codes)
    return Normal(
        means[0, codes].unsqueeze(-1),
        variances[0, codes].sqrt().unsqueeze(-1),
        validate_args=False,
    )
