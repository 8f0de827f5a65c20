"""From the latent space to the logits of junctions, and a linear decoder of expression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from vivace.kernels.affine import Affine
from vivace.nn.decoder import DecoderOutput
from vivace.nn.fc import FCLayers


class SplicingDecoder(nn.Module):
    """Fully connected trunk and a linear map to the logits of the junctions.

    Parameters
    ----------
    n_input, n_junctions
        Number of latent dimensions and of junctions.
    n_cat_list, n_hidden, **fc_kwargs
        To :class:`~vivace.nn.FCLayers`.

    Examples
    --------
    >>> import torch
    >>> SplicingDecoder(3, 20)(torch.rand(4, 3)).dense().shape
    torch.Size([4, 20])
    """

    def __init__(
        self,
        n_input: int,
        n_junctions: int,
        n_cat_list: Sequence[int] | None = None,
        n_hidden: int = 128,
        **fc_kwargs,
    ):
        super().__init__()
        self.ps_hidden = FCLayers(
            n_input, n_hidden, n_cat_list=n_cat_list, n_hidden=n_hidden, **fc_kwargs
        )
        self.ps_output = nn.Linear(n_hidden, n_junctions)

    @property
    def output(self) -> nn.Linear:
        """The layer with a row a junction."""
        return self.ps_output

    def forward(
        self, z: torch.Tensor, *cats: torch.Tensor | None, cont: torch.Tensor | None = None
    ) -> Affine:
        """Logits (..., B, J) as a product, from (..., B, n_input), codes (B, 1) and (B, n_cont)."""
        h = self.ps_hidden(z, *cats, cont=cont)
        return Affine(h, self.ps_output.weight, self.ps_output.bias)


class LinearSplicingDecoder(nn.Module):
    """One linear map from latent space and covariates to the logits of the junctions.

    Parameters
    ----------
    n_input, n_junctions
        Number of latent dimensions and of junctions.
    n_cat_list
        Categories of each covariate; 0 or 1 contributes no column.
    n_cont
        Number of continuous covariates.

    Examples
    --------
    >>> import torch
    >>> LinearSplicingDecoder(3, 20)(torch.rand(4, 3)).dense().shape
    torch.Size([4, 20])
    """

    def __init__(
        self,
        n_input: int,
        n_junctions: int,
        n_cat_list: Sequence[int] | None = None,
        n_cont: int = 0,
    ):
        super().__init__()
        self.n_cat_list = [n if n > 1 else 0 for n in n_cat_list or []]
        self.linear = nn.Linear(n_input + n_cont + sum(self.n_cat_list), n_junctions)

    @property
    def output(self) -> nn.Linear:
        """The layer with a row a junction."""
        return self.linear

    def forward(
        self, z: torch.Tensor, *cats: torch.Tensor | None, cont: torch.Tensor | None = None
    ) -> Affine:
        """Logits (..., B, J) as a product, from (..., B, n_input), codes (B, 1) and (B, n_cont)."""
        parts = [z] if cont is None else [z, cont.expand(*z.shape[:-1], -1)]
        for n, cat in zip(self.n_cat_list, cats, strict=False):
            if n and cat is not None:
                one_hot = F.one_hot(cat.squeeze(-1).long(), n).to(z.dtype)
                parts.append(one_hot.expand(*z.shape[:-1], n))
        return Affine(torch.cat(parts, dim=-1), self.linear.weight, self.linear.bias)


class LinearCountDecoder(nn.Module):
    """Linear maps without bias from latent space and covariates to expression and zero inflation.

    Parameters
    ----------
    n_input, n_output, n_cat_list, n_cont
        As in :class:`~vivace.nn.CountDecoder`.
    dropout_head
        Build the map for zero inflation.
    use_batch_norm, use_layer_norm
        Normalise the logits over cells, or over genes. The latter gives the logits of every cell the same
        spread, whatever the weights, and serves only to reproduce published numbers.

    Examples
    --------
    >>> import torch
    >>> LinearCountDecoder(3, 20)(torch.rand(4, 3)).scale_logits.shape
    torch.Size([4, 20])
    """

    def __init__(
        self,
        n_input: int,
        n_output: int,
        n_cat_list: Sequence[int] | None = None,
        n_cont: int = 0,
        *,
        dropout_head: bool = False,
        use_batch_norm: bool = False,
        use_layer_norm: bool = False,
    ):
        super().__init__()

        def regressor() -> FCLayers:
            return FCLayers(
                n_input,
                n_output,
                n_cat_list=n_cat_list,
                n_cont=n_cont,
                n_layers=1,
                dropout_rate=0.0,
                use_batch_norm=use_batch_norm,
                use_layer_norm=use_layer_norm,
                use_activation=False,
                bias=False,
            )

        self.factor_regressor = regressor()
        self.px_dropout_decoder = regressor() if dropout_head else None

    def forward(
        self, z: torch.Tensor, *cats: torch.Tensor | None, cont: torch.Tensor | None = None
    ) -> DecoderOutput:
        """Decode (..., B, n_input), codes (B, 1) and continuous covariates (B, n_cont)."""
        dropout = self.px_dropout_decoder
        zi = None if dropout is None else dropout(z, *cats, cont=cont)
        return DecoderOutput(self.factor_regressor(z, *cats, cont=cont), None, zi)


class LibraryEncoder(nn.Module):
    """Log library size of each cell from its counts, for data without size factors."""

    def __init__(self, n_input: int, n_hidden: int, **fc_kwargs):
        super().__init__()
        self.px_decoder = FCLayers(
            n_input,
            n_hidden,
            n_hidden=n_hidden,
            dropout_rate=0.0,
            activation_fn=nn.LeakyReLU,
            **fc_kwargs,
        )
        self.output = nn.Sequential(nn.Linear(n_hidden, 1), nn.LeakyReLU())

    def forward(
        self, x: torch.Tensor, *cats: torch.Tensor | None, cont: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, 1) natural log of the library size."""
        return self.output(self.px_decoder(x, *cats, cont=cont))
