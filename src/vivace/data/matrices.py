"""Matrices of a data object: the one door from what people bring to what the engine reads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from vivace.data.columns import read_key
from vivace.data.facts import ROWS_AT_ONCE, Facts, look_at
from vivace.data.sources import DiskSource, Rows, Source, on_disk, open_source
from vivace.errors import (
    FractionalCountsWarning,
    InvalidDataError,
    VivaceError,
    VivaceWarning,
    missing_key,
)

RAW = "raw"
"""Name that stands for the counts of ``adata.raw``, unless a layer has it."""
LARGEST_LOG = 20.0
"""Log-normalised values are smaller: exp(20) is 5e8."""
LARGEST_TRAINABLE = 1000.0
"""Beyond it the statistics of batch normalisation cannot follow, and training ends in NaN for some seeds."""
LARGEST = float(np.finfo(np.float32).max)
"""What the engine reads."""


def read_matrix(
    data: Any,
    layer: str | None,
    expected: str,
    *,
    columns: np.ndarray | None = None,
    argument: str = "layer",
) -> tuple[Source, Facts]:
    """The source of a matrix of a data object, its values checked.

    Parameters
    ----------
    data
        (N, G) AnnData, or a modality of a MuData; never modified.
    layer
        Its layer; None for ``X``, "raw" for the counts of ``data.raw``.
    expected
        "whole" (counts; a warning if they are no whole numbers), "counts" (>= 0), "logged"
        (log-normalised) or "numbers".
    columns
        Columns to read, in this order; default all as they are.
    argument
        Argument that named the layer, for messages.

    Raises
    ------
    MissingKeyError
        If there is no such layer.
    InvalidDataError
        If values are missing, infinite, no numbers, or not what is expected; of a file, any of its
        genes, as all are looked at once and then remembered.

    Examples
    --------
    >>> import vivace
    >>> source, facts = read_matrix(vivace.datasets.simulate("batches"), None, "whole")
    >>> facts.smallest, facts.whole
    (1.0, True)
    """
    where = name_of(layer)
    source = open_source(find_matrix(data, layer, argument), columns, where)
    facts = look_at(source)
    check_values(facts, where, expected)
    if expected == "whole" and not facts.whole:
        _warn_of_fractions(data, layer, where)
    return source, facts


def find_matrix(data: Any, layer: str | None, argument: str = "layer") -> Any:
    """``X``, a layer, or the counts of ``raw``, as it is stored."""
    layer = read_key(argument, layer)
    if layer is None:
        if data.X is None:
            named = ", ".join(
                f'{argument}="{name}"' for name in [*layer_names(data), *_raw_of(data)]
            )
            msg = f"adata.X is empty; name the {argument} that holds the counts ({named or 'there is none'})"
            raise InvalidDataError(msg)
        return data.X
    if layer in data.layers:
        return data.layers[layer]
    if layer not in _raw_of(data):
        raise missing_key(argument, layer, "adata.layers", [*layer_names(data), *_raw_of(data)])
    return _raw_matrix(data)


def layer_names(data: Any) -> list[str]:
    """Layers that have a name: anndata lists ``X`` among them, without one, from 0.13 on."""
    return [name for name in data.layers if name is not None]


def name_of(layer: str | None) -> str:
    """What a matrix is called in messages."""
    return "adata.X" if layer is None else f'adata.layers["{layer}"]'


def _raw_of(data: Any) -> tuple[str, ...]:
    return () if getattr(data, "raw", None) is None else (RAW,)


def _raw_matrix(data: Any) -> Any:
    """Counts of ``raw`` for the genes of the object, which may be fewer."""
    have, want = data.raw.var_names, data.var_names
    matrix = data.raw.X
    if have.equals(want):
        return matrix
    if not have.is_unique:
        msg = "adata.raw has duplicate gene names, so that its counts cannot be matched with adata's genes"
        raise InvalidDataError(msg)
    positions = have.get_indexer(want)
    if (positions < 0).any():
        msg = (
            f"{int((positions < 0).sum())} of adata's {len(want)} genes are not in adata.raw, such as "
            f'"{want[int(np.argmax(positions < 0))]}"; both need the same names'
        )
        raise InvalidDataError(msg)
    lazy = on_disk(matrix)
    return data.raw[:, want].X if lazy is None else lazy.choose(positions)


# values -----------------------------------------------------------------------------------------


def check_values(facts: Facts, where: str, expected: str) -> None:
    """Refuse values that are not what is expected; see :func:`read_matrix`."""
    for value in (facts.smallest, facts.largest):
        if not abs(value) <= LARGEST:
            found = "NaN" if np.isnan(value) else "infinite values (or beyond 3.4e38)"
            msg = f"{where} holds {found}; values must be finite" + (
                "" if expected in ("logged", "numbers") else " and >= 0"
            )
            raise InvalidDataError(msg)
    if expected in ("whole", "counts") and facts.smallest < 0:
        msg = (
            f"{where} holds negative values (smallest {facts.smallest:g}); raw counts are needed, "
            "not scaled data: name the layer that holds them"
        )
        raise InvalidDataError(msg)
    if expected == "logged":
        _check_logged(facts, where)


def _check_logged(facts: Facts, where: str) -> None:
    """Refuse raw counts where log-normalised values are expected; warn of values not on a log scale."""
    if facts.whole and facts.smallest >= 0:
        msg = (
            f"{where} holds raw counts, but log-normalised values are expected. Run\n"
            "    scanpy.pp.normalize_total(adata, target_sum=1e4)\n"
            "    scanpy.pp.log1p(adata)\n"
            "first, or pass normalize=True, which does the same inside and leaves adata as it is"
        )
        raise InvalidDataError(msg)
    largest = max(abs(facts.smallest), abs(facts.largest))
    if largest > LARGEST_TRAINABLE:
        msg = (
            f"{where} holds values up to {largest:g}, but log-normalised values, which are below "
            f"{LARGEST_LOG:g}, are expected; run scanpy.pp.log1p(adata) on normalised counts first, or "
            "name the layer that holds log-normalised values"
        )
        raise InvalidDataError(msg)
    if largest > LARGEST_LOG:
        warnings.warn(
            f"{where} holds values up to {largest:g}, which do not look log-transformed; "
            "log-normalised values are expected",
            VivaceWarning,
            stacklevel=5,
        )


def _warn_of_fractions(data: Any, layer: str | None, where: str) -> None:
    found = [
        f'layer="{name}"' for name in layer_names(data) if name != layer and _is_whole(data, name)
    ]
    if layer is not None and data.X is not None and _is_whole(data, None):
        found.append("layer=None")
    if layer != RAW and _raw_of(data) and _is_whole(data, RAW):
        found.append('layer="raw", the counts of adata.raw')
    hint = f"use {' or '.join(found)}" if found else "no layer holds whole numbers"
    warnings.warn(
        f"{where} holds values that are not whole numbers; count models expect raw counts, not "
        f"normalised or log-transformed ones ({hint})",
        FractionalCountsWarning,
        stacklevel=4,
    )


def _is_whole(data: Any, layer: str | None) -> bool:
    """Whether another matrix could be the counts."""
    try:
        facts = look_at(open_source(find_matrix(data, layer)))
    except VivaceError:
        return False
    return facts.whole and facts.smallest >= 0 and facts.largest < np.inf


def warn_of_empty_cells(source: Source) -> None:
    """Warn of cells without counts."""
    empty = look_at(source).empty if isinstance(source, DiskSource) else None  # it remembers
    n_empty = int((row_totals(source) == 0).sum()) if empty is None else empty
    if n_empty:
        warnings.warn(
            f"{n_empty} cells have no counts; they train, but their latent state says nothing",
            VivaceWarning,
            stacklevel=4,
        )


# rows -------------------------------------------------------------------------------------------


def row_blocks(source: Source, rows: np.ndarray, size: int = ROWS_AT_ONCE) -> Iterator[Rows]:
    """The rows in blocks of at most ``size``."""
    return (source.read(rows[start : start + size]) for start in range(0, len(rows), size))


def as_matrix(rows: Rows) -> sparse.csr_array | np.ndarray:
    """Rows as scipy CSR, or as the dense array that they are."""
    if rows.dense is not None:
        return rows.dense
    return sparse.csr_array((rows.data, rows.indices, rows.indptr), shape=rows.shape)


def row_totals(source: Source, rows: np.ndarray | None = None) -> np.ndarray:
    """Sum of each row, (n,) float64."""
    rows = np.arange(source.shape[0]) if rows is None else rows
    totals = [as_matrix(block).sum(1) for block in row_blocks(source, rows)]
    return np.concatenate(
        [np.asarray(t, dtype=np.float64).ravel() for t in totals or [np.empty(0)]]
    )
