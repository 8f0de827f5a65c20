"""Silhouette width: how much closer cells are to their own label than to the next one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from vivace.metrics._neighbours import Array, as_codes, as_latent, check_k, need_two


def silhouette(
    latent: Any, labels: Iterable[Any], *, max_cells: int = 10_000, seed: int = 0
) -> float:
    """Mean silhouette width of labels in a latent space (Rousseeuw 1987).

    For a cell, a = mean distance to the other cells of its label, b = smallest mean distance to the
    cells of another label, s = (b - a) / max(a, b); s = 0 where the cell is alone with its label.

    Parameters
    ----------
    latent
        (N, L).
    labels
        (N,), at least two distinct ones.
    max_cells
        Above this number of cells a random subset of that size is used (time grows with its square).
    seed
        Seed of the subset.

    Returns
    -------
    Mean of s over cells, in [-1, 1]; higher is better separated, 0 is no separation.

    Raises
    ------
    InvalidArgumentError
        Fewer than two labels, a wrong shape, or missing values.

    Examples
    --------
    >>> silhouette([[0.0], [1.0], [10.0], [11.0]], ["a", "a", "b", "b"])
    0.8997...
    """
    latent = as_latent(latent)
    codes, _ = as_codes(labels, len(latent))
    check_k(max_cells, "max_cells")
    if len(latent) > max_cells:
        chosen = np.random.default_rng(seed).choice(len(latent), max_cells, replace=False)
        latent, codes = latent[chosen], np.unique(codes[chosen], return_inverse=True)[1]
    need_two(codes.max() + 1, "labels")
    size = np.bincount(codes)
    member = np.eye(len(size))[codes]
    step = max(1, 4_000_000 // len(latent))
    widths = [
        _widths(cdist(latent[i : i + step], latent) @ member, codes[i : i + step], size)
        for i in range(0, len(latent), step)
    ]
    return float(np.concatenate(widths).mean())


def _widths(total: Array, codes: Array, size: Array) -> Array:
    """(B,) silhouette widths from the summed distances (B, C) of cells to every label."""
    rows = np.arange(len(codes))
    alone = size[codes] == 1
    own = total[rows, codes] / np.maximum(size[codes] - 1, 1)
    mean = total / size
    mean[rows, codes] = np.inf
    other = mean.min(axis=1)
    scale = np.maximum(own, other)
    # all distances zero: neither nearer nor farther
    return np.where(alone | (scale == 0), 0.0, (other - own) / np.where(scale == 0, 1.0, scale))
