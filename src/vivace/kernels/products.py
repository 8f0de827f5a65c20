"""Products of CSR counts and dense matrices, on the processor.

Both products go through the transposed weight, so that a non-zero meets the whole of a short row of it.
"""

from __future__ import annotations

from numpy import float32

from vivace.kernels.jit import compiled


@compiled
def add_rows(at, stop, data, indices, weight, total):
    """Add the rows of ``weight`` of the non-zeros from ``at`` to ``stop``, four in one go."""
    while at + 4 <= stop:
        a, b, c, d = data[at], data[at + 1], data[at + 2], data[at + 3]
        of_a, of_b = weight[indices[at]], weight[indices[at + 1]]
        of_c, of_d = weight[indices[at + 2]], weight[indices[at + 3]]
        for i in range(total.shape[0]):
            total[i] += (a * of_a[i] + b * of_b[i]) + (c * of_c[i] + d * of_d[i])
        at += 4
    while at < stop:
        x, of_x = data[at], weight[indices[at]]
        for i in range(total.shape[0]):
            total[i] += x * of_x[i]
        at += 1


@compiled
def sparse_times_dense(first, last, data, indices, indptr, weight, bias, out):
    """Rows of ``out`` (B, H): counts (B, G) times ``weight`` (G, H) plus ``bias`` (H,)."""
    for row in range(first, last):
        out[row] = bias
        add_rows(indptr[row], indptr[row + 1], data, indices, weight, out[row])


@compiled
def transposed_times_dense(first, last, data, indices, indptr, dense, out):
    """Columns of ``out`` (G, H): counts (B, G) transposed times ``dense`` (B, H)."""
    out[:, first:last] = float32(0.0)
    for row in range(indptr.shape[0] - 1):
        weights = dense[row, first:last]
        for at in range(indptr[row], indptr[row + 1]):
            x, into = data[at], out[indices[at], first:last]
            for i in range(last - first):
                into[i] += x * weights[i]
