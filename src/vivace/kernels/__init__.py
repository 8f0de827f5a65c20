"""Summed count log-likelihoods and sparse products, value and gradient, on torch tensors alone."""

from vivace.kernels.csr import csr_tensor, log1p_counts, row_sums, rows_between, stack_rows
from vivace.kernels.dispatch import count_log_likelihood
from vivace.kernels.linear import sparse_linear

__all__ = [
    "count_log_likelihood",
    "csr_tensor",
    "log1p_counts",
    "row_sums",
    "rows_between",
    "sparse_linear",
    "stack_rows",
]
