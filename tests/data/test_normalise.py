"""Counts that are log-normalised as they are read, and weights that balance systems."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy
from scipy import sparse

from vivace import SysVI
from vivace.data import Cells, Schema
from vivace.data.schema import read_schema
from vivace.errors import InvalidDataError, MissingKeyError, VivaceWarning

N, G = 30, 9


def counts(layout: str = "csr") -> anndata.AnnData:
    rng = np.random.default_rng(0)
    matrix = rng.poisson(0.4 if layout == "csr" else 3, (N, G)).astype(np.float32)
    matrix[:, 0] += 1
    obs = pd.DataFrame({"system": ["a"] * 20 + ["b"] * 10, "age": np.arange(N)}).set_axis(
        [f"cell_{i}" for i in range(N)]
    )
    x = sparse.csr_matrix(matrix) if layout == "csr" else matrix
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(G)]))


def cells_of(adata: anndata.AnnData, **setup: object) -> Cells:
    SysVI.setup_anndata(adata, batch_key="system", **setup)
    return Cells(adata, read_schema(adata, "SysVI"))


def dense(cells: Cells, rows: np.ndarray) -> np.ndarray:
    return cells.minibatch(rows)["X"].to_dense().numpy()


@pytest.mark.parametrize("layout", ["csr", "dense"])
def test_normalising_inside_is_what_scanpy_does(layout: str, watch):
    adata = watch(counts(layout))
    cells = cells_of(adata, normalize=True)
    other = counts(layout)
    scanpy.pp.normalize_total(other, target_sum=1e4)
    scanpy.pp.log1p(other)
    rows = np.array([7, 0, 29, 7])
    expected = other.X[rows].toarray() if layout == "csr" else other.X[rows]
    np.testing.assert_allclose(dense(cells, rows), expected, rtol=1e-5)
    np.testing.assert_allclose(dense(cells_of(other), rows), expected, rtol=1e-6)


def test_counts_stay_to_be_asked_for():
    adata = counts()
    (block,) = cells_of(adata, normalize=True).blocks(np.arange(N))
    np.testing.assert_array_equal(block.toarray(), adata.X.toarray())


def test_an_empty_cell_stays_empty():
    adata = counts()
    matrix = adata.X.toarray()
    matrix[3] = 0
    adata.X = sparse.csr_matrix(matrix)
    with pytest.warns(VivaceWarning, match="no counts"):
        cells = cells_of(adata, normalize=True)
    assert (dense(cells, np.array([3])) == 0).all()


def test_genes_in_another_order_give_the_same():
    adata = counts()
    cells = cells_of(adata, normalize=True)
    turned = Cells(adata[:, ::-1].copy(), cells.schema)
    np.testing.assert_allclose(dense(turned, np.arange(N)), dense(cells, np.arange(N)), rtol=1e-6)


def test_raw_counts_are_refused_with_what_to_do():
    with pytest.raises(InvalidDataError) as error:
        SysVI.setup_anndata(counts(), batch_key="system")
    for part in ("normalize_total(adata, target_sum=1e4)", "log1p(adata)", "normalize=True"):
        assert part in str(error.value)


def test_values_that_are_not_logged_are_warned_of():
    adata = counts()
    adata.X = adata.X * 33.3
    with pytest.warns(VivaceWarning, match="log-transformed"):
        SysVI.setup_anndata(adata, batch_key="system")


def test_negative_values_are_taken_and_missing_ones_refused():
    adata = counts("dense")
    adata.X = np.random.default_rng(0).normal(size=(N, G))
    SysVI.setup_anndata(adata, batch_key="system")
    adata.X[0, 0] = np.nan
    with pytest.raises(InvalidDataError, match="NaN"):
        SysVI.setup_anndata(adata, batch_key="system")


def test_balanced_weights_give_systems_the_same_total():
    adata = counts()
    weights = (
        cells_of(adata, normalize=True, weight_batches=True)
        .minibatch(np.arange(N))["batch_weights"]
        .numpy()
    )
    assert weights.shape == (N, 1)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)
    np.testing.assert_allclose(weights[:20].sum(), weights[20:].sum(), rtol=1e-5)


def test_the_transform_survives_json():
    adata = counts()
    schema = cells_of(adata, normalize=True, weight_batches=True).schema
    assert Schema.from_json(schema.to_json()) == schema
    assert schema.field("X").transform == "log_normalise"


def test_schemas_without_a_transform_can_be_read():
    adata = counts()
    text = cells_of(adata, normalize=True).schema.to_json()
    old = Schema.from_json(text.replace(', "transform": "log_normalise"', ""))
    assert old.field("X").transform == ""


def test_the_system_is_needed():
    with pytest.raises(MissingKeyError, match="batch_key"):
        SysVI.setup_anndata(counts(), batch_key="sistem", normalize=True)
