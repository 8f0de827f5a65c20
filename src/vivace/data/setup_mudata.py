"""Describe a MuData of gene and junction counts: what ``setup_mudata`` does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from vivace._types import Keys
from vivace.data.columns import column, read_keys, read_names, text_of
from vivace.data.matrices import (
    ROWS_AT_ONCE,
    as_matrix,
    find_matrix,
    layer_names,
    name_of,
    read_matrix,
    row_totals,
)
from vivace.data.paired import for_all_cells, modality, size_factors
from vivace.data.schema import Field, Schema
from vivace.data.setup import CATEGORICAL, CONTINUOUS, covariates, matrix_field, one_column
from vivace.data.sources import on_disk, open_source
from vivace.data.sources.canonical import canonical
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
    keys = read_names(
        rna_layer=rna_layer,
        junc_counts_layer=junc_counts_layer,
        batch_key=batch_key,
        labels_key=labels_key,
        size_factor_key=size_factor_key,
    )
    genes = modality(mdata, names["rna_layer"], "rna_layer")
    junctions = modality(mdata, names["junc_ratio_layer"], "junc_ratio_layer")
    counts_layer = keys["junc_counts_layer"]
    if counts_layer is None and JUNCTION_LAYER in junctions.layers:
        counts_layer = JUNCTION_LAYER
    expression, of_genes = read_matrix(genes, rna_layer, "whole", argument="rna_layer")
    given = (atse_counts_layer, junc_ratio_layer, psi_mask_layer)
    of_junctions = junction_field(
        junctions, names["junc_ratio_layer"], counts_layer, given, event_key, drop=drop_singletons
    )
    fields = [
        matrix_field(Keys.X, rna_layer, of_genes, modality=names["rna_layer"]),
        of_junctions,
        Field(Keys.CELL_INDEX, "index"),
        one_column(mdata, Keys.BATCH, batch_key, "batch_key"),
        one_column(mdata, Keys.LABELS, labels_key, "labels_key"),
        *covariates(mdata, categorical_covariate_keys, continuous_covariate_keys),
    ]
    if size_factor_key is not None:
        expressed = row_totals(for_all_cells(expression, genes, mdata)) > 0
        fields.append(size_factor_field(mdata, size_factor_key, expressed))
    setup_args = {
        **keys,
        "junc_counts_layer": counts_layer,
        "categorical_covariate_keys": read_keys(CATEGORICAL, categorical_covariate_keys),
        "continuous_covariate_keys": read_keys(CONTINUOUS, continuous_covariate_keys),
        "modalities": names,
        "event_key": event_key,
        "drop_singletons": drop_singletons,
    }
    gene_names = tuple(map(str, genes.var_names))
    return Schema(model, gene_names, tuple(fields), setup_args, of_junctions.expected == "whole")


def derived_layers(junctions: Any, given: Sequence[str | None]) -> dict[str, str]:
    """Totals, ratios and mask, which follow from counts: layers that the user gave or that are usual."""
    totals, ratios, mask = given
    there = {
        "totals": _given_or_there(junctions, totals, (TOTAL_LAYER,), "atse_counts_layer"),
        "ratios": _given_or_there(junctions, ratios, (), "junc_ratio_layer"),
        "mask": _given_or_there(junctions, mask, MASK_LAYERS, "psi_mask_layer"),
    }
    return {what: layer for what, layer in there.items() if layer is not None}


def junction_field(
    junctions: Any,
    name: str,
    counts_layer: str | None,
    given: Sequence[str | None],
    event_key: str,
    *,
    drop: bool,
) -> Field:
    """Junction counts and their events, checked, of the modality with this name.

    Parameters
    ----------
    given
        Layers that the user named for totals, ratios and mask.
    drop
        Leave out junctions that are alone in their event.
    """
    # counts that are no whole numbers are warned of below, in the words of splicing
    _, facts = read_matrix(junctions, counts_layer, "counts", argument="junc_counts_layer")
    events = event_ids(junctions, event_key)
    codes = np.unique(events, return_inverse=True)[1]
    derived = derived_layers(junctions, given)
    n_empty, reads = look_at_events(junctions, counts_layer, codes, derived)
    kept = kept_junctions(codes, drop_singletons=drop)
    warn_of_splicing(junctions, n_empty, reads, event_key, whole=facts.whole)
    categories = (tuple(junctions.var_names[kept]), tuple(events[kept]))
    return matrix_field(Keys.JUNCTIONS, counts_layer, facts, modality=name, categories=categories)


def size_factor_field(mdata: Any, key: str, expressed: np.ndarray) -> Field:
    """Size factors from obs or obsm, refused where they cannot be used."""
    size_factors(mdata, key, expressed)
    return Field(Keys.SIZE_FACTOR, "obsm" if key in mdata.obsm else "numeric", (key,))


def exact_blocks(
    part: Any, layers: Mapping[str, str | None]
) -> Iterator[dict[str, sparse.csr_array]]:
    """Matrices of a modality, CSR float64, in blocks of cells: one in memory, as they are stored."""
    found = {what: find_matrix(part, layer) for what, layer in layers.items()}
    if all(on_disk(matrix) is None for matrix in found.values()):
        exact = {k: canonical(matrix, name_of(layers[k])) for k, matrix in found.items()}
        yield {what: sparse.csr_array(m, dtype=np.float64) for what, m in exact.items()}
        return
    sources = {what: open_source(matrix) for what, matrix in found.items()}
    for start in range(0, part.n_obs, ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, part.n_obs))
        read = {what: as_matrix(source.read(rows)) for what, source in sources.items()}
        yield {what: sparse.csr_array(m, dtype=np.float64) for what, m in read.items()}


def look_at_events(
    junctions: Any, counts_layer: str | None, codes: np.ndarray, derived: Mapping[str, str]
) -> tuple[int, np.ndarray]:
    """Number of cells without reads, and reads of each event (A,); the layers given besides are checked."""
    for what in ("totals", "ratios"):
        if what in derived:
            read_matrix(junctions, derived[what], "counts")
    n_empty, reads = 0, np.zeros(codes.max() + 1)
    for block in exact_blocks(junctions, {"counts": counts_layer, **derived}):
        counts = block.pop("counts")
        check_derived_layers(counts, codes, block, derived)
        n_empty += int((counts.sum(axis=1) == 0).sum())
        reads += np.bincount(codes, counts.sum(axis=0), len(reads))
    return n_empty, reads


def event_ids(junctions: Any, event_key: str) -> np.ndarray:
    """Event of each junction, (J,) text; none may be missing."""
    events = column(junctions.var, event_key, "event_key", "splicing.var")
    if events.isna().any():
        first = junctions.var_names[events.isna().to_numpy()][0]
        msg = (
            f'splicing.var["{event_key}"] is missing for {int(events.isna().sum())} junctions, such as '
            f'"{first}"; give each an event or drop them'
        )
        raise InvalidDataError(msg)
    if isinstance(events.dtype, pd.CategoricalDtype):
        unused = len(events.cat.categories) - events.nunique()
        if unused:
            _warn(f'splicing.var["{event_key}"] has {unused} unused categories; they are left out')
    return np.array([text_of(event) for event in events])


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
    counts: sparse.csr_array,
    codes: np.ndarray,
    given: Mapping[str, sparse.csr_array],
    names: Mapping[str, str],
) -> None:
    """Refuse layers that disagree with what the junction counts and events say.

    Parameters
    ----------
    counts
        (n, J) of junctions.
    codes
        (J,) event of each.
    given
        (n, J) "totals", "ratios" and "mask" of the same cells, those that there are.
    names
        What their layers are called.

    Raises
    ------
    InvalidDataError
        Naming the layer and what is wrong with it.
    """
    if not given:
        return
    truth = expand_events(event_totals(counts, codes), codes)
    if "totals" in given:
        _check_totals(given["totals"], counts, truth, names["totals"])
    if "mask" in given:
        _check_mask(given["mask"], truth, names["mask"])
    if "ratios" in given:
        inverse = truth.copy()
        inverse.data = 1 / inverse.data
        if abs(given["ratios"] - counts * inverse).max() > 1e-4:
            msg = (
                f'layer "{names["ratios"]}" is not the reads of a junction over those of its event'
            )
            raise InvalidDataError(msg)


def _check_totals(
    given: sparse.csr_array, counts: sparse.csr_array, truth: sparse.csr_array, name: str
) -> None:
    if (counts - given).max() > 1e-6:
        msg = f'layer "{name}": a junction has more reads than its event'
        raise InvalidDataError(msg)
    if abs(given - truth).max() > 1e-6:
        msg = (
            f'layer "{name}" must hold, on every junction of an event, the sum of the reads of its '
            "junctions; it does not (totals differ inside an event, or are no sums)"
        )
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
    junctions: Any, n_empty: int, reads: np.ndarray, event_key: str, *, whole: bool
) -> None:
    """Warn of what weakens a model without making it wrong."""
    if not whole:
        _warn("junction counts are not whole numbers; raw reads are expected")
    if n_empty:
        _warn(f"{n_empty} of {junctions.n_obs} cells have no observed event")
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
        raise missing_key(argument, layer, "splicing.layers", layer_names(junctions))
    return layer


def _warn(message: str) -> None:
    warnings.warn(message, VivaceWarning, stacklevel=5)
