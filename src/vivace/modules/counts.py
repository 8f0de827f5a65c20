"""From what a decoder says of cells to the distribution of their counts, by one table of likelihoods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from vivace.errors import InvalidArgumentError
from vivace.likelihoods import NegativeBinomial, Normal, Poisson, ZeroInflatedNegativeBinomial
from vivace.nn.decoder import DecoderOutput


@dataclass(frozen=True)
class CountLikelihood:
    """A likelihood of counts: its distribution, and what that needs of a decoder.

    Attributes
    ----------
    distribution
        Class of distributions over genes with ``log_prob_sum``, ``sample``, ``get_normalized`` and
        ``parameters``, like those of :mod:`vivace.likelihoods`. It is built from what it needs, in this
        order: the mean (..., G), ``theta`` and ``zi_logits``; or, by ``from_logits(logits, log_library,
        activation=...)``, from ``log_theta`` with ``theta_rows`` and ``zi_logits`` given by name.
    has_dispersion
        It needs an inverse dispersion ``theta``, (G,) or (..., B, G).
    zero_inflated
        It needs ``zi_logits`` (..., B, G), for which the decoder then has a head.
    of_counts
        Its values are counts; otherwise they are any numbers.
    whole_numbers
        They must be whole.
    """

    distribution: Any
    has_dispersion: bool = True
    zero_inflated: bool = False
    of_counts: bool = True
    whole_numbers: bool = False

    def of_means(
        self, mu: torch.Tensor, theta: torch.Tensor | None, zi_logits: torch.Tensor | None
    ) -> Any:
        """The distribution with this mean (..., G), and with what else it needs."""
        dispersion = [theta] if self.has_dispersion else []
        inflation = [zi_logits] if self.zero_inflated else []
        return self.distribution(mu, *dispersion, *inflation, validate_args=False)


LIKELIHOODS: dict[str, CountLikelihood] = {
    "zinb": CountLikelihood(ZeroInflatedNegativeBinomial, zero_inflated=True),
    "nb": CountLikelihood(NegativeBinomial),
    "poisson": CountLikelihood(Poisson, has_dispersion=False, whole_numbers=True),
    "normal": CountLikelihood(Normal, of_counts=False),
}
"""Every ``gene_likelihood`` there is; all modules, models and messages read it here."""
OF_COUNTS = tuple(name for name, one in LIKELIHOODS.items() if one.of_counts)
OVERDISPERSED = tuple(name for name in OF_COUNTS if LIKELIHOODS[name].has_dispersion)
DISPERSIONS = ("gene", "gene-batch", "gene-label", "gene-cell")
"""What the inverse dispersion depends on; the last needs a head of the decoder."""


@dataclass(frozen=True)
class CountHead:
    """The last step of a decoder: which likelihood, and what its dispersion and its scale depend on.

    Attributes
    ----------
    gene_likelihood
        A name in ``LIKELIHOODS``.
    dispersion
        One of ``DISPERSIONS``.
    activation
        From the decoder's logits to normalised expression: "softmax", or "softplus" where a size factor
        takes the place of the library.
    argument
        What the user calls ``dispersion``, for messages.

    Examples
    --------
    >>> import torch
    >>> head = CountHead("nb", "gene-batch")
    >>> px_r = head.initial_px_r(3, n_batch=2, n_labels=0)
    >>> decoded = DecoderOutput(torch.randn(4, 3), None, None)
    >>> batch = torch.tensor([[0], [1], [1], [0]])
    >>> px = head.distribution(decoded, torch.zeros(4, 1), px_r, batch, None)
    >>> px.theta.shape
    torch.Size([4, 3])
    """

    gene_likelihood: str
    dispersion: str = "gene"
    activation: str = "softmax"
    argument: str = "dispersion"

    @cached_property
    def likelihood(self) -> CountLikelihood:
        """The row of the table."""
        return LIKELIHOODS[self.gene_likelihood]

    @property
    def decoder_heads(self) -> dict[str, bool]:
        """Which heads the decoder has, as :class:`~vivace.nn.CountDecoder` calls them."""
        by_cell = self.likelihood.has_dispersion and self.dispersion == "gene-cell"
        return {"dispersion_head": by_cell, "dropout_head": self.likelihood.zero_inflated}

    def initial_px_r(self, n_genes: int, n_batch: int, n_labels: int) -> torch.nn.Parameter | None:
        """Log inverse dispersion to start from, (G,) or (G, groups), where it is a parameter.

        Raises
        ------
        InvalidArgumentError
            If it depends on groups of cells, and there are none.
        """
        if not self.likelihood.has_dispersion or self.dispersion == "gene-cell":
            return None
        shape: tuple[int, ...] = (n_genes,)
        if self.dispersion != "gene":
            by_batch = self.dispersion == "gene-batch"
            name, n = ("n_batch", n_batch) if by_batch else ("n_labels", n_labels)
            if n < 1:
                msg = f'{self.argument}="{self.dispersion}" needs {name} >= 1, got {n}'
                raise InvalidArgumentError(msg)
            shape = (n_genes, n)
        return torch.nn.Parameter(torch.randn(shape))

    def distribution(
        self,
        heads: DecoderOutput,
        log_library: torch.Tensor,
        px_r: torch.Tensor | None,
        batch_index: torch.Tensor,
        labels: torch.Tensor | None,
    ) -> Any:
        """Distribution of the counts of each cell, (..., B, G).

        Parameters
        ----------
        heads
            What the decoder says.
        log_library
            (..., B, 1) natural log of the library size, or of the size factor.
        px_r
            Of :meth:`initial_px_r`, as learned.
        batch_index, labels
            (B, 1) codes; the latter for ``dispersion="gene-label"``.

        Raises
        ------
        InvalidArgumentError
            If labels are needed and not given.
        """
        kind = self.likelihood
        needs: dict[str, Any] = {"activation": self.activation}
        if kind.has_dispersion:
            log_theta = px_r if heads.log_theta is None else heads.log_theta
            if px_r is not None and self.dispersion != "gene":
                rows = batch_index if self.dispersion == "gene-batch" else labels
                if rows is None:
                    msg = f'{self.argument}="gene-label" needs the labels of the cells, got None'
                    raise InvalidArgumentError(msg)
                log_theta, needs["theta_rows"] = px_r.t(), rows.flatten()
            needs["log_theta"] = log_theta
        if kind.zero_inflated:
            needs["zi_logits"] = heads.zi_logits
        return kind.distribution.from_logits(heads.scale_logits, log_library, **needs)

    def outputs(self, px: Any) -> dict[str, Callable[[], Any]]:
        """How to compute, when somebody looks, what ``generative`` says of the counts.

        ``px``, ``px_scale`` and ``px_rate`` (..., B, G), and ``px_r`` and ``px_dropout`` (log-odds of a
        technical zero), which are None where the likelihood has none.
        """
        kind = self.likelihood
        return {
            "px": lambda: px,
            "px_scale": lambda: px.get_normalized("scale"),
            "px_rate": lambda: px.get_normalized("mu"),
            "px_r": lambda: px.theta if kind.has_dispersion else None,
            "px_dropout": lambda: px.zi_logits if kind.zero_inflated else None,
        }


def log_scale(
    use_size_factor: bool, log_library: torch.Tensor, log_size_factor: torch.Tensor | None
) -> torch.Tensor:
    """What normalised expression is scaled by, (..., B, 1), natural log: library or size factor.

    Raises
    ------
    InvalidArgumentError
        If the size factor is to be used and missing.
    """
    if not use_size_factor:
        return log_library
    if log_size_factor is None:
        msg = 'use_size_factor_key=True needs "size_factor" in the minibatch, got none'
        raise InvalidArgumentError(msg)
    return log_size_factor
