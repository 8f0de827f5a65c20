"""Simulated splicing: junction counts as sparse as in Smart-seq2 beside gene counts of the same
cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vivace._mudata import columns_stay
from vivace.datasets._cells import (
    Array,
    check_at_least,
    check_positive,
    codes_to_categories,
    names,
)
from vivace.datasets.batches import simulate_batches
from vivace.errors import InvalidArgumentError

if TYPE_CHECKING:
    import mudata


def simulate_splicing(
    *,
    n_cells: int = 1500,
    n_genes: int = 500,
    seed: int = 0,
    n_events: int = 1000,
    n_types: int = 4,
    n_groups: int = 3,
    differential_fraction: float = 0.4,
    observed: float = 0.04,
    reads: float = 5.0,
    concentration: float = 15.0,
    library_median: float = 1000.0,
) -> mudata.MuData:
    """Cells whose types differ in expression and whose groups differ in splicing only.

    Gene counts come from :func:`~vivace.datasets.batches.simulate_batches` with one batch. Each
    event (2 to 8 junctions) belongs to a gene and is seen in a cell with a probability that grows
    with the abundance of the gene and the depth of the cell, ``observed`` on average; a seen event
    has 1 + Poisson reads. Junction reads are Dirichlet-multinomial around the usage (PSI) of the
    cell's group; usage differs between groups in a part of the events and is equal in the others.

    Parameters
    ----------
    n_cells, n_genes, n_events, n_types, n_groups
        Sizes: N, G, events A, cell types, splice groups (independent of the types).
    seed
        Seed of all draws.
    differential_fraction
        Fraction of events whose usage differs between groups.
    observed
        Expected fraction of (cell, event) pairs with at least one read.
    reads
        Mean reads of a seen event.
    concentration
        Concentration of the Dirichlet around the usage; larger is less over-dispersed.
    library_median
        Median of the expected gene counts of a cell.

    Returns
    -------
    MuData with modalities

    * ``rna``: as ``simulate("batches")`` without batch effects, raw counts in ``X``
    * ``splicing``: junction counts in ``X`` (CSR float32), event totals repeated on each
      junction of the event in ``layers["cell_by_cluster_matrix"]``; ``var``: ``event_id``,
      ``gene``, ``is_differential``; ``varm["psi_truth"]``: DataFrame (J, groups), sums to 1 over
      an event

    and the labels ``cell_type`` and ``splice_group`` in ``obs``.

    Raises
    ------
    InvalidArgumentError
        A size or fraction is out of its range.

    Examples
    --------
    >>> mdata = simulate_splicing(n_cells=30, n_genes=10, n_events=12)
    >>> list(mdata.mod), mdata["splicing"].var["event_id"].nunique()
    (['rna', 'splicing'], 12)
    """
    check_at_least(1, n_events=n_events, n_groups=n_groups)
    check_positive(observed=observed, concentration=concentration)
    if observed >= 1 or reads < 1:
        msg = f"observed={observed}, reads={reads} were given; expected observed < 1 <= reads."
        raise InvalidArgumentError(msg)
    rna = simulate_batches(
        n_cells=n_cells, n_genes=n_genes, seed=seed, n_types=n_types, n_batches=1,
        batch_effect=0.0, library_median=library_median,
    )  # fmt: skip
    del rna.obs["batch"], rna.varm["batch_effect"]
    rng = np.random.default_rng([seed, 2])  # apart from the stream that drew the cells
    gene = rng.integers(n_genes, size=n_events)
    events = Events.draw(rng, n_events, n_groups, differential_fraction)
    group = rng.permutation(np.arange(n_cells) % n_groups)
    abundance = rna.varm["type_expression"].mean(axis=1).to_numpy()[gene]
    pairs = _seen_pairs(rng, rna.obs["library"].to_numpy(), abundance, observed)
    splicing = _count_junctions(rng, events, group, pairs, reads, concentration)
    event_names = names("event", n_events)
    splicing.var["event_id"] = event_names[events.of_junction]
    splicing.var["gene"] = rna.var_names.to_numpy()[gene][events.of_junction]
    splicing.obs_names = rna.obs_names
    labels = pd.DataFrame(
        {
            "cell_type": rna.obs.pop("cell_type"),
            "splice_group": codes_to_categories(group, names("group", n_groups)),
        },
        index=rna.obs_names,
    )
    import mudata  # slow to import

    with columns_stay():
        mdata = mudata.MuData({"rna": rna, "splicing": splicing})
        mdata.obs = labels
    return mdata


@dataclass(frozen=True)
class Events:
    """Events, their junctions (stored one event after the other), and usage per group."""

    size: Array  # (A,) junctions of each event
    psi: Array  # (groups, J)
    differential: Array  # (A,) bool

    @property
    def of_junction(self) -> Array:
        """(J,) event of each junction."""
        return np.repeat(np.arange(len(self.size)), self.size)

    @property
    def start(self) -> Array:
        """(A,) first junction of each event."""
        return np.cumsum(self.size) - self.size

    @classmethod
    def draw(
        cls, rng: np.random.Generator, n_events: int, n_groups: int, fraction: float
    ) -> Events:
        """Draw sizes (mostly 2 and 3), logits of usage, and their differences between groups."""
        chance = np.array([8.0, 5.0, 3.0, 2.0, 1.0, 1.0, 1.0])
        size = rng.choice(np.arange(2, 9), n_events, p=chance / chance.sum())
        differential = rng.random(n_events) < fraction
        of_junction = np.repeat(np.arange(n_events), size)
        logit = rng.normal(0.0, 1.0, len(of_junction))
        change = rng.normal(0.0, 2.0, (n_groups, len(of_junction)))
        e = np.exp(logit + np.where(differential[of_junction], change, 0.0))
        total = np.add.reduceat(e, np.cumsum(size) - size, axis=1)
        return cls(size, e / total[:, of_junction], differential)


def _seen_pairs(
    rng: np.random.Generator, library: Array, abundance: Array, observed: float
) -> tuple[Array, Array]:
    """Cells and events of the observed pairs.

    An event is seen with probability 1 - exp(-c * abundance * depth); c is solved for the mean
    asked for.
    """
    depth = library / library.mean()
    weight = np.sqrt(abundance / abundance.mean())  # flatter than expression: rare genes count too
    some = np.outer(rng.choice(depth, 500), rng.choice(weight, 500))
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        if np.mean(-np.expm1(-middle * some)) < observed:
            low = middle
        else:
            high = middle
    rate = weight * high
    cells, events = [], []
    step = max(1, 4_000_000 // len(weight))
    for start in range(0, len(depth), step):
        chance = -np.expm1(-np.outer(depth[start : start + step], rate))
        rows, columns = np.nonzero(rng.random(chance.shape) < chance)
        cells.append(rows + start)
        events.append(columns)
    return np.concatenate(cells), np.concatenate(events)


def _count_junctions(
    rng: np.random.Generator,
    events: Events,
    group: Array,
    pairs: tuple[Array, Array],
    reads: float,
    concentration: float,
) -> anndata.AnnData:
    """Dirichlet-multinomial junction reads of the observed pairs as an AnnData."""
    cell, event = pairs
    total = 1 + rng.poisson(reads - 1, len(cell))
    size = events.size[event]
    owner = np.repeat(np.arange(len(cell)), size)  # pair of each entry
    first = np.cumsum(size) - size
    junction = events.start[event][owner] + np.arange(len(owner)) - first[owner]
    psi = events.psi[group[cell][owner], junction]
    gamma = rng.standard_gamma(concentration * psi) + 1e-12
    usage = gamma / np.add.reduceat(gamma, first)[owner] if len(owner) else gamma
    reads_of = _multinomial(rng, total, usage, first, size)
    shape = (len(group), len(events.of_junction))
    counts = sp.csr_matrix((reads_of.astype(np.float32), (cell[owner], junction)), shape=shape)
    counts.eliminate_zeros()
    totals = sp.csr_matrix((total[owner].astype(np.float32), (cell[owner], junction)), shape=shape)
    var = pd.DataFrame(
        {"is_differential": events.differential[events.of_junction]},
        index=pd.Index(names("junction", shape[1])),
    )
    adata = anndata.AnnData(counts, var=var, layers={"cell_by_cluster_matrix": totals})
    columns = list(names("group", len(events.psi)))
    adata.varm["psi_truth"] = pd.DataFrame(events.psi.T, index=var.index, columns=columns)
    return adata


def _multinomial(
    rng: np.random.Generator, total: Array, usage: Array, first: Array, size: Array
) -> Array:
    """Split the total of each pair over its junctions, one binomial a slot over all pairs."""
    out = np.zeros(len(usage), np.int64)
    left, mass = total.copy(), np.ones(len(total))
    for slot in range(size.max(initial=0)):
        active = np.flatnonzero(size > slot)
        entry = first[active] + slot
        chance = np.clip(usage[entry] / np.maximum(mass[active], 1e-12), 0.0, 1.0)
        chance[size[active] == slot + 1] = 1.0  # the last junction takes what is left
        out[entry] = rng.binomial(left[active], chance)
        left[active] -= out[entry]
        mass[active] -= usage[entry]
    return out
