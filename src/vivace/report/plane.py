"""From the latent space to the plane of the paper."""

from __future__ import annotations

import warnings

import numpy as np

from vivace.errors import require

FEW = 15


def to_plane(latent: np.ndarray, seed: int = 0) -> tuple[np.ndarray, str]:
    """Two coordinates a cell, and what they are called.

    Parameters
    ----------
    latent
        (N, L) latent means.
    seed
        Seed of the map; the same latent space gives the same map.

    Returns
    -------
    coordinates
        (N, 2): UMAP for three and more dimensions (McInnes et al. 2018), the latent space itself for
        two, position and jitter for one; principal components when there are fewer than 15 cells.
    name
        ``"UMAP"``, ``"PC"`` or ``"latent"``.

    Examples
    --------
    >>> import numpy as np
    >>> coordinates, name = to_plane(np.eye(4))
    >>> coordinates.shape, name
    ((4, 2), 'PC')
    """
    n, dimensions = latent.shape
    if dimensions == 1:
        jitter = np.random.default_rng(seed).normal(size=n)
        return np.column_stack([latent[:, 0], jitter]), "latent"
    if dimensions == 2:
        return latent, "latent"
    if n < FEW:
        return principal(latent), "PC"
    try:
        with warnings.catch_warnings():  # it speaks of a part of its own that is not used here
            warnings.simplefilter("ignore", ImportWarning)
            from umap import UMAP
    except ImportError as error:
        raise require("umap-learn", "report") from error
    start = principal(latent)
    start = 10 * start / max(float(np.abs(start).max()), 1e-12)
    embed = UMAP(
        n_neighbors=min(15, n - 1), init=start.astype(np.float32), random_state=seed, n_jobs=1
    )
    return embed.fit_transform(latent.astype(np.float32)), "UMAP"


def principal(latent: np.ndarray) -> np.ndarray:
    """First two principal components, (N, 2), with the sign of the largest loading positive."""
    centred = latent - latent.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    scores = centred @ (axes * signs[:, None]).T
    return np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))
