"""Whatever an AnnData looks like: it trains and comes back the same, or the error says why not."""

from __future__ import annotations

import tempfile
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

import vivace
from model_table import CASES
from vivace.errors import VivaceError, VivaceWarning

LAYOUTS = {
    "csr": sparse.csr_matrix,
    "csr array": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "dense": np.ascontiguousarray,
    "fortran": np.asfortranarray,
}
DTYPES = ["float32", "float64", "int32", "int64", "uint16"]
NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8)
PATIENT = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """Counts of 1 to 40 cells and 1 to 12 genes, with empty rows, constant columns and giants."""
    n, g = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    counts = draw(arrays(np.int64, (n, g), elements=st.integers(0, 5), fill=st.just(0)))
    if draw(st.booleans()):
        counts[draw(st.integers(0, n - 1))] = 0
    if draw(st.booleans()):
        counts[:, draw(st.integers(0, g - 1))] = 3
    if draw(st.booleans()):
        counts[draw(st.integers(0, n - 1)), draw(st.integers(0, g - 1))] = draw(
            st.sampled_from([10**4, 10**9])
        )
    return counts


@st.composite
def objects(draw: st.DrawFn) -> anndata.AnnData:
    counts = draw(matrices())
    n, g = counts.shape
    dtype = draw(st.sampled_from(DTYPES))
    if counts.max() > np.iinfo(np.uint16).max and dtype == "uint16":
        dtype = "int64"
    batch = pd.Categorical(
        draw(st.lists(st.sampled_from(["a", "b", "ü ☃"]), min_size=n, max_size=n)),
        categories=["unused", "b", "a", "ü ☃"],
    )
    return anndata.AnnData(
        LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](counts.astype(dtype)),
        obs=pd.DataFrame(
            {"batch": batch},
            index=draw(st.lists(NAMES, min_size=n, max_size=n, unique=True)),
        ),
        var=pd.DataFrame(index=draw(st.lists(NAMES, min_size=g, max_size=g, unique=True))),
    )


@PATIENT
@given(objects(), st.sampled_from(["zinb", "nb", "poisson"]))
def test_scvi_trains_on_it_and_comes_back_or_says_why(adata: anndata.AnnData, likelihood: str):
    before = adata.X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VivaceWarning)
        vivace.SCVI.setup_anndata(adata, batch_key="batch")
        model = vivace.SCVI(adata, n_hidden=8, n_latent=2, gene_likelihood=likelihood)
        if adata.n_obs == 1:
            with pytest.raises(VivaceError, match="at least 2 cells"):
                model.train(max_epochs=2, progress=False)
            return
        model.train(max_epochs=2, progress=False)
        latent = model.get_latent_representation()
        assert np.isfinite(latent).all()
        assert np.isfinite(model.get_normalized_expression()).all(axis=None)
        with tempfile.TemporaryDirectory() as folder:
            loaded = vivace.load(model.save(folder), adata)
            assert (loaded.get_latent_representation() == latent).all()
    assert abs(adata.X - before).sum() == 0


def reshaped(data: anndata.AnnData, layout: str, dtype: str) -> anndata.AnnData:
    dense = data.X.toarray() if sparse.issparse(data.X) else np.asarray(data.X)
    whole = (dense == np.rint(dense)).all()
    other = data.copy()
    other.X = LAYOUTS[layout](dense.astype(dtype if whole else "float64"))
    return other


ON_ANNDATA = [name for name, case in CASES.items() if isinstance(case.data(), anndata.AnnData)]


@pytest.mark.parametrize("name", ON_ANNDATA)
@pytest.mark.parametrize(
    ("layout", "dtype"), [("csc", "int64"), ("dense", "float64"), ("csr", "int32")]
)
def test_every_model_gives_the_same_whatever_the_layout(name: str, layout: str, dtype: str):
    case = CASES[name]
    latents = []
    for data in (case.data(), reshaped(case.data(), layout, dtype)):
        model = case.build(data)
        model.train(**{"max_epochs": 2, "progress": False, "seed": 0, **case.train})
        latents.append(case.latent(model))
    np.testing.assert_allclose(latents[0], latents[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ON_ANNDATA)
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    layout=st.sampled_from(list(LAYOUTS)),
    dtype=st.sampled_from(["float32", "float64", "int32", "int64"]),
    silent_gene=st.booleans(),
    empty_cell=st.booleans(),
    constant_gene=st.booleans(),
)
def test_every_model_comes_back_the_same(
    name: str, layout: str, dtype: str, silent_gene: bool, empty_cell: bool, constant_gene: bool
):
    case = CASES[name]
    data = case.data()
    dense = data.X.toarray() if sparse.issparse(data.X) else np.asarray(data.X)
    if silent_gene:
        dense[:, 1] = 0
    if constant_gene:
        dense[:, 2] = 1
    if empty_cell:
        dense[5] = 0
    data.X = dense
    data = reshaped(data, layout, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VivaceWarning)
        model = case.build(data)
        model.train(**{"max_epochs": 2, "progress": False, "seed": 0, **case.train})
        latent = case.latent(model)
        assert np.isfinite(latent).all()
        with tempfile.TemporaryDirectory() as folder:
            loaded = vivace.load(model.save(folder), data)
            np.testing.assert_array_equal(case.latent(loaded), latent)
