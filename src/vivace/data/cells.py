"""Minibatches of cells: a schema applied to a data object."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from vivace._types import Keys, Minibatch
from vivace.data.checks import check_object
from vivace.data.columns import codes_in, column, numbers_of
from vivace.data.facts import Facts
from vivace.data.fingerprint import Fingerprint
from vivace.data.matrices import (
    ROWS_AT_ONCE,
    as_matrix,
    check_values,
    find_matrix,
    read_matrix,
    row_blocks,
    row_totals,
)
from vivace.data.schema import Field, Schema
from vivace.data.selection import names_digest
from vivace.data.sources import Layout, MemorySource, Rows, Source, hold
from vivace.data.sources.normalise import TRANSFORMS
from vivace.errors import InvalidDataError, missing_key, nearest
from vivace.kernels import csr_tensor


class Cells:
    """The cells of a data object as a schema sees them.

    Parameters
    ----------
    adata
        AnnData; never modified. Genes are found by name: they may come in another order, and those that
        the model does not know are left out.
    schema
        What ``setup_anndata`` found, on these data or on those a model was trained with.

    Raises
    ------
    InvalidDataError
        If genes are missing, a category is unknown, or values are not what the schema expects.
    """

    sources: dict[str, Source]
    columns: dict[str, np.ndarray]

    def __init__(self, adata: Any, schema: Schema):
        self._check(adata)
        self.data, self.schema = adata, schema
        self.n_cells: int = adata.n_obs
        self.obs_names: pd.Index = adata.obs_names
        self.obs: pd.DataFrame = adata.obs
        self.sources, self.columns = {}, {}
        for field in schema.fields:
            if field.kind == "matrix":
                self.sources[field.key] = self._open(adata, field)
            else:
                self.columns[field.key] = self._columns(adata, field)
        self._read_anew = {
            key
            for key, source in self.sources.items()
            if isinstance(source, MemorySource) and source.shares(self._matrix(adata, key))
        }
        self._read = Fingerprint.of(adata, schema, self._read_anew).holding()

    @staticmethod
    def _check(adata: Any) -> None:
        check_object(adata)

    def _open(self, adata: Any, field: Field) -> Source:
        columns = align_genes(adata.var_names, self.schema.var_names)
        return read_matrix(adata, layer_of(field), field.expected, columns=columns)[0]

    def _matrix(self, data: Any, key: str) -> Any:
        field = self.schema.field(key)
        assert field is not None
        part = data.mod[field.modality] if field.modality else data
        return find_matrix(part, layer_of(field))

    @cached_property
    def digest(self) -> str:
        """Text that tells whether row numbers mean the same cells as in training."""
        return names_digest(self.obs_names)

    def _columns(self, adata: Any, field: Field) -> np.ndarray:
        return read_columns(adata, field)

    def still_hold(self, data: Any) -> bool:
        """Whether these are the cells of that object as it is now, counts and columns included."""
        if data is not self.data:
            return False
        try:
            return self._read.same(Fingerprint.of(data, self.schema, self._read_anew))
        except KeyError:  # a layer or a column is gone: reading again says which
            return False

    @property
    def layout(self) -> Layout | None:
        """How cells are best read from disk: whole blocks of all matrices; None in memory."""
        found = [s.layout for s in self.sources.values() if s.layout is not None]
        return Layout.of_all(found) if found else None

    def in_reading_order(self, rows: np.ndarray) -> np.ndarray:
        """Rows whose order says nothing, as they are passed over most quickly."""
        return rows if self.layout is None else np.sort(rows)

    def held(self, rows: np.ndarray) -> Cells:
        """The same cells, these rows of which are in memory."""
        cells = copy(self)
        cells.sources = {key: hold(source, rows) for key, source in self.sources.items()}
        return cells

    def minibatch(self, rows: np.ndarray) -> Minibatch:
        """The tensors of these rows, in this order."""
        tensors = {
            field.key: to_tensor(TRANSFORMS[field.transform](self.sources[field.key].read(rows)))
            for field in self.schema.fields
            if field.kind == "matrix"
        }
        for key, values in self.columns.items():
            tensors[key] = torch.from_numpy(values[rows])
        return tensors

    def library_sizes(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Total counts of cells, (n,) float64."""
        return row_totals(self._counts(), rows)

    def blocks(
        self, rows: np.ndarray, size: int = ROWS_AT_ONCE
    ) -> Iterator[sparse.csr_array | np.ndarray]:
        """The counts of these rows in blocks of at most ``size``, as scipy CSR or numpy arrays."""
        return map(as_matrix, row_blocks(self._counts(), rows, size))

    def _counts(self) -> Source:
        if Keys.X not in self.sources:
            msg = "this needs counts, but these cells were minified: pass adata= with the counts"
            raise InvalidDataError(msg)
        return self.sources[Keys.X]


def layer_of(field: Field) -> str | None:
    """Layer of a matrix field; None for ``X``."""
    return field.columns[0] if field.columns else None


def to_tensor(rows: Rows) -> torch.Tensor:
    """Rows as a CSR tensor, or dense if the source is."""
    if rows.dense is not None:
        return torch.from_numpy(rows.dense)
    return csr_tensor(rows.indptr, rows.indices, rows.data, rows.shape)


def read_columns(adata: Any, field: Field) -> np.ndarray:
    """Values of a field, (N, n_columns): int64 codes, or float32 numbers or weights."""
    n = adata.n_obs
    if field.kind == "index":
        return np.arange(n, dtype=np.int64)[:, None]
    if not field.columns:  # no key given: one category that holds all
        return np.broadcast_to(np.int64(0), (n, 1))  # takes no memory
    if field.kind == "obsm":
        return obsm_values(adata, field.columns[0])
    found = [column(adata.obs, name, field.key) for name in field.columns]
    if field.kind == "numeric":
        positive = field.key == Keys.SIZE_FACTOR
        read = [numbers_of(v, v.name, field.key, positive=positive) for v in found]
    else:
        known = zip(found, field.categories, strict=True)
        read = [codes_in(v, names, v.name, field.key) for v, names in known]
    return np.stack([balance(v) for v in read] if field.kind == "balance" else read, axis=1)


def obsm_values(adata: Any, key: str) -> np.ndarray:
    """An array of ``obsm`` as (N, n_columns) float32, all finite."""
    if key not in adata.obsm:
        raise missing_key("obsm", key, "adata.obsm", adata.obsm.keys())
    values = np.asarray(adata.obsm[key], dtype=np.float32).reshape(adata.n_obs, -1)
    facts = Facts(float(values.min()), float(values.max()), whole=False)
    check_values(facts, f'adata.obsm["{key}"]', "numbers")
    return values


def balance(codes: np.ndarray) -> np.ndarray:
    """Weight of each cell, so that every category that occurs has the same total; mean 1.

    Examples
    --------
    >>> balance(np.array([0, 0, 0, 1]))
    array([0.6666667, 0.6666667, 0.6666667, 2.       ], dtype=float32)
    """
    sizes = np.bincount(codes)
    return (len(codes) / (np.count_nonzero(sizes) * sizes[codes])).astype(np.float32)


def align_genes(have: pd.Index, want: tuple[str, ...]) -> np.ndarray | None:
    """Positions of the model's genes among the data's, or None if they agree as they are."""
    if len(have) == len(want) and (np.asarray(have) == np.asarray(want)).all():
        return None
    positions = have.get_indexer(list(want))
    missing = [gene for gene, at in zip(want, positions, strict=True) if at < 0]
    if missing:
        msg = (
            f"{len(missing)} of the model's {len(want)} genes are not in adata.var_names, such as "
            f'"{missing[0]}". {nearest(missing[0], have)}'
        )
        raise InvalidDataError(msg)
    return positions
