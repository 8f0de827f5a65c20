"""The tables of a run folder say what the model and the data say."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import vivace
from vivace.errors import MissingKeyError, NotTrainedError
from vivace.tables import cells, run, write_tables
from vivace.tables.cells import few_values
from vivace.tables.counts import histogram, moments


@pytest.fixture(scope="module")
def model():
    adata = vivace.datasets.simulate("batches", n_cells=90, n_genes=25, n_batches=2)
    adata.obs["donor"] = pd.Categorical(["x", None, "y"] * 30)
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    model = vivace.SCVI(adata, n_latent=4)
    model.train(max_epochs=2, progress=False)
    return model


def read(folder, name):
    return pd.read_csv(folder / f"{name}.csv", index_col=0)


def test_tables_hold_what_the_model_says(model, tmp_path, watch):
    watch(model.adata)
    folder = write_tables(model, tmp_path, source="here", notes=["One note."])
    history = read(folder, "history")
    assert history.index.name == "epoch"
    expected = model.history["elbo_train"]["elbo_train"].to_numpy()
    np.testing.assert_allclose(history["elbo_train"], expected)
    latent = read(folder, "latent")
    means = latent.filter(regex="^latent_").to_numpy()
    np.testing.assert_allclose(means, model.get_latent_representation(), atol=1e-6)
    assert latent.index.tolist() == model.adata.obs_names.tolist()
    assert latent["obs:batch"].tolist() == model.adata.obs["batch"].tolist()
    genes = read(folder, "genes")
    dense = model.adata.X.toarray().astype(float)
    np.testing.assert_allclose(genes["observed_mean"], dense.mean(0))
    np.testing.assert_allclose(genes["observed_variance"], dense.var(0), rtol=1e-6)
    np.testing.assert_allclose(genes["observed_zero_fraction"], (dense == 0).mean(0))
    assert (genes["model_mean"] > 0).any()
    summary = json.loads((folder / "summary.json").read_text())
    totals = dense.sum(1)
    assert (summary["n_cells"], summary["n_genes"]) == dense.shape
    assert summary["counts_per_cell"]["median"] == np.median(totals)
    assert sum(summary["counts_per_cell"]["histogram"]["cells"]) == len(dense)
    assert summary["zero_fraction"] == pytest.approx((dense == 0).mean())
    assert summary["notes"] == ["One note."]
    sizes = {g["key"]: g["cells"] for g in summary["groups"]}
    assert sizes["donor"] == {"x": 30, "y": 30, "missing": 30}
    held_out = next(m["value"] for m in summary["metrics"] if "held-out" in m["name"])
    # read back from text, which may round the last digit
    assert np.isclose(history["elbo_validation"], held_out, rtol=1e-9).any()


def test_the_same_seed_writes_the_same_tables(model, tmp_path):
    first, second = (write_tables(model, tmp_path / n) for n in ("a", "b"))
    for name in ("latent.csv", "genes.csv", "history.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_many_cells_are_drawn_from(model, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "MOST_CELLS", 40)
    folder = write_tables(model, tmp_path)
    assert len(read(folder, "latent")) == 40
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["n_cells"] == 90
    assert "40 cells" in summary["notes"][0]


def test_a_write_that_fails_leaves_no_summary(model, tmp_path, monkeypatch):
    folder = write_tables(model, tmp_path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(run, "gene_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tables(model, tmp_path)
    assert not (folder / "summary.json").exists()


def test_genes_in_another_order_are_aligned(model, tmp_path):
    shuffled = model.adata[:, ::-1].copy()
    model.save(tmp_path / "run")
    loaded = vivace.load(tmp_path / "run", shuffled)
    folders = write_tables(model, tmp_path / "a"), write_tables(loaded, tmp_path / "b")
    first, second = (read(f, "genes") for f in folders)
    pd.testing.assert_series_equal(first["observed_mean"], second["observed_mean"])


def test_mistakes(model, tmp_path):
    with pytest.raises(MissingKeyError, match="donors"):
        write_tables(model, tmp_path, colour_by=["donors"])
    with pytest.raises(NotTrainedError):
        write_tables(vivace.SCVI(model.adata), tmp_path)
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csr_array, sp.csc_matrix])
def test_moments(form):
    x = np.random.default_rng(0).poisson(0.7, size=(30, 4)).astype(np.float32)
    found = moments(form(x))
    np.testing.assert_allclose(found["mean"], x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["variance"], x.astype(float).var(0), rtol=1e-5)
    np.testing.assert_allclose(found["zero_fraction"], (x == 0).mean(0))


@pytest.mark.parametrize("totals", [[0], [5, 5, 5], [0, 1, 10_000], range(1, 200)])
def test_no_cell_falls_out_of_the_histogram(totals):
    values = np.array(list(totals), dtype=float)
    found = histogram(values)
    assert sum(found["cells"]) == len(values)
    assert np.all(np.diff(found["edges"]) > 0)


@pytest.mark.parametrize(
    ("values", "telling"),
    [
        (["a", "b"] * 10, True),
        ([True, False] * 10, True),
        (["a"] * 20, False),
        ([f"cell {i}" for i in range(20)], False),
        ([1, 2] * 10, False),
    ],
)
def test_columns_worth_colouring_by(values, telling):
    assert few_values(pd.Series(values)) is telling
