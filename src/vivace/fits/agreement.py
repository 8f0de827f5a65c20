"""How far many fits agree: on neighbours, clusters, kinds of cells, genes and proportions.

Fits number F, cells n, neighbours k. Everything is of numpy arrays, without a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.linalg import orthogonal_procrustes

from vivace.metrics._neighbours import neighbours
from vivace.metrics.clusters import leiden

NEIGHBOURS = 15
SAME_CLUSTER = 0.75
"""Jaccard index from which a cluster of a fit is the same cluster (Hennig 2007)."""
SAME_KIND = 0.75
"""F1 from which a fit tells a kind of cells apart."""


def nearest_cells(latent: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """The k nearest other cells of each, (n, k) int32; all others where there are fewer."""
    return neighbours(np.asarray(latent, np.float64), None, k)[1].astype(np.int32)


def shared_neighbours(nearest: Sequence[np.ndarray]) -> sparse.csr_array:
    """(n, n) in how many fits a cell (column) is among the nearest of another (row).

    Parameters
    ----------
    nearest
        Of each fit, (n, k).

    Examples
    --------
    >>> one, two = np.array([[1], [0], [0]]), np.array([[1], [2], [0]])
    >>> shared_neighbours([one, two]).toarray().astype(int)
    array([[0, 2, 0],
           [1, 0, 1],
           [2, 0, 0]])
    """
    n, k = nearest[0].shape
    starts = np.arange(0, n * k + 1, k)
    ones = np.ones(n * k, np.float32)
    graphs = [sparse.csr_array((ones, each.ravel(), starts), shape=(n, n)) for each in nearest]
    total = graphs[0]
    for graph in graphs[1:]:
        total = total + graph
    return total


def neighbour_agreement(shared: sparse.csr_array, n_fits: int) -> np.ndarray:
    """Share of a cell's neighbours that two fits have in common, mean over pairs of fits, (n,).

    The sum over j of C(s_ij, 2) over k C(F, 2), with s_ij of :func:`shared_neighbours`: 1 if all fits
    give a cell the same neighbours, k / (n - 1) by chance.

    Examples
    --------
    >>> one, two = np.array([[1], [0], [0]]), np.array([[1], [2], [0]])
    >>> neighbour_agreement(shared_neighbours([one, two]), 2).tolist()
    [1.0, 0.0, 1.0]
    """
    pairs = shared.copy()
    pairs.data = pairs.data.astype(np.float64) * (pairs.data - 1) / 2
    k = shared.sum(axis=1) / n_fits
    return np.asarray(pairs.sum(axis=1) / (k * (n_fits * (n_fits - 1) / 2)))


def overlap(one: np.ndarray, two: np.ndarray) -> float:
    """Share of neighbours that two fits have in common, mean over cells."""
    shared = shared_neighbours([one, two])
    return float(neighbour_agreement(shared, 2).mean())


def within_groups(latent: np.ndarray, groups: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """The k nearest other cells of the same group, (n, k); k is cut to the smallest group.

    Groups of one cell have no neighbours: their cells must be left out before.
    """
    sizes = np.unique(groups, return_counts=True)[1]
    k = min(k, int(sizes.min()) - 1)
    found = np.empty((len(groups), k), np.int32)
    for name in np.unique(groups):
        rows = np.flatnonzero(groups == name)
        found[rows] = rows[nearest_cells(latent[rows], k)]
    return found


# clusters ---------------------------------------------------------------------------------------


def cluster_codes(nearest: np.ndarray, seed: int, resolution: float = 1.0) -> np.ndarray:
    """Leiden clusters of the graph of nearest cells, largest first, (n,) int32."""
    return by_size(leiden(shared_neighbours([nearest]), resolution, seed))


def consensus_clusters(shared: sparse.csr_array, seed: int, resolution: float = 1.0) -> np.ndarray:
    """Leiden clusters of the graph whose weights say in how many fits two cells are near, (n,)."""
    return by_size(leiden(shared, resolution, seed))


def by_size(codes: np.ndarray) -> np.ndarray:
    """The same clusters, numbered from the largest on.

    Examples
    --------
    >>> by_size(np.array([3, 5, 5, 3, 5])).tolist()
    [1, 0, 0, 1, 0]
    """
    _, codes, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    return np.argsort(order)[codes].astype(np.int32)


def counts_of_both(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """(A, B) number of cells in group a of one labelling and group b of another."""
    table = np.zeros((one.max() + 1, two.max() + 1), np.int64)
    np.add.at(table, (one, two), 1)
    return table


def jaccard(both: np.ndarray) -> np.ndarray:
    """(A, B) cells in both groups over cells in either, of :func:`counts_of_both`.

    Examples
    --------
    >>> jaccard(np.array([[2, 0], [1, 1]])).round(2).tolist()
    [[0.67, 0.0], [0.25, 0.5]]
    """
    union = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    return both / np.maximum(union, 1)


def cluster_table(consensus: np.ndarray, of_fits: Sequence[np.ndarray]) -> pd.DataFrame:
    """How each cluster of the consensus fares in the fits.

    Parameters
    ----------
    consensus
        (n,) codes.
    of_fits
        Of each fit, (n,) codes.

    Returns
    -------
    One row a cluster: ``cells``; ``stability``, the mean over fits of the largest Jaccard index with
    one of their clusters (Hennig 2007); ``found_in``, the number of fits in which that is at least
    0.75; ``splits_in`` and ``merges_in``, in how many of the other fits most of it is not in one
    cluster, or is in one with more cells of others; ``merges_with``, the cluster whose cells are then
    with it most often, -1 for none.
    """
    sizes = np.bincount(consensus)
    n = len(sizes)
    best = np.empty((len(of_fits), n))
    splits, merges = np.zeros(n, int), np.zeros(n, int)
    partners = np.zeros((n, n))
    for fit, codes in enumerate(of_fits):
        both = counts_of_both(consensus, codes)
        best[fit] = jaccard(both).max(axis=1)
        home = both.argmax(axis=1)
        lost = best[fit] < SAME_CLUSTER
        split = lost & (both.max(axis=1) < sizes / 2)
        merged = lost & ~split & (both.max(axis=1) < both.sum(axis=0)[home] / 2)
        splits += split
        merges += merged
        partners[merged] += both[:, home[merged]].T
    np.fill_diagonal(partners, 0)
    return pd.DataFrame(
        {
            "cells": sizes,
            "stability": best.mean(axis=0),
            "found_in": (best >= SAME_CLUSTER).sum(axis=0),
            "splits_in": splits,
            "merges_in": merges,
            "merges_with": np.where(partners.any(axis=1), partners.argmax(axis=1), -1),
        }
    )


def together(consensus: np.ndarray, of_fits: Sequence[np.ndarray]) -> np.ndarray:
    """(C, C) how likely two cells of two clusters share one in a fit; on the diagonal, two of one."""
    n = consensus.max() + 1
    total = np.zeros((n, n))
    for codes in of_fits:
        both = counts_of_both(consensus, codes).astype(float)
        sizes = both.sum(axis=1)
        same = both @ both.T
        pairs = np.outer(sizes, sizes)
        np.fill_diagonal(same, (both * (both - 1)).sum(axis=1))
        np.fill_diagonal(pairs, sizes * (sizes - 1))
        total += same / np.maximum(pairs, 1)
    return total / len(of_fits)


# kinds of cells ---------------------------------------------------------------------------------


def vote(nearest: np.ndarray, codes: np.ndarray, n_kinds: int) -> np.ndarray:
    """Kind of most neighbours of each cell, (n,); of equally many, the one of the nearest."""
    votes = np.zeros((len(nearest), n_kinds))
    rows = np.arange(len(nearest))
    for column in range(nearest.shape[1]):
        votes[rows, codes[nearest[:, column]]] += 1 + 1e-6 * (nearest.shape[1] - column)
    return votes.argmax(axis=1)


def f1_of_kinds(nearest: np.ndarray, codes: np.ndarray, n_kinds: int) -> np.ndarray:
    """(K,) F1 of each kind, when each cell is called what most of its neighbours are.

    Examples
    --------
    >>> f1_of_kinds(np.array([[1], [0], [3], [2]]), np.array([0, 0, 1, 0]), 2).tolist()
    [0.6666666666666666, 0.0]
    """
    said = vote(nearest, codes, n_kinds)
    both = np.bincount(codes[said == codes], minlength=n_kinds)
    either = np.bincount(codes, minlength=n_kinds) + np.bincount(said, minlength=n_kinds)
    return 2 * both / np.maximum(either, 1)


def label_table(
    nearest: Sequence[np.ndarray], codes: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """Whether the fits tell known kinds of cells apart.

    Parameters
    ----------
    nearest
        Of each fit, (n, k).
    codes, names
        (n,) kind of each cell, -1 where it is not known; (K,) their names.

    Returns
    -------
    One row a kind: ``cells``; ``stability``, the mean over fits of the F1 of calling cells what most of
    their neighbours are; ``lowest`` of the fits; ``found_in``, the number of fits in which it is at
    least 0.75.
    """
    known = np.where(codes < 0, len(names), codes)
    scores = np.array([f1_of_kinds(each, known, len(names) + 1) for each in nearest])
    scores = scores[:, : len(names)]
    return pd.DataFrame(
        {
            "cells": np.bincount(known, minlength=len(names) + 1)[: len(names)],
            "stability": scores.mean(axis=0),
            "lowest": scores.min(axis=0),
            "found_in": (scores >= SAME_KIND).sum(axis=0),
        },
        index=pd.Index(names, name="kind"),
    )


# genes ------------------------------------------------------------------------------------------


def gene_table(
    probability: np.ndarray, fold_change: np.ndarray, found: np.ndarray, genes: Sequence[str]
) -> pd.DataFrame:
    """How sure the fits are of each gene of one comparison.

    Parameters
    ----------
    probability, fold_change, found
        (F, G) probability of a change, its log2 size, and whether the fit marks the gene.
    genes
        (G,) names.

    Returns
    -------
    One row a gene, those of most fits first: ``found_in``, number of fits that mark it;
    ``probability``, mean over fits; ``rank`` and ``rank_spread``, median and interquartile range of its
    place in the fits' lists (1 is the surest, larger changes first); ``fold_change`` and
    ``fold_change_spread`` likewise.
    """
    order = np.lexsort((-np.abs(fold_change), -probability), axis=1)
    ranks = np.argsort(order, axis=1) + 1
    low, rank, high = np.percentile(ranks, (25, 50, 75), axis=0)
    less, change, more = np.percentile(fold_change, (25, 50, 75), axis=0)
    table = pd.DataFrame(
        {
            "found_in": (found > 0).sum(axis=0),
            "probability": probability.mean(axis=0),
            "rank": rank,
            "rank_spread": high - low,
            "fold_change": change,
            "fold_change_spread": more - less,
        },
        index=pd.Index(genes, name="gene"),
    )
    return table.sort_values(["found_in", "rank"], ascending=[False, True], kind="stable")


# consensus --------------------------------------------------------------------------------------


def consensus_latent(latents: Sequence[np.ndarray], rounds: int = 10) -> np.ndarray:
    """Mean of latent spaces that are turned onto each other, (n, L): generalised Procrustes analysis.

    Each is centred and turned (with reflections, without scaling) to the mean of all (Gower 1975).

    Parameters
    ----------
    latents
        Of each fit, (n, L).
    rounds
        Times that all are turned to their mean.
    """
    turned = [np.asarray(z, np.float64) - z.mean(axis=0) for z in latents]
    mean = turned[0]
    for _ in range(rounds):
        turned = [z @ orthogonal_procrustes(z, mean)[0] for z in turned]
        mean = np.mean(turned, axis=0)
    return mean
