"""How likely gene and junction counts are, given what SPLICEVAE's decoders say of a cell."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from vivace.kernels import splicing
from vivace.kernels.affine import Affine
from vivace.kernels.splicing import Entries, Events
from vivace.modules import splice_dense as dense
from vivace.modules.base import BaseModule
from vivace.modules.counts import CountHead
from vivace.modules.splice_options import SpliceOptions


class SpliceLikelihood(BaseModule):
    """Events, concentrations, usage and the two likelihoods, apart from encoders and decoders.

    Attributes
    ----------
    options
        Options, of :func:`vivace.modules.splice_options.resolve`.
    log_phi_j
        Log concentrations (with ``compat`` their inverse softplus); None for the binomial.
    count_head
        From the expression decoder to the distribution of gene counts.
    px_r
        Log inverse dispersions of genes, where they are parameters.
    phi_centre
        What the prior "normal" pulls ``log_phi_j`` to.
    """

    options: SpliceOptions
    log_phi_j: nn.Parameter | None
    count_head: CountHead
    px_r: nn.Parameter | None
    phi_centre: torch.Tensor

    @property
    def event_map(self) -> Events | None:
        """Which junctions form which event; None if that was not said."""
        if not hasattr(self, "events_of_junction"):
            return None
        return Events(*(getattr(self, f"events_{name}") for name in Events._fields))

    @property
    def junc2atse(self) -> torch.Tensor | None:
        """(J, A) sparse membership of junctions in events."""
        events = self.event_map
        if events is None:
            return None
        index = torch.stack([torch.arange(len(events.of_junction)), events.of_junction.cpu()])
        shape = (len(events.of_junction), events.n_events)
        ones = torch.ones(index.shape[1])
        table = torch.sparse_coo_tensor(index, ones, shape, check_invariants=False)
        return table.to(self.device)

    def log_phi(self) -> torch.Tensor:
        """Log concentration: a scalar, (A,) or (J,)."""
        raw = self.log_phi_j
        assert raw is not None  # only the binomial likelihood has none, and does not ask
        if self.options.compat:
            return torch.log(self.options.phi_floor + F.softplus(raw))
        return torch.log(self.options.phi_floor + raw.exp()) if self.options.phi_floor else raw

    @property
    def usage_is_softmax(self) -> bool:
        """Whether ratios are a softmax inside events; otherwise each is a sigmoid."""
        options = self.options
        return (
            options.splicing_loss_type == "dirichlet_multinomial" and options.dm_mean == "softmax"
        )

    def usage(self, logits: torch.Tensor) -> torch.Tensor:
        """Expected ratios (..., J) from logits (..., J): softmax inside events, or sigmoid."""
        events = self.event_map
        if not self.usage_is_softmax or events is None:
            return torch.sigmoid(logits)
        return splicing.event_log_softmax(logits, events.of_junction, events.n_events).exp()

    def usage_at(self, logits: torch.Tensor, entries: Entries) -> torch.Tensor:
        """Expected ratios (..., E) of entries from their logits."""
        if not self.usage_is_softmax:
            return torch.sigmoid(logits)
        return splicing.event_log_softmax(logits, entries.pair, len(entries.total)).exp()

    def splicing_log_likelihood(self, logits: Affine, entries: Entries) -> torch.Tensor:
        """(..., B) nats: log-likelihood of the junction counts of each cell."""
        if logits.h.dim() == 3:
            return torch.stack(
                [self.splicing_log_likelihood(logits._replace(h=h), entries) for h in logits.h]
            )
        at = splicing.entry_logits(logits.h, logits.weight, logits.bias, entries)
        kind = self.options.splicing_loss_type
        if kind == "binomial":
            pairs = splicing.binomial(at, entries)
            if not self.options.include_normalizer:
                pairs = pairs - splicing.binomial_coefficient(entries)
        elif kind == "beta_binomial":
            pairs = splicing.beta_binomial(at, self.log_phi(), entries)
        elif self.options.dm_mean == "sigmoid":
            pairs = splicing.sigmoid_dirichlet_multinomial(at, self.log_phi(), entries)
        else:
            pairs = splicing.dirichlet_multinomial(at, self.log_phi(), entries)
        return entries.sum_cells(pairs)

    def ratio_cross_entropy(self, logits: Affine, entries: Entries) -> torch.Tensor:
        """(..., B) nats: how far observed ratios psi are from the usage p that the logits stand for.

        ``-sum psi log p`` over observed junctions where p is a softmax inside events, else the binary
        ``-sum psi log p + (1 - psi) log(1 - p)``.
        """
        at = splicing.entry_logits(logits.h, logits.weight, logits.bias, entries)
        if self.usage_is_softmax:
            log_p = splicing.event_log_softmax(at, entries.pair, len(entries.total))
            of_entries = -entries.psi * log_p
        else:
            psi = entries.psi.expand_as(at)
            of_entries = F.binary_cross_entropy_with_logits(at, psi, reduction="none")
        sums = of_entries.new_zeros(*at.shape[:-1], entries.shape[0])
        return sums.index_add(-1, entries.cell, of_entries)

    def _phi_prior(self, n_cells: int) -> torch.Tensor | float:
        """Penalty on the concentrations, scaled to a loss per cell."""
        options = self.options
        if options.phi_prior == "none" or self.log_phi_j is None:
            return 0.0
        if options.phi_prior == "l2_log":
            return options.lambda_prior * self.log_phi_j.square().sum() / n_cells
        n_obs, log_phi = max(options.n_obs, n_cells), self.log_phi()
        if options.phi_prior == "gamma":
            log_density = (
                options.phi_prior_shape - 1
            ) * log_phi - options.phi_prior_rate * log_phi.exp()
            return -log_density.sum() / n_obs
        return (self.log_phi_j - self.phi_centre).square().sum() / (2 * n_obs)

    def get_reconstruction_loss_expression(
        self,
        x: torch.Tensor,
        px_rate: torch.Tensor,
        px_r: Any,
        px_dropout: Any,
    ) -> torch.Tensor:
        """Negative log-likelihood of gene counts (B, G) given their parameters, (B,), nats."""
        dense = x if x.layout == torch.strided else x.to_dense()
        px = self.count_head.likelihood.of_means(px_rate, px_r, px_dropout)
        return -px.log_prob(dense).sum(-1)

    def get_reconstruction_loss_splicing(
        self,
        x: torch.Tensor | None,
        atse_counts: torch.Tensor,
        junc_counts: torch.Tensor,
        mask: torch.Tensor,
        p: torch.Tensor,
        phi: torch.Tensor | None,
    ) -> torch.Tensor:
        """Negative log-likelihood of junction counts given their usage, (B,), nats.

        Parameters
        ----------
        x
            Not used.
        atse_counts, junc_counts, mask, p
            (B, J) reads of the event, of the junction, whether observed, expected ratio.
        phi
            Concentration: a scalar, (A,) or (J,).
        """
        of_junctions = self._by_junction(phi)
        if self.options.splicing_loss_type != "dirichlet_multinomial":
            return -dense.junctions_alone(
                self.options, atse_counts, junc_counts, mask, p, of_junctions
            )
        membership = self.junc2atse
        assert membership is not None  # the constructor asked for events
        return -dense.dirichlet_multinomial(
            junc_counts, atse_counts, membership, p * of_junctions, mask
        )

    def _by_junction(self, phi: torch.Tensor | None) -> torch.Tensor:
        events = self.event_map
        phi = torch.zeros(()) if phi is None else torch.as_tensor(phi)
        if phi.dim() and events is not None and len(phi) == events.n_events:
            return phi[events.of_junction]
        return phi

    def dirichlet_multinomial_likelihood(
        self,
        counts: torch.Tensor,
        atse_counts: torch.Tensor,
        junc2atse: torch.Tensor,
        alpha: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Dirichlet-multinomial log-likelihood of each cell, (B,), nats.

        Parameters
        ----------
        counts, atse_counts, alpha
            (B, J) reads of the junction, of its event, and concentrations > 0.
        junc2atse
            (J, A) membership, sparse or dense.
        mask
            (B, J) observed junctions; an event must be observed as a whole.
        """
        return dense.dirichlet_multinomial(counts, atse_counts, junc2atse, alpha, mask)
