"""Product of a CSR matrix and a dense one, on the processor: each non-zero multiplies a whole short row.

Counts times weights are such a product, and so is the gradient by the weights: the counts transposed,
times the gradient by what came out.
"""

from __future__ import annotations

import numpy as np
from numpy import uint32

from vivace.kernels.jit import compiled


@compiled
def add_rows(at, stop, data, indices, weight, total):
    """Add the rows of ``weight`` of the non-zeros from ``at`` to ``stop``, eight in one go.

    Before each go the compiled loop checks that none of the rows overlaps the total, which costs as much
    as several of them.
    """
    while at + 8 <= stop:
        x, column = data[at : at + 8], indices[at : at + 8]
        a, b, c, d = weight[column[0]], weight[column[1]], weight[column[2]], weight[column[3]]
        e, f, g, h = weight[column[4]], weight[column[5]], weight[column[6]], weight[column[7]]
        x0, x1, x2, x3, x4, x5, x6, x7 = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
        for i in range(total.shape[0]):
            half = total[i] + x0 * a[i] + x1 * b[i] + x2 * c[i] + x3 * d[i]
            total[i] = half + x4 * e[i] + x5 * f[i] + x6 * g[i] + x7 * h[i]
        at += 8
    while at < stop:
        of_x, x0 = weight[indices[at]], data[at]
        for i in range(total.shape[0]):
            total[i] += x0 * of_x[i]
        at += 1


@compiled
def sparse_times_dense(first, last, data, indices, indptr, weight, bias, out):
    """Rows of ``out`` (B, H): a CSR matrix (B, G) times ``weight`` (G, H) plus ``bias`` (H,)."""
    for row in range(first, last):
        for i in range(bias.shape[0]):
            out[row, i] = bias[i]
        add_rows(indptr[row], indptr[row + 1], data, indices, weight, out[row])


@compiled(allocates=True)
def transpose(data, indices, indptr, n_columns):
    """The transposed matrix as CSR: its rows, genes, are then written once, not once for each cell."""
    starts = np.zeros(n_columns + 1, np.int32)
    for at in range(data.shape[0]):
        starts[indices[at] + uint32(1)] += 1
    for column in range(n_columns):
        starts[column + 1] += starts[column]
    free, rows, values = starts[:-1].copy(), np.empty_like(indices), np.empty_like(data)
    for row in range(indptr.shape[0] - 1):
        for at in range(indptr[row], indptr[row + 1]):
            to = uint32(free[indices[at]])
            rows[to], values[to] = row, data[at]
            free[indices[at]] += 1
    return values, rows, starts
