"""The door of matrices: the same numbers however they are stored, or one sentence."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pytest
from scipy import sparse

from forms import DTYPES, SPARSE_ONLY, STORED, stored
from vivace import SCVI, CondSCVI, SysVI
from vivace.analysis.genes import variable_genes
from vivace.data import Cells
from vivace.data.cells import to_tensor
from vivace.data.matrices import look_at, read_matrix
from vivace.data.schema import read_schema
from vivace.data.sources import open_source
from vivace.errors import FractionalCountsWarning, InvalidDataError, MissingKeyError, VivaceWarning

COUNTS = np.random.default_rng(0).poisson(0.6, (12, 7))
COUNTS[:, 1] += 1


def dense(source: Any) -> np.ndarray:
    return to_tensor(source.read(np.arange(source.shape[0]))).to_dense().numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", STORED)
def test_the_same_numbers_however_they_are_stored(form: str, dtype: str):
    truth = COUNTS.astype(dtype).astype("float32")
    source = open_source(stored(COUNTS, form, dtype))
    np.testing.assert_array_equal(dense(source), truth)
    facts = look_at(source)
    assert facts.largest == truth.max()
    assert facts.whole


@pytest.mark.parametrize("form", SPARSE_ONLY)
def test_sums_of_small_whole_numbers_do_not_overflow(form: str):
    one = sparse.csr_matrix(np.full((1, 1), 200, dtype="uint8"))
    both = sparse.csr_matrix(
        (np.array([200, 200], dtype="uint8"), np.array([0, 0]), np.array([0, 2])), shape=(1, 1)
    )
    assert dense(open_source(both)).item() == 400
    assert dense(open_source(STORED[form](one.toarray()))).item() == 200


def test_the_users_matrix_and_its_flags_stay_as_they_are():
    m = STORED["stored twice"](COUNTS.astype("float32"))
    data, indices = m.data.copy(), m.indices.copy()
    open_source(m)
    np.testing.assert_array_equal(m.data, data)
    np.testing.assert_array_equal(m.indices, indices)
    m.has_canonical_format = True  # as scipy keeps it after a change it has not seen
    np.testing.assert_array_equal(dense(open_source(m)), COUNTS)


@pytest.mark.parametrize(
    ("indices", "indptr"),
    [([0, 9], [0, 1, 2]), ([0, -1], [0, 1, 2]), ([0, 1], [0, 2, 1]), ([0, 1], [0, 1, 5])],
)
def test_arrays_that_contradict_each_other_are_refused(indices: list, indptr: list):
    m = sparse.csr_matrix(np.eye(2))
    m.indices, m.indptr = np.array(indices, dtype="int32"), np.array(indptr, dtype="int32")
    with pytest.raises(InvalidDataError, match="X is no valid sparse matrix"):
        open_source(m, where="X")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.array([["1", "2"]]), "numeric"),
        (np.array([["1", "2"]], dtype=object), "numeric"),
        (np.array([[1j, 2]]), "numeric"),
        (np.array([["2024-01-01"]], dtype="datetime64[D]"), "numeric"),
        (np.ma.masked_array([[1.0, 2.0]], [[True, False]]), "masked"),
        (np.zeros(3), "two dimensions"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(values: Any, match: str):
    with pytest.raises(InvalidDataError, match=match):
        open_source(values)


@pytest.mark.parametrize("value", [1e300, np.inf])
@pytest.mark.parametrize("form", ["csr", "dense"])
def test_values_beyond_single_precision_are_refused(form: str, value: float):
    counts = COUNTS.astype("float64")
    counts[0, 0] = value
    adata = anndata.AnnData(STORED[form](counts))
    with pytest.raises(InvalidDataError, match="infinite"):
        read_matrix(adata, None, "whole")


# places -----------------------------------------------------------------------------------------


def cells(counts: Any = COUNTS, **slots: Any) -> anndata.AnnData:
    adata = anndata.AnnData(counts, **slots)
    adata.obs_names = [f"cell_{i}" for i in range(adata.n_obs)]
    adata.var_names = [f"gene_{i}" for i in range(adata.n_vars)]
    return adata


def test_matrices_that_are_computed_are_recognised_by_name():
    computed = type("Array", (), {"__module__": "dask.array.core"})()
    with pytest.raises(InvalidDataError, match=r"dask's Array.*open_cells"):
        open_source(computed, where="adata.X")


def test_layers_alone_are_enough_and_an_empty_x_names_them():
    adata = anndata.AnnData(None, obs=cells().obs, var=cells().var, layers={"soup": COUNTS + 0.33})
    with pytest.warns(FractionalCountsWarning, match="no layer holds whole numbers"):
        SCVI.setup_anndata(adata, layer="soup")
    with pytest.raises(InvalidDataError, match=r'layer="soup"'):
        SCVI.setup_anndata(adata)
    with pytest.raises(MissingKeyError, match="Did you mean"):
        SCVI.setup_anndata(adata, layer="soop")


def test_counts_of_raw_are_pointed_at_and_can_be_chosen():
    whole = cells(COUNTS)
    adata = cells(np.log1p(COUNTS + 0.0))[:, [5, 1, 2]].copy()
    adata.raw = whole
    with pytest.warns(FractionalCountsWarning, match=r'layer="raw", the counts of adata.raw'):
        SCVI.setup_anndata(adata)
    SCVI.setup_anndata(adata, layer="raw")
    read = Cells(adata, read_schema(adata, "SCVI"))
    np.testing.assert_array_equal(dense(read.sources["X"]), COUNTS[:, [5, 1, 2]])
    adata.layers["raw"] = adata.X + 1  # a layer of that name comes first
    assert look_at(read_matrix(adata, "raw", "counts")[0]).largest == adata.X.max() + 1


def test_raw_that_lacks_genes_of_the_object_is_refused():
    adata = cells()
    adata.raw = cells()[:, :5].copy()
    with pytest.raises(InvalidDataError, match=r"2 of adata's 7 genes are not in adata\.raw"):
        SCVI.setup_anndata(adata, layer="raw")


# values -----------------------------------------------------------------------------------------

BAD = {"negative": -1.0, "NaN": np.nan, "infinite": np.inf}


def spoiled(adata: anndata.AnnData, value: float) -> anndata.AnnData:
    other = adata.copy()
    counts = other.X.toarray().astype("float64")
    counts[1, 1] = value
    other.X = sparse.csr_matrix(counts)
    return other


@pytest.fixture(scope="module")
def model() -> SCVI:
    adata = cells(sparse.csr_matrix(COUNTS + 1))
    SCVI.setup_anndata(adata)
    trained = SCVI(adata, n_hidden=8, n_latent=2)
    trained.train(max_epochs=1, progress=False)
    return trained


@pytest.mark.parametrize("bad", BAD)
def test_bad_values_are_refused_before_genes_are_chosen(bad: str):
    with pytest.raises(InvalidDataError, match=bad):
        variable_genes(spoiled(cells(sparse.csr_matrix(COUNTS)), BAD[bad]), 3)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "question",
    [
        "get_latent_representation",
        "get_elbo",
        "get_normalized_expression",
        "posterior_predictive_sample",
    ],
)
def test_bad_values_are_refused_at_every_question(model: SCVI, bad: str, question: str):
    with pytest.raises(InvalidDataError, match=bad):
        getattr(model, question)(spoiled(model.adata, BAD[bad]))


def test_bad_values_are_refused_at_query_mapping(model: SCVI):
    for bad, value in BAD.items():
        with pytest.raises(InvalidDataError, match=bad):
            SCVI.prepare_query_anndata(spoiled(model.adata, value), model)


def test_fractions_are_warned_of_where_training_had_whole_numbers(model: SCVI):
    logged = model.adata.copy()
    logged.X = logged.X.log1p()
    with pytest.warns(FractionalCountsWarning, match="raw counts"):
        model.get_latent_representation(logged)
    with pytest.warns(FractionalCountsWarning, match="raw counts"):
        SCVI.prepare_query_anndata(logged, model)
    with pytest.warns(FractionalCountsWarning):
        CondSCVI.setup_anndata(logged)
    trained = CondSCVI(logged, n_hidden=8, n_latent=2)
    trained.train(max_epochs=1, progress=False)  # trained on fractions: no word at questions
    assert trained.get_latent_representation(logged.copy()).shape == (12, 2)


def test_a_model_of_logged_values_refuses_counts_at_a_question():
    adata = cells(sparse.csr_matrix(COUNTS + 1))
    adata.obs["system"] = ["a", "b"] * 6
    adata.layers["logged"] = adata.X.log1p()
    SysVI.setup_anndata(adata, batch_key="system", layer="logged")
    trained = SysVI(adata, n_hidden=8, n_latent=2)
    trained.train(max_epochs=1, progress=False)
    other = adata.copy()
    other.layers["logged"] = adata.X
    with pytest.raises(InvalidDataError, match="raw counts"):
        trained.get_latent_representation(other)


def test_a_size_factor_is_checked_at_a_question():
    adata = cells(sparse.csr_matrix(COUNTS + 1))
    adata.obs["depth"] = 2.0
    SCVI.setup_anndata(adata, size_factor_key="depth")
    trained = SCVI(adata, n_hidden=8, n_latent=2)
    trained.train(max_epochs=1, progress=False)
    other = adata.copy()
    other.obs["depth"] = -1.0
    with pytest.raises(InvalidDataError, match="> 0"):
        trained.get_elbo(other)


# data that change -------------------------------------------------------------------------------


def replaced(adata: anndata.AnnData) -> None:
    adata.X = adata.X[::-1].copy()


def one_value(adata: anndata.AnnData) -> None:
    adata.X.data[-1] += 40


def two_values_swapped(adata: anndata.AnnData) -> None:
    at = [int(adata.X.data.argmin()), int(adata.X.data.argmax())]
    adata.X.data[at] = adata.X.data[at[::-1]]


def cells_filtered(adata: anndata.AnnData) -> None:
    adata._inplace_subset_obs(np.arange(0, adata.n_obs, 2))


def batch_changed(adata: anndata.AnnData) -> None:
    adata.obs["batch"] = list(adata.obs["batch"][::-1])


def genes_turned(adata: anndata.AnnData) -> None:
    adata.var_names = adata.var_names[::-1]


CHANGES = [replaced, one_value, two_values_swapped, cells_filtered, batch_changed, genes_turned]


@pytest.mark.parametrize("small", [1 << 18, 8])
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("change", CHANGES)
def test_a_question_is_answered_for_what_the_object_holds_now(
    change: Any, form: Any, small: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vivace.data.fingerprint.SMALL", small)
    monkeypatch.setattr("vivace.data.fingerprint.BLOCK", 16)
    monkeypatch.setattr("vivace.data.fingerprint.LOOKED_AT", 2)
    adata = cells(form((COUNTS + 1).astype("float32")))
    adata.obs["batch"] = ["a"] * 7 + ["b"] * 5
    SCVI.setup_anndata(adata, batch_key="batch")
    trained = SCVI(adata, n_hidden=8, n_latent=2, encode_covariates=True)
    trained.train(max_epochs=1, progress=False)
    before = trained.get_latent_representation()
    change(adata)
    now = trained.get_latent_representation()
    np.testing.assert_array_equal(now, trained.get_latent_representation(adata.copy()))
    assert now.shape != before.shape or not np.allclose(now, before)


def test_differential_expression_is_of_the_counts_and_groups_of_now(model: SCVI):
    adata = model.adata.copy()
    adata.obs["kind"] = ["a", "b"] * 6
    model.get_latent_representation(adata)
    adata._inplace_subset_obs(np.arange(6))
    table = model.differential_expression(adata, groupby="kind", group1="a", mode="change")
    counts = adata.X.toarray()
    expected = counts[(adata.obs["kind"] == "a").to_numpy()].mean(0)
    found = table["raw_mean1"].reindex(adata.var_names)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_object_that_did_not_change_is_read_once(model: SCVI, monkeypatch: pytest.MonkeyPatch):
    adata = model.adata.copy()
    model.get_latent_representation(adata)
    monkeypatch.setattr(Cells, "__init__", lambda *_: pytest.fail("read again"))
    assert model.get_latent_representation(adata).shape == (12, 2)


def test_warnings_of_a_changed_object_are_said(model: SCVI):
    adata = model.adata.copy()
    model.get_latent_representation(adata)
    adata.X = adata.X.log1p()
    with pytest.warns(VivaceWarning, match="not whole numbers"):
        model.get_latent_representation(adata)
