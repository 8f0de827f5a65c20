"""One door to the kernels: the fastest implementation that can take the arguments."""

from __future__ import annotations

import torch

from vivace.kernels import reference


def count_log_likelihood(
    x: torch.Tensor,
    logits: torch.Tensor,
    library: torch.Tensor,
    log_theta: torch.Tensor | None = None,
    zi_logits: torch.Tensor | None = None,
    *,
    scale: str = "softmax",
    theta_rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-likelihood of each cell, summed over genes, with ``mu = exp(library) * scale(logits)``.

    Zero-inflated negative binomial if ``zi_logits`` is given, negative binomial if only ``log_theta``
    is, Poisson (rate at least 1e-8) if neither. Differentiable in all arguments but ``x``.

    Parameters
    ----------
    x
        (B, G) counts >= 0, dense or CSR, whole numbers or not.
    logits
        (..., B, G) decoder output.
    library
        Natural log of the library size, broadcasts with (..., B, 1); -inf (an empty cell): ``mu = 0``.
    log_theta
        Log inverse dispersion: (G,), (..., B, G), or a table (K, G) with ``theta_rows``.
    zi_logits
        (..., B, G) log-odds of a technical zero.
    scale
        "softmax" or "softplus" of the logits, or "identity": the logits are the scale, >= 0.
    theta_rows
        (B,) int64, the row of the table for each cell.

    Returns
    -------
    (..., B) nats.

    References
    ----------
    Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics, Nat Methods.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[0.0, 2.0]])
    >>> count_log_likelihood(x, torch.zeros(1, 2), torch.log(torch.tensor([[2.0]])))
    tensor([-2.6931])
    """
    return reference.count_log_likelihood(
        x, logits, library, log_theta, zi_logits, scale=scale, theta_rows=theta_rows
    )
