"""A trained module made larger: what it learned stays, only what is new is learned.

Lotfollahi et al. 2022, Mapping single-cell data to reference atlases by transfer learning (scArches).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from vivace.modules.base import BaseModule
from vivace.nn import FCLayers
from vivace.nn.splicing_decoder import LinearSplicingDecoder

Layers = FCLayers | LinearSplicingDecoder


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
