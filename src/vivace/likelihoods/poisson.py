"""Poisson counts whose rate never reaches zero."""

from __future__ import annotations

import torch
from torch.distributions import Distribution, constraints

from vivace.kernels import count_log_likelihood
from vivace.kernels.affine import Affine
from vivace.likelihoods.rate import MAX_RATE, Rate, normalized

MIN_RATE = 1e-8
"""Floor of the rate in the log-likelihood: an empty cell would otherwise give 0 * inf gradients."""


class Poisson(Distribution):
    """Poisson with the given rate.

    Parameters
    ----------
    rate
        (..., G) mean, >= 0; the log-likelihood uses ``max(rate, 1e-8)``.
    scale
        (..., G) normalised expression; default ``rate`` divided by its row sum.

    Raises
    ------
    ValueError
        From :meth:`log_prob` for negative or non-integer values, as torch's own Poisson does.

    Examples
    --------
    >>> import torch
    >>> Poisson(torch.tensor([2.0])).log_prob(torch.tensor([3.0]))
    tensor([-1.7123])
    """

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(
        self,
        rate: torch.Tensor,
        scale: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ):
        self._rate = Rate.from_mu(rate)
        self._scale = scale
        super().__init__(rate.shape, validate_args=validate_args)

    @classmethod
    def from_logits(
        cls, logits: torch.Tensor | Affine, log_library: torch.Tensor, activation: str = "softmax"
    ) -> Poisson:
        """Build from decoder outputs without computing the rate; see NegativeBinomial.from_logits."""
        poisson = cls.__new__(cls)
        poisson._rate = Rate(logits, log_library, activation)
        poisson._scale = None
        Distribution.__init__(poisson, poisson._rate.shape, validate_args=False)
        return poisson

    @property
    def rate(self) -> torch.Tensor:
        return self._rate.mu

    @property
    def scale(self) -> torch.Tensor:
        if self._scale is not None:
            return self._scale
        if self._rate.activation != "identity":
            return self._rate.scale
        return self.rate / self.rate.sum(-1, keepdim=True)

    @property
    def mean(self) -> torch.Tensor:
        return self.rate

    @property
    def variance(self) -> torch.Tensor:
        return self.rate

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Elementwise log-probability in nats, (..., G); ``value`` dense whole numbers >= 0."""
        if self._validate_args:
            self._validate_sample(value)
        rate = self.rate.clamp(min=MIN_RATE)
        return torch.xlogy(value, rate) - rate - torch.lgamma(value + 1)

    def log_prob_sum(self, value: torch.Tensor) -> torch.Tensor:
        """Log-likelihood summed over genes, (..., B), nats; ``value`` (B, G) dense or CSR."""
        return count_log_likelihood(
            value, self._rate.head, self._rate.log_library, scale=self._rate.activation
        )

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> torch.Tensor:
        """Draw counts; rates above 1e8 are cut there."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return torch.poisson(self.rate.clamp(max=MAX_RATE).expand(shape))

    def get_normalized(self, key: str) -> torch.Tensor:
        """``"mu"``: the rate; ``"scale"``: the normalised expression."""
        return normalized(key, self.rate, self.scale)

    def parameters(self) -> dict[str, torch.Tensor]:
        """``mean``, what users call the parameters of a count."""
        return {"mean": self.rate}
