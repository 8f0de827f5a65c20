"""Tables of SpatialData objects; skipped where spatialdata is not installed."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
import pytest

import vivace
from vivace.errors import (
    InvalidArgumentError,
    InvalidDataError,
    MissingDependencyError,
    MissingKeyError,
)
from vivace.spatial import add_proportions, read_table

N = 12


def test_without_spatialdata_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "vivace\[spatial\]"'):
        read_table(object())


@pytest.fixture
def sdata():
    """Two sections: spots of either are circles, in the table in another order than there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spatialdata = pytest.importorskip("spatialdata", exc_type=ImportError)
        from spatialdata.models import ShapesModel, TableModel

        places = np.arange(2.0 * N).reshape(N, 2)
        shapes = {
            f"section_{i}": ShapesModel.parse(
                places[rows], geometry=0, radius=1.0, index=pd.Index(np.arange(len(rows)) + 10)
            )
            for i, rows in enumerate(np.split(np.arange(N), 2))
        }
        _, spots = vivace.datasets.simulate("spatial", n_cells=30, n_genes=10, n_spots=N)
        spots.obsm.clear()
        spots.uns.clear()
        spots.obs["region"] = pd.Categorical(["section_0"] * 6 + ["section_1"] * 6)
        spots.obs["spot"] = np.tile(np.arange(6) + 10, 2)
        table = TableModel.parse(
            spots[::-1].copy(), region=[*shapes], region_key="region", instance_key="spot"
        )
        yield spatialdata.SpatialData(shapes=shapes, tables={"table": table})


def proportions_of(sdata) -> pd.DataFrame:
    names = sdata.tables["table"].obs_names
    return pd.DataFrame(np.random.default_rng(0).dirichlet([1, 1], N), names, ["B", "T"])


def test_spots_come_with_the_centres_of_their_shapes(sdata):
    before = sdata.tables["table"].copy()
    spots = read_table(sdata)
    assert np.array_equal(spots.obsm["spatial"], np.arange(2.0 * N).reshape(N, 2)[::-1])
    assert (spots.X != before.X).nnz == 0
    assert "spatial" not in sdata.tables["table"].obsm


def test_a_spot_without_a_shape_is_named(sdata):
    sdata.tables["table"].obs["spot"] = sdata.tables["table"].obs["spot"].to_numpy() + 1
    with pytest.raises(InvalidDataError, match="none of the elements"):
        read_table(sdata)


def test_names_are_looked_up(sdata):
    with pytest.raises(MissingKeyError, match=r"tabel.*table"):
        read_table(sdata, "tabel")
    with pytest.raises(InvalidArgumentError, match="coordinate_system='mm'"):
        read_table(sdata, coordinate_system="mm")
    with pytest.raises(InvalidDataError, match="expected a SpatialData"):
        read_table(sdata.tables["table"])


def test_proportions_are_a_table_of_the_same_spots(sdata):
    shares = proportions_of(sdata)
    add_proportions(sdata, shares.iloc[3:])
    table = sdata.tables["proportions"]
    assert np.allclose(table.to_df(), shares.iloc[3:])
    assert list(table.obs["spot"]) == list(sdata.tables["table"].obs["spot"].iloc[3:])
    with pytest.raises(InvalidArgumentError, match="there is a table of that name"):
        add_proportions(sdata, shares, "table")
    with pytest.raises(InvalidArgumentError, match="2 tables"):
        add_proportions(sdata, shares, name="again")
    with pytest.raises(InvalidDataError, match='the spot "nobody"'):
        add_proportions(sdata, shares.rename(index={shares.index[0]: "nobody"}), "table", name="x")


def test_an_object_on_disk_has_them_on_disk(sdata, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata

        sdata.write(tmp_path / "tissue.zarr")
        add_proportions(sdata, proportions_of(sdata))
        again = spatialdata.read_zarr(tmp_path / "tissue.zarr")
    assert np.allclose(again.tables["proportions"].to_df(), proportions_of(sdata))
