"""A wide matrix that is the product of narrow ones, and is formed only where that is cheapest."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F


class Affine(NamedTuple):
    """The matrix ``h`` times ``weight`` transposed plus ``bias``, (..., B, G), as its factors.

    Attributes
    ----------
    h
        (..., B, H).
    weight
        (G, H).
    bias
        (G,).

    Examples
    --------
    >>> import torch
    >>> Affine(torch.ones(1, 2), torch.ones(3, 2), torch.zeros(3)).dense()
    tensor([[2., 2., 2.]])
    """

    h: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the matrix."""
        return torch.Size((*self.h.shape[:-1], self.weight.shape[0]))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the hidden units."""
        return self.h.dtype

    @property
    def device(self) -> torch.device:
        """Device of the hidden units."""
        return self.h.device

    def dense(self) -> torch.Tensor:
        """The matrix itself."""
        return F.linear(self.h, self.weight, self.bias)

    @property
    def is_tall(self) -> bool:
        """Whether there are more cells than hidden units, so that products of weights are smaller."""
        n_cells = self.h.numel() // self.h.shape[-1]
        return n_cells >= self.h.shape[-1]


def dense(matrix: torch.Tensor | Affine) -> torch.Tensor:
    """The matrix itself, however it is given."""
    return matrix.dense() if isinstance(matrix, Affine) else matrix


def affine_linear(
    x: Affine, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """``x`` times ``weight`` transposed, plus ``bias``: (..., B, O) for a weight (O, G).

    The two linear maps are composed to one (O, H) where cells outnumber hidden units; the work then
    does not grow with the number of cells.

    Examples
    --------
    >>> import torch
    >>> x = Affine(torch.ones(1, 2), torch.ones(3, 2), torch.zeros(3))
    >>> affine_linear(x, torch.ones(1, 3))
    tensor([[6.]])
    """
    if not x.is_tall:
        return F.linear(x.dense(), weight, bias)
    return F.linear(x.h, weight @ x.weight, F.linear(x.bias, weight, bias))
