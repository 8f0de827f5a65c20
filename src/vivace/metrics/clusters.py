"""Agreement of unsupervised clusters with known labels: NMI and ARI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vivace.errors import check_choice, require
from vivace.metrics._neighbours import (
    Array,
    as_codes,
    as_latent,
    check_k,
    need_two,
    neighbours,
)


def nmi_ari(
    latent: Any,
    labels: Iterable[Any],
    *,
    method: str = "kmeans",
    k: int = 15,
    resolution: float = 1.0,
    seed: int = 0,
) -> dict[str, float]:
    """Cluster a latent space and compare the clusters with known labels.

    Parameters
    ----------
    latent
        (N, L), at least two cells.
    labels
        (N,).
    method
        ``"kmeans"``: as many clusters as there are labels, best of 10 starts; ``"leiden"``: Leiden
        (Traag et al. 2019) on modularity of the k-nearest-neighbour graph, which needs igraph.
    k, resolution
        Neighbours in the graph and resolution, for Leiden.
    seed
        Seed of the clustering.

    Returns
    -------
    ``{"nmi", "ari"}``, see :func:`nmi` and :func:`ari`.

    Raises
    ------
    InvalidArgumentError
        Fewer than two cells, a wrong shape, missing values, or an unknown method.
    MissingDependencyError
        ``method="leiden"`` without igraph.

    Examples
    --------
    >>> nmi_ari([[0.0], [0.1], [9.0], [9.1]], ["a", "a", "b", "b"])
    {'nmi': 1.0, 'ari': 1.0}
    """
    latent = as_latent(latent)
    codes, names = as_codes(labels, len(latent))
    check_choice("method", method, ["kmeans", "leiden"])
    check_k(k)
    need_two(len(latent), "cells")
    if method == "kmeans":
        clusters = _kmeans(latent, len(names), seed)
    else:
        clusters = leiden(_near(latent, k), resolution, seed)
    return {"nmi": nmi(codes, clusters), "ari": ari(codes, clusters)}


def nmi(one: Iterable[Any], two: Iterable[Any]) -> float:
    """Normalised mutual information of two labellings of the same cells.

    2 I(one; two) / (H(one) + H(two)); 1 if both put all cells in one group.

    Parameters
    ----------
    one, two
        (N,) labels each.

    Returns
    -------
    In [0, 1]; 1 means equal up to names.

    Raises
    ------
    InvalidArgumentError
        Different lengths, or missing values.

    Examples
    --------
    >>> nmi(["a", "a", "b", "b"], [1, 1, 0, 0])
    1.0
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(np.clip(normalized_mutual_info_score(*_codes_of_both(one, two)), 0.0, 1.0))


def ari(one: Iterable[Any], two: Iterable[Any]) -> float:
    """Adjusted Rand index of two labellings of the same cells (Hubert & Arabie 1985).

    (pairs together in both - expected) / (mean of pairs together in each - expected), with the
    expectation of random labellings of the same group sizes; 1 if the denominator is 0.

    Parameters
    ----------
    one, two
        (N,) labels each.

    Returns
    -------
    At most 1 (equal up to names), 0 on average by chance, at least -0.5.

    Raises
    ------
    InvalidArgumentError
        Different lengths, or missing values.

    Examples
    --------
    >>> round(ari(["a", "a", "b", "b"], [1, 0, 1, 0]), 3)
    -0.5
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(*_codes_of_both(one, two)))


def _codes_of_both(one: Iterable[Any], two: Iterable[Any]) -> tuple[Array, Array]:
    one = np.asarray(one, dtype=object).ravel()
    return as_codes(one, len(one), "one")[0], as_codes(two, len(one), "two")[0]


def _kmeans(latent: Array, n_clusters: int, seed: int) -> Array:
    from sklearn.cluster import KMeans

    n_clusters = min(n_clusters, len(np.unique(latent, axis=0)))
    return np.asarray(KMeans(n_clusters, n_init=10, random_state=seed).fit(latent).labels_)


def leiden(graph: Any, resolution: float, seed: int) -> Array:
    """Leiden clusters (Traag et al. 2019) by modularity of a graph, (N,) codes.

    Parameters
    ----------
    graph
        (N, N) scipy sparse weights; those of both directions are added up.
    resolution
        Higher for more clusters.
    seed
        Seed of the clustering.

    Raises
    ------
    MissingDependencyError
        igraph is not installed.
    """
    try:
        import igraph
    except ImportError:
        raise require("igraph", "clusters") from None
    import random

    from scipy import sparse

    upper = sparse.triu(graph + graph.T, k=1, format="coo")
    made = igraph.Graph(n=graph.shape[0], edges=np.stack([upper.row, upper.col], axis=1).tolist())
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = made.community_leiden(
            "modularity", weights=upper.data.tolist(), resolution=resolution, n_iterations=-1
        )
    finally:
        igraph.set_random_number_generator(random)  # igraph's own default
    return np.asarray(found.membership)


def _near(latent: Array, k: int) -> Any:
    """(N, N) ones where one of two cells is among the nearest of the other."""
    from scipy import sparse

    _, index = neighbours(latent, None, k)
    starts = np.arange(0, index.size + 1, index.shape[1])
    near = sparse.csr_array((np.ones(index.size), index.ravel(), starts), (len(index),) * 2)
    return sparse.triu(near.maximum(near.T), k=1)
