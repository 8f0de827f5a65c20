"""Silhouette width: how much closer cells are to their own label than to the next one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vivace.metrics._neighbours import as_codes, as_latent, check_k, need_two

BLOCK_MIB = 8
"""Memory for distances, which are computed in blocks of cells."""


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
    if codes.max() + 1 == len(codes):
        return 0.0  # every cell is alone with its label, which scikit-learn refuses
    import sklearn
    from sklearn.metrics import silhouette_score

    # scikit-learn's own Euclidean distance of cells that lie together is rounding error instead of 0
    with sklearn.config_context(working_memory=BLOCK_MIB):
        return float(silhouette_score(latent, codes, metric="minkowski", p=2))
