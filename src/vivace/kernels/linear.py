"""Product of sparse counts and a weight: the first layer of every encoder."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vivace._hooks import changes_in_place
from vivace.kernels.affine import Affine, affine_linear
from vivace.kernels.csr import is_csr, to_dense
from vivace.kernels.dispatch import loops_compile

SPARSE_BELOW = 0.2
"""Share of non-zeros up to which the CSR product wins over the dense one, forward and backward; see
benchmarks/README.md."""


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
    if is_csr(x) and csr_is_faster(x, weight):
        return SparseLinear.apply(weight, bias, x)
    return F.linear(to_dense(x), weight, bias)


def csr_is_faster(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the compiled CSR product can take these and is faster."""
    if x.device.type != "cpu" or not x.dtype == weight.dtype == torch.float32:
        return False
    sparse = x.values().shape[0] <= SPARSE_BELOW * x.shape[0] * x.shape[1]
    return sparse and loops_compile()


class SparseLinear(torch.autograd.Function):
    """CSR times dense on the processor; the same bits whatever the number of threads."""

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, bias: torch.Tensor | None, x: torch.Tensor
    ) -> torch.Tensor:
        ctx.x = x
        start = weight.new_zeros(weight.shape[0]) if bias is None else bias
        return times_dense(csr_arrays(x), x.shape[0], weight.t().contiguous(), start)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        by_weight = None
        if ctx.needs_input_grad[0]:
            n_genes, start = ctx.x.shape[1], gradient.new_zeros(gradient.shape[1])
            arrays = by_gene(ctx.x)
            by_weight = times_dense(arrays, n_genes, gradient.contiguous(), start).t()
        return by_weight, gradient.sum(0) if ctx.needs_input_grad[1] else None, None


def times_dense(
    arrays: tuple, n_rows: int, dense: torch.Tensor, start: torch.Tensor
) -> torch.Tensor:
    """Product of a CSR matrix of that many rows, with ``start`` added to each."""
    from vivace.kernels.products import sparse_times_dense
    from vivace.kernels.threads import run_in_threads

    out = dense.new_empty(n_rows, dense.shape[1])
    run_in_threads(sparse_times_dense, n_rows, *arrays, dense.numpy(), start.numpy(), out.numpy())
    return out


def by_gene(x: torch.Tensor) -> tuple:
    """Arrays of the transposed matrix; several encoders that read the same counts share them."""
    changes = changes_in_place(x)
    return transposed(x) if changes is None else last_transposed(x, changes)


@lru_cache(maxsize=1)
def last_transposed(x: torch.Tensor, changes: int) -> tuple:
    """The same, kept until it is asked for other counts or for these after a change in place."""
    return transposed(x)


def transposed(x: torch.Tensor) -> tuple:
    """Arrays of the transposed matrix."""
    from vivace.kernels.products import transpose

    return transpose(*csr_arrays(x), x.shape[1])


def csr_arrays(x: torch.Tensor) -> tuple:
    """Data, indices and indptr as numpy arrays; no unsigned index can count from the end."""
    parts = x.values(), x.col_indices().int(), x.crow_indices().int()
    data, indices, indptr = (part.detach().numpy() for part in parts)
    return data, indices.view(np.uint32), indptr
