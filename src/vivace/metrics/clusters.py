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
        clusters = _leiden(latent, k, resolution, seed)
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
    p = _contingency(one, two)
    p = p / p.sum()
    row, column = p.sum(axis=1), p.sum(axis=0)
    entropy = _entropy(row) + _entropy(column)
    if entropy == 0:
        return 1.0
    information = entropy - _entropy(p.ravel())
    return float(np.clip(2 * information / entropy, 0.0, 1.0))


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
    table = _contingency(one, two)
    both, first, second, every = (
        (n * (n - 1) / 2).sum() for n in (table, table.sum(axis=1), table.sum(axis=0), table.sum())
    )
    expected = first * second / every if every else 0.0
    mean = (first + second) / 2
    return 1.0 if mean == expected else float((both - expected) / (mean - expected))


def _contingency(one: Iterable[Any], two: Iterable[Any]) -> Array:
    """(C, K) number of cells with each pair of labels."""
    one = np.asarray(one, dtype=object).ravel()
    (a, a_names), (b, b_names) = as_codes(one, len(one), "one"), as_codes(two, len(one), "two")
    table = np.zeros((len(a_names), len(b_names)))
    np.add.at(table, (a, b), 1)
    return table


def _entropy(p: Array) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _kmeans(latent: Array, n_clusters: int, seed: int) -> Array:
    from sklearn.cluster import KMeans

    n_clusters = min(n_clusters, len(np.unique(latent, axis=0)))
    return np.asarray(KMeans(n_clusters, n_init=10, random_state=seed).fit(latent).labels_)


def _leiden(latent: Array, k: int, resolution: float, seed: int) -> Array:
    try:
        import igraph
    except ImportError:
        raise require("igraph", "clusters") from None
    import random

    _, index = neighbours(latent, None, k)
    pairs = np.stack([np.repeat(np.arange(len(index)), index.shape[1]), index.ravel()], axis=1)
    edges = np.unique(np.sort(pairs, axis=1), axis=0)
    graph = igraph.Graph(n=len(latent), edges=edges.tolist())
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found = graph.community_leiden("modularity", resolution=resolution, n_iterations=-1)
    finally:
        igraph.set_random_number_generator(random)  # igraph's own default
    return np.asarray(found.membership)
