"""Splicing counts on observed entries only: which there are, their logits, their log-likelihood.

Of cells times junctions a few percent are ever observed. An *entry* is a junction of an event with
reads in a cell, a *pair* is such an event and cell. All work and memory here is proportional to the
entries. On the CPU in float32 or float64 the loops are compiled; elsewhere the plain torch twins run.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from vivace.kernels.csr import csr_tensor, is_csr, row_of_value

COMPILED_TYPES = (torch.float32, torch.float64)


@cache
def _rows() -> Any:
    """The compiled loops; they are imported when first used, since compilers are slow to import."""
    from vivace.kernels import splicing_rows

    return splicing_rows


class Events(NamedTuple):
    """Which junctions form which event; build it with :func:`event_map`."""

    of_junction: torch.Tensor  # (J,) event of each junction
    rank: torch.Tensor  # (J,) its position inside the event
    start: torch.Tensor  # (A + 1,) first position of each event in `junctions`
    junctions: torch.Tensor  # (J,) junctions sorted by event

    @property
    def n_events(self) -> int:
        return len(self.start) - 1


def event_map(event_index: torch.Tensor, n_events: int | None = None) -> Events:
    """Junctions by event.

    Parameters
    ----------
    event_index
        (J,) event code of each junction, >= 0.
    n_events
        A; default one more than the largest code.

    Examples
    --------
    >>> import torch
    >>> event_map(torch.tensor([1, 0, 1])).junctions
    tensor([1, 0, 2])
    """
    index = event_index.long()
    n = int(index.max()) + 1 if n_events is None else n_events
    junctions = torch.argsort(index, stable=True)
    start = torch.zeros(n + 1, dtype=torch.long, device=index.device)
    start[1:] = torch.bincount(index, minlength=n).cumsum(0)
    rank = torch.empty_like(index)
    rank[junctions] = torch.arange(len(index), device=index.device) - start[index[junctions]]
    return Events(index, rank, start, junctions)


class Entries(NamedTuple):
    """The observed entries of B cells, sorted by cell and event."""

    shape: tuple[int, int]  # (B, J)
    cell: torch.Tensor  # (E,) row of each entry
    junction: torch.Tensor  # (E,)
    reads: torch.Tensor  # (E,) reads of the junction
    pair: torch.Tensor  # (E,) pair of each entry
    start: torch.Tensor  # (Q + 1,) first entry of each pair
    pair_cell: torch.Tensor  # (Q,)
    pair_event: torch.Tensor  # (Q,)
    total: torch.Tensor  # (Q,) reads of the event

    @property
    def psi(self) -> torch.Tensor:
        """(E,) share of the event's reads that each junction has, in [0, 1]."""
        return self.reads / self.total[self.pair]

    @property
    def n_observed(self) -> torch.Tensor:
        """(B,) number of observed entries of each cell, int64."""
        return torch.bincount(self.cell, minlength=self.shape[0])

    def sum_cells(self, of_pairs: torch.Tensor) -> torch.Tensor:
        """(B,) sums over the pairs (Q,) of each cell."""
        sums = of_pairs.new_zeros(self.shape[0])
        return sums.index_add(0, self.pair_cell, of_pairs)

    def keep(self, pairs: torch.Tensor) -> Entries:
        """The entries of some pairs, given as a mask (Q,)."""
        entries = pairs[self.pair]
        number = pairs.cumsum(0) - 1
        size = self.start.diff()[pairs]
        start = torch.cat([size.new_zeros(1), size.cumsum(0)])
        return Entries(
            self.shape,
            self.cell[entries],
            self.junction[entries],
            self.reads[entries],
            number[self.pair[entries]],
            start,
            self.pair_cell[pairs],
            self.pair_event[pairs],
            self.total[pairs],
        )


def ratio_matrix(
    cell: torch.Tensor, junction: torch.Tensor, psi: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    """CSR tensor (B, J) of the positive ratios; unobserved junctions and zeros are not stored.

    Parameters
    ----------
    cell, junction, psi
        (E,) positions, in order of cells, and ratios.
    shape
        (B, J).

    Examples
    --------
    >>> import torch
    >>> one = torch.tensor([0])
    >>> ratio_matrix(one, one + 1, torch.tensor([0.5]), (1, 3)).to_dense()
    tensor([[0.0000, 0.5000, 0.0000]])
    """
    seen = psi > 0
    cell, junction, psi = cell[seen], junction[seen], psi[seen]
    order = torch.argsort(cell * shape[1] + junction)
    starts = torch.zeros(shape[0] + 1, dtype=torch.long, device=cell.device)
    starts[1:] = torch.bincount(cell, minlength=shape[0]).cumsum(0)
    return csr_tensor(starts, junction[order], psi[order], shape)


# which entries there are ------------------------------------------------------------------------


def observed_entries(counts: torch.Tensor, events: Events) -> Entries:
    """Entries of junction counts: every junction of every event that has a read in the cell.

    Parameters
    ----------
    counts
        (B, J) counts >= 0, CSR or dense.
    events
        Of :func:`event_map`.

    Examples
    --------
    >>> import torch
    >>> entries = observed_entries(
    ...     torch.tensor([[3.0, 0.0, 1.0, 0.0]]), event_map(torch.tensor([0, 0, 0, 1]))
    ... )
    >>> entries.junction, entries.psi
    (tensor([0, 1, 2]), tensor([0.7500, 0.0000, 0.2500]))
    """
    counts = counts if is_csr(counts) else counts.to_sparse_csr()
    if counts.device.type == "cpu" and counts.dtype in COMPILED_TYPES:
        return _compiled_entries(counts, events)
    return reference_entries(counts, events)


def _compiled_entries(counts: torch.Tensor, events: Events) -> Entries:
    csr = [t.numpy() for t in (counts.crow_indices(), counts.col_indices(), counts.values())]
    of, rank, start, junctions = (t.numpy() for t in events)
    q, e = _rows().count_pairs(*csr, of, events.n_events, start)
    dtype = csr[2].dtype
    entry = [
        np.empty(e, np.int64),
        np.empty(e, np.int64),
        np.zeros(e, dtype),
        np.empty(e, np.int64),
    ]
    pairs = [np.empty(n, np.int64) for n in (q + 1, q, q)]
    total = np.zeros(q, dtype)
    _rows().fill_pairs(*csr, of, rank, start, junctions, *entry, *pairs, total)
    shape = (counts.shape[0], counts.shape[1])
    return Entries(shape, *(torch.from_numpy(a) for a in (*entry, *pairs, total)))


def reference_entries(counts: torch.Tensor, events: Events) -> Entries:
    """:func:`observed_entries` of CSR counts in plain torch, on any device."""
    shape = (counts.shape[0], counts.shape[1])
    stored = counts.values() > 0
    cell, junction = row_of_value(counts)[stored], counts.col_indices().long()[stored]
    values = counts.values()[stored]
    key, pair_of = torch.unique(
        cell * events.n_events + events.of_junction[junction], return_inverse=True
    )
    pair_cell, pair_event = key // events.n_events, key % events.n_events
    total = values.new_zeros(len(key)).index_add(0, pair_of, values)
    size = events.start.diff()[pair_event]
    start = torch.cat([size.new_zeros(1), size.cumsum(0)])
    pair = torch.repeat_interleave(torch.arange(len(key), device=key.device), size)
    slot = torch.arange(len(pair), device=key.device) - start[pair]
    count = values.new_zeros(len(pair))
    count.index_add_(0, start[pair_of] + events.rank[junction], values)
    of_entry = events.junctions[events.start[pair_event][pair] + slot]
    return Entries(
        shape, pair_cell[pair], of_entry, count, pair, start, pair_cell, pair_event, total
    )


def dense_entries(
    counts: torch.Tensor,
    totals: torch.Tensor,
    mask: torch.Tensor,
    event_index: torch.Tensor | None = None,
) -> Entries:
    """Entries of dense matrices, for callers that have totals and mask instead of event ids.

    Parameters
    ----------
    counts, totals, mask
        (B, J): reads of the junction, reads of its event, whether it is observed.
    event_index
        (J,) events; without them every entry is a pair of its own.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1, 2)
    >>> dense_entries(one, 2 * one, one, torch.tensor([0, 0])).total
    tensor([2.])
    """
    cell, junction = torch.nonzero((mask > 0) & (totals > 0), as_tuple=True)
    event = junction if event_index is None else event_index[junction]
    n_events = int(event.max()) + 1 if len(event) else 1
    key = cell * n_events + event
    order = torch.argsort(key, stable=True)
    cell, junction = cell[order], junction[order]
    key, pair, size = torch.unique_consecutive(key[order], return_inverse=True, return_counts=True)
    start = torch.cat([size.new_zeros(1), size.cumsum(0)])
    shape = (counts.shape[0], counts.shape[1])
    total = totals[cell, junction][start[:-1]]
    return Entries(
        shape,
        cell,
        junction,
        counts[cell, junction],
        pair,
        start,
        key // n_events,
        key % n_events,
        total,
    )


# logits -----------------------------------------------------------------------------------------


def entry_logits(
    h: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, entries: Entries
) -> torch.Tensor:
    """``h[cell] . weight[junction] + bias[junction]`` of each entry, without the (B, J) product.

    Parameters
    ----------
    h
        (B, K) hidden layer, or (S, B, K).
    weight, bias
        (J, K) and (J,) of the output layer.
    entries
        Of the B cells.

    Returns
    -------
    (E,) or (S, E).
    """
    if h.dim() == 3:
        return torch.stack([entry_logits(one, weight, bias, entries) for one in h])
    if h.device.type == "cpu" and h.dtype in COMPILED_TYPES and h.dtype == weight.dtype:
        return _EntryProducts.apply(h, weight, bias, entries.cell, entries.junction)
    return (h @ weight.t() + bias)[entries.cell, entries.junction]


class _EntryProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h, weight, bias, cell, junction):
        out = torch.empty(len(cell), dtype=h.dtype)
        arrays = [t.detach().contiguous().numpy() for t in (h, weight, bias, cell, junction)]
        _rows().entry_products(*arrays, out.numpy())
        ctx.save_for_backward(h, weight, cell, junction)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor):
        h, weight, cell, junction = ctx.saved_tensors
        by_h, by_weight = torch.zeros_like(h), torch.zeros_like(weight)
        by_bias = weight.new_zeros(len(weight))
        arrays = [t.detach().contiguous().numpy() for t in (grads[0], h, weight, cell, junction)]
        by_h, by_weight = by_h.contiguous(), by_weight.contiguous()
        _rows().entry_products_backward(*arrays, by_h.numpy(), by_weight.numpy(), by_bias.numpy())
        return by_h, by_weight, by_bias, None, None


# likelihoods ------------------------------------------------------------------------------------


def dirichlet_multinomial(
    logits: torch.Tensor, log_phi: torch.Tensor, entries: Entries
) -> torch.Tensor:
    """Dirichlet-multinomial log-likelihood of each pair, means softmaxed inside the event.

    Parameters
    ----------
    logits
        (E,) of the entries.
    log_phi
        Log concentration: a scalar, or (A,) by event.
    entries
        Observed entries.

    Returns
    -------
    (Q,) nats, coefficient and normaliser included.

    References
    ----------
    Mosimann 1962, On the compound multinomial distribution, Biometrika 49:65.

    Examples
    --------
    >>> import torch
    >>> entries = observed_entries(torch.tensor([[1.0, 0.0]]), event_map(torch.tensor([0, 0])))
    >>> dirichlet_multinomial(torch.zeros(2), torch.tensor(3.0), entries).exp()
    tensor([0.5000])
    """
    of_pair = _expand(log_phi, entries.pair_event)
    if _compilable(logits):
        return _Pairs.apply(logits, of_pair.to(logits.dtype), entries)
    return reference_dirichlet_multinomial(logits, of_pair, entries)


def beta_binomial(logits: torch.Tensor, log_phi: torch.Tensor, entries: Entries) -> torch.Tensor:
    """Beta-binomial log-likelihood summed over the entries of each pair.

    Every junction of an event is taken for itself, so that a read counts once a junction.

    Parameters
    ----------
    logits
        (E,) of the entries; the mean is their sigmoid.
    log_phi
        Log concentration: a scalar, or (J,) by junction.
    entries
        Observed entries.

    Returns
    -------
    (Q,) nats.
    """
    of_entry = _expand(log_phi, entries.junction)
    if _compilable(logits):
        values = _BetaBinomial.apply(logits, of_entry.to(logits.dtype), entries)
    else:
        values = reference_beta_binomial(logits, of_entry, entries)
    return values.new_zeros(len(entries.total)).index_add(0, entries.pair, values)


def binomial(logits: torch.Tensor, entries: Entries) -> torch.Tensor:
    """Binomial log-likelihood, coefficient included, summed over the entries of each pair, (Q,)."""
    if _compilable(logits):
        values = _Binomial.apply(logits, entries)
    else:
        values = reference_binomial(logits, entries)
    return values.new_zeros(len(entries.total)).index_add(0, entries.pair, values)


def binomial_coefficient(entries: Entries) -> torch.Tensor:
    """Log binomial coefficients summed over the entries of each pair, (Q,), nats."""
    y, n = entries.reads, entries.total[entries.pair]
    each = torch.lgamma(n + 1) - torch.lgamma(y + 1) - torch.lgamma(n - y + 1)
    return each.new_zeros(len(entries.total)).index_add(0, entries.pair, each)


def _compilable(logits: torch.Tensor) -> bool:
    return logits.device.type == "cpu" and logits.dtype in COMPILED_TYPES and logits.dim() == 1


def _expand(log_phi: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return log_phi.expand(len(index)) if log_phi.dim() == 0 else log_phi.index_select(0, index)


def _numpy(*tensors: torch.Tensor) -> list[np.ndarray]:
    return [t.detach().contiguous().numpy() for t in tensors]


class _Pairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits, log_phi, entries):
        value, by_phi = torch.empty_like(entries.total, dtype=logits.dtype), None
        by_logits, by_phi = torch.empty_like(logits), torch.empty_like(value)
        given = _numpy(logits, entries.reads, entries.start, entries.total, log_phi)
        _rows().dirichlet_multinomial_pairs(*given, *_numpy(value, by_logits, by_phi))
        ctx.save_for_backward(by_logits, by_phi, entries.pair)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor):
        by_logits, by_phi, pair = ctx.saved_tensors
        return by_logits * grads[0][pair], by_phi * grads[0], None


class _BetaBinomial(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits, log_phi, entries):
        value, by_logits, by_phi = (torch.empty_like(logits) for _ in range(3))
        given = _numpy(logits, entries.reads, entries.total[entries.pair], log_phi)
        _rows().beta_binomial_entries(*given, *_numpy(value, by_logits, by_phi))
        ctx.save_for_backward(by_logits, by_phi)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor):
        by_logits, by_phi = ctx.saved_tensors
        return by_logits * grads[0], by_phi * grads[0], None


class _Binomial(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits, entries):
        value, by_logits = torch.empty_like(logits), torch.empty_like(logits)
        given = _numpy(logits, entries.reads, entries.total[entries.pair])
        _rows().binomial_entries(*given, *_numpy(value, by_logits))
        ctx.save_for_backward(by_logits)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor):
        return ctx.saved_tensors[0] * grads[0], None


# the twins in plain torch -----------------------------------------------------------------------


def event_log_softmax(logits: torch.Tensor, pair: torch.Tensor, n_pairs: int) -> torch.Tensor:
    """Log-softmax over the last axis inside groups.

    Parameters
    ----------
    logits
        (..., E).
    pair
        (E,) group of each position.
    n_pairs
        Number of groups.

    Examples
    --------
    >>> import torch
    >>> event_log_softmax(torch.zeros(3), torch.tensor([0, 0, 1]), 2).exp()
    tensor([0.5000, 0.5000, 1.0000])
    """
    flat = logits.movedim(-1, 0)
    index = pair.reshape(-1, *[1] * (flat.dim() - 1)).expand_as(flat)
    low = flat.new_full((n_pairs, *flat.shape[1:]), -math.inf)
    top = low.scatter_reduce(0, index, flat.detach(), "amax")[pair]
    shifted = flat - top
    mass = torch.zeros_like(low).index_add(0, pair, shifted.exp())
    return (shifted - mass.log()[pair]).movedim(0, -1)


def _log_rise(a: torch.Tensor, log_a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``lgamma(a + x) - lgamma(a) - x log(a)`` where ``x > 0``, else 0."""
    seen = x > 0
    safe_x = torch.where(seen, x, torch.ones_like(x))
    value = torch.lgamma(a + safe_x) - torch.lgamma(a + 1) - (safe_x - 1) * log_a
    return torch.where(seen, value, torch.zeros_like(value))


def reference_dirichlet_multinomial(
    logits: torch.Tensor, log_phi: torch.Tensor, entries: Entries
) -> torch.Tensor:
    """Twin of the compiled loop in float64; ``log_phi`` (Q,)."""
    n_pairs, y, n = len(entries.total), entries.reads.double(), entries.total.double()
    log_p = event_log_softmax(logits.double(), entries.pair, n_pairs)
    log_phi = log_phi.double()
    log_a = log_phi[entries.pair] + log_p
    terms = y * log_p + _log_rise(log_a.exp(), log_a, y) - torch.lgamma(y + 1)
    value = torch.lgamma(n + 1) - _log_rise(log_phi.exp(), log_phi, n)
    return value.index_add(0, entries.pair, terms).to(logits.dtype)


def reference_beta_binomial(
    logits: torch.Tensor, log_phi: torch.Tensor, entries: Entries
) -> torch.Tensor:
    """Twin of the compiled loop in float64; ``log_phi`` (E,)."""
    y, n, log_phi = entries.reads.double(), entries.total[entries.pair].double(), log_phi.double()
    yes = torch.nn.functional.logsigmoid(logits.double())
    no = torch.nn.functional.logsigmoid(-logits.double())
    value = reference_binomial(logits.double(), entries)
    value = value + _log_rise((log_phi + yes).exp(), log_phi + yes, y)
    value = value + _log_rise((log_phi + no).exp(), log_phi + no, n - y)
    return (value - _log_rise(log_phi.exp(), log_phi, n)).to(logits.dtype)


def reference_binomial(logits: torch.Tensor, entries: Entries) -> torch.Tensor:
    """Twin of the compiled loop in float64."""
    y, n = entries.reads.double(), entries.total[entries.pair].double()
    x = logits.double()
    coefficient = torch.lgamma(n + 1) - torch.lgamma(y + 1) - torch.lgamma(n - y + 1)
    value = coefficient + y * torch.nn.functional.logsigmoid(x)
    return (value + (n - y) * torch.nn.functional.logsigmoid(-x)).to(logits.dtype)


def sigmoid_dirichlet_multinomial(
    logits: torch.Tensor, log_phi: torch.Tensor, entries: Entries
) -> torch.Tensor:
    """Likelihood of an early published model: concentrations ``phi * sigmoid(logits)``, (Q,) nats.

    They do not sum to ``phi`` over an event, so the concentration of an event varies between cells.
    """
    y, n = entries.reads.double(), entries.total.double()
    of_pair = _expand(log_phi.double(), entries.pair_event)
    log_a = of_pair[entries.pair] + torch.nn.functional.logsigmoid(logits.double())
    a = log_a.exp()
    whole = torch.zeros_like(n).index_add(0, entries.pair, a)
    terms = y * log_a + _log_rise(a, log_a, y) - torch.lgamma(y + 1)
    value = torch.lgamma(n + 1) - n * whole.log() - _log_rise(whole, whole.log(), n)
    return value.index_add(0, entries.pair, terms).to(logits.dtype)
