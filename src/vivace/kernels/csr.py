"""Counts as torch CSR tensors: building them, and what is done to their stored values alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def csr_tensor(indptr: Any, indices: Any, data: Any, shape: Sequence[int]) -> torch.Tensor:
    """CSR tensor on the given arrays, without copying or checking them.

    Parameters
    ----------
    indptr, indices
        (B + 1,) and (nnz,) arrays or tensors of one integer type; no column twice in a row.
    data
        (nnz,) values.
    shape
        (B, G).

    Examples
    --------
    >>> import numpy as np
    >>> csr_tensor(np.array([0, 1, 1]), np.array([2]), np.array([5.0]), (2, 3)).to_dense()
    tensor([[0., 0., 5.],
            [0., 0., 0.]], dtype=torch.float64)
    """
    return torch.sparse_csr_tensor(
        torch.as_tensor(indptr),
        torch.as_tensor(indices),
        torch.as_tensor(data),
        size=(shape[0], shape[1]),
        check_invariants=False,
    )


def _silence_beta_warning() -> None:
    """Make the first CSR tensor here: torch warns once in a process that they are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        csr_tensor(np.zeros(2, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32), (1, 1))


_silence_beta_warning()


def is_csr(x: torch.Tensor) -> bool:
    """Whether ``x`` is stored as CSR."""
    return x.layout == torch.sparse_csr


def to_dense(x: torch.Tensor) -> torch.Tensor:
    """``x`` itself, or its dense copy if it is CSR."""
    return x.to_dense() if is_csr(x) else x


def row_of_value(x: torch.Tensor) -> torch.Tensor:
    """Row of each stored value of a CSR tensor, (nnz,) int64."""
    lengths = x.crow_indices().diff().long()
    rows = torch.arange(x.shape[0], device=x.device)
    return torch.repeat_interleave(rows, lengths, output_size=x.values().shape[0])


def stack_rows(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Rows of several groups of cells below each other, (..., sum of B, n); CSR if all of them are.

    Examples
    --------
    >>> import torch
    >>> stack_rows([torch.ones(1, 2), torch.zeros(1, 2)])
    tensor([[1., 1.],
            [0., 0.]])
    """
    if not all(is_csr(block) for block in blocks):
        return torch.cat([to_dense(block) for block in blocks], dim=-2)
    starts = [blocks[0].crow_indices()[:1]]
    for block in blocks:
        starts.append(block.crow_indices()[1:] + starts[-1][-1])
    n_rows = sum(block.shape[0] for block in blocks)
    return csr_tensor(
        torch.cat(starts),
        torch.cat([block.col_indices() for block in blocks]),
        torch.cat([block.values() for block in blocks]),
        (n_rows, blocks[0].shape[1]),
    )


def rows_between(x: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """Rows ``first`` to ``last - 1`` of (..., B, n); ``x`` itself if those are all.

    Examples
    --------
    >>> import torch
    >>> rows_between(torch.tensor([[1.0], [2.0], [3.0]]), 1, 3)
    tensor([[2.],
            [3.]])
    """
    if first == 0 and last >= x.shape[-2]:
        return x
    if not is_csr(x):
        return x[..., first:last, :]
    starts = x.crow_indices()[first : last + 1]
    stored = slice(int(starts[0]), int(starts[-1]))
    return csr_tensor(
        starts - starts[0],
        x.col_indices()[stored],
        x.values()[stored],
        (len(starts) - 1, x.shape[1]),
    )


def log1p_counts(x: torch.Tensor) -> torch.Tensor:
    """``log(1 + x)``, (B, G); CSR stays CSR.

    Examples
    --------
    >>> import torch
    >>> log1p_counts(torch.tensor([[0.0, 1.0]]))
    tensor([[0.0000, 0.6931]])
    """
    if not is_csr(x):
        return torch.log1p(x)
    return csr_tensor(x.crow_indices(), x.col_indices(), torch.log1p(x.values()), x.shape)


def scale_rows(x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Rows (B, G) times (B, 1) factors; CSR stays CSR.

    Examples
    --------
    >>> import torch
    >>> scale_rows(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[2.0], [1.0]]))
    tensor([[2., 4.],
            [3., 0.]])
    """
    if not is_csr(x):
        return x * factors
    values = x.values() * factors[row_of_value(x), 0]
    return csr_tensor(x.crow_indices(), x.col_indices(), values, x.shape)


def row_sums(x: torch.Tensor) -> torch.Tensor:
    """Sum over genes, (B, 1); ``x`` (B, G) dense or CSR.

    Examples
    --------
    >>> import torch
    >>> row_sums(torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    tensor([[3.],
            [0.]])
    """
    if not is_csr(x):
        return x.sum(-1, keepdim=True)
    return torch.segment_reduce(x.values(), "sum", offsets=x.crow_indices()).unsqueeze(-1)
