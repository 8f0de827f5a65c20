"""Setting up data: what is found, what is refused, and that nothing else is touched."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from vivace import SCVI
from vivace.data import Cells, Schema
from vivace.data.schema import read_schema
from vivace.errors import InvalidDataError, MissingKeyError, VivaceError, VivaceWarning

N, G = 12, 5


def make(x: object = None, **obs: object) -> anndata.AnnData:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(2, (N, G)).astype(np.float32)) if x is None else x
    names = [f"cell_{i}" for i in range(counts.shape[0])]
    genes = [f"gene_{i}" for i in range(counts.shape[1])]
    table = pd.DataFrame({"batch": ["a", "b"] * (len(names) // 2), **obs}, index=names)
    return anndata.AnnData(counts, obs=table, var=pd.DataFrame(index=genes))


def schema_of(adata: anndata.AnnData, **setup: object) -> Schema:
    SCVI.setup_anndata(adata, **setup)
    return read_schema(adata, "SCVI")


def test_only_one_key_of_uns_is_written(watch):
    adata = watch(make(batch2=pd.Categorical(["x"] * N)))
    SCVI.setup_anndata(adata, batch_key="batch", categorical_covariate_keys=["batch2"])
    assert list(adata.uns) == ["vivace"]


def test_schema_survives_json_and_h5ad(tmp_path):
    adata = make(code=np.arange(N) % 3, flag=[True, False] * (N // 2), size=np.ones(N))
    schema = schema_of(
        adata,
        batch_key="batch",
        labels_key="flag",
        size_factor_key="size",
        categorical_covariate_keys=["code"],
    )
    assert Schema.from_json(schema.to_json()) == schema
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert read_schema(anndata.read_h5ad(tmp_path / "a.h5ad"), "SCVI") == schema


def test_categories_keep_pandas_order_and_drop_unused():
    ordered = pd.Categorical(["b", "a"] * (N // 2), categories=["c", "b", "a"])
    schema = schema_of(make(kind=ordered), batch_key="kind")
    assert schema.field("batch").categories == (("b", "a"),)
    assert schema_of(make(), batch_key="batch").field("batch").categories == (("a", "b"),)


def test_without_a_key_all_cells_are_one_category():
    adata = make()
    cells = Cells(adata, schema_of(adata))
    assert (cells.columns["batch"] == 0).all()
    assert (cells.columns["labels"] == 0).all()


def test_minibatch_keys_and_types():
    adata = make(size=np.ones(N), age=np.arange(N), code=np.arange(N) % 3)
    cells = Cells(
        adata,
        schema_of(
            adata,
            batch_key="batch",
            size_factor_key="size",
            continuous_covariate_keys=["age"],
            categorical_covariate_keys=["batch", "code"],
        ),
    )
    tensors = cells.minibatch(np.array([3, 1]))
    types = {k: str(v.dtype).removeprefix("torch.") for k, v in tensors.items()}
    assert types == {
        "X": "float32",
        "batch": "int64",
        "labels": "int64",
        "size_factor": "float32",
        "extra_continuous_covs": "float32",
        "extra_categorical_covs": "int64",
    }
    np.testing.assert_array_equal(tensors["X"].to_dense(), adata.X.toarray()[[3, 1]])
    assert tensors["extra_categorical_covs"].tolist() == [[1, 0], [1, 1]]
    assert tensors["extra_continuous_covs"].tolist() == [[3.0], [1.0]]


# bad input --------------------------------------------------------------------------------------


def with_value(value: float) -> sparse.csr_matrix:
    x = np.ones((N, G), dtype=np.float32)
    x[2, 3] = value
    return sparse.csr_matrix(x)


def duplicated(axis: str) -> anndata.AnnData:
    adata = make()
    names = ["same", "same", *getattr(adata, f"{axis}_names")[2:]]
    setattr(adata, f"{axis}_names", names)
    return adata


BAD = {
    "negative": (lambda: make(with_value(-1)), {}, "negative"),
    "nan": (lambda: make(with_value(np.nan)), {}, "NaN"),
    "infinite": (lambda: make(with_value(np.inf)), {}, "infinite"),
    "no layer": (make, {"layer": "count"}, "adata.layers"),
    "no batch": (make, {"batch_key": "batchs"}, 'Did you mean "batch"'),
    "no covariate": (make, {"continuous_covariate_keys": ["age"]}, "continuous_covariate_keys"),
    "covariates as text": (make, {"categorical_covariate_keys": "batch"}, "list"),
    "missing category": (
        lambda: make(kind=["a", None] * (N // 2)),
        {"batch_key": "kind"},
        "missing values in 6",
    ),
    "missing number": (
        lambda: make(age=[np.nan] + [1.0] * (N - 1)),
        {"continuous_covariate_keys": ["age"]},
        "missing or infinite values in 1",
    ),
    "text as number": (make, {"continuous_covariate_keys": ["batch"]}, "numeric"),
    "size factor zero": (lambda: make(s=np.zeros(N)), {"size_factor_key": "s"}, "> 0"),
    "no cells": (lambda: make()[:0].copy(), {}, "0 cells"),
    "no genes": (lambda: make()[:, :0].copy(), {}, "0 genes"),
    "duplicate genes": (lambda: duplicated("var"), {}, "var_names_make_unique"),
    "duplicate cells": (lambda: duplicated("obs"), {}, "obs_names_make_unique"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings(
    "ignore:Observation names are not unique", "ignore:Variable names are not"
)
def test_bad_input_is_a_clear_error_and_leaves_the_object_alone(case: str):
    make_bad, setup, match = BAD[case]
    adata = make_bad()
    with pytest.raises(VivaceError, match=match):
        SCVI.setup_anndata(adata, **setup)
    assert "vivace" not in adata.uns


def test_a_backed_object_is_described_as_one_in_memory(tmp_path):
    make().write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    SCVI.setup_anndata(adata)
    loaded = anndata.read_h5ad(tmp_path / "a.h5ad")
    SCVI.setup_anndata(loaded)
    assert adata.uns["vivace"] == loaded.uns["vivace"]
    adata.file.close()


def test_values_that_are_not_whole_numbers_warn_with_the_layer_to_use():
    adata = make(with_value(0.5))
    adata.layers["counts"] = with_value(3)
    with pytest.warns(VivaceWarning, match='use layer="counts"'):
        SCVI.setup_anndata(adata)
    with pytest.raises(InvalidDataError, match="whole numbers"):
        SCVI(adata, gene_likelihood="poisson")


def test_empty_cells_and_small_categories_warn():
    x = np.ones((N, G), dtype=np.float32)
    x[0] = 0
    with pytest.warns(VivaceWarning, match="1 cells have no counts"):
        SCVI.setup_anndata(make(x))
    with pytest.warns(VivaceWarning, match="fewer than 3 cells"):
        SCVI.setup_anndata(make(kind=["x"] + ["y"] * (N - 1)), batch_key="kind")


def test_errors_are_also_what_scverse_users_catch():
    with pytest.raises(KeyError):
        SCVI.setup_anndata(make(), batch_key="nothing")
    with pytest.raises(ValueError, match="negative"):
        SCVI.setup_anndata(make(with_value(-1)))


def test_data_that_were_not_set_up_say_so():
    with pytest.raises(MissingKeyError, match="setup_anndata"):
        SCVI(make())


# a second data set ------------------------------------------------------------------------------


def test_genes_in_another_order_are_aligned_by_name():
    adata = make()
    schema = schema_of(adata)
    shuffled = adata[:, ::-1].copy()
    np.testing.assert_array_equal(
        Cells(shuffled, schema).minibatch(np.arange(N))["X"].to_dense(), adata.X.toarray()
    )
    dense = anndata.AnnData(shuffled.X.toarray(), obs=shuffled.obs, var=shuffled.var)
    np.testing.assert_array_equal(
        Cells(dense, schema).minibatch(np.arange(N))["X"].to_dense(), adata.X.toarray()
    )


def test_missing_genes_are_an_error_and_surplus_ones_are_left_out():
    adata = make()
    schema = schema_of(adata)
    with pytest.raises(InvalidDataError, match="1 of the model's 5 genes"):
        Cells(adata[:, :4].copy(), schema)
    more = make(np.hstack([np.full((N, 2), 9.0), adata.X.toarray()]))
    more.var_names = ["other_1", "other_2", *adata.var_names]
    np.testing.assert_array_equal(
        Cells(more[:, ::-1].copy(), schema).minibatch(np.arange(N))["X"].to_dense(),
        adata.X.toarray(),
    )


@pytest.mark.parametrize("unseen", ["c", "", 0])
def test_unseen_categories_are_errors_even_when_falsy(unseen: object):
    adata = make()
    schema = schema_of(adata, batch_key="batch")
    other = adata.copy()
    other.obs["batch"] = pd.Series([unseen, *["a"] * (N - 1)], index=adata.obs_names, dtype=object)
    with pytest.raises(InvalidDataError, match="was not trained with"):
        Cells(other, schema)
