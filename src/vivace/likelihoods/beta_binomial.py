"""Beta-binomial counts: a binomial whose probability varies like a beta variable."""

from __future__ import annotations

import torch
from torch.distributions import Distribution, constraints

from vivace._hooks import standard_gamma
from vivace.errors import InvalidArgumentError


class BetaBinomial(Distribution):
    r"""Successes among ``total_count`` trials with a beta-distributed probability.

    .. math:: p(y) = \binom{n}{y} \frac{B(y + \alpha, n - y + \beta)}{B(\alpha, \beta)}

    Parameters
    ----------
    total_count
        (...) trials n, >= 0.
    alpha, beta
        (...) parameters of the beta distribution, > 0; they broadcast with ``total_count``.
    mu, gamma
        (...) in their place, in (0, 1): the mean probability, and how correlated two trials are;
        ``alpha = mu (1 - gamma) / gamma`` and ``beta = (1 - mu) (1 - gamma) / gamma``.

    Raises
    ------
    ValueError
        If a parameter, or a value given to :meth:`log_prob`, is out of range.
    InvalidArgumentError
        If neither or both pairs of parameters are given.

    Examples
    --------
    >>> import torch
    >>> fair = BetaBinomial(torch.tensor(2.0), torch.tensor(1.0), torch.tensor(1.0))
    >>> fair.log_prob(torch.tensor([0.0, 1.0, 2.0])).exp()
    tensor([0.3333, 0.3333, 0.3333])
    """

    arg_constraints = {
        "total_count": constraints.nonnegative,
        "alpha": constraints.positive,
        "beta": constraints.positive,
    }
    support = constraints.nonnegative

    def __init__(
        self,
        total_count: torch.Tensor,
        alpha: torch.Tensor | None = None,
        beta: torch.Tensor | None = None,
        validate_args: bool | None = None,
        *,
        mu: torch.Tensor | None = None,
        gamma: torch.Tensor | None = None,
    ):
        if mu is not None and gamma is not None and alpha is None and beta is None:
            mu, gamma = torch.as_tensor(mu), torch.as_tensor(gamma)
            whole = (1 - gamma) / gamma
            alpha, beta = mu * whole, (1 - mu) * whole
        elif alpha is None or beta is None or mu is not None or gamma is not None:
            msg = "BetaBinomial needs either alpha and beta, or mu and gamma"
            raise InvalidArgumentError(msg)
        given = (torch.as_tensor(t) for t in (total_count, alpha, beta))
        self.total_count, self.alpha, self.beta = torch.broadcast_tensors(*given)
        super().__init__(self.alpha.shape, validate_args=validate_args)

    @property
    def mean(self) -> torch.Tensor:
        return self.total_count * self.alpha / (self.alpha + self.beta)

    @property
    def variance(self) -> torch.Tensor:
        n, whole = self.total_count, self.alpha + self.beta
        return n * self.alpha * self.beta * (whole + n) / (whole**2 * (whole + 1))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Elementwise log-probability in nats, computed in float64; 0 <= value <= total_count."""
        if self._validate_args:
            self._validate_sample(value)
            if (value > self.total_count).any():
                msg = "BetaBinomial: a value is larger than total_count"
                raise ValueError(msg)
        y, n, a, b = (t.double() for t in (value, self.total_count, self.alpha, self.beta))
        coefficient = torch.lgamma(n + 1) - torch.lgamma(y + 1) - torch.lgamma(n - y + 1)
        inside = torch.lgamma(a + y) + torch.lgamma(b + n - y) - torch.lgamma(a + b + n)
        outside = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        return (coefficient + inside - outside).to(self.alpha.dtype)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> torch.Tensor:
        """Draw a probability, then the successes."""
        shape = self._extended_shape(torch.Size(sample_shape))
        one = standard_gamma(self.alpha.expand(shape))
        other = standard_gamma(self.beta.expand(shape))
        tiny = torch.finfo(one.dtype).tiny
        return torch.binomial(
            self.total_count.to(one).expand(shape).contiguous(), one / (one + other).clamp(min=tiny)
        )
