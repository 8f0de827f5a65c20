"""Real spots of a lymph node: do types and programmes lie where biology has them?"""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

import vivace
from vivace.tables.spots import marker_table

GERMINAL_CENTRE = ["HELLS", "CDCA7", "RMI2", "PTTG1"]
"""Genes of dividing germinal-centre B cells that both files have."""


@pytest.fixture(scope="module")
def model(shared_data):
    spots = anndata.read_h5ad(shared_data("lymphnode_visium.h5ad"))
    cells = anndata.read_h5ad(shared_data("lymphnode_sc_reference.h5ad"))
    cells = cells[:, cells.var_names.isin(spots.var_names)].copy()
    vivace.CondSCVI.setup_anndata(cells, labels_key="cell_type")
    reference = vivace.CondSCVI(cells)
    reference.train(progress=False)
    model = vivace.DestVI.from_model(spots, reference)
    model.train(max_epochs=6, progress=False)
    return model


@pytest.fixture(scope="module")
def shares(model) -> pd.DataFrame:
    return model.get_proportions()


@pytest.fixture(scope="module")
def t_cells(shares) -> pd.Series:
    return shares["T_CD4"] + shares["T_CD8"]


@pytest.fixture(scope="module")
def centre(model) -> np.ndarray:
    """The programme in each spot's B cells: the reference has no germinal-centre type."""
    in_b = np.log(model.get_scale_for_ct("B")[GERMINAL_CENTRE])
    return ((in_b - in_b.mean()) / in_b.std()).mean(axis=1).to_numpy()


def with_neighbours(model, values: np.ndarray) -> float:
    """Correlation of each spot with the mean of the six nearest others."""
    place = model.adata.obsm["spatial"]
    near = cKDTree(place).query(place, 7)[1][:, 1:]
    return float(np.corrcoef(values, values[near].mean(1))[0, 1])


def test_programmes_are_regions_of_the_tissue(model, shares, t_cells, centre):
    """The model sees no coordinates: chance would give about 0."""
    assert with_neighbours(model, shares["B"].to_numpy()) > 0.2
    assert with_neighbours(model, t_cells.to_numpy()) > 0.2
    assert with_neighbours(model, centre) > 0.2


def test_b_cells_and_t_cells_lie_in_different_places(shares, t_cells):
    assert np.corrcoef(shares["B"], t_cells)[0, 1] < -0.2


def test_germinal_centres_lie_among_b_cells_and_not_among_t_cells(shares, t_cells, centre):
    with_b, with_t = (np.corrcoef(centre, v)[0, 1] for v in (shares["B"], t_cells))
    assert with_b > 0.1 > with_t


def test_types_go_with_their_markers(model, shares):
    together = marker_table(model, shares).groupby("type")["together"].first()
    assert together.min() > 0
    assert together.mean() > 0.2
    assert together["B"] > 0.3  # 0.38 to 0.50 in eleven runs of other seeds; shuffled below 0.15


def test_the_marker_genes_of_a_type_are_no_better_for_shuffled_spots(model, shares):
    """The agreement is of spots, not of the sizes of shares."""
    shuffled = shares.sample(frac=1, random_state=0).set_axis(shares.index)
    together = marker_table(model, shuffled).groupby("type")["together"].first()
    assert together.abs().max() < 0.15
