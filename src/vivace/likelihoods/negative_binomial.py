"""Negative binomial counts, by mean and inverse dispersion."""

from __future__ import annotations

from functools import cached_property

import torch
from torch.distributions import Distribution, constraints

from vivace._hooks import standard_gamma
from vivace.kernels import count_log_likelihood
from vivace.kernels.affine import Affine
from vivace.likelihoods.rate import MAX_RATE, Rate, normalized
from vivace.likelihoods.support import check_counts


def nb_log_prob(x: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Elementwise log-probability, exact at ``mu = 0`` and ``x = 0``; real-valued ``x`` is accepted."""
    log_theta_share = -torch.log1p(mu / theta)  # log(theta / (theta + mu))
    log_mu_share = torch.xlogy(x, mu) - torch.xlogy(x, theta + mu)
    coefficient = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    return theta * log_theta_share + log_mu_share + coefficient


class NegativeBinomial(Distribution):
    r"""Negative binomial with mean ``mu`` and inverse dispersion ``theta``.

    .. math:: \operatorname{Var}[x] = \mu + \mu^2 / \theta

    Parameters
    ----------
    mu
        (..., G) mean, >= 0.
    theta
        (..., G) inverse dispersion, > 0; a (G,) tensor is shared by all cells.
    scale
        (..., G) normalised expression; default ``mu`` divided by its row sum.

    References
    ----------
    Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics, Nat Methods.

    Examples
    --------
    >>> import torch
    >>> nb = NegativeBinomial(torch.tensor([0.5, 2.0, 3.0]), torch.tensor([1.0, 2.0, 0.5]))
    >>> nb.log_prob(torch.tensor([0.0, 1.0, 5.0]))
    tensor([-0.4055, -1.3863, -3.1458])
    """

    arg_constraints = {"mu": constraints.nonnegative, "theta": constraints.positive}
    support = constraints.nonnegative

    def __init__(
        self,
        mu: torch.Tensor,
        theta: torch.Tensor,
        scale: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ):
        self._rate = Rate.from_mu(mu)
        self._log_theta: torch.Tensor | None = None
        self._theta_rows: torch.Tensor | None = None
        self.theta = theta
        self._scale = scale
        shape = torch.broadcast_shapes(mu.shape, theta.shape)
        super().__init__(torch.Size(shape), validate_args=validate_args)

    @classmethod
    def from_logits(
        cls,
        logits: torch.Tensor | Affine,
        log_library: torch.Tensor,
        log_theta: torch.Tensor,
        activation: str = "softmax",
        theta_rows: torch.Tensor | None = None,
    ) -> NegativeBinomial:
        """Build from decoder outputs without computing the mean.

        Parameters
        ----------
        logits
            (..., B, G) decoder output before the activation, as it is or as a product.
        log_library
            (..., B, 1) log library size.
        log_theta
            (G,), (..., B, G), or a table (K, G) whose rows are chosen by ``theta_rows``.
        activation
            "softmax", "softplus" or "identity".
        theta_rows
            (B,) int64, the row of the table for each cell.
        """
        nb = cls.__new__(cls)
        nb._rate = Rate(logits, log_library, activation)
        nb._log_theta, nb._theta_rows = log_theta, theta_rows
        nb._scale = None
        Distribution.__init__(nb, nb._rate.shape, validate_args=False)
        return nb

    @property
    def mu(self) -> torch.Tensor:
        return self._rate.mu

    @cached_property
    def theta(self) -> torch.Tensor:
        assert self._log_theta is not None  # otherwise theta was set in the constructor
        rows = self._log_theta if self._theta_rows is None else self._log_theta[self._theta_rows]
        return torch.exp(rows)

    @property
    def scale(self) -> torch.Tensor:
        if self._scale is not None:
            return self._scale
        if self._rate.activation != "identity":
            return self._rate.scale
        return self.mu / self.mu.sum(-1, keepdim=True)

    @property
    def mean(self) -> torch.Tensor:
        return self.mu

    @property
    def variance(self) -> torch.Tensor:
        return self.mu + self.mu**2 / self.theta

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Elementwise log-probability in nats, (..., G); ``value`` dense, >= 0."""
        check_counts(self, value)
        return nb_log_prob(value, self.mu, self.theta)

    def log_prob_sum(self, value: torch.Tensor) -> torch.Tensor:
        """Log-likelihood summed over genes, (..., B), nats; ``value`` (B, G) dense or CSR."""
        return count_log_likelihood(
            value,
            self._rate.head,
            self._rate.log_library,
            torch.log(self.theta) if self._log_theta is None else self._log_theta,
            scale=self._rate.activation,
            theta_rows=self._theta_rows,
        )

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> torch.Tensor:
        """Draw counts by way of the gamma-Poisson mixture."""
        return self.expand_sample(self._extended_shape(torch.Size(sample_shape)))

    @torch.no_grad()
    def expand_sample(self, shape: torch.Size) -> torch.Tensor:
        """Draw counts of any shape that the parameters broadcast to."""
        theta = self.theta.expand(shape)
        gamma = standard_gamma(theta) * (self.mu / theta)  # rate theta/mu, fine at mu = 0
        return torch.poisson(gamma.clamp(max=MAX_RATE))

    def get_normalized(self, key: str) -> torch.Tensor:
        """``"mu"``: the mean; ``"scale"``: the normalised expression."""
        return normalized(key, self.mu, self.scale)

    def parameters(self) -> dict[str, torch.Tensor]:
        """``mean`` and ``dispersions`` (inverse), what users call the parameters of a count."""
        return {"mean": self.mu, "dispersions": self.theta}
