"""From the latent space to the plane of the paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vivace.errors import require

FEW = 15
NEIGHBOURS = 90
PERPLEXITY = 30
GATHER, SETTLE = 100, 200  # steps; more of them move no cell to other neighbours
CLOSER = 1.5  # attraction a little above that of plain t-SNE: clouds stand apart as in UMAP
TREE_FROM = 20_000  # cells from which a tree finds neighbours faster than comparing all pairs


@dataclass(frozen=True)
class Neighbours:
    """Distances and positions of the nearest neighbours of N cells, (N, k), itself left out."""

    distance: np.ndarray
    index: np.ndarray


def neighbours(latent: np.ndarray, k: int) -> Neighbours:
    """Nearest neighbours of cells in their latent space, ``k`` cut to what there is."""
    from sklearn.neighbors import NearestNeighbors  # slow to import

    n, dimensions = latent.shape
    tree = n >= TREE_FROM and dimensions <= 20
    index = NearestNeighbors(n_neighbors=min(k, n - 1), algorithm="kd_tree" if tree else "brute")
    return Neighbours(*index.fit(latent).kneighbors())


def to_plane(
    latent: np.ndarray, seed: int = 0, *, graph: Callable[[], Neighbours] | None = None
) -> tuple[np.ndarray, str]:
    """Two coordinates a cell, and what they are called.

    Parameters
    ----------
    latent
        (N, L) latent means.
    seed
        Seed of the map; the same latent space gives the same map.
    graph
        Gives the neighbours of the cells, if others need them too.

    Returns
    -------
    coordinates
        (N, 2): t-SNE for three and more dimensions (van der Maaten and Hinton 2008, by interpolation as
        of Linderman et al. 2019), started from principal components so that far-apart groups keep their
        order (Kobak and Berens 2019); the latent space itself for two, position and jitter for one;
        principal components when there are fewer than 15 cells.
    name
        ``"t-SNE"``, ``"PC"`` or ``"latent"``.

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
    found = neighbours(latent, NEIGHBOURS) if graph is None else graph()
    return spread_out(principal(latent), found, seed), "t-SNE"


def spread_out(start: np.ndarray, graph: Neighbours, seed: int) -> np.ndarray:
    """Move cells from their first positions (N, 2) until neighbours lie beside each other."""
    try:
        from openTSNE import TSNEEmbedding
        from openTSNE.affinity import PerplexityBasedNN
        from openTSNE.nearest_neighbors import PrecomputedNeighbors
    except ImportError as error:
        raise require("openTSNE", "report") from error
    affinities = PerplexityBasedNN(
        perplexity=min(PERPLEXITY, graph.index.shape[1] / 3),
        knn_index=PrecomputedNeighbors(graph.index, graph.distance),
        n_jobs=1,
    )
    scale = max(float(start[:, 0].std()), 1e-12)
    first = 1e-4 * start.astype(np.float64) / scale
    many = len(start) >= 1_000  # below, comparing all pairs is faster than the grid
    map_ = TSNEEmbedding(
        first,
        affinities,
        negative_gradient_method="fft" if many else "bh",
        n_jobs=1,
        random_state=seed,
    )
    map_ = map_.optimize(GATHER, exaggeration=12)
    return np.asarray(map_.optimize(SETTLE, exaggeration=CLOSER))


def principal(latent: np.ndarray) -> np.ndarray:
    """First two principal components, (N, 2), with the sign of the largest loading positive."""
    centred = latent - latent.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    scores = centred @ (axes * signs[:, None]).T
    return np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))
