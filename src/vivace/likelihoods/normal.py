"""Gaussian observations, for data that are not counts."""

from __future__ import annotations

import torch

from vivace.kernels.affine import Affine
from vivace.likelihoods.rate import Rate, normalized


class Normal(torch.distributions.Normal):
    """torch's Normal that also carries the normalised expression.

    Parameters
    ----------
    loc
        (..., G) mean.
    scale
        (..., G) standard deviation, > 0.
    normal_mu
        (..., G) normalised expression, returned by ``get_normalized("scale")``; default ``loc``.

    Examples
    --------
    >>> import torch
    >>> Normal(torch.zeros(2), torch.ones(2)).log_prob_sum(torch.zeros(2))
    tensor(-1.8379)
    """

    def __init__(
        self,
        loc: torch.Tensor,
        scale: torch.Tensor,
        normal_mu: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ):
        super().__init__(loc, scale, validate_args=validate_args)
        self.normal_mu = self.loc if normal_mu is None else normal_mu

    @classmethod
    def from_logits(
        cls,
        logits: torch.Tensor | Affine,
        log_library: torch.Tensor,
        log_theta: torch.Tensor,
        activation: str = "softmax",
        theta_rows: torch.Tensor | None = None,
    ) -> Normal:
        """Build from decoder outputs, see :meth:`NegativeBinomial.from_logits`; log_theta: log deviation."""
        rate = Rate(logits, log_library, activation)
        std = torch.exp(log_theta if theta_rows is None else log_theta[theta_rows])
        return cls(rate.mu, std, normal_mu=rate.scale, validate_args=False)

    def log_prob_sum(self, value: torch.Tensor) -> torch.Tensor:
        """Log-likelihood summed over genes, (..., B), nats; ``value`` (B, G) dense or CSR."""
        dense = value.to_dense() if value.layout != torch.strided else value
        return self.log_prob(dense).sum(-1)

    def get_normalized(self, key: str) -> torch.Tensor:
        """``"mu"``: the mean; ``"scale"``: the normalised expression."""
        return normalized(key, self.loc, self.normal_mu)

    def parameters(self) -> dict[str, torch.Tensor]:
        """``mean`` and ``dispersions``: the standard deviation."""
        return {"mean": self.loc, "dispersions": self.stddev}
