"""Map new cells onto a trained model: what it learned stays, only the new batches are learned.

Lotfollahi et al. 2022, Mapping single-cell data to reference atlases by transfer learning (scArches).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import nn

from vivace.data.checks import check_object
from vivace.data.matrices import as_matrix, find_matrix, read_matrix
from vivace.data.schema import Field, Schema
from vivace.data.setup import categorical_field
from vivace.data.sources import on_disk
from vivace.errors import InvalidArgumentError, InvalidDataError, VivaceWarning, nearest
from vivace.modules.base import BaseModule
from vivace.nn import FCLayers
from vivace.nn.splicing_decoder import LinearSplicingDecoder

if TYPE_CHECKING:
    from vivace.models.base import BaseModel

Model = TypeVar("Model", bound="BaseModel")
Layers = FCLayers | LinearSplicingDecoder

FEW_GENES = 0.8
"""A query with a smaller share of the reference's genes than this is warned of."""


@dataclass(frozen=True)
class Freeze:
    """What of the reference stays as it is while the query is learned.

    Attributes
    ----------
    freeze_dropout
        No dropout in training.
    freeze_expression
        Gene weights of the encoders' first layers.
    freeze_decoder_first_layer
        Latent weights of the decoder's first layer.
    freeze_batchnorm_encoder, freeze_batchnorm_decoder
        Batch norms: their parameters, their running statistics, and that these are used in training
        too, as they will be afterwards.
    unfrozen
        Train everything, starting from the reference.
    """

    freeze_dropout: bool = False
    freeze_expression: bool = True
    freeze_decoder_first_layer: bool = True
    freeze_batchnorm_encoder: bool = True
    freeze_batchnorm_decoder: bool = True
    unfrozen: bool = False


def load_query_data(
    model_class: type[Model], adata: Any, reference: Model | str | Path, freeze: Freeze
) -> Model:
    """A model of the query cells that starts as the reference and learns only what is new.

    New batches (and new categories of further covariates) are appended to the reference's; what
    belongs to them starts at the mean of the known ones and is all that training changes, unless
    ``freeze`` releases more. Nothing of ``adata`` or of the reference is modified.

    Parameters
    ----------
    model_class
        Class of the reference.
    adata
        Query cells, set up or not; columns and layers are found under the reference's names.
    reference
        Trained model, or its folder.
    freeze
        What stays as it is.

    Returns
    -------
    A model that is to be trained on the query.

    Raises
    ------
    InvalidDataError
        If genes are missing (:func:`prepare_query_anndata` fills them in).
    InvalidArgumentError
        If the reference is of another class, or there is nothing to learn.
    """
    if not hasattr(reference, "module"):
        reference = model_class.load(reference)
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
            "reference) returns a copy with the reference's genes, zeros where they are missing"
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


def prepare_query_anndata(adata: Any, reference: BaseModel) -> Any:
    """A copy of query cells with the reference's genes in its order, zeros where they are missing.

    Parameters
    ----------
    adata
        Query cells; not modified.
    reference
        Trained model.

    Returns
    -------
    AnnData with the arrays that the reference uses, and ``obs``.

    Raises
    ------
    InvalidDataError
        If no gene is shared.
    """
    import anndata

    check_object(adata)
    wanted = reference.var_names
    positions = adata.var_names.get_indexer(wanted)
    have = np.flatnonzero(positions >= 0)
    if len(have) == 0:
        msg = (
            f"none of the reference's {len(wanted)} genes is in adata.var_names; do both use the same "
            f'names, such as "{wanted[0]}"? adata has "{adata.var_names[0]}"'
        )
        raise InvalidDataError(msg)
    if len(have) < FEW_GENES * len(wanted):
        warnings.warn(
            f"only {len(have)} of the reference's {len(wanted)} genes are in adata; the others "
            "count as zero",
            VivaceWarning,
            stacklevel=2,
        )
    choose = sparse.csr_array(
        (np.ones(len(have), dtype=np.float32), (np.arange(len(have)), have)),
        (len(have), len(wanted)),
    )
    prepared = anndata.AnnData(obs=adata.obs.copy(), var=pd.DataFrame(index=wanted))
    for field in (f for f in reference.schema.fields if f.kind == "matrix"):
        layer = field.columns[0] if field.columns else None
        source, _ = read_matrix(adata, layer, field.expected, columns=positions[have])
        lazy = on_disk(find_matrix(adata, layer))
        if lazy is not None:
            matrix: Any = lazy.choose(positions)
        else:
            known = as_matrix(source.read(np.arange(adata.n_obs)))
            matrix = sparse.csr_matrix(sparse.csr_array(known) @ choose)
        if layer is None:
            prepared.X = matrix
        else:
            prepared.layers[layer] = matrix
    return prepared


# weights ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entries:
    """Which entries of a tensor the reference has, and which it fixes.

    Attributes
    ----------
    name, value
        Of the query model's parameter or buffer.
    axis
        The axis that new categories made longer, or None.
    known
        Positions along it of the reference's entries, in their order.
    fixed
        Positions that stay: the known ones, and of a covariate that had a single category, and so
        no column, the column of that category, which is zero.
    groups
        Positions by covariate: (known, new) pairs.
    """

    name: str
    value: torch.Tensor
    axis: int | None = None
    known: tuple[int, ...] = ()
    fixed: tuple[int, ...] = ()
    groups: tuple[tuple[list[int], list[int]], ...] = ()


def entries(module: BaseModule, reference: BaseModule) -> Iterator[Entries]:
    """What the reference has of every tensor of the larger module."""
    old = tensors(reference)
    layers = dict(_covariate_layers(module, reference))
    for name, value in tensors(module).items():
        if name in old and value.shape == old[name].shape:
            yield Entries(name, value)
        elif name in layers:
            yield _of_layer(name, value, *layers[name])
        else:
            yield _of_table(name, value, old[name])


def tensors(module: BaseModule) -> dict[str, torch.Tensor]:
    """Parameters and saved buffers by name, as they lie in memory, which state dicts hide."""
    saved = module.state_dict().keys()
    buffers = {name: buffer for name, buffer in module.named_buffers() if name in saved}
    return {**dict(module.named_parameters()), **buffers}


def _covariate_layers(
    module: BaseModule, reference: BaseModule
) -> Iterator[tuple[str, tuple[int, Layers, Layers]]]:
    old = dict(reference.named_modules())
    for name, layers in module.named_modules():
        if isinstance(layers, FCLayers):
            for layer in layers.fc_layers:
                yield f"{name}.fc_layers.{layer}.0.of_covariates", (0, layers, old[name])
        elif isinstance(layers, LinearSplicingDecoder):
            yield f"{name}.linear.weight", (1, layers, old[name])


def _of_layer(name: str, value: torch.Tensor, axis: int, new: Layers, old: Layers) -> Entries:
    """The weights of each covariate lie side by side: new ones come between the old."""
    start = value.shape[axis] - sum(new.n_cat_list)
    known, fixed = list(range(start)), list(range(start))
    groups = []
    for n_new, n_old in zip(new.n_cat_list, old.n_cat_list, strict=True):
        columns = list(range(start, start + n_new))
        n_fixed = n_old if n_old or not n_new else 1
        known += columns[:n_old]
        fixed += columns[:n_fixed]
        groups.append((columns[:n_old], columns[n_old:]))
        start += n_new
    return Entries(name, value, axis, tuple(known), tuple(fixed), tuple(groups))


def _of_table(name: str, value: torch.Tensor, old: torch.Tensor) -> Entries:
    axis = next(i for i, (a, b) in enumerate(zip(value.shape, old.shape, strict=True)) if a != b)
    known = list(range(old.shape[axis]))
    added = list(range(old.shape[axis], value.shape[axis]))
    return Entries(name, value, axis, tuple(known), tuple(known), ((known, added),))


@torch.no_grad()
def copy_weights(module: BaseModule, reference: BaseModule) -> None:
    """Start from the reference; what is new starts at the mean of what is known, or at zero.

    Buffers of new categories (a library prior) stay as the query's own data made them.
    """
    old = {name: value.cpu() for name, value in tensors(reference).items()}
    for entry in entries(module, reference):
        value = entry.value
        if entry.axis is None:
            value.copy_(old[entry.name])
            continue
        if entry.known:
            value.index_copy_(entry.axis, torch.tensor(entry.known), old[entry.name])
        if not isinstance(value, nn.Parameter):
            continue
        for known, added in entry.groups:
            if added:
                mean = value.index_select(entry.axis, torch.tensor(known, dtype=torch.long))
                mean = mean.mean(entry.axis, keepdim=True) if known else torch.zeros(())
                shape = [len(added) if i == entry.axis else n for i, n in enumerate(value.shape)]
                value.index_copy_(entry.axis, torch.tensor(added), mean.expand(shape))


# freezing ---------------------------------------------------------------------------------------


class FixedBatchNorm(nn.BatchNorm1d):
    """Batch norm that uses and keeps its running statistics, in training too."""

    def train(self, mode: bool = True) -> FixedBatchNorm:
        return super().train(False)

    @classmethod
    def of(cls, norm: nn.BatchNorm1d) -> FixedBatchNorm:
        """One with the tensors of another batch norm, to take its place."""
        fixed = cls(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
            setattr(fixed, name, tensor)
        return fixed.eval()


def freeze_reference(module: BaseModule, reference: BaseModule, freeze: Freeze) -> None:
    """Let training change only what the reference does not have, and what ``freeze`` releases.

    Entries of the reference that share a tensor with new ones get a gradient of zero and no weight
    decay, so that they stay the same to the bit.
    """
    if freeze.unfrozen:
        return
    for entry in entries(module, reference):
        if not isinstance(entry.value, nn.Parameter) or _released(module, entry.name, freeze):
            continue
        if entry.axis is None:
            entry.value.requires_grad_(False)
        else:
            _fix(entry.value, entry.axis, entry.fixed)
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.BatchNorm1d) and _batch_norm_frozen(name, freeze):
            module.set_submodule(name, FixedBatchNorm.of(layer))
        elif isinstance(layer, nn.Dropout) and freeze.freeze_dropout:
            layer.p = 0.0


def _released(module: BaseModule, name: str, freeze: Freeze) -> bool:
    owner = module.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, nn.BatchNorm1d):
        return not _batch_norm_frozen(name, freeze)
    if "fc_layers.Layer 0.0." not in name:
        return False
    return not (freeze.freeze_decoder_first_layer if _decodes(name) else freeze.freeze_expression)


def _decodes(name: str) -> bool:
    return "decoder" in name.split(".")[0]


def _batch_norm_frozen(name: str, freeze: Freeze) -> bool:
    return freeze.freeze_batchnorm_decoder if _decodes(name) else freeze.freeze_batchnorm_encoder


def _fix(parameter: nn.Parameter, axis: int, fixed: tuple[int, ...]) -> None:
    shape = [1] * parameter.dim()
    shape[axis] = parameter.shape[axis]
    free = torch.ones(parameter.shape[axis])
    free[list(fixed)] = 0
    free = free.reshape(shape)
    parameter.register_hook(lambda gradient: gradient * free.to(gradient))
    parameter.partly_fixed = True  # type: ignore[attr-defined]  # so that it does not decay
