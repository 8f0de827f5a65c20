"""Differential expression: which genes differ between groups of cells, and by how much.

Any model that can draw normalised expression of given cells takes part: it passes a function. Each
group's draws are made once and serve every comparison; the rest of a one-against-rest comparison is
drawn from the pool of the other groups, weighted by their sizes.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from inspect import signature
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse

from vivace._arguments import LEVEL, read_number, read_option
from vivace.analysis.change import (
    REPORTED,
    ChangeFn,
    DomainFn,
    bayes_factor,
    beyond,
    check_domain,
    estimate_delta,
    estimate_pseudocount,
    false_discovery_mask,
    log_fold_change,
    probability,
    summarise,
)
from vivace.analysis.groups import Comparison, Plan
from vivace.data.sources.normalise import TARGET
from vivace.errors import InvalidArgumentError, VivaceWarning, check_choice, nearest

DrawScales: TypeAlias = Callable[[np.ndarray, int | None], np.ndarray]
"""(rows, batch code or None for the observed one) to (n, G): one posterior draw for each row."""
CountBlocks: TypeAlias = Callable[[np.ndarray], Iterable[Any]]
"""Rows to their raw counts in blocks, each scipy CSR or dense."""
Batches: TypeAlias = Sequence[int | None]

GENES_AT_ONCE = 128
"""Genes compared at a time, so that the draws of both sides stay in the processor's cache."""
MOST_IN_MEMORY = 2 * 2**30
"""Bytes of draws beyond which they are kept in a temporary file."""


@dataclass(frozen=True)
class DifferentialOptions:
    """How two groups are compared.

    Attributes
    ----------
    mode
        "vanilla": probability that one group expresses a gene more; "change": probability that
        the log2 fold change is at least ``delta``.
    delta
        Relevant log2 fold change; None estimates it.
    all_stats
        Add statistics of the raw counts.
    fdr_target
        Expected share of false discoveries among the genes marked (change mode).
    n_samples_overall
        Draws M for each side.
    use_permutation, m_permutation
        Compare this many random pairs of draws, instead of draw by draw.
    change_fn
        ``f(scale1, scale2, pseudocount)`` on (M, G) arrays; default the log2 fold change.
    m1_domain_fn
        ``f(change)`` to two boolean arrays (increased, decreased); default beyond ``delta``.
    pseudocounts
        Added to both scales, 0 for nothing; None estimates it from genes that are not expressed.
    threshold_counts
        A gene with a smaller raw mean is not expressed in a group.
    test_mode
        "three" (the likelier of up and down) or "two" (their sum).
    cred_interval_lvls
        Levels of highest-density intervals of the fold change to report.

    Raises
    ------
    InvalidArgumentError
        If a value is out of range or a function takes another number of arguments.
    """

    mode: str = "vanilla"
    delta: float | None = 0.25
    all_stats: bool = True
    fdr_target: float = 0.05
    n_samples_overall: int = 5000
    use_permutation: bool = False
    m_permutation: int = 10_000
    change_fn: ChangeFn | str | None = None
    m1_domain_fn: DomainFn | None = None
    pseudocounts: float | None = None
    threshold_counts: float = 0.01
    test_mode: str = "three"
    cred_interval_lvls: Sequence[float] | float | None = None

    def __post_init__(self):
        check_choice("mode", self.mode, ("vanilla", "change"))
        check_choice("test_mode", self.test_mode, ("two", "three"))
        if isinstance(self.change_fn, str):
            check_choice("change_fn", self.change_fn, ("log-fold",))
        for name, n_arguments in (("change_fn", 3), ("m1_domain_fn", 1)):
            _check_arity(name, getattr(self, name), n_arguments)
        for field in fields(self):
            value = read_option(field.name, getattr(self, field.name), field.default)
            object.__setattr__(self, field.name, value)
        for level in self.levels:
            read_number("cred_interval_lvls", level, LEVEL)

    @property
    def levels(self) -> list[float]:
        """Levels of credible intervals as a list."""
        return list(np.atleast_1d(self.cred_interval_lvls or []))

    @property
    def change(self) -> ChangeFn:
        """The measure of change."""
        return self.change_fn if callable(self.change_fn) else log_fold_change

    @classmethod
    def from_kwargs(cls, **kwargs: Any) -> DifferentialOptions:
        """Options by name; an unknown one raises with the nearest known name."""
        known = [f.name for f in fields(cls)]
        for name in kwargs:
            if name not in known:
                msg = f'differential expression has no option "{name}". {nearest(name, known)}'
                raise InvalidArgumentError(msg)
        return cls(**kwargs)


def _check_arity(name: str, function: Any, n_arguments: int) -> None:
    if function is None or isinstance(function, str):
        return
    if not callable(function):
        msg = f"{name} must be a function, got {type(function).__name__}"
        raise InvalidArgumentError(msg)
    if len(signature(function).parameters) != n_arguments:
        msg = f"{name} must take {n_arguments} argument{'s' if n_arguments > 1 else ''}"
        raise InvalidArgumentError(msg)


def differential_expression(
    draw_scales: DrawScales,
    count_blocks: CountBlocks,
    var_names: Sequence[str] | pd.Index,
    plan: Plan,
    *,
    options: DifferentialOptions | None = None,
    batches1: Batches = (None,),
    batches2: Batches = (None,),
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Compare groups of cells gene by gene.

    Parameters
    ----------
    draw_scales
        ``f(rows, batch)``: one posterior draw of the normalised expression of each row, (n, G); rows
        repeat. ``batch`` is the code to decode for, None for the observed one.
    count_blocks
        ``f(rows)``: raw counts of the rows, block by block.
    var_names
        Names of the G genes.
    plan
        Of :func:`vivace.analysis.groups.make_plan`.
    options
        How to compare.
    batches1, batches2
        Batch codes to decode each side for; ``(None,)`` decodes for the observed ones. With equal
        sets, draws are paired inside each batch.
    rng
        Chooses cells and pairs.

    Returns
    -------
    One row a gene and comparison, genes by descending probability (change) or Bayes factor
    (vanilla) inside each comparison. Columns: the probabilities and ``bayes_factor`` (natural log);
    ``scale1`` and ``scale2`` mean normalised expression; in change mode ``pseudocounts``, ``delta``
    and the log2 fold change's mean, median, std, min, max (and intervals), computed with 1e-3 of the
    pseudocount that the probabilities are computed with; statistics of the raw counts;
    ``is_de_fdr_<target>``; ``comparison, group1, group2`` if groups have names. In ``attrs["n_cells"]``:
    name of each comparison to the cells of either side, of which fewer than ten say little.

    References
    ----------
    Boyeau et al. 2019, Deep generative models for detecting differential expression in single cells.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from vivace.analysis.groups import make_plan
    >>> counts = np.array([[9.0, 1.0], [8.0, 2.0], [1.0, 9.0]])
    >>> table = differential_expression(
    ...     lambda rows, batch: counts[rows] / 10,
    ...     lambda rows: [counts[rows]],
    ...     ["gene_a", "gene_b"],
    ...     make_plan(pd.DataFrame({"kind": ["x", "x", "y"]}), "kind"),
    ... )
    >>> table.loc["gene_a", ["proba_m1", "comparison"]].values.tolist()
    [[1.0, 'x vs Rest'], [0.0, 'y vs Rest']]
    """
    options = options or DifferentialOptions()
    rng = np.random.default_rng(0) if rng is None else rng
    _warn_of_batches(batches1, batches2, options.n_samples_overall)
    draws = draw_sets(draw_scales, plan, len(var_names), options, batches1, batches2, rng)
    raw = [RawStatistics.of(count_blocks(rows), len(var_names)) for rows in plan.sets]
    tables, n_cells = [], {}
    for comparison in plan.comparisons:
        pairs = draws.pairs(comparison, options, rng)
        raw1, raw2 = (
            RawStatistics.union(raw[i] for i in side)
            for side in (comparison.first, comparison.second)
        )
        columns = compare(draws.values, *pairs, raw1, raw2, options)
        tables.append(_table(columns, var_names, comparison, options))
        n_cells[comparison.name] = (raw1.n_cells, raw2.n_cells)
    table = pd.concat(tables)
    table.attrs["n_cells"] = n_cells
    return table


def _warn_of_batches(batches1: Batches, batches2: Batches, n_samples: int) -> None:
    n_batches = max(len(batches1), len(batches2))
    if n_samples < n_batches:
        msg = f"{n_samples} draws are fewer than the {n_batches} batches; taking 2 a batch"
        warnings.warn(msg, VivaceWarning, stacklevel=4)
    if set(batches1) != set(batches2) and set(batches1) & set(batches2):
        msg = "the two sides share some batches but not all: draws are paired across batches"
        warnings.warn(msg, VivaceWarning, stacklevel=4)


# draws ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draws:
    """Posterior draws of all sets side by side.

    Attributes
    ----------
    values
        (G, total) expression; a gene's draws lie together.
    columns
        (set, batch) to the range of its columns.
    sizes
        Cells in each set.
    batches1, batches2
        Batches of either side.
    """

    values: np.ndarray
    columns: dict[tuple[int, int | None], range]
    sizes: list[int]
    batches1: Batches
    batches2: Batches

    def pairs(
        self, comparison: Comparison, options: DifferentialOptions, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns of the draws that are compared, two (M,) arrays."""
        first = [
            self._side(comparison.first, b, self.batches1, options, rng) for b in self.batches1
        ]
        second = [
            self._side(comparison.second, b, self.batches2, options, rng) for b in self.batches2
        ]
        if set(self.batches1) != set(self.batches2):
            first, second = [np.concatenate(first)], [np.concatenate(second)]
        if options.use_permutation:
            m = _share(options.m_permutation, len(first))
            first = [rng.choice(columns, m) for columns in first]
            second = [rng.choice(columns, m) for columns in second]
        columns1, columns2 = np.concatenate(first), np.concatenate(second)
        n = min(len(columns1), len(columns2))
        return columns1[:n], columns2[:n]

    def _side(
        self,
        sets: tuple[int, ...],
        batch: int | None,
        batches: Batches,
        options: DifferentialOptions,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Columns of n draws from the union of some sets, decoded for one batch."""
        n = _share(options.n_samples_overall, len(batches))
        if len(sets) == 1:
            return np.asarray(self.columns[sets[0], batch])[:n]
        sizes = np.array([self.sizes[i] for i in sets], dtype=float)
        starts = np.array([self.columns[i, batch].start for i in sets])
        chosen = rng.choice(len(sets), n, p=sizes / sizes.sum())
        return starts[chosen] + rng.integers(n, size=n)


def draw_sets(
    draw_scales: DrawScales,
    plan: Plan,
    n_genes: int,
    options: DifferentialOptions,
    batches1: Batches,
    batches2: Batches,
    rng: np.random.Generator,
) -> Draws:
    """Draw every set of cells once for each batch that it is decoded for."""
    needed: dict[tuple[int, int | None], int] = {}
    for comparison in plan.comparisons:
        for side, batches in ((comparison.first, batches1), (comparison.second, batches2)):
            n = _share(options.n_samples_overall, len(batches))
            for key in ((i, b) for i in side for b in batches):
                needed[key] = max(n, needed.get(key, 0))
    values = _room((n_genes, sum(needed.values())))
    columns, end = {}, 0
    for (i, batch), n in needed.items():
        columns[i, batch] = range(end, end + n)
        rows = plan.sets[i][np.sort(rng.integers(len(plan.sets[i]), size=n))]
        order = rng.permutation(n)  # rows are read in order, but pairs must not be
        values[:, end + order] = draw_scales(rows, batch).T
        end += n
    return Draws(values, columns, [len(rows) for rows in plan.sets], batches1, batches2)


def _share(n: int, n_batches: int) -> int:
    """Draws of one batch; two if there are fewer draws than batches."""
    return n // n_batches or 2


def _room(shape: tuple[int, int]) -> np.ndarray:
    if 4 * shape[0] * shape[1] <= MOST_IN_MEMORY:
        return np.empty(shape, dtype=np.float32)
    with tempfile.TemporaryFile() as handle:  # gone as soon as the array is
        return np.memmap(handle, np.float32, "w+", shape=shape)


# raw counts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RawStatistics:
    """Sums over the cells of a group: counts, non-zero entries, counts per 10,000; each (G,)."""

    n_cells: int
    counts: np.ndarray
    nonzero: np.ndarray
    normalised: np.ndarray

    @classmethod
    def of(cls, blocks: Iterable[Any], n_genes: int) -> RawStatistics:
        """Of blocks of raw counts. An empty cell adds nothing."""
        n, sums = 0, np.zeros((3, n_genes))
        for block in blocks:
            block = sparse.csr_array(block, dtype=np.float64)
            totals = block.sum(axis=1)
            factor = np.divide(TARGET, totals, out=np.zeros_like(totals), where=totals > 0)
            rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
            for i, weights in enumerate((block.data, block.data != 0, block.data * factor[rows])):
                sums[i] += np.bincount(block.indices, weights, n_genes)
            n += block.shape[0]
        return cls(n, *sums)

    @classmethod
    def union(cls, parts: Iterable[RawStatistics]) -> RawStatistics:
        """Of disjoint groups together."""
        parts = list(parts)
        return cls(
            sum(p.n_cells for p in parts),
            *(sum(getattr(p, name) for p in parts) for name in ("counts", "nonzero", "normalised")),
        )

    @property
    def means(self) -> np.ndarray:
        """(3, G) mean count, share of cells with the gene, mean count per 10,000."""
        return np.stack([self.counts, self.nonzero, self.normalised]) / self.n_cells


# comparing --------------------------------------------------------------------------------------


def compare(
    values: np.ndarray,
    columns1: np.ndarray,
    columns2: np.ndarray,
    raw1: RawStatistics,
    raw2: RawStatistics,
    options: DifferentialOptions,
) -> dict[str, Any]:
    """Columns of the table for one comparison; ``values`` (G, total), pairs of its columns."""
    means1, means2 = raw1.means, raw2.means
    if options.mode == "vanilla":
        found = _by_blocks(values, columns1, columns2, len(values), _vanilla)
    else:
        found = _change(values, columns1, columns2, means1[0], means2[0], options)
    if options.all_stats:
        names = ("raw_mean", "non_zeros_proportion", "raw_normalized_mean")
        for name, one, two in zip(names, means1, means2, strict=True):
            found |= {f"{name}1": one, f"{name}2": two}
    if options.mode == "change":
        mask = false_discovery_mask(found["proba_de"], options.fdr_target)
        found[f"is_de_fdr_{options.fdr_target}"] = mask
    return found


def _vanilla(scale1: np.ndarray, scale2: np.ndarray) -> dict[str, np.ndarray]:
    p = (scale1 > scale2).mean(-1)
    return {
        "proba_m1": p,
        "proba_m2": 1 - p,
        "bayes_factor": bayes_factor(p),
        "scale1": scale1.mean(-1),
        "scale2": scale2.mean(-1),
    }


def _change(
    values: np.ndarray,
    columns1: np.ndarray,
    columns2: np.ndarray,
    mean1: np.ndarray,
    mean2: np.ndarray,
    options: DifferentialOptions,
) -> dict[str, Any]:
    # a function of the user's may look at all genes at once, and expects (M, G)
    own = callable(options.change_fn) or options.m1_domain_fn is not None
    size = len(values) if own else GENES_AT_ONCE
    pseudocount = options.pseudocounts
    if pseudocount is None:
        maxima = _by_blocks(values, columns1, columns2, size, _maxima)
        silent1, silent2 = mean1 < options.threshold_counts, mean2 < options.threshold_counts
        pseudocount = estimate_pseudocount(maxima["first"], maxima["second"], silent1, silent2)

    def change(scale1: np.ndarray, scale2: np.ndarray, c: float) -> np.ndarray:
        return np.asarray(options.change(scale1.T, scale2.T, c)).T

    delta = options.delta
    if delta is None:
        means = _by_blocks(
            values,
            columns1,
            columns2,
            size,
            lambda a, b: {"mean": change(a, b, pseudocount).mean(-1)},
        )
        delta = estimate_delta(means["mean"])
    domain = beyond(delta) if options.m1_domain_fn is None else options.m1_domain_fn

    def block(scale1: np.ndarray, scale2: np.ndarray) -> dict[str, Any]:
        up, down = check_domain(domain(change(scale1, scale2, pseudocount).T), scale1.T.shape)
        p = probability(up, down, options.test_mode)
        reported = np.ascontiguousarray(change(scale1, scale2, REPORTED * pseudocount))
        return {
            "proba_de": p,
            "proba_not_de": 1 - p,
            "bayes_factor": bayes_factor(p),
            "scale1": scale1.mean(-1),
            "scale2": scale2.mean(-1),
            "pseudocounts": np.full(len(p), pseudocount),
            "delta": np.full(len(p), delta),
            **summarise(reported, options.levels),
        }

    return _by_blocks(values, columns1, columns2, size, block)


def _maxima(scale1: np.ndarray, scale2: np.ndarray) -> dict[str, np.ndarray]:
    return {"first": scale1.max(-1), "second": scale2.max(-1)}


def _by_blocks(
    values: np.ndarray,
    columns1: np.ndarray,
    columns2: np.ndarray,
    size: int,
    function: Callable[[np.ndarray, np.ndarray], dict[str, Any]],
) -> dict[str, Any]:
    """Apply a function of (g, M) draws of both sides to blocks of genes and join its columns."""
    parts = [
        function(block.take(columns1, 1), block.take(columns2, 1))
        for block in (values[i : i + size] for i in range(0, len(values), size))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _table(
    columns: dict[str, Any],
    var_names: Sequence[str] | pd.Index,
    comparison: Comparison,
    options: DifferentialOptions,
) -> pd.DataFrame:
    table = pd.DataFrame(columns, index=pd.Index(var_names))
    by = "bayes_factor" if options.mode == "vanilla" else "proba_de"
    table = table.sort_values(by, ascending=False, kind="stable")
    if comparison.names is not None:
        one, two = comparison.names
        table = table.assign(comparison=comparison.name, group1=one, group2=two)
    return table
