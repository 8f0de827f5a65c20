"""Describe a MuData of gene and junction counts: what ``setup_mudata`` does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from vivace._types import Keys
from vivace.data.checks import check_finite, get_matrix, is_integer
from vivace.data.paired import modality, obsm_column
from vivace.data.schema import Field, Schema, categorical_field, numeric_field
from vivace.errors import InvalidDataError, VivaceWarning, missing_key

MODALITIES = {"rna_layer": "rna", "junc_ratio_layer": "splicing"}
JUNCTION_LAYER = "cell_by_junction_matrix"
TOTAL_LAYER = "cell_by_cluster_matrix"
MASK_LAYERS = ("psi_mask", "mask")


def splicing_schema(
    mdata: Any,
    model: str,
    *,
    rna_layer: str | None = None,
    junc_ratio_layer: str | None = None,
    atse_counts_layer: str | None = None,
    junc_counts_layer: str | None = None,
    psi_mask_layer: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    modalities: Mapping[str, str] | None = None,
    labels_key: str | None = None,
    event_key: str = "event_id",
    drop_singletons: bool = False,
) -> Schema:
    """Check a MuData and describe it; see ``SPLICEVI.setup_mudata``."""
    names = {**MODALITIES, **dict(modalities or {})}
    genes = modality(mdata, names["rna_layer"], "rna_layer")
    junctions = modality(mdata, names["junc_ratio_layer"], "junc_ratio_layer")
    counts_layer = junc_counts_layer
    if counts_layer is None and JUNCTION_LAYER in junctions.layers:
        counts_layer = JUNCTION_LAYER
    check_finite(get_matrix(genes, rna_layer, "rna_layer"), "the expression layer")
    counts = get_matrix(junctions, counts_layer, "junc_counts_layer")
    check_finite(counts, f'the junction counts ("{counts_layer or "X"}")')
    events = event_ids(junctions, event_key)
    codes = np.unique(events, return_inverse=True)[1]
    counts = sparse.csr_array(counts, dtype=np.float64)
    check_derived_layers(
        junctions,
        counts,
        codes,
        totals=_given_or_there(junctions, atse_counts_layer, (TOTAL_LAYER,), "atse_counts_layer"),
        ratios=_given_or_there(junctions, junc_ratio_layer, (), "junc_ratio_layer"),
        mask=_given_or_there(junctions, psi_mask_layer, MASK_LAYERS, "psi_mask_layer"),
    )
    kept = kept_junctions(codes, drop_singletons=drop_singletons)
    warn_of_splicing(junctions, counts, codes, event_key)
    layers = [() if layer is None else (layer,) for layer in (rna_layer, counts_layer)]
    fields = [
        Field(Keys.X, "matrix", layers[0]),
        Field(
            Keys.JUNCTIONS,
            "matrix",
            layers[1],
            (tuple(map(str, junctions.var_names[kept])), tuple(map(str, events[kept]))),
        ),
        Field(Keys.CELL_INDEX, "index"),
        *_covariates(
            mdata, batch_key, labels_key, categorical_covariate_keys, continuous_covariate_keys
        ),
    ]
    if size_factor_key is not None:
        fields.append(_size_factor(mdata, genes, rna_layer, size_factor_key))
    setup_args = {
        "rna_layer": rna_layer,
        "junc_counts_layer": counts_layer,
        "batch_key": batch_key,
        "labels_key": labels_key,
        "size_factor_key": size_factor_key,
        "categorical_covariate_keys": list(categorical_covariate_keys or []),
        "continuous_covariate_keys": list(continuous_covariate_keys or []),
        "modalities": names,
        "event_key": event_key,
        "drop_singletons": drop_singletons,
    }
    gene_names = tuple(map(str, genes.var_names))
    return Schema(model, gene_names, tuple(fields), setup_args, is_integer(counts))


def _covariates(mdata, batch_key, labels_key, categorical, continuous) -> list[Field]:
    fields = []
    for key, column, argument in (
        (Keys.BATCH, batch_key, "batch_key"),
        (Keys.LABELS, labels_key, "labels_key"),
    ):
        empty = Field(key, "categorical")
        fields.append(
            empty if column is None else categorical_field(mdata.obs, key, [column], argument)
        )
    if categorical:
        argument = "categorical_covariate_keys"
        fields.append(categorical_field(mdata.obs, Keys.CAT_COVS, list(categorical), argument))
    if continuous:
        argument = "continuous_covariate_keys"
        fields.append(numeric_field(mdata.obs, Keys.CONT_COVS, list(continuous), argument))
    return fields


def _size_factor(mdata: Any, genes: Any, rna_layer: str | None, key: str) -> Field:
    """A size factor from ``obsm`` or ``obs``, positive wherever there is expression."""
    in_obsm = key in mdata.obsm
    if not in_obsm and key not in mdata.obs:
        have = [*mdata.obsm, *mdata.obs.columns]
        raise missing_key("size_factor_key", key, "mdata.obsm and mdata.obs", have)
    values = obsm_column(mdata, key) if in_obsm else mdata.obs[key].to_numpy(dtype=np.float64)
    totals = np.asarray(get_matrix(genes, rna_layer).sum(axis=1)).ravel()
    rows = genes.obs_names.get_indexer(mdata.obs_names)
    expressed = (rows >= 0) & (totals[rows] > 0)
    if not np.isfinite(values[expressed]).all() or (values[expressed] <= 0).any():
        msg = f'size_factor_key="{key}" must be finite and > 0 in every cell with expression'
        raise InvalidDataError(msg)
    return Field(Keys.SIZE_FACTOR, "obsm" if in_obsm else "numeric", (key,))


def event_ids(junctions: Any, event_key: str) -> np.ndarray:
    """Event of each junction, (J,) text; none may be missing."""
    if event_key not in junctions.var:
        raise missing_key("event_key", event_key, "splicing.var", junctions.var.columns)
    column = junctions.var[event_key]
    if column.isna().any():
        first = junctions.var_names[column.isna().to_numpy()][0]
        msg = (
            f'splicing.var["{event_key}"] is missing for {int(column.isna().sum())} junctions, such as '
            f'"{first}"; give each an event or drop them'
        )
        raise InvalidDataError(msg)
    if isinstance(column.dtype, pd.CategoricalDtype):
        unused = len(column.cat.categories) - column.nunique()
        if unused:
            _warn(f'splicing.var["{event_key}"] has {unused} unused categories; they are left out')
    return column.astype(str).to_numpy()


def kept_junctions(codes: np.ndarray, *, drop_singletons: bool) -> np.ndarray:
    """Positions of the junctions to model; warns of events with one junction, which say nothing."""
    single = np.bincount(codes)[codes] == 1
    if drop_singletons and single.all():
        msg = "every event has a single junction, whose ratio is 1 whatever happens"
        raise InvalidDataError(msg)
    if single.any() and not drop_singletons:
        _warn(
            f"{int(single.sum())} events have a single junction, whose ratio is always 1; they teach the "
            "model nothing (drop_singletons=True leaves them out)"
        )
    return np.flatnonzero(~single) if drop_singletons else np.arange(len(codes))


def event_totals(counts: sparse.csr_array, codes: np.ndarray) -> sparse.csr_array:
    """(N, A) reads of events from (N, J) reads of junctions; work follows the non-zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> event_totals(sparse.csr_array(np.array([[3.0, 0.0, 1.0]])), np.array([0, 1, 0])).toarray()
    array([[4., 0.]])
    """
    n = len(codes)
    membership = sparse.csr_array((np.ones(n), (np.arange(n), codes)), shape=(n, codes.max() + 1))
    totals = sparse.csr_array(counts @ membership)
    totals.eliminate_zeros()
    return totals


def expand_events(totals: sparse.csr_array, codes: np.ndarray) -> sparse.csr_array:
    """(N, J) with the value of each event on all its junctions, from (N, A)."""
    n = len(codes)
    membership = sparse.csr_array((np.ones(n), (codes, np.arange(n))), shape=(totals.shape[1], n))
    return sparse.csr_array(totals @ membership)


def check_derived_layers(
    junctions: Any,
    counts: sparse.csr_array,
    codes: np.ndarray,
    *,
    totals: str | None,
    ratios: str | None,
    mask: str | None,
) -> None:
    """Refuse layers that disagree with what the junction counts and events say.

    Raises
    ------
    InvalidDataError
        Naming the layer and what is wrong with it.
    """
    if totals is None and ratios is None and mask is None:
        return
    truth = expand_events(event_totals(counts, codes), codes)
    if totals is not None:
        given = sparse.csr_array(junctions.layers[totals], dtype=np.float64)
        check_finite(given, f'layer "{totals}"')
        if (counts - given).max() > 1e-6:
            msg = f'layer "{totals}": a junction has more reads than its event'
            raise InvalidDataError(msg)
        if abs(given - truth).max() > 1e-6:
            msg = (
                f'layer "{totals}" must hold, on every junction of an event, the sum of the reads of its '
                "junctions; it does not (totals differ inside an event, or are no sums)"
            )
            raise InvalidDataError(msg)
    if mask is not None:
        _check_mask(sparse.csr_array(junctions.layers[mask], dtype=np.float64), truth, mask)
    if ratios is not None:
        given = sparse.csr_array(junctions.layers[ratios], dtype=np.float64)
        check_finite(given, f'layer "{ratios}"')
        inverse = truth.copy()
        inverse.data = 1 / inverse.data
        if abs(given - counts * inverse).max() > 1e-4:
            msg = f'layer "{ratios}" is not the reads of a junction over those of its event'
            raise InvalidDataError(msg)


def _check_mask(given: sparse.csr_array, truth: sparse.csr_array, name: str) -> None:
    given.eliminate_zeros()
    if given.nnz and not (given.data == 1).all():
        msg = f'layer "{name}" must hold 0 and 1 only'
        raise InvalidDataError(msg)
    seen = truth.copy()
    seen.data[:] = 1
    if (given - seen).max() > 0:
        msg = f'layer "{name}" marks junctions as observed whose event has no reads'
        raise InvalidDataError(msg)
    if (seen - given).max() > 0:
        msg = (
            f'layer "{name}" hides junctions of events that have reads; an event is observed as a whole. '
            "To hide events, set their reads to 0"
        )
        raise InvalidDataError(msg)


def warn_of_splicing(
    junctions: Any, counts: sparse.csr_array, codes: np.ndarray, event_key: str
) -> None:
    """Warn of what weakens a model without making it wrong."""
    if not is_integer(counts):
        _warn("junction counts are not whole numbers; raw reads are expected")
    n_empty = int((counts.sum(axis=1) == 0).sum())
    if n_empty:
        _warn(f"{n_empty} of {junctions.n_obs} cells have no observed event")
    reads = np.bincount(codes, weights=counts.sum(axis=0))
    n_never = int((reads == 0).sum())
    if n_never:
        _warn(f'{n_never} events of splicing.var["{event_key}"] are never observed')


def _given_or_there(
    junctions: Any, layer: str | None, usual: Sequence[str], argument: str
) -> str | None:
    """The layer the user named, or a usual one that is there."""
    if layer is None:
        return next((name for name in usual if name in junctions.layers), None)
    if layer not in junctions.layers:
        raise missing_key(argument, layer, "splicing.layers", junctions.layers)
    return layer


def _warn(message: str) -> None:
    warnings.warn(message, VivaceWarning, stacklevel=4)
