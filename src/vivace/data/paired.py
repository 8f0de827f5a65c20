"""Cells with several modalities, any of which a cell may lack."""

from __future__ import annotations

from typing import Any

import numpy as np

from vivace._types import Keys
from vivace.data.cells import Cells, align_genes, layer_of, read_columns
from vivace.data.checks import check_object
from vivace.data.columns import column, text_of
from vivace.data.matrices import read_matrix, row_totals
from vivace.data.schema import Field
from vivace.data.sources import Source
from vivace.data.sources.canonical import plain_numbers
from vivace.data.sources.some_rows import SomeRows
from vivace.errors import InvalidDataError, missing_key


class PairedCells(Cells):
    """The cells of a MuData as a schema of its modalities sees them.

    Cells are those of the MuData, in its order; genes, junctions and cells of a modality are found by
    name. A cell that a modality lacks has an empty row there.

    Parameters
    ----------
    mdata
        MuData; never modified.
    schema
        Of :func:`vivace.data.setup_mudata.splicing_schema`.

    Raises
    ------
    InvalidDataError
        If genes or junctions are missing, or junctions form other events than in training.
    MissingKeyError
        If a modality, layer or column does not exist.
    """

    @staticmethod
    def _check(mdata: Any) -> None:
        check_mudata(mdata)

    def _open(self, mdata: Any, field: Field) -> Source:
        part = modality(mdata, field.modality, field.key)
        if field.categories:
            columns = align_groups(part, field, self.schema.setup_args["event_key"])
        else:
            columns = align_genes(part.var_names, self.schema.var_names)
        source, _ = read_matrix(part, layer_of(field), field.expected, columns=columns)
        return for_all_cells(source, part, mdata)

    def _columns(self, mdata: Any, field: Field) -> np.ndarray:
        if field.key != Keys.SIZE_FACTOR:
            return read_columns(mdata, field)
        expressed = row_totals(self.sources[Keys.X]) > 0
        return size_factors(mdata, field.columns[0], expressed).astype(np.float32)[:, None]


def for_all_cells(source: Source, part: Any, mdata: Any) -> Source:
    """The rows of a modality under the numbers that its cells have in the MuData."""
    rows = part.obs_names.get_indexer(mdata.obs_names)
    return source if np.array_equal(rows, np.arange(part.n_obs)) else SomeRows(source, rows)


def size_factors(mdata: Any, key: str, expressed: np.ndarray) -> np.ndarray:
    """Size factors from ``obsm`` (its first column) or ``obs``, (N,) float64; 1 for cells without counts.

    Raises
    ------
    MissingKeyError
        If neither has them.
    InvalidDataError
        If one is not finite or not positive where there is expression.
    """
    argument = "size_factor_key"
    if key not in mdata.obsm:
        if key not in mdata.obs:
            have = [*mdata.obsm, *mdata.obs.columns]
            raise missing_key(argument, key, "mdata.obsm and mdata.obs", have)
        values = column(mdata.obs, key, argument).to_numpy()
    else:
        values = np.asarray(mdata.obsm[key]).reshape(mdata.n_obs, -1)[:, 0]
    values = plain_numbers(values, f'{argument}="{key}"').astype(np.float64)
    good = np.isfinite(values) & (values > 0)
    if not good[expressed].all():
        msg = f'{argument}="{key}" must be finite and > 0 in every cell with expression'
        raise InvalidDataError(msg)
    return np.where(expressed, values, 1.0)


def check_mudata(mdata: Any) -> None:
    """Refuse what is no MuData, empty objects and duplicate names of cells.

    Raises
    ------
    InvalidDataError
        Saying which, and what to do.
    """
    if not hasattr(mdata, "mod"):
        msg = (
            f"a MuData with gene and junction counts is needed, got {type(mdata).__name__}; "
            'mudata.MuData({"rna": genes, "splicing": junctions}) makes one'
        )
        raise InvalidDataError(msg)
    if not mdata.obs_names.is_unique:
        twice = mdata.obs_names[mdata.obs_names.duplicated()][0]
        msg = f'mdata has duplicate cell names (such as "{twice}"); call mdata.obs_names_make_unique()'
        raise InvalidDataError(msg)


def modality(mdata: Any, name: str, argument: str) -> Any:
    """One modality of a MuData, checked.

    Raises
    ------
    InvalidDataError
        If the object is no MuData.
    MissingKeyError
        If the modality does not exist.
    """
    check_mudata(mdata)
    if name not in mdata.mod:
        raise missing_key(f"modalities[{argument!r}]", name, "mdata.mod", mdata.mod)
    check_object(mdata.mod[name], f'mdata.mod["{name}"]')
    return mdata.mod[name]


def align_groups(part: Any, field: Field, group_key: str) -> np.ndarray | None:
    """Columns of the model's junctions, which must form the model's events."""
    names, groups = field.categories
    columns = part.var_names.get_indexer(list(names))
    if (columns < 0).any():
        first = names[int(np.argmax(columns < 0))]
        msg = (
            f'{int((columns < 0).sum())} of the model\'s {len(names)} junctions, such as "{first}", '
            "are not in the splicing modality"
        )
        raise InvalidDataError(msg)
    found = np.array([text_of(v) for v in column(part.var, group_key, "event_key", "splicing.var")])
    extra = np.setdiff1d(np.flatnonzero(np.isin(found, list(set(groups)))), columns)
    if (found[columns] != np.asarray(groups)).any() or len(extra):
        msg = (
            "the junctions form other events than in the data the model was trained with; ratios "
            f'would mean something else. Compare splicing.var["{group_key}"]'
        )
        raise InvalidDataError(msg)
    same = len(columns) == part.n_vars and (columns == np.arange(part.n_vars)).all()
    return None if same else columns
