"""SpatialData objects: a table with the places of its spots in, proportions of cell types out.

Needs ``pip install "vivace[spatial]"``, which is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vivace.errors import InvalidArgumentError, InvalidDataError, missing_key, require

if TYPE_CHECKING:
    import anndata

__all__ = ["add_proportions", "read_table"]

KEY = "spatial"
"""Where squidpy and scanpy look for places in ``obsm``."""
ATTRIBUTES = "spatialdata_attrs"
"""Key of ``uns`` by which SpatialData says which elements a table describes."""


def read_table(
    sdata: Any, table: str | None = None, *, coordinate_system: str = "global"
) -> anndata.AnnData:
    """Copy of a table of a SpatialData object, with the centre of each spot in ``obsm["spatial"]``.

    Parameters
    ----------
    sdata
        SpatialData object.
    table
        Name of the table; may be left out where there is one.
    coordinate_system
        In which the centres are given.

    Returns
    -------
    AnnData of N spots, with (N, 2) centres x and y in units of the coordinate system. ``sdata`` is not
    modified. A table that describes no element comes as it is.

    Raises
    ------
    MissingKeyError
        If there is no such table.
    InvalidArgumentError
        If there are several tables and none is named, or the coordinate system is unknown.
    InvalidDataError
        If the object is no SpatialData, or an element lacks a spot of the table.
    MissingDependencyError
        If spatialdata is not installed.
    """
    spots = _table_of(sdata, table).copy()
    attributes = spots.uns.get(ATTRIBUTES)
    if attributes is None:
        return spots
    spots.obsm[KEY] = _centres(sdata, spots.obs, attributes, coordinate_system)
    return spots


def add_proportions(
    sdata: Any, proportions: pd.DataFrame, table: str | None = None, *, name: str = "proportions"
) -> None:
    """Put proportions beside the table that they were read from, as a table of its own.

    The new table describes the same elements, so that ``spatialdata_plot`` and napari colour the spots by
    it. An object that lies on disk gets it on disk, too. Nothing else of it is modified.

    Parameters
    ----------
    sdata
        SpatialData object, which gets a table.
    proportions
        (N, C) DataFrame of spots and types, such as ``DestVI.get_proportions()`` gives; spots are found by
        their names.
    table
        Name of the table that the spots come from; may be left out where there is one.
    name
        Of the new table.

    Raises
    ------
    InvalidArgumentError
        If there is a table of that name, or several and none is named as ``table``.
    InvalidDataError
        If a spot of ``proportions`` is not in the table.
    MissingDependencyError
        If spatialdata is not installed.
    """
    spots = _table_of(sdata, table)
    if name in sdata.tables:
        msg = f'name="{name}": there is a table of that name; choose another, or delete it first'
        raise InvalidArgumentError(msg)
    rows = spots.obs_names.get_indexer(proportions.index)
    if (rows < 0).any():
        lost = proportions.index[rows < 0][0]
        msg = f'proportions has the spot "{lost}", which is not in the table; pass rows as they were given'
        raise InvalidDataError(msg)
    sdata.tables[name] = _described(proportions, spots, rows)
    if sdata.is_backed():
        sdata.write_element(name)


def _described(proportions: pd.DataFrame, spots: Any, rows: np.ndarray) -> anndata.AnnData:
    """Proportions as a table that describes what ``spots`` describes."""
    import anndata

    attributes = spots.uns.get(ATTRIBUTES, {})
    columns = [attributes[key] for key in ("region_key", "instance_key") if key in attributes]
    result = anndata.AnnData(
        proportions.to_numpy(np.float32),
        obs=spots.obs.iloc[rows][columns],
        var=pd.DataFrame(index=proportions.columns.astype(str)),
    )
    if attributes:
        result.obs[columns[0]] = result.obs[columns[0]].astype("category")
        result.uns[ATTRIBUTES] = dict(attributes)
    return result


def _table_of(sdata: Any, table: str | None) -> Any:
    try:
        import spatialdata
    except ImportError as error:
        raise require("spatialdata", "spatial") from error
    if not isinstance(sdata, spatialdata.SpatialData):
        msg = (
            f"sdata is a {type(sdata).__name__}, expected a SpatialData object; "
            "spatialdata.read_zarr(path) reads one"
        )
        raise InvalidDataError(msg)
    names = list(sdata.tables)
    if table is None and len(names) != 1:
        msg = f"sdata has {len(names)} tables ({', '.join(names) or 'none'}); name one as table="
        raise InvalidArgumentError(msg)
    if table is not None and table not in names:
        raise missing_key("table", table, "sdata.tables", names)
    return sdata.tables[names[0] if table is None else table]


def _centres(
    sdata: Any, obs: pd.DataFrame, attributes: dict[str, Any], coordinate_system: str
) -> np.ndarray:
    """(N, 2) centres of the elements that the rows of a table describe."""
    from spatialdata import get_centroids

    known = sdata.coordinate_systems
    if coordinate_system not in known:
        msg = f"coordinate_system={coordinate_system!r} is not one of {', '.join(known)}"
        raise InvalidArgumentError(msg)
    regions = obs[attributes["region_key"]].astype(str)
    instances = obs[attributes["instance_key"]]
    places = np.full((len(obs), 2), np.nan)
    for region in regions.unique():
        points = get_centroids(sdata[region], coordinate_system=coordinate_system).compute()
        of_region = (regions == region).to_numpy()
        found = points.reindex(instances[of_region])[["x", "y"]]
        places[of_region] = found.to_numpy()
    if np.isnan(places).any():
        spot = obs.index[np.isnan(places).any(axis=1)][0]
        msg = f'the spot "{spot}" of the table is in none of the elements that it describes'
        raise InvalidDataError(msg)
    return places
