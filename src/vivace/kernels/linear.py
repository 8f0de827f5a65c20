"""Product of sparse counts and a weight: the first layer of every encoder."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from vivace.kernels.affine import Affine, affine_linear
from vivace.kernels.csr import to_dense


def sparse_linear(
    x: torch.Tensor | Affine, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """``x`` times ``weight`` transposed, plus ``bias``; differentiable in weight and bias.

    Parameters
    ----------
    x
        (..., G) dense, or (B, G) CSR, which gets no gradient, or a product of narrow matrices.
    weight
        (H, G).
    bias
        (H,).

    Returns
    -------
    (..., H)

    Examples
    --------
    >>> import torch
    >>> from vivace.kernels import csr_tensor
    >>> x = csr_tensor(torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([5.0]), (1, 3))
    >>> sparse_linear(x, torch.tensor([[0.0, 0.0, 2.0]]))
    tensor([[10.]])
    """
    if isinstance(x, Affine):
        return affine_linear(x, weight, bias)
    return F.linear(to_dense(x), weight, bias)
