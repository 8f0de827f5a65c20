"""Priors of states, shares of cells, and the tables of a run on spots."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import vivace
from vivace.analysis.deconvolution import cell_shares, vamp_prior
from vivace.datasets import simulate
from vivace.tables import write_tables
from vivace.tables.spots import marker_table, pearson


def test_components_without_cells_have_no_weight():
    prior = vamp_prior(np.zeros((2, 1)), np.full((2, 1), 0.5), np.array([0, 0]), 2, p=3)
    np.testing.assert_allclose(prior["weights_vprior"], [[0.5, 0.5, 0], [0, 0, 0]])
    assert (prior["mean_vprior"][1] == 0).all()
    assert (prior["var_vprior"][1] == 1).all()
    np.testing.assert_allclose(prior["var_vprior"][0, :2], 0.5)


def test_equal_cells_make_a_prior():
    prior = vamp_prior(np.zeros((20, 2)), np.ones((20, 2)), np.zeros(20, int), 1, p=4)
    np.testing.assert_allclose(prior["weights_vprior"].sum(), 1)


def test_separate_clusters_are_found():
    rng = np.random.default_rng(0)
    centres = np.array([[-9.0, 0], [9, 0], [0, 9]])
    means = np.repeat(centres, 30, axis=0) + rng.normal(size=(90, 2))
    prior = vamp_prior(means, np.ones((90, 2)), np.zeros(90, int), 1, p=3)
    found = prior["mean_vprior"][0][np.argsort(prior["mean_vprior"][0][:, 0])]
    np.testing.assert_allclose(found, [[-9, 0], [0, 9], [9, 0]], atol=0.7)
    np.testing.assert_allclose(prior["weights_vprior"], 1 / 3, rtol=1e-5)


def test_cell_shares_undo_the_depth():
    cells = np.array([[0.2, 0.8], [0.5, 0.5]])
    depth = np.array([100.0, 300.0])
    molecules = cells * depth / (cells * depth).sum(1, keepdims=True)
    np.testing.assert_allclose(cell_shares(molecules, depth), cells)


def test_pearson_of_a_constant_is_not_a_number():
    assert np.isnan(pearson(np.ones(3), np.arange(3.0)))


@pytest.fixture(scope="module")
def model():
    cells, spots = simulate("spatial", n_cells=90, n_genes=60, n_spots=30, n_types=3)
    vivace.CondSCVI.setup_anndata(cells, labels_key="cell_type")
    reference = vivace.CondSCVI(cells, n_hidden=16)
    reference.train(max_epochs=3, progress=False)
    model = vivace.DestVI.from_model(spots, reference)
    model.train(max_epochs=2, progress=False)
    return model


def test_markers_are_higher_in_their_type(model):
    table = marker_table(model, model.get_proportions(), n=4)
    assert (table["log2_fold"] > 0).all()
    assert table.groupby("type").size().max() <= 4
    assert table["correlation"].dropna().between(-1, 1).all()
    assert (table.groupby("type")["together"].nunique(dropna=False) == 1).all()


def test_markers_of_shares_made_from_markers_agree(model):
    table = marker_table(model, model.get_proportions())
    genes = table.loc[table["type"] == "type_1", "gene"]
    x = pd.DataFrame(model.adata.X.toarray(), columns=model.adata.var_names)
    share = np.log1p(1e4 * x[genes].sum(axis=1) / x.sum(axis=1))
    made = model.get_proportions().assign(type_1=share.to_numpy())
    again = marker_table(model, made)
    assert again.loc[again["type"] == "type_1", "together"].iloc[0] == pytest.approx(1)


def test_tables_of_a_run_on_spots(model, tmp_path):
    folder = write_tables(model, tmp_path, source="spots.h5ad", notes=["A note."])
    names = {file.name for file in folder.iterdir()}
    assert names == {
        "history.csv",
        "proportions.csv",
        "cell_proportions.csv",
        "proportion_spread.csv",
        "coordinates.csv",
        "markers.csv",
        "expression.npz",
        "summary.json",
    }
    place = pd.read_csv(folder / "coordinates.csv", index_col=0)
    np.testing.assert_allclose(place, model.adata.obsm["spatial"])
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["n_cells"] == 30
    assert summary["notes"] == ["A note."]
