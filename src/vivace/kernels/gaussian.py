"""Gaussian log-likelihood of each cell, without forming the means where that saves work."""

from __future__ import annotations

import torch

from vivace.kernels.affine import Affine
from vivace.kernels.csr import is_csr, row_of_value, to_dense
from vivace.kernels.linear import sparse_linear

MIN_VARIANCE = 1e-6
"""Floor of variances in the value; the gradient passes through it as if it were not there."""

MOST_ROUNDING = 0.1
"""Rounding error, in nats of one gene and cell, up to which the square is multiplied out. The bound is
that of Cauchy and Schwarz, usually a hundred times the error itself."""


def gaussian_nll(
    x: torch.Tensor, mean: torch.Tensor | Affine, variance: torch.Tensor
) -> torch.Tensor:
    """Sum over genes of ``(log v + (x - mean)² / v) / 2`` with ``v = max(variance, 1e-6)``.

    This is the negative log-likelihood less the constant ``G log(2π) / 2``.

    Parameters
    ----------
    x
        (B, G), dense or CSR.
    mean
        (..., B, G), as it is or as a product.
    variance
        (G,) or (..., B, G).

    Returns
    -------
    (..., B) nats.

    Examples
    --------
    >>> import torch
    >>> gaussian_nll(torch.tensor([[0.5]]), torch.tensor([[1.0]]), torch.tensor([0.5]))
    tensor([-0.0966])
    """
    v = variance + (variance.clamp(min=MIN_VARIANCE) - variance).detach()
    if isinstance(mean, Affine):
        if mean.is_tall and mean.h.dim() == 2 and v.dim() == 1 and _keeps_digits(mean, v):
            return expanded_nll(x, mean, v)
        mean = mean.dense()
    residual = to_dense(x) - mean
    if v.dim() == 1:
        return (v.log().sum() + (residual * residual) @ v.reciprocal()) / 2
    return (v.log() + residual * residual / v).sum(-1) / 2


def _keeps_digits(mean: Affine, v: torch.Tensor) -> bool:
    """Whether ``(x - mean)² / v`` may be multiplied out: its terms cancel to less than a rounding error.

    A gene that is nearly constant has ``mean² / v`` so large that the sum of its squares could come
    out negative, and the variance then follows it to zero. Reading the answer would hold up a GPU,
    where the dense product is cheap.
    """
    if mean.h.device.type != "cpu" or mean.h.dtype not in (torch.float32, torch.float64):
        return False
    with torch.no_grad():
        largest_state = mean.h.square().sum(1).max()
        size = mean.bias.square() + mean.weight.square().sum(1) * largest_state
        rounding = torch.finfo(size.dtype).eps * (size / v).max()
    return bool(rounding < MOST_ROUNDING)


def expanded_nll(x: torch.Tensor, mean: Affine, v: torch.Tensor) -> torch.Tensor:
    """The same with the square multiplied out: work follows the genes and the stored values of ``x``.

    ``Σ mean² / v`` is a quadratic form of the hidden units, whose (H, H) matrix all cells share.
    """
    h, weight, bias = mean
    precision = v.reciprocal()
    scaled = weight * precision.unsqueeze(1)
    of_x = _sum_weighted(x, precision, bias)
    cross = ((sparse_linear(x, scaled.t()) - bias @ scaled) * h).sum(-1)
    squares = ((h @ Gram.apply(weight, precision)) * h).sum(-1)
    constant = (v.log() + bias * bias * precision).sum()
    return (constant + of_x + squares) / 2 - cross


def _sum_weighted(x: torch.Tensor, precision: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """(B,) sum over genes of ``x (x - 2 bias) precision``."""
    if not is_csr(x):
        return (x * x) @ precision - x @ (2 * bias * precision)
    values, columns = x.values(), x.col_indices().long()
    terms = values * (values - 2 * bias[columns]) * precision[columns]
    return terms.new_zeros(x.shape[0]).index_add(0, row_of_value(x), terms)


class Gram(torch.autograd.Function):
    """``weightᵀ diag(precision) weight``; its symmetry halves the work of the gradient."""

    @staticmethod
    def forward(ctx, weight: torch.Tensor, precision: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight, precision)
        return weight.t() @ (weight * precision.unsqueeze(1))

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        weight, precision = ctx.saved_tensors
        product = weight @ (gradient + gradient.t()).to(weight.dtype)
        of_precision = (product * weight).sum(1) / 2
        return product * precision.unsqueeze(1), of_precision
