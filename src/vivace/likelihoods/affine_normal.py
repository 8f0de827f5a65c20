"""A normal distribution whose means are a product that is formed only when asked for."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch.distributions import Distribution

from vivace.kernels.affine import Affine
from vivace.kernels.gaussian import gaussian_nll
from vivace.likelihoods.normal import Normal

TINY = 1e-12
"""Added to standard deviations, which may underflow to 0."""


class AffineNormal(Normal):
    """Normal with mean ``h Wᵀ + b``; its summed log-likelihood need not form the means.

    Parameters
    ----------
    mean
        (..., B, G) mean as a product.
    variance
        (G,) or (..., B, G), > 0.

    Examples
    --------
    >>> import torch
    >>> mean = Affine(torch.ones(1, 2), torch.ones(3, 2), torch.zeros(3))
    >>> px = AffineNormal(mean, torch.ones(3))
    >>> px.loc, px.scale.shape
    (tensor([[2., 2., 2.]]), torch.Size([1, 3]))
    """

    def __init__(self, mean: Affine, variance: torch.Tensor):
        self.affine = mean
        self.gene_variance = variance
        shape = torch.Size((*mean.h.shape[:-1], mean.weight.shape[0]))
        Distribution.__init__(self, shape, validate_args=False)

    @cached_property
    def loc(self) -> torch.Tensor:  # type: ignore[override]
        """(..., B, G) mean."""
        return self.affine.dense()

    @cached_property
    def scale(self) -> torch.Tensor:  # type: ignore[override]
        """(..., B, G) standard deviation."""
        return (self.gene_variance.sqrt() + TINY).expand(self.batch_shape)

    @property
    def normal_mu(self) -> torch.Tensor:  # type: ignore[override]
        """(..., B, G) normalised expression: the mean."""
        return self.loc

    def log_prob_sum(self, value: torch.Tensor) -> torch.Tensor:
        """Log-likelihood summed over genes, (..., B), nats; ``value`` (B, G) dense or CSR."""
        constant = self.batch_shape[-1] * math.log(2 * math.pi) / 2
        return -gaussian_nll(value, self.affine, self.gene_variance) - constant
