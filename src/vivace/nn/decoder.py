"""From the latent space to the logits of a count distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from vivace.kernels.affine import Affine
from vivace.nn.fc import FCLayers


class DecoderOutput(NamedTuple):
    """What the decoder says of each gene; heads that were not built are None."""

    scale_logits: torch.Tensor | Affine  # (..., B, G), before softmax or softplus
    log_theta: torch.Tensor | None  # (..., B, G), dispersion per gene and cell
    zi_logits: torch.Tensor | Affine | None  # (..., B, G), log-odds of a technical zero


class CountDecoder(nn.Module):
    """Fully connected trunk without dropout, and one linear head for each thing that is used.

    Parameters
    ----------
    n_input, n_output
        Number of latent dimensions and of genes.
    n_cat_list, n_layers, n_hidden, inject_covariates, use_batch_norm, use_layer_norm
        See :class:`~vivace.nn.FCLayers`.
    dispersion_head
        Build the head for dispersion per gene and cell.
    dropout_head
        Build the head for zero inflation.
    **fc_kwargs
        To :class:`~vivace.nn.FCLayers`, such as ``n_cont``.

    Examples
    --------
    >>> import torch
    >>> CountDecoder(3, 20, dropout_head=True)(torch.rand(4, 3)).zi_logits.shape
    torch.Size([4, 20])
    """

    def __init__(
        self,
        n_input: int,
        n_output: int,
        n_cat_list: Sequence[int] | None = None,
        n_layers: int = 1,
        n_hidden: int = 128,
        inject_covariates: bool = True,
        use_batch_norm: bool = False,
        use_layer_norm: bool = False,
        *,
        dispersion_head: bool = False,
        dropout_head: bool = False,
        **fc_kwargs,
    ):
        super().__init__()
        self.px_decoder = FCLayers(
            n_input,
            n_hidden,
            n_cat_list=n_cat_list,
            n_layers=n_layers,
            n_hidden=n_hidden,
            dropout_rate=0.0,
            inject_covariates=inject_covariates,
            use_batch_norm=use_batch_norm,
            use_layer_norm=use_layer_norm,
            **fc_kwargs,
        )
        self.px_scale_decoder = nn.Sequential(nn.Linear(n_hidden, n_output))
        self.px_r_decoder = nn.Linear(n_hidden, n_output) if dispersion_head else None
        self.px_dropout_decoder = nn.Linear(n_hidden, n_output) if dropout_head else None

    def forward(
        self, z: torch.Tensor, *cats: torch.Tensor | None, cont: torch.Tensor | None = None
    ) -> DecoderOutput:
        """Decode.

        Parameters
        ----------
        z
            (B, n_input) or (S, B, n_input).
        cats
            (B, 1) codes of each categorical covariate.
        cont
            (B, n_cont) continuous covariates that are no part of ``z``.
        """
        h = self.px_decoder(z, *cats, cont=cont)
        dropout = self.px_dropout_decoder
        return DecoderOutput(
            product(h, self.px_scale_decoder[0]),
            None if self.px_r_decoder is None else self.px_r_decoder(h),
            None if dropout is None else product(h, dropout),
        )


def product(h: torch.Tensor, linear: nn.Module) -> Affine:
    """A head whose logits are not formed yet: the likelihood sends their gradient on to the weights."""
    assert isinstance(linear, nn.Linear)
    return Affine(h, linear.weight, linear.bias)
