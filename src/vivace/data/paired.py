"""Cells with two modalities, either of which a cell may lack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from vivace._types import Keys
from vivace.data.cells import Cells, align_genes, read_columns
from vivace.data.checks import check_finite, check_object, get_matrix
from vivace.data.schema import Field, Schema
from vivace.data.sources import MemorySource
from vivace.errors import InvalidDataError, missing_key


class PairedCells(Cells):
    """The cells of a MuData as a schema of two modalities sees them.

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

    def __init__(self, mdata: Any, schema: Schema):
        names = schema.setup_args["modalities"]
        genes = modality(mdata, names["rna_layer"], "rna_layer")
        junctions = modality(mdata, names["junc_ratio_layer"], "junc_ratio_layer")
        self.schema = schema
        self.n_cells = mdata.n_obs
        self.obs_names = mdata.obs_names
        of_junctions = schema.field(Keys.JUNCTIONS)
        assert of_junctions is not None
        self.sources = {
            Keys.X: read_matrix(
                genes,
                schema.field(Keys.X),
                mdata.obs_names,
                align_genes(genes.var_names, schema.var_names),
            ),
            Keys.JUNCTIONS: read_matrix(
                junctions,
                of_junctions,
                mdata.obs_names,
                align_junctions(junctions, of_junctions, schema.setup_args["event_key"]),
            ),
        }
        self.columns = {}
        for field in schema.fields:
            if field.kind == "obsm":
                values = obsm_column(mdata, field.columns[0])
                self.columns[field.key] = values.astype(np.float32)[:, None]
            elif field.kind != "matrix":
                self.columns[field.key] = read_columns(mdata, field)


def modality(mdata: Any, name: str, argument: str) -> Any:
    """One modality of a MuData, checked.

    Raises
    ------
    InvalidDataError
        If the object is no MuData.
    MissingKeyError
        If the modality does not exist.
    """
    if not hasattr(mdata, "mod"):
        msg = (
            f"a MuData with gene and junction counts is needed, got {type(mdata).__name__}; "
            'mudata.MuData({"rna": genes, "splicing": junctions}) makes one'
        )
        raise InvalidDataError(msg)
    if name not in mdata.mod:
        raise missing_key(f"modalities[{argument!r}]", name, "mdata.mod", mdata.mod)
    check_object(mdata.mod[name])
    return mdata.mod[name]


def read_matrix(
    part: Any, field: Field | None, cells: pd.Index, columns: np.ndarray | None
) -> MemorySource:
    """Source of a modality's matrix with a row for every cell of the MuData."""
    layer = field.columns[0] if field is not None and field.columns else None
    matrix = get_matrix(part, layer)
    check_finite(matrix, layer or "X")
    rows = part.obs_names.get_indexer(cells)
    if np.array_equal(rows, np.arange(part.n_obs)):
        return MemorySource(matrix, columns)
    matrix = sparse.csr_array(matrix)
    empty = sparse.csr_array((1, matrix.shape[1]), dtype=matrix.dtype)
    # row -1, of cells that are not there, is the empty one
    return MemorySource(sparse.vstack([matrix, empty], format="csr")[rows], columns)


def align_junctions(part: Any, field: Field, event_key: str) -> np.ndarray | None:
    """Columns of the model's junctions, which must form the model's events."""
    names, events = field.categories
    columns = part.var_names.get_indexer(list(names))
    if (columns < 0).any():
        first = names[int(np.argmax(columns < 0))]
        msg = (
            f'{int((columns < 0).sum())} of the model\'s {len(names)} junctions, such as "{first}", '
            "are not in the splicing modality"
        )
        raise InvalidDataError(msg)
    if event_key not in part.var:
        raise missing_key("event_key", event_key, "splicing.var", part.var.columns)
    found = part.var[event_key].astype(str).to_numpy()
    extra = np.setdiff1d(np.flatnonzero(np.isin(found, list(set(events)))), columns)
    if (found[columns] != np.asarray(events)).any() or len(extra):
        msg = (
            "the junctions form other events than in the data the model was trained with; ratios "
            f'would mean something else. Compare splicing.var["{event_key}"]'
        )
        raise InvalidDataError(msg)
    same = len(columns) == part.n_vars and (columns == np.arange(part.n_vars)).all()
    return None if same else columns


def obsm_column(mdata: Any, key: str) -> np.ndarray:
    """First column of ``mdata.obsm[key]``, (N,) float64."""
    values = np.asarray(mdata.obsm[key], dtype=np.float64)
    return values.reshape(len(values), -1)[:, 0]
