"""Summed log-likelihood of counts in plain torch: any device, any type, any leading axes.

It is what the fused kernels are measured against and what takes over where they do not work. It works
in float64, because ``lgamma(x + theta) - lgamma(theta)`` has no correct digit left in float32 at
``theta = 1e5``, and takes special functions of the non-zeros only: for ``x = 0`` they cancel exactly.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from vivace.kernels.csr import is_csr, row_of_value

MIN_RATE = 1e-8
"""Floor of the rate inside ``x log(rate)``, and of the Poisson rate: without it an empty cell gives
``0 * inf`` gradients."""

ZERO = 1e-8
"""Counts below this are zeros."""

SCALES = {
    "softmax": lambda logits: torch.softmax(logits, dim=-1),
    "softplus": F.softplus,
    "identity": lambda logits: logits,
}


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
    """Log-likelihood of each cell, summed over genes; see :func:`vivace.kernels.count_log_likelihood`.

    Examples
    --------
    >>> import torch
    >>> x, mu = torch.tensor([[0.0, 1.0, 5.0]]), torch.tensor([[0.5, 2.0, 3.0]])
    >>> log_theta = torch.tensor([1.0, 2.0, 0.5]).log()
    >>> count_log_likelihood(x, mu, torch.zeros(1, 1), log_theta, scale="identity")
    tensor([-4.9375])
    """
    wide = torch.float32 if logits.device.type == "mps" else torch.float64  # mps has no float64
    mu = torch.exp(library.to(wide)) * SCALES[scale](logits.to(wide))
    theta = None if log_theta is None else _theta(log_theta.to(wide), theta_rows, mu)
    pi = None if zi_logits is None else zi_logits.to(wide).expand(mu.shape)
    rows, columns, values = nonzeros(x)
    at = (..., rows, columns)
    of_nonzeros = _log_prob(
        values.to(wide),
        mu[at],
        None if theta is None else theta[at],
        None if pi is None else pi[at],
    )
    is_zero = torch.ones(mu.shape[-2:], dtype=torch.bool, device=mu.device)
    is_zero[rows, columns] = False
    of_zeros = _log_prob_of_zero(mu, theta, pi).where(is_zero, 0.0).sum(-1)
    total = of_zeros.index_add(-1, rows, of_nonzeros)
    return total.to(torch.promote_types(logits.dtype, torch.float32))


def nonzeros(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, columns and values of what is not zero, (n,) each; NaN counts as such, and shows."""
    if is_csr(x):
        rows, columns, values = row_of_value(x), x.col_indices().long(), x.values()
        keep = ~(values.abs() < ZERO)
        return rows[keep], columns[keep], values[keep]
    rows, columns = (~(x.abs() < ZERO)).nonzero(as_tuple=True)
    return rows, columns, x[rows, columns]


def _theta(log_theta: torch.Tensor, rows: torch.Tensor | None, mu: torch.Tensor) -> torch.Tensor:
    per_cell = log_theta if rows is None else log_theta[rows]
    return torch.exp(per_cell).expand(mu.shape)


def _log_prob_of_zero(
    mu: torch.Tensor, theta: torch.Tensor | None, pi: torch.Tensor | None
) -> torch.Tensor:
    if theta is None:
        return -mu.clamp(min=MIN_RATE)
    zero = -theta * torch.log1p(mu / theta)
    if pi is None:
        return zero
    return torch.logaddexp(pi, zero) - F.softplus(pi)


def _log_prob(
    x: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor | None, pi: torch.Tensor | None
) -> torch.Tensor:
    """Elementwise, for ``x`` > 0; ``softplus(pi)`` is minus the log-probability of no dropout."""
    log_mu = torch.log(mu.clamp(min=MIN_RATE))
    if theta is None:
        return x * log_mu - mu.clamp(min=MIN_RATE) - torch.lgamma(x + 1)
    log_prob = (
        x * (log_mu - torch.log(theta + mu))
        - theta * torch.log1p(mu / theta)
        + torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
    )
    return log_prob if pi is None else log_prob - F.softplus(pi)
