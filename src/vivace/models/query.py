"""Map new cells onto a trained model: what it learned stays, only the new batches are learned.

Lotfollahi et al. 2022, Mapping single-cell data to reference atlases by transfer learning (scArches).
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from scipy import sparse

from vivace.data.cells import layer_of
from vivace.data.checks import check_object
from vivace.data.matrices import as_matrix, find_matrix, read_matrix
from vivace.data.schema import Field, Schema
from vivace.data.setup import categorical_field
from vivace.data.sources import on_disk, open_source
from vivace.errors import InvalidArgumentError, InvalidDataError, VivaceWarning, nearest
from vivace.io import load_parts
from vivace.models.files import placed
from vivace.modules.transfer import Freeze, copy_weights, freeze_reference

if TYPE_CHECKING:
    from vivace.models.base import BaseModel

Model = TypeVar("Model", bound="BaseModel")

FEW_GENES = 0.8
"""A query with a smaller share of the reference's genes than this is warned of."""


def load_query_data(
    model_class: type[Model],
    adata: Any,
    reference_model: Any,
    freeze_dropout: bool = False,
    freeze_expression: bool = True,
    freeze_decoder_first_layer: bool = True,
    freeze_batchnorm_encoder: bool = True,
    freeze_batchnorm_decoder: bool = True,
    unfrozen: bool = False,
    accelerator: str = "cpu",
    device: str | int = "auto",
) -> Model:
    """A model of new cells that learns their batches and keeps what the reference learned.

    New batches, and new categories of further covariates, are appended to the reference's; what
    belongs to them starts at the mean of the known ones and is all that training changes, unless
    something is released.

    Train it, then ask it: its latent space is the reference's. What the reference knows, it
    still answers as before, to the bit.

    Parameters
    ----------
    adata
        New cells, with the obs columns that the reference was set up with; not modified.
    reference_model
        Trained model, or the folder it was saved to.
    freeze_dropout, freeze_expression, freeze_decoder_first_layer
        No dropout; gene weights of the encoders and latent weights of the decoder stay.
    freeze_batchnorm_encoder, freeze_batchnorm_decoder
        Batch norms stay, and use their running statistics in training too.
    unfrozen
        Train everything, starting from the reference.
    accelerator, device
        Where the model is put, as in :meth:`load`.

    Returns
    -------
    A model that is to be trained.

    Raises
    ------
    InvalidDataError
        If genes are missing; :meth:`prepare_query_anndata` fills them in.
    InvalidArgumentError
        If the reference is another kind of model, or the cells have no new batch.

    Examples
    --------
    >>> import vivace
    >>> adata = vivace.datasets.simulate("batches", n_cells=300, n_genes=50)
    >>> new = adata.obs["batch"] == "batch_2"
    >>> reference_cells, new_cells = adata[~new].copy(), adata[new].copy()
    >>> vivace.SCVI.setup_anndata(reference_cells, batch_key="batch")
    >>> reference = vivace.SCVI(reference_cells)
    >>> reference.train(max_epochs=2, progress=False)
    >>> model = vivace.SCVI.load_query_data(new_cells, reference)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_latent_representation().shape == (new_cells.n_obs, 10)
    True
    """
    freeze = Freeze(
        freeze_dropout,
        freeze_expression,
        freeze_decoder_first_layer,
        freeze_batchnorm_encoder,
        freeze_batchnorm_decoder,
        unfrozen,
    )
    return placed(map_cells(model_class, adata, reference_model, freeze), accelerator, device)


def map_cells(
    model_class: type[Model], adata: Any, reference: Model | str | Path, freeze: Freeze
) -> Model:
    """As :func:`load_query_data`, for cells of any kind."""
    if not hasattr(reference, "module"):
        reference = model_class.load(reference, adata=False)
    if type(reference) is not model_class:
        msg = f"the reference is a {type(reference).__name__}, not a {model_class.__name__}"
        raise InvalidArgumentError(msg)
    if not hasattr(adata, "mod"):  # of a MuData, both modalities are looked at below
        _check_genes(adata, reference.schema)
    schema = extended_schema(reference.schema, adata.obs)
    model = model_class.__new__(model_class)
    model._assemble(schema, dict(reference.options), adata)
    model._cells()  # say now, not at the first question, if the data do not fit
    copy_weights(model.module, reference.module)
    freeze_reference(model.module, reference.module, freeze)
    if not any(p.requires_grad for p in model.module.parameters()):
        msg = (
            "the query has no batch that the reference does not know, so that there is nothing to "
            "learn: ask the reference itself, such as reference.get_latent_representation(adata)"
        )
        raise InvalidArgumentError(msg)
    model.query = {
        "fields": [asdict(field) for field in reference.schema.fields],
        "freeze": asdict(freeze),
    }
    return model


def freeze_again(model: BaseModel, query: dict[str, Any]) -> None:
    """Freeze a loaded query model as it was when it was made."""
    fields = tuple(map(Field.from_dict, query["fields"]))
    shape = type(model).__new__(type(model))  # a module as large as the reference's was
    shape._assemble(replace(model.schema, fields=fields), model.options, None)
    freeze_reference(model.module, shape.module, Freeze(**query["freeze"]))
    model.query = query


# data -------------------------------------------------------------------------------------------


def _check_genes(adata: Any, schema: Schema) -> None:
    check_object(adata)
    missing = [gene for gene in schema.var_names if gene not in adata.var_names]
    if missing:
        msg = (
            f"{len(missing)} of the reference's {len(schema.var_names)} genes are missing in adata, such "
            f'as "{missing[0]}" ({nearest(missing[0], adata.var_names)}). prepare_query_anndata(adata, '
            "reference) returns a copy with the reference's genes, zeros where they are missing; with "
            "inplace=True it brings adata itself into order"
        )
        raise InvalidDataError(msg)


def extended_schema(schema: Schema, obs: pd.DataFrame) -> Schema:
    """The reference's schema with the query's new categories appended, in sorted order."""
    return replace(schema, fields=tuple(_extended(field, obs) for field in schema.fields))


def _extended(field: Field, obs: pd.DataFrame) -> Field:
    if field.kind != "categorical" or not field.categories:
        return field
    found = categorical_field(obs, field.key, field.columns, field.key).categories
    categories = tuple(
        known + tuple(c for c in new if c not in known)
        for known, new in zip(field.categories, found, strict=True)
    )
    return replace(field, categories=categories)


def prepare_query_anndata(
    adata: Any,
    reference: BaseModel | str | Path,
    return_reference_var_names: bool = False,
    inplace: bool = False,
) -> Any:
    """Query cells with the reference's genes in its order, zeros where they are missing.

    Parameters
    ----------
    adata
        Query cells; not modified unless ``inplace``.
    reference
        Trained model, or the folder it was saved to.
    return_reference_var_names
        Return the names of the reference's genes instead, and do nothing.
    inplace
        Bring ``adata`` itself into order, with its other layers and tables, and return None. Entries of
        ``varp`` are left out. A warning says how many genes are missing.

    Returns
    -------
    AnnData with the arrays that the reference uses, and ``obs``; or None, or a pandas Index.

    Raises
    ------
    InvalidDataError
        If no gene is shared.
    ModelFileError
        If the folder holds no model.
    """
    import anndata

    schema = reference_schema(reference)
    wanted = pd.Index(schema.var_names)
    if return_reference_var_names:
        return wanted
    positions = _shared_positions(adata, wanted, warn_below=1.0 if inplace else FEW_GENES)
    fields = [field for field in schema.fields if field.kind == "matrix"]
    for field in fields:  # say what is wrong before anything is written
        read_matrix(adata, layer_of(field), field.expected, columns=positions[positions >= 0])
    if inplace:
        _reorder(adata, wanted, positions)
        return None
    prepared = anndata.AnnData(obs=adata.obs.copy(), var=pd.DataFrame(index=wanted))
    for field in fields:
        layer = layer_of(field)
        matrix = _with_zeros(find_matrix(adata, layer), positions)
        if layer is None:
            prepared.X = matrix
        else:
            prepared.layers[layer] = matrix
    return prepared


def reference_schema(reference: BaseModel | str | Path) -> Schema:
    """What the data of a model, or of one in a folder, look like."""
    return load_parts(reference).schema if isinstance(reference, str | Path) else reference.schema


def _shared_positions(adata: Any, wanted: pd.Index, warn_below: float) -> np.ndarray:
    """Positions of the reference's genes in the query, -1 where they are missing."""
    check_object(adata)
    positions = adata.var_names.get_indexer(wanted)
    n_shared = int((positions >= 0).sum())
    if n_shared == 0:
        msg = (
            f"none of the reference's {len(wanted)} genes is in adata.var_names; do both use the same "
            f'names, such as "{wanted[0]}"? adata has "{adata.var_names[0]}"'
        )
        raise InvalidDataError(msg)
    if n_shared < warn_below * len(wanted):
        warnings.warn(
            f"only {n_shared} of the reference's {len(wanted)} genes are in adata; the others "
            "count as zero",
            VivaceWarning,
            stacklevel=3,
        )
    return positions


def _with_zeros(matrix: Any, positions: np.ndarray) -> Any:
    """Columns of a matrix at these positions, zeros for -1; CSR in memory, lazy on disk."""
    lazy = on_disk(matrix)
    if lazy is not None:
        return lazy.choose(positions)
    have = np.flatnonzero(positions >= 0)
    known = as_matrix(open_source(matrix, positions[have]).read(np.arange(matrix.shape[0])))
    choose = sparse.csr_array(
        (np.ones(len(have), dtype=np.float32), (np.arange(len(have)), have)),
        (len(have), len(positions)),
    )
    return sparse.csr_matrix(sparse.csr_array(known) @ choose)


def _reorder(adata: Any, wanted: pd.Index, positions: np.ndarray) -> None:
    """Bring an AnnData into the order of genes, with all that it holds of them."""
    padded = np.where(positions >= 0, positions, adata.n_vars)  # of a row of nothing at the end

    def chosen(matrix: Any) -> Any:
        if on_disk(matrix) is not None or matrix is None:
            return None if matrix is None else _with_zeros(matrix, positions)
        zeros = np.zeros((adata.n_obs, 1), dtype=matrix.dtype)
        if sparse.issparse(matrix):
            return sparse.hstack([matrix, sparse.csr_matrix(zeros)], format="csr")[:, padded]
        return np.hstack([matrix, zeros])[:, padded]

    def of_genes(values: Any) -> Any:
        if isinstance(values, pd.DataFrame):
            return values.reindex(wanted)
        unknown = np.full((1, *values.shape[1:]), np.nan)
        return np.concatenate([np.asarray(values), unknown])[padded]

    x = chosen(adata.X)
    layers = {  # anndata lists X among them, as None, from 0.13 on
        name: x if name is None else chosen(value) for name, value in adata.layers.items()
    }
    adata._init_as_actual(  # the only way in which anndata lets an object get genes
        X=x,
        obs=adata.obs.copy(),
        var=adata.var.reindex(wanted),
        layers=layers,
        obsm=dict(adata.obsm),
        obsp=dict(adata.obsp),
        varm={key: of_genes(value) for key, value in adata.varm.items()},
        uns=dict(adata.uns),
        raw=None if adata.raw is None else {"X": adata.raw.X, "var": adata.raw.var},
    )
