"""Binomial counts by inversion, on the processor: what is left of a cell measured less deeply."""

from __future__ import annotations

from vivace.kernels.jit import compiled


@compiled
def thin_rows(first, last, largest, starts, counts, keep, out):
    """Stored values of rows from uniform numbers ``out`` (nnz,) to how many of ``counts`` are kept.

    ``keep`` (B,) is the probability of each row. The rarer of keeping and dropping is counted: that of
    k + 1 of n is that of k times ``(n - k) / (k + 1) * rare / (1 - rare)``. Left at -1 are values of
    which more than ``largest`` are expected to go the rarer way, for somebody else to draw.
    """
    for row in range(first, last):
        p = float(keep[row])
        rare = min(p, 1.0 - p)
        odds = rare / (1.0 - rare)
        for at in range(starts[row], starts[row + 1]):
            n = float(counts[at])
            if n * rare > largest:
                out[at] = -1.0
                continue
            left = float(out[at])
            now = 1.0 - rare if n == 1.0 else (1.0 - rare) ** n
            k = 0.0
            while left >= now and k < n:
                left -= now
                now *= odds * (n - k) / (k + 1.0)
                k += 1.0
            out[at] = k if p <= 0.5 else n - k
