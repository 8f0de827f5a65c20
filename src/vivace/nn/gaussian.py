"""Fully connected layers that end in the mean and the variance of a normal distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from vivace.errors import check_choice
from vivace.kernels.affine import Affine
from vivace.likelihoods import AffineNormal
from vivace.nn.fc import FCLayers

VARIANCE_MODES = ("feature", "sample_feature")
LARGEST = 88.7228
"""Raw variances are cut at ± this, so that an exponential stays finite in float32."""


class GaussianLayers(nn.Module):
    """Layers from features and covariates to a normal distribution of the output.

    Parameters
    ----------
    n_input, n_output
        Number of input and output features.
    n_cat_list, n_cont, n_layers, n_hidden, dropout_rate
        See :class:`~vivace.nn.FCLayers`.
    var_mode
        "sample_feature": a variance for each cell and feature; "feature": one for each feature.
    var_activation
        Maps raw values to variances > 0; default softplus.
    **fc_kwargs
        To :class:`~vivace.nn.FCLayers`.

    Examples
    --------
    >>> import torch
    >>> GaussianLayers(20, 3)(torch.rand(4, 20)).loc.shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        n_input: int,
        n_output: int,
        n_cat_list: Sequence[int] | None = None,
        n_cont: int = 0,
        n_layers: int = 2,
        n_hidden: int = 256,
        dropout_rate: float = 0.1,
        var_mode: str = "sample_feature",
        var_activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
        **fc_kwargs,
    ):
        super().__init__()
        check_choice("out_var_mode", var_mode, VARIANCE_MODES)
        self.var_activation = F.softplus if var_activation is None else var_activation
        # submodule names are those of published checkpoints
        self.decoder_y = FCLayers(
            n_input,
            n_hidden,
            n_cat_list=n_cat_list,
            n_cont=n_cont,
            n_layers=n_layers,
            n_hidden=n_hidden,
            dropout_rate=dropout_rate,
            **fc_kwargs,
        )
        self.mean_encoder = nn.Linear(n_hidden, n_output)
        self.var_encoder = (
            FeatureVariance(n_output)
            if var_mode == "feature"
            else SampleFeatureVariance(n_hidden, n_output)
        )

    def forward(
        self,
        x: torch.Tensor | Affine,
        *cats: torch.Tensor | None,
        cont: torch.Tensor | None = None,
    ) -> AffineNormal:
        """Distribution of the output, (..., B, n_output).

        Parameters
        ----------
        x
            (B, n_input) dense, CSR or a product; or (S, B, n_input).
        cats, cont
            Covariates, see :meth:`FCLayers.forward`.
        """
        h = self.decoder_y(x, *cats, cont=cont)
        raw = self.var_encoder(h).clamp(-LARGEST, LARGEST)
        mean = Affine(h, self.mean_encoder.weight, self.mean_encoder.bias)
        return AffineNormal(mean, self.var_activation(raw))


class FeatureVariance(nn.Module):
    """One raw variance for each feature, the same in all cells."""

    def __init__(self, n_output: int):
        super().__init__()
        self.var_param = nn.Parameter(torch.zeros(1, n_output))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.var_param.squeeze(0)


class SampleFeatureVariance(nn.Module):
    """A raw variance for each cell and feature."""

    def __init__(self, n_hidden: int, n_output: int):
        super().__init__()
        self.encoder = nn.Linear(n_hidden, n_output)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.encoder(h)
