"""Dirichlet-multinomial counts of junctions, event by event."""

from __future__ import annotations

import torch
from torch.distributions import Distribution, constraints

from vivace._hooks import standard_gamma
from vivace.errors import InvalidArgumentError


def event_sums(values: torch.Tensor, event_index: torch.Tensor, n_events: int) -> torch.Tensor:
    """Sums over the junctions of each event, (..., J) to (..., A)."""
    return values.new_zeros(*values.shape[:-1], n_events).index_add(-1, event_index, values)


class DirichletMultinomial(Distribution):
    r"""Reads of the junctions of each event, whose shares vary like a Dirichlet variable.

    For an event with total n and concentrations :math:`\alpha_j` that sum to :math:`\alpha`,

    .. math:: p(y) = \frac{n!\,\Gamma(\alpha)}{\Gamma(n + \alpha)}
              \prod_j \frac{\Gamma(y_j + \alpha_j)}{y_j!\,\Gamma(\alpha_j)}

    The log-probability is summed over events; an event without reads adds 0.

    Parameters
    ----------
    total_count
        Reads of each event: (..., A), or (..., J) with the total repeated on every junction of the
        event. With A = J it is taken by event.
    concentration
        (..., J), > 0.
    event_index
        (J,) int64, event of each junction, 0 .. A - 1.

    Raises
    ------
    InvalidArgumentError
        If shapes do not fit each other.
    ValueError
        If a value given to :meth:`log_prob` is negative or does not sum to the totals.

    References
    ----------
    Mosimann 1962, On the compound multinomial distribution, Biometrika 49:65.

    Examples
    --------
    >>> import torch
    >>> usage = DirichletMultinomial(
    ...     torch.tensor([1.0]), torch.tensor([3.0, 1.0]), torch.tensor([0, 0])
    ... )
    >>> usage.log_prob(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).exp()
    tensor([0.7500, 0.2500])
    """

    arg_constraints = {
        "total_count": constraints.independent(constraints.nonnegative, 1),
        "concentration": constraints.independent(constraints.positive, 1),
    }
    support = constraints.independent(constraints.nonnegative, 1)

    def __init__(
        self,
        total_count: torch.Tensor,
        concentration: torch.Tensor,
        event_index: torch.Tensor,
        validate_args: bool | None = None,
    ):
        self.event_index = event_index.long()
        n_junctions = concentration.shape[-1]
        if self.event_index.shape != (n_junctions,):
            msg = (
                f"event_index has shape {tuple(self.event_index.shape)}; expected one event for each "
                f"of the {n_junctions} junctions of concentration"
            )
            raise InvalidArgumentError(msg)
        self.n_events = int(self.event_index.max()) + 1 if n_junctions else 0
        total_count = torch.as_tensor(total_count)
        if total_count.shape[-1] == n_junctions != self.n_events:
            first = torch.full((self.n_events,), n_junctions, device=self.event_index.device)
            junctions = torch.arange(n_junctions, device=self.event_index.device)
            first = first.scatter_reduce(0, self.event_index, junctions, "amin")
            if (total_count != total_count[..., first][..., self.event_index]).any():
                msg = "total_count differs between junctions of one event; repeat the event's total"
                raise InvalidArgumentError(msg)
            total_count = total_count[..., first]
        if total_count.shape[-1] != self.n_events:
            msg = (
                f"total_count has {total_count.shape[-1]} columns; expected {self.n_events} (one an "
                f"event) or {n_junctions} (one a junction)"
            )
            raise InvalidArgumentError(msg)
        batch = torch.broadcast_shapes(total_count.shape[:-1], concentration.shape[:-1])
        self.total_count = total_count.expand(*batch, -1)
        self.concentration = concentration.expand(*batch, -1)
        super().__init__(batch, torch.Size((n_junctions,)), validate_args=validate_args)

    @property
    def event_concentration(self) -> torch.Tensor:
        """(..., A) sum of the concentrations of each event."""
        return event_sums(self.concentration, self.event_index, self.n_events)

    @property
    def psi(self) -> torch.Tensor:
        """(..., J) expected share of each junction in its event."""
        return self.concentration / self.event_concentration[..., self.event_index]

    @property
    def mean(self) -> torch.Tensor:
        return self.total_count[..., self.event_index] * self.psi

    @property
    def variance(self) -> torch.Tensor:
        n = self.total_count[..., self.event_index]
        whole = self.event_concentration[..., self.event_index]
        return n * self.psi * (1 - self.psi) * (n + whole) / (1 + whole)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-probability summed over events, (...), nats; computed in float64.

        Parameters
        ----------
        value
            (..., J) reads, >= 0.
        """
        if self._validate_args:
            self._validate_sample(value)
        y, n, a = value.double(), self.total_count.double(), self.concentration.double()
        found = event_sums(y, self.event_index, self.n_events)
        if self._validate_args and not torch.allclose(found, n.expand_as(found)):
            msg = "DirichletMultinomial: the values of an event do not sum to its total_count"
            raise ValueError(msg)
        whole = event_sums(a, self.event_index, self.n_events)
        of_events = torch.lgamma(n + 1) + torch.lgamma(whole) - torch.lgamma(n + whole)
        # a junction without reads adds exactly 0, whatever its concentration
        seen = y > 0
        y, a = torch.where(seen, y, 1.0), torch.where(seen, a, 1.0)
        of_junctions = torch.lgamma(y + a) - torch.lgamma(a) - torch.lgamma(y + 1)
        result = of_events.sum(-1) + torch.where(seen, of_junctions, 0.0).sum(-1)
        return result.to(self.concentration.dtype)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> torch.Tensor:
        """Draw shares, then reads: ``(*sample_shape, ..., J)``."""
        shape = self._extended_shape(torch.Size(sample_shape))
        gamma = standard_gamma(self.concentration.expand(shape))
        tiny = torch.finfo(gamma.dtype).tiny
        left = self.total_count.to(gamma).expand(*shape[:-1], -1).clone()
        mass = event_sums(gamma, self.event_index, self.n_events)
        reads = torch.empty_like(gamma)
        remaining = torch.bincount(self.event_index, minlength=self.n_events).tolist()
        for j, event in enumerate(self.event_index.tolist()):
            remaining[event] -= 1
            share = (gamma[..., j] / mass[..., event].clamp(min=tiny)).clamp(0, 1)
            if remaining[event] == 0:  # the last junction takes what is left
                share = torch.ones_like(share)
            drawn = torch.binomial(left[..., event].contiguous(), share)
            reads[..., j] = drawn
            left[..., event] -= drawn
            mass[..., event] -= gamma[..., j]
        return reads
