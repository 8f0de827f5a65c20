"""Fully connected layers with covariates injected beside each layer's input."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import nn

from vivace.errors import InvalidDataError
from vivace.nn.covariate_linear import CovariateLinear
from vivace.nn.dropout import Dropout


class FCLayers(nn.Module):
    """Stack of Linear, norm, activation, dropout; covariates enter as extra input columns.

    Parameters
    ----------
    n_in, n_out
        Width of the input and of the output.
    n_cat_list
        Number of categories of each categorical covariate; 0 or 1 contributes no column.
    n_cont
        Number of continuous covariates.
    n_layers, n_hidden
        Number of layers and width of all but the last.
    dropout_rate
        Dropout after every layer, the last one included.
    use_batch_norm
        BatchNorm1d(momentum=0.01, eps=0.001) in every layer.
    use_layer_norm
        LayerNorm without affine parameters in every layer.
    use_activation
        Whether layers end in ``activation_fn``.
    bias
        Whether the linear maps have a bias.
    inject_covariates
        Covariates into every layer (True) or into the first only.
    activation_fn
        Class of the activation.

    Examples
    --------
    >>> import torch
    >>> layers = FCLayers(5, 3, n_cat_list=[2], n_layers=2, n_hidden=8)
    >>> layers(torch.ones(4, 5), torch.tensor([[0], [1], [0], [1]])).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_cat_list: Sequence[int] | None = None,
        n_cont: int = 0,
        n_layers: int = 1,
        n_hidden: int = 128,
        dropout_rate: float = 0.1,
        use_batch_norm: bool = True,
        use_layer_norm: bool = False,
        use_activation: bool = True,
        bias: bool = True,
        inject_covariates: bool = True,
        activation_fn: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.n_cat_list = [n if n > 1 else 0 for n in n_cat_list or []]
        self.n_cont = n_cont
        self.inject_covariates = inject_covariates
        widths = [n_in] + [n_hidden] * (n_layers - 1) + [n_out]
        self.fc_layers = nn.ModuleDict()
        for i, (width_in, width_out) in enumerate(itertools.pairwise(widths)):
            n_cats, n_extra = (self.n_cat_list, n_cont) if self._injects(i) else ([], 0)
            # slot numbers are those of published checkpoints, so that state-dict names agree
            slots: dict[str, nn.Module] = {
                "0": CovariateLinear(width_in, width_out, n_cats, n_extra, bias=bias)
            }
            if use_batch_norm:
                slots["1"] = nn.BatchNorm1d(width_out, momentum=0.01, eps=0.001)
            if use_layer_norm:
                slots["2"] = nn.LayerNorm(width_out, elementwise_affine=False)
            if use_activation:
                slots["3"] = activation_fn()
            if dropout_rate > 0:
                slots["4"] = Dropout(dropout_rate)
            self.fc_layers[f"Layer {i}"] = nn.ModuleDict(slots)

    def forward(
        self, x: torch.Tensor, *cats: torch.Tensor | None, cont: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Apply the stack.

        Parameters
        ----------
        x
            (B, n_in), dense or CSR, or (S, B, n_in).
        cats
            One (B, 1) int64 tensor of codes, or a (B, n) matrix of (soft) one-hots, for each entry of
            ``n_cat_list``; more are ignored.
        cont
            (B, n_cont) continuous covariates.

        Returns
        -------
        (B, n_out) or (S, B, n_out).

        Raises
        ------
        ValueError
            If a categorical covariate is missing.
        """
        self._check_covariates(cats)
        for slots in self.fc_layers.values():
            for slot, layer in slots.items():
                if slot == "0":
                    x = layer(x, cats, cont)
                elif slot == "1":
                    x = batch_norm(layer, x)
                else:
                    x = layer(x)
        return x

    def _injects(self, layer: int) -> bool:
        return layer == 0 or self.inject_covariates

    def _check_covariates(self, cats: tuple[torch.Tensor | None, ...]) -> None:
        missing = [
            i for i, n in enumerate(self.n_cat_list) if n and (i >= len(cats) or cats[i] is None)
        ]
        if missing or len(cats) < len(self.n_cat_list):
            msg = (
                f"expected {len(self.n_cat_list)} categorical covariates, got {len(cats)}"
                f"{f'; entries {missing} are missing' if missing else ''}"
            )
            raise ValueError(msg)


def batch_norm(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """BatchNorm of (B, H), or of each (B, H) slice of (S, B, H).

    Raises
    ------
    InvalidDataError
        In training mode with a single cell, which has no variance.
    """
    if norm.training and x.shape[-2] == 1:
        msg = (
            "batch normalisation needs at least 2 cells in a training minibatch, got 1; "
            "use more cells or use_batch_norm='none' (layer normalisation works with one cell)"
        )
        raise InvalidDataError(msg)
    if x.dim() == 2:
        return norm(x)
    return torch.stack([norm(slice_) for slice_ in x])
