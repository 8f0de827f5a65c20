"""Differential splicing: whose junction usage differs between groups of cells, and by how much.

Cells of each side are drawn with replacement, each with one draw of its latent state, and kept as the
decoder's last hidden layer. Junctions are then decoded block by block, whole events at a time, so that no
matrix of cells by junctions is ever formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from vivace._arguments import Range, read_number, read_option
from vivace.analysis.change import bayes_factor, beyond, false_discovery_mask, probability
from vivace.analysis.expression import decode
from vivace.analysis.groups import Plan
from vivace.analysis.latent import infer
from vivace.analysis.splicing import junction_phi
from vivace.errors import check_choice
from vivace.kernels import splicing

BLOCK = 2_000_000
"""Numbers (cells times junctions) in a block."""
FUNCTIONS = ("dm_posterior_mean", "decoder")
ROUNDING = 1e-6
"""Smaller differences of usage are none: an event's only junction has usage 1, give or take rounding."""
CELLS_AT_ONCE = 1 << 16
"""Whose reads are in memory together."""


@dataclass(frozen=True)
class SplicingOptions:
    """How two groups are compared.

    Attributes
    ----------
    mode
        "change": probability that the difference of usage is at least ``delta``; "vanilla":
        probability that group 2 uses a junction more. Junctions used less are marked as well.
    delta
        Relevant difference of usage (delta PSI), in [0, 1).
    fdr_target
        Expected share of false discoveries among the junctions marked.
    n_samples_overall
        Draws of either side.
    norm_splicing_function
        "dm_posterior_mean" (expected usage updated with the cell's reads) or "decoder".
    test_mode
        "three": the likelier of up and down; "two": their sum.

    Raises
    ------
    InvalidArgumentError
        If a value is not known or out of range.
    """

    mode: str = "change"
    delta: float = 0.1
    fdr_target: float = 0.05
    n_samples_overall: int = 5000
    norm_splicing_function: str = "dm_posterior_mean"
    test_mode: str = "three"

    def __post_init__(self):
        check_choice("mode", self.mode, ("change", "vanilla"))
        check_choice("test_mode", self.test_mode, ("two", "three"))
        check_choice("norm_splicing_function", self.norm_splicing_function, FUNCTIONS)
        read_number("delta", self.delta, Range(0, 1, below=True))
        for name in ("fdr_target", "n_samples_overall"):
            object.__setattr__(self, name, read_option(name, getattr(self, name)))


@dataclass(frozen=True)
class Drawn:
    """Cells drawn from one set: their rows, and hidden layers (M, K) for each batch decoded for."""

    rows: np.ndarray
    hidden: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor


@torch.inference_mode()
def draw_hidden(
    module: Any, loader: Callable[[np.ndarray], Any], rows: np.ndarray, batch: int | None
) -> Drawn:
    """Hidden layer of the splicing decoder for one latent draw of each row."""
    hidden = []
    for tensors in loader(rows):
        logits = decode(module, tensors, infer(module, tensors), batch)["logits"]
        hidden.append(logits.h.cpu())
    return Drawn(rows, torch.cat(hidden), logits.weight.cpu(), logits.bias.cpu())


def event_blocks(events: splicing.Events, n_cells: int) -> Iterator[np.ndarray]:
    """Junctions of whole events, as many at a time as a block holds; sorted by event."""
    junctions, starts = events.junctions.cpu().numpy(), events.start.cpu().numpy()
    most = max(BLOCK // max(n_cells, 1), 1)
    first = 0
    while first < len(starts) - 1:
        last = max(int(np.searchsorted(starts, starts[first] + most, side="right")) - 1, first + 1)
        block = junctions[starts[first] : starts[last]]
        if len(block):
            yield block
        first = last


@torch.inference_mode()
def block_usage(
    module: Any, drawn: Drawn, block: np.ndarray, reads: sparse.csc_array | None, mode: str
) -> np.ndarray:
    """(M, b) usage of the block's junctions in the drawn cells; the posterior mean needs their reads."""
    events = module.event_map
    columns = torch.from_numpy(block)
    logits = drawn.hidden @ drawn.weight[columns].t() + drawn.bias[columns]
    group, local = torch.unique(events.of_junction.cpu()[columns], return_inverse=True)
    if module.usage_is_softmax:
        p = splicing.event_log_softmax(logits, local, len(group)).exp()
    else:
        p = torch.sigmoid(logits)
    if reads is not None and mode == "dm_posterior_mean":
        phi = junction_phi(module).cpu()
        phi = phi if phi.dim() == 0 else phi[columns]
        counts = torch.from_numpy(reads[:, block].toarray()).to(p)
        totals = p.new_zeros(len(p), len(group)).index_add(1, local, counts)[:, local]
        p = (phi * p + counts) / (phi + totals)
    return p.numpy()


def differential_splicing(
    module: Any,
    loader: Callable[[np.ndarray], Any],
    counts: Callable[[np.ndarray], sparse.csr_array],
    var: pd.DataFrame,
    plan: Plan,
    *,
    options: SplicingOptions | None = None,
    batch: int | None = None,
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Compare groups of cells junction by junction.

    Parameters
    ----------
    module
        Trained module.
    loader
        ``f(rows)``: minibatches of these rows, in order; rows repeat.
    counts
        ``f(rows)``: (n, J) reads of junctions; rows repeat.
    var
        Table of the junctions: index names, ``event_id`` and, if known, ``gene_name``.
    plan
        Of :func:`vivace.analysis.groups.make_plan`.
    options
        How to compare.
    batch
        Batch code to decode both sides for; None for the observed ones.
    rng
        Chooses cells.

    Returns
    -------
    One row a junction and comparison, in the order of ``var``. Differences are group 2 minus group 1:
    ``effect_size = est_prob2 - est_prob1`` of estimated usage, ``emp_effect`` of the plain mean ratio over
    observed cells (``emp_prob1, emp_prob2``, missing where nothing was observed), ``read_effect`` of the
    read-weighted one. ``proba_ds`` and ``is_ds_fdr`` speak of |difference| >= delta; ``event_proba`` is the
    probability that any junction of the event differs so, ``event_effect`` its largest |effect_size|.
    With ``mode="vanilla"``, ``proba_ds`` and ``event_proba`` speak of difference > 0, and ``is_ds_fdr`` marks
    junctions whose difference surely has one sign, whichever.

    References
    ----------
    Boyeau et al. 2019, Deep generative models for detecting differential expression in single cells.
    """
    options = options or SplicingOptions()
    rng = np.random.default_rng(0) if rng is None else rng
    drawn = []
    for rows in plan.sets:
        chosen = rows[np.sort(rng.integers(len(rows), size=options.n_samples_overall))]
        drawn.append(draw_hidden(module, loader, chosen, batch))
    of_junction = module.event_map.of_junction.cpu().numpy()
    raw = [raw_usage(counts, rows, of_junction) for rows in plan.sets]
    tables = []
    for comparison in plan.comparisons:
        pairs = [
            _side(drawn, [len(plan.sets[i]) for i in side], side, rng)
            for side in (comparison.first, comparison.second)
        ]
        table = _compare(module, pairs[0], pairs[1], counts, options, len(var))
        raw1, raw2 = (
            RawUsage.union([raw[i] for i in s]) for s in (comparison.first, comparison.second)
        )
        tables.append(_finish(table, raw1, raw2, var, comparison.names, options))
    return pd.concat(tables)


def _side(
    drawn: list[Drawn], sizes: list[int], side: tuple[int, ...], rng: np.random.Generator
) -> Drawn:
    """Draws of the union of sets, each as often as it has cells, in random order."""
    n = len(drawn[side[0]].rows)
    chosen = (
        rng.choice(len(side), n, p=np.array(sizes) / sum(sizes))
        if len(side) > 1
        else np.zeros(n, int)
    )
    place = rng.permutation(n)
    rows = np.stack([drawn[i].rows for i in side])[chosen, place]
    hidden = torch.stack([drawn[i].hidden for i in side])[
        torch.from_numpy(chosen), torch.from_numpy(place)
    ]
    first = drawn[side[0]]
    return Drawn(rows, hidden, first.weight, first.bias)


def _compare(
    module: Any, one: Drawn, two: Drawn, counts: Any, options: SplicingOptions, n_junctions: int
) -> dict[str, np.ndarray]:
    found = {
        name: np.zeros(n_junctions)
        for name in ("proba_ds", "certainty", "est_prob1", "est_prob2", "event_proba")
    }
    of_junction = module.event_map.of_junction.cpu().numpy()
    needed = options.norm_splicing_function == "dm_posterior_mean"
    reads = [sparse.csc_array(counts(side.rows)) if needed else None for side in (one, two)]
    for block in event_blocks(module.event_map, len(one.rows)):
        usage1, usage2 = (
            block_usage(module, side, block, of_side, options.norm_splicing_function)
            for side, of_side in zip((one, two), reads, strict=True)
        )
        change = usage2 - usage1
        if options.mode == "vanilla":
            changed, down = beyond(ROUNDING)(change)
            found["proba_ds"][block] = changed.mean(0)
            found["certainty"][block] = probability(changed, down, "three")
        else:
            up, down = beyond(options.delta)(change)
            found["proba_ds"][block] = probability(up, down, options.test_mode)
            found["certainty"][block] = found["proba_ds"][block]
            changed = up | down
        starts = np.flatnonzero(np.diff(of_junction[block], prepend=-1))
        anywhere = np.logical_or.reduceat(changed, starts, axis=1).mean(0)
        found["event_proba"][block] = np.repeat(anywhere, np.diff([*starts, len(block)]))
        found["est_prob1"][block], found["est_prob2"][block] = usage1.mean(0), usage2.mean(0)
    return found


def raw_usage(
    counts: Callable[[np.ndarray], sparse.csr_array], rows: np.ndarray, of_junction: np.ndarray
) -> RawUsage:
    """Of a group of cells, which may be too many to be read at once."""
    starts = range(0, max(len(rows), 1), CELLS_AT_ONCE)
    blocks = (counts(rows[start : start + CELLS_AT_ONCE]) for start in starts)
    return RawUsage.union([RawUsage.of(block, of_junction) for block in blocks])


@dataclass(frozen=True)
class RawUsage:
    """Sums over the cells of a group; each (J,): ratios, observed cells, reads, reads of the event."""

    ratios: np.ndarray
    n_observed: np.ndarray
    reads: np.ndarray
    totals: np.ndarray

    @classmethod
    def of(cls, counts: sparse.csr_array, of_junction: np.ndarray) -> RawUsage:
        """Of the cells with these reads."""
        n_junctions, n_events = len(of_junction), int(of_junction.max()) + 1
        cell = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        pairs, back = np.unique(cell * n_events + of_junction[counts.indices], return_inverse=True)
        totals = np.bincount(back, counts.data, len(pairs))
        seen = totals > 0
        event = pairs % n_events
        ratios = np.divide(
            counts.data, totals[back], out=np.zeros(len(back)), where=totals[back] > 0
        )
        return cls(
            np.bincount(counts.indices, ratios, n_junctions),
            np.bincount(event, seen, n_events)[of_junction],
            np.bincount(counts.indices, counts.data, n_junctions),
            np.bincount(event, totals, n_events)[of_junction],
        )

    @classmethod
    def union(cls, parts: list[RawUsage]) -> RawUsage:
        """Of disjoint groups together."""
        names = ("ratios", "n_observed", "reads", "totals")
        return cls(*(np.sum([getattr(p, name) for p in parts], axis=0) for name in names))

    @property
    def mean_ratio(self) -> np.ndarray:
        """Unweighted mean ratio over observed cells; missing where there are none."""
        return _share(self.ratios, self.n_observed)

    @property
    def weighted_ratio(self) -> np.ndarray:
        """Read-weighted mean ratio; missing where there are no reads."""
        return _share(self.reads, self.totals)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _finish(
    found: dict[str, np.ndarray],
    raw1: RawUsage,
    raw2: RawUsage,
    var: pd.DataFrame,
    names: tuple[str, str] | None,
    options: SplicingOptions,
) -> pd.DataFrame:
    p = found["proba_ds"]
    effect = found["est_prob2"] - found["est_prob1"]
    table = pd.DataFrame({"junction_id": var.index.to_numpy()}, index=var.index)
    if "gene_name" in var:
        table["gene_name"] = var["gene_name"].to_numpy()
    table = table.assign(
        proba_ds=p,
        is_ds_fdr=false_discovery_mask(found["certainty"], options.fdr_target),
        bayes_factor=bayes_factor(p),
        effect_size=effect,
        emp_effect=raw2.mean_ratio - raw1.mean_ratio,
        est_prob1=found["est_prob1"],
        est_prob2=found["est_prob2"],
        emp_prob1=raw1.mean_ratio,
        emp_prob2=raw2.mean_ratio,
        n_obs_group1=raw1.n_observed.astype(int),
        n_obs_group2=raw2.n_observed.astype(int),
        read_effect=raw2.weighted_ratio - raw1.weighted_ratio,
        event_id=var["event_id"].to_numpy(),
        event_proba=found["event_proba"],
    )
    largest = table["effect_size"].abs().groupby(table["event_id"].to_numpy()).transform("max")
    table["event_effect"] = largest
    if names is not None:
        table["comparison"] = f"{names[0]} vs {names[1]}"
        table["group1"], table["group2"] = names
    return table
