"""Minibatches of cells: a schema applied to a data object."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vivace._types import Keys, Minibatch
from vivace.data.checks import check_finite, check_object, get_matrix
from vivace.data.schema import Field, Schema, codes_of, numeric_values
from vivace.data.sources import MemorySource, Rows
from vivace.data.sources.normalise import TRANSFORMS
from vivace.errors import InvalidDataError, missing_key, nearest
from vivace.kernels import csr_tensor


class Cells:
    """The cells of a data object as a schema sees them.

    Parameters
    ----------
    adata
        AnnData; never modified. Genes may come in another order: they are aligned by name.
    schema
        What ``setup_anndata`` found, on these data or on those a model was trained with.

    Raises
    ------
    InvalidDataError
        If genes are missing or are more than the model's, a category is unknown, or values are not
        finite.
    """

    def __init__(self, adata: Any, schema: Schema):
        check_object(adata)
        self.schema = schema
        self.n_cells: int = adata.n_obs
        self.obs_names = adata.obs_names
        columns = align_genes(adata.var_names, schema.var_names)
        self.sources: dict[str, MemorySource] = {}
        self.columns: dict[str, np.ndarray] = {}
        for field in schema.fields:
            if field.kind == "matrix":
                layer = field.columns[0] if field.columns else None
                matrix = get_matrix(adata, layer)
                check_finite(matrix, layer or "adata.X", nonnegative=False)
                self.sources[field.key] = MemorySource(matrix, columns)
            else:
                self.columns[field.key] = read_columns(adata, field)

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
        rows = np.arange(self.n_cells) if rows is None else rows
        totals = [block.sum(1) for block in self.blocks(rows)]
        return np.concatenate([np.asarray(t, dtype=np.float64).ravel() for t in totals])

    def blocks(self, rows: np.ndarray, size: int = 4096):
        """The matrix's rows as they are stored, in blocks, as scipy CSR or numpy arrays."""
        from scipy import sparse

        if Keys.X not in self.sources:
            msg = "this needs counts, but these cells were minified: pass adata= with the counts"
            raise InvalidDataError(msg)
        for start in range(0, len(rows), size):
            read = self.sources[Keys.X].read(rows[start : start + size])
            if read.dense is not None:
                yield read.dense
            else:
                yield sparse.csr_array((read.data, read.indices, read.indptr), shape=read.shape)


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
        return np.zeros((n, 1), dtype=np.int64)
    if field.kind == "obsm":
        return obsm_values(adata, field.columns[0])
    if field.kind == "categorical":
        columns = [
            codes_of(adata.obs, name, categories, field.key)
            for name, categories in zip(field.columns, field.categories, strict=True)
        ]
    elif field.kind == "balance":
        names_categories = zip(field.columns, field.categories, strict=True)
        columns = [balance(codes_of(adata.obs, n, c, field.key)) for n, c in names_categories]
    else:
        columns = [numeric_values(adata.obs, name, field.key) for name in field.columns]
    return np.stack(columns, axis=1)


def obsm_values(adata: Any, key: str) -> np.ndarray:
    """An array of ``obsm`` as (N, n_columns) float32, all finite."""
    if key not in adata.obsm:
        raise missing_key("obsm", key, "adata.obsm", adata.obsm.keys())
    values = np.asarray(adata.obsm[key], dtype=np.float32).reshape(adata.n_obs, -1)
    check_finite(values, f'adata.obsm["{key}"]', nonnegative=False)
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


def align_genes(have: Any, want: tuple[str, ...]) -> np.ndarray | None:
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
    if len(have) > len(want):
        msg = (
            f"adata has {len(have)} genes, the model was trained with {len(want)} of them; pass "
            "adata[:, model.var_names].copy()"
        )
        raise InvalidDataError(msg)
    return positions
