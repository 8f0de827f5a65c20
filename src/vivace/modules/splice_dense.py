"""Splicing likelihoods of whole matrices, for callers that have usage instead of logits."""

from __future__ import annotations

import torch

from vivace._types import Keys
from vivace.errors import InvalidArgumentError
from vivace.kernels import splicing
from vivace.kernels.splicing import Entries, Events
from vivace.likelihoods import BetaBinomial, DirichletMultinomial
from vivace.likelihoods.dirichlet_multinomial import event_sums
from vivace.modules.splice_options import SpliceOptions


def dirichlet_multinomial(
    counts: torch.Tensor,
    atse_counts: torch.Tensor,
    junc2atse: torch.Tensor,
    alpha: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Dirichlet-multinomial log-likelihood of each cell, (B,), nats; see the module's method."""
    membership = junc2atse.to_dense() if junc2atse.layout != torch.strided else junc2atse
    index, n_events = membership.argmax(1), membership.shape[1]
    totals = atse_counts.new_zeros(len(counts), n_events)
    totals = totals.scatter_reduce(1, index.expand_as(atse_counts), atse_counts, "amax")
    if mask is not None:
        seen = (mask > 0).to(counts)
        found = event_sums(seen, index, n_events)
        if ((found > 0) & (found < torch.bincount(index, minlength=n_events))).any():
            msg = "mask hides some junctions of an observed event; hide or show whole events"
            raise InvalidArgumentError(msg)
        counts, totals = counts * seen, totals * (found > 0)
    totals = totals[:, : int(index.max()) + 1]  # trailing events without junctions have no reads
    return DirichletMultinomial(totals, alpha, index, validate_args=False).log_prob(counts)


def junctions_alone(
    options: SpliceOptions,
    atse_counts: torch.Tensor,
    junc_counts: torch.Tensor,
    mask: torch.Tensor,
    p: torch.Tensor,
    phi: torch.Tensor | None,
) -> torch.Tensor:
    """Binomial or beta-binomial log-likelihood of each cell, (B,), nats; ``phi`` by junction."""
    seen = (mask > 0) & (atse_counts > 0)  # selected, not multiplied: 0 * inf is no number
    y, n = junc_counts[seen], atse_counts[seen]
    eps = torch.finfo(p.dtype).eps
    share = p[seen].clamp(eps, 1 - eps)
    if options.splicing_loss_type == "beta_binomial":
        of = torch.as_tensor(phi).expand_as(p)[seen]
        values = BetaBinomial(n, share * of, (1 - share) * of, validate_args=False).log_prob(y)
    else:
        values = y * share.log() + (n - y) * torch.log1p(-share)
        if options.include_normalizer:
            values = values + torch.lgamma(n + 1) - torch.lgamma(y + 1) - torch.lgamma(n - y + 1)
    cell = torch.nonzero(seen, as_tuple=True)[0]
    return values.new_zeros(len(p)).index_add(0, cell, values)


def ratio_entries(
    ratios: torch.Tensor | None, mask: torch.Tensor | None, events: Events | None
) -> Entries:
    """Observed entries of ratios (B, J) whose counts are not known: the reads of an event total 1.

    Without a mask, an event is observed in a cell where one of its ratios is above 0.
    """
    if ratios is None:
        msg = (
            f'the minibatch says nothing of splicing: give junction counts as "{Keys.JUNCTIONS}", or '
            f'ratios as "{Keys.RATIOS}"'
        )
        raise InvalidArgumentError(msg)
    if mask is not None:
        whole, seen = (t if t.layout == torch.strided else t.to_dense() for t in (ratios, mask))
        index = None if events is None else events.of_junction
        entries = splicing.dense_entries(whole, torch.ones_like(whole), seen, index)
        check_closed(entries, events)
        return entries
    if events is None:
        msg = (
            f'without event_index, ratios need "{Keys.PSI_MASK}" (B, J): which of them are observed'
        )
        raise InvalidArgumentError(msg)
    entries = splicing.observed_entries(ratios, events)
    return entries._replace(total=torch.ones_like(entries.total))


def check_closed(entries: Entries, events: Events | None) -> None:
    """Refuse events of which a cell shows some junctions only: their likelihood is no probability."""
    if events is None:
        return
    sizes = events.start.diff()[entries.pair_event]
    if (entries.start.diff() != sizes).any():
        msg = "the mask hides some junctions of an observed event; hide or show whole events"
        raise InvalidArgumentError(msg)
