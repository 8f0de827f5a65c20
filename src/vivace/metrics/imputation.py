"""How well hidden splicing events are predicted, beside the baselines that any model has to beat."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import gammaln

from vivace._mudata import columns_stay
from vivace.errors import InvalidArgumentError, missing_key

SMALLEST = 1e-3
"""Predicted ratios are kept this far from 0 and 1 where their logarithm is taken."""
PRIOR_READS = 1.0
"""Reads of the mean of all cells that the mean of a group starts from."""


class PredictsUsage(Protocol):
    """What the comparison asks of a model of splicing; :class:`vivace.SPLICEVI` is one."""

    adata: Any
    schema: Any

    @property
    def train_indices(self) -> np.ndarray | None:
        """Rows the model was trained on."""

    @property
    def event_codes(self) -> np.ndarray:
        """(J,) number of the event of each junction."""

    @property
    def event_names(self) -> pd.Index:
        """(J,) event of each junction."""

    @property
    def junction_names(self) -> pd.Index:
        """(J,) junctions."""

    def get_junction_counts(self, adata: Any = None) -> sparse.csr_array:
        """Reads of junctions, (N, J)."""

    def get_normalized_splicing(self, adata: Any = None, *args: Any, **which: Any) -> Any:
        """Predicted usage, each between 0 and 1."""


def hide_events(
    counts: Any, event_index: np.ndarray, fraction: float, seed: int = 0
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Hide a fraction of the observed events of every cell, whole events at a time.

    Parameters
    ----------
    counts
        (N, J) reads of junctions.
    event_index
        (J,) event of each junction.
    fraction
        In (0, 1); of n observed events, ``max(1, floor(fraction * n))`` are hidden.
    seed
        Seed of the draw.

    Returns
    -------
    Reads that stay and reads that are hidden, two (N, J) CSR arrays that add up to ``counts``.

    Examples
    --------
    >>> import numpy as np
    >>> kept, hidden = hide_events(np.array([[3, 1, 2, 0]]), np.array([0, 0, 1, 1]), 0.5)
    >>> (kept + hidden).toarray().tolist(), int((hidden.toarray()[0, :2] > 0).sum()) in (0, 2)
    ([[3.0, 1.0, 2.0, 0.0]], True)
    """
    if not 0 < fraction < 1:
        msg = f"fraction={fraction} must lie in (0, 1)"
        raise InvalidArgumentError(msg)
    counts = sparse.csr_array(counts, dtype=np.float64)
    counts.eliminate_zeros()
    event_index = np.asarray(event_index)
    n_events = int(event_index.max()) + 1
    cell = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    pairs, back = np.unique(cell * n_events + event_index[counts.indices], return_inverse=True)
    of_cell = pairs // n_events
    order = np.lexsort((np.random.default_rng(seed).random(len(pairs)), of_cell))
    n_seen = np.bincount(of_cell, minlength=counts.shape[0])
    rank = np.arange(len(pairs)) - np.repeat(np.cumsum(n_seen) - n_seen, n_seen)
    n_hidden = np.minimum(n_seen, np.maximum(1, np.floor(fraction * n_seen)))
    hide = np.zeros(len(pairs), dtype=bool)
    hide[order] = rank < n_hidden[of_cell[order]]
    parts = []
    for chosen in (~hide[back], hide[back]):
        data = np.where(chosen, counts.data, 0.0)
        part = sparse.csr_array((data, counts.indices, counts.indptr), shape=counts.shape)
        part = part.copy()
        part.eliminate_zeros()
        parts.append(part)
    return parts[0], parts[1]


def imputation_scores(
    predicted: np.ndarray,
    reads: np.ndarray,
    totals: np.ndarray,
    junction: np.ndarray,
    pair: np.ndarray,
) -> dict[str, float]:
    """Errors of predicted ratios at hidden entries.

    Parameters
    ----------
    predicted
        (M,) ratios in [0, 1].
    reads, totals
        (M,) reads of the junction and of its event.
    junction, pair
        (M,) junction, and hidden (cell, event) pair, of each entry.

    Returns
    -------
    ``mae``, ``rmse`` of ratios; ``pearson``, ``spearman`` over all entries; ``within_junction``:
    Pearson correlation after taking out every junction's mean, which a prediction that is the same in
    all cells cannot reach; ``log_likelihood``: mean over entries of psi log p + (1 - psi) log(1 - p);
    ``log_likelihood_read``: multinomial log-likelihood per hidden read. Nats, higher is better.
    """
    from scipy.stats import spearmanr  # slow to import

    psi = reads / totals
    p = np.clip(predicted, SMALLEST, 1 - SMALLEST)
    constant = np.ptp(predicted) == 0 or np.ptp(psi) == 0
    read_likelihood = (reads * np.log(p)).sum() - gammaln(reads + 1).sum()
    n_of_pair = np.zeros(int(pair.max()) + 1)
    n_of_pair[pair] = totals
    read_likelihood += gammaln(n_of_pair + 1).sum()
    return {
        "mae": float(np.abs(predicted - psi).mean()),
        "rmse": float(np.sqrt(np.square(predicted - psi).mean())),
        "pearson": np.nan if constant else float(np.corrcoef(predicted, psi)[0, 1]),
        "spearman": np.nan if constant else float(spearmanr(predicted, psi).statistic),
        "within_junction": within_groups(predicted, psi, junction),
        "log_likelihood": float((psi * np.log(p) + (1 - psi) * np.log(1 - p)).mean()),
        "log_likelihood_read": float(read_likelihood / n_of_pair.sum()),
    }


def within_groups(a: np.ndarray, b: np.ndarray, group: np.ndarray) -> float:
    """Pearson correlation of deviations from group means; missing if either has none.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([0.0, 1.0, 10.0, 11.0])
    >>> within_groups(x, -x, np.array([0, 0, 1, 1]))
    -1.0
    """
    n = np.maximum(np.bincount(group), 1)
    a = a - (np.bincount(group, a) / n)[group]
    b = b - (np.bincount(group, b) / n)[group]
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread > 1e-12 else np.nan


def group_means(
    counts: sparse.csr_array, event_index: np.ndarray, group: np.ndarray, n_groups: int
) -> np.ndarray:
    """Read-weighted mean ratios of each group, (n_groups, J), starting from the mean of all cells."""
    n_junctions, n_events = counts.shape[1], int(event_index.max()) + 1
    member = sparse.csr_array(
        (np.ones(len(group)), (group, np.arange(len(group)))), shape=(n_groups, len(group))
    )
    reads = (member @ counts).toarray()
    totals = np.stack([np.bincount(event_index, r, n_events) for r in reads])[:, event_index]
    whole, of_event = reads.sum(0), np.bincount(event_index, reads.sum(0), n_events)[event_index]
    sizes = np.bincount(event_index, minlength=n_events)[event_index]
    overall = (whole + PRIOR_READS / sizes) / (of_event + PRIOR_READS)
    assert overall.shape == (n_junctions,)
    return (reads + PRIOR_READS * overall) / (totals + PRIOR_READS)


def psi_imputation(
    model: PredictsUsage,
    mdata: Any = None,
    *,
    fraction: float = 0.25,
    indices: Any = None,
    groupby: str | None = None,
    n_samples: int = 25,
    seed: int = 0,
) -> pd.DataFrame:
    """Hide a part of the observed events, predict them, and compare with baselines.

    The model sees the expression and what is left of the splicing of each cell. Baselines are
    read-weighted means over the cells the model was trained on: of each junction ("junction mean"), and
    of each junction in a group ("group mean"), both of which see whole cells.

    Parameters
    ----------
    model
        A trained :class:`vivace.SPLICEVI`.
    mdata
        Cells to test on; default the model's own.
    fraction
        Of the observed events of each cell that is hidden, in (0, 1).
    indices
        Rows of ``mdata`` to test on; default the cells the model was not trained on, if there are any
        and ``mdata`` is its own.
    groupby
        Column of ``obs`` for the group mean.
    n_samples
        Draws of each cell's latent state that predicted usage is averaged over, as in
        :meth:`vivace.SPLICEVI.impute_splicing`. With 1 the mean state is decoded, which is as if it
        were known: where most events are hidden, such predictions are over-confident.
    seed
        Seed of the draw.

    Returns
    -------
    DataFrame with a row for "model", "junction mean" and, with ``groupby``, "group mean", columns as in
    :func:`imputation_scores` and ``n_entries``.

    Raises
    ------
    MissingKeyError
        If ``groupby`` is no column.

    Examples
    --------
    >>> import vivace
    >>> mdata = vivace.datasets.simulate(
    ...     "splicing", n_cells=100, n_genes=20, n_events=20, observed=0.4
    ... )
    >>> vivace.SPLICEVI.setup_mudata(mdata)
    >>> model = vivace.SPLICEVI(mdata, n_hidden=8, n_latent=2)
    >>> model.train(max_epochs=1, progress=False)
    >>> list(psi_imputation(model, groupby="splice_group").index)
    ['model', 'junction mean', 'group mean']
    """
    own = model.adata
    data = own if mdata is None else mdata
    train = model.train_indices
    if indices is None and data is own and train is not None and len(train) < data.n_obs:
        indices = np.setdiff1d(np.arange(data.n_obs), train)
    rows = np.arange(data.n_obs) if indices is None else np.asarray(indices)
    events = model.event_codes
    counts = model.get_junction_counts(data)[rows]
    kept, hidden = hide_events(counts, events, fraction, seed)
    cell, junction, reads, totals, pair = hidden_entries(hidden, events)
    masked = with_junction_counts(model, data, rows, kept)
    at = {"entries": (cell, junction), "n_samples": n_samples}
    means = {"model": model.get_normalized_splicing(masked, **at)}
    learned = model.get_junction_counts(own)[np.arange(own.n_obs) if train is None else train]
    one = np.zeros(learned.shape[0], dtype=np.int64)
    means["junction mean"] = group_means(learned, events, one, 1)[0, junction]
    if groupby is not None:
        if groupby not in data.obs:
            raise missing_key("groupby", groupby, "mdata.obs", data.obs.columns)
        names = own.obs[groupby].astype(str).to_numpy()
        known, codes = np.unique(names if train is None else names[train], return_inverse=True)
        of_cell = pd.Index(known).get_indexer(data.obs[groupby].astype(str).to_numpy()[rows])
        by_group = group_means(learned, events, codes, len(known))
        overall = group_means(learned, events, one, 1)
        means["group mean"] = np.vstack([by_group, overall])[of_cell[cell], junction]  # -1: overall
    table = {name: imputation_scores(p, reads, totals, junction, pair) for name, p in means.items()}
    return pd.DataFrame(table).T.assign(n_entries=len(reads))


def hidden_entries(hidden: sparse.csr_array, events: np.ndarray) -> tuple[np.ndarray, ...]:
    """Cell, junction, reads, total and pair of every junction of every hidden event with a choice.

    Events with a single junction are left out: their ratio is 1 whatever happens.
    """
    n_events = int(events.max()) + 1
    order = np.argsort(events, kind="stable")
    sizes = np.bincount(events, minlength=n_events)
    starts = np.cumsum(sizes) - sizes
    row = np.repeat(np.arange(hidden.shape[0]), np.diff(hidden.indptr))
    pairs, back = np.unique(row * n_events + events[hidden.indices], return_inverse=True)
    totals = np.bincount(back, hidden.data, len(pairs))
    choice = sizes[pairs % n_events] > 1
    pairs, totals = pairs[choice], totals[choice]
    size = sizes[pairs % n_events]
    pair = np.repeat(np.arange(len(pairs)), size)
    slot = np.arange(len(pair)) - np.repeat(np.cumsum(size) - size, size)
    cell, junction = (pairs // n_events)[pair], order[starts[pairs % n_events][pair] + slot]
    reads = np.asarray(hidden[cell, junction]).ravel()
    return cell, junction, reads, totals[pair], pair


def with_junction_counts(
    model: PredictsUsage, mdata: Any, rows: np.ndarray, counts: sparse.csr_array
) -> Any:
    """The cells ``rows`` of a MuData with other junction counts, set up as the model needs them."""
    import anndata
    import mudata

    names = model.schema.setup_args["modalities"]
    rna, splicing = names["rna_layer"], names["junc_ratio_layer"]
    chosen = mdata.obs_names[rows]
    genes = mdata.mod[rna]
    genes = genes[genes.obs_names.isin(chosen)].copy()
    var = pd.DataFrame(
        {model.schema.setup_args["event_key"]: model.event_names}, model.junction_names
    )
    layer = model.schema.setup_args["junc_counts_layer"]
    junctions = anndata.AnnData(
        sparse.csr_matrix(counts.astype(np.float32)), pd.DataFrame(index=chosen), var
    )
    if layer is not None:
        junctions.layers[layer] = junctions.X
    with columns_stay():
        masked = mudata.MuData({rna: genes, splicing: junctions})
        masked = masked[chosen].copy()
        masked.obs = mdata.obs.loc[chosen]
    for key in mdata.obsm:
        if key not in mdata.mod:
            masked.obsm[key] = np.asarray(mdata.obsm[key])[rows]
    return masked
