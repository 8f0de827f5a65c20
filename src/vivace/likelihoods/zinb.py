"""Zero inflation around the negative binomial."""

from __future__ import annotations

from functools import cached_property

import torch
from torch.distributions import Distribution, constraints
from torch.nn import functional as F

from vivace.kernels import count_log_likelihood
from vivace.kernels.affine import Affine, dense
from vivace.likelihoods.negative_binomial import NegativeBinomial, nb_log_prob
from vivace.likelihoods.support import check_counts


class ZeroInflatedNegativeBinomial(Distribution):
    r"""Negative binomial that is replaced by zero with probability ``sigmoid(zi_logits)``.

    Parameters
    ----------
    mu
        (..., G) mean of the negative binomial part, >= 0.
    theta
        (..., G) inverse dispersion, > 0; (G,) is shared by all cells.
    zi_logits
        (..., G) log-odds of a technical zero.
    scale
        (..., G) normalised expression; default ``mu`` divided by its row sum.

    References
    ----------
    Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics, Nat Methods.

    Examples
    --------
    >>> import torch
    >>> x, mu = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([0.5, 2.0, 3.0])
    >>> zinb = ZeroInflatedNegativeBinomial(
    ...     mu, torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.3, -1.0, 2.0])
    ... )
    >>> zinb.log_prob(x)
    tensor([-0.1530, -1.6996, -5.2727])
    """

    arg_constraints = {
        "mu": constraints.nonnegative,
        "theta": constraints.positive,
        "zi_logits": constraints.real,
    }
    support = constraints.nonnegative

    def __init__(
        self,
        mu: torch.Tensor,
        theta: torch.Tensor,
        zi_logits: torch.Tensor,
        scale: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ):
        self._counts = NegativeBinomial(mu, theta, scale=scale, validate_args=False)
        self._zi_head: torch.Tensor | Affine = zi_logits
        shape = torch.broadcast_shapes(mu.shape, theta.shape, zi_logits.shape)
        super().__init__(torch.Size(shape), validate_args=validate_args)

    @classmethod
    def from_logits(
        cls,
        logits: torch.Tensor | Affine,
        log_library: torch.Tensor,
        log_theta: torch.Tensor,
        zi_logits: torch.Tensor | Affine,
        activation: str = "softmax",
        theta_rows: torch.Tensor | None = None,
    ) -> ZeroInflatedNegativeBinomial:
        """Build from decoder outputs without computing the mean; see NegativeBinomial.from_logits."""
        zinb = cls.__new__(cls)
        zinb._counts = NegativeBinomial.from_logits(
            logits, log_library, log_theta, activation, theta_rows
        )
        zinb._zi_head = zi_logits
        Distribution.__init__(zinb, zinb._counts.batch_shape, validate_args=False)
        return zinb

    @property
    def mu(self) -> torch.Tensor:
        return self._counts.mu

    @property
    def theta(self) -> torch.Tensor:
        return self._counts.theta

    @property
    def scale(self) -> torch.Tensor:
        return self._counts.scale

    @cached_property
    def zi_logits(self) -> torch.Tensor:
        return dense(self._zi_head)

    @property
    def zi_probs(self) -> torch.Tensor:
        return torch.sigmoid(self.zi_logits)

    @property
    def mean(self) -> torch.Tensor:
        return (1 - self.zi_probs) * self.mu

    @property
    def variance(self) -> torch.Tensor:
        p, mu, theta = self.zi_probs, self.mu, self.theta
        return (1 - p) * mu * (mu + theta + p * mu * theta) / theta

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Elementwise log-probability in nats, (..., G); ``value`` dense, >= 0."""
        check_counts(self, value)
        counts = nb_log_prob(value, self.mu, self.theta)
        # log sigmoid(pi) = -softplus(-pi), log(1 - sigmoid(pi)) = -softplus(pi)
        zero = torch.logaddexp(self.zi_logits, counts) - F.softplus(self.zi_logits)
        return torch.where(value < 1e-8, zero, counts - F.softplus(self.zi_logits))

    def log_prob_sum(self, value: torch.Tensor) -> torch.Tensor:
        """Log-likelihood summed over genes, (..., B), nats; ``value`` (B, G) dense or CSR."""
        nb = self._counts
        return count_log_likelihood(
            value,
            nb._rate.head,
            nb._rate.log_library,
            torch.log(nb.theta) if nb._log_theta is None else nb._log_theta,
            self._zi_head,
            scale=nb._rate.activation,
            theta_rows=nb._theta_rows,
        )

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> torch.Tensor:
        """Draw counts, then set those to zero that drop out."""
        counts = self._counts.expand_sample(self._extended_shape(torch.Size(sample_shape)))
        return torch.where(torch.rand_like(counts) <= self.zi_probs, 0.0, counts)

    def get_normalized(self, key: str) -> torch.Tensor:
        """``"mu"``: mean of the negative binomial part; ``"scale"``: normalised expression."""
        return self._counts.get_normalized(key)

    def parameters(self) -> dict[str, torch.Tensor]:
        """Those of the negative binomial part, and ``dropout``, the probability of a technical zero."""
        return {**self._counts.parameters(), "dropout": self.zi_probs}
