"""Negative binomial counts by inversion, on the processor."""

from __future__ import annotations

import numpy as np

from vivace.kernels.jit import compiled

_RECIPROCALS = 1.0 / np.arange(1.0, 513.0)


@compiled
def invert_rows(first, last, largest, mu, share, zero, theta, out):
    """Rows of ``out`` (B, G) from uniform numbers to counts where ``mu`` (B, G) is at most ``largest``.

    ``zero`` (B, G) is the probability of no count; that of k + 1 is that of k times
    ``(theta + k) / (k + 1) * share`` with ``share = mu / (theta + mu)``.
    """
    for row in range(first, last):
        for gene in range(mu.shape[1]):
            if not mu[row, gene] <= largest:
                continue
            left, p = float(out[row, gene]), float(zero[row, gene])
            rise, t = float(share[row, gene]), float(theta[gene])
            k = 0
            while left > p and p > 1e-300:
                left -= p
                p *= rise * (t + k) * (_RECIPROCALS[k] if k < 512 else 1.0 / (k + 1.0))
                k += 1
            out[row, gene] = k
