"""Label transfer by nearest neighbours: whether cells of a kind are near each other."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from vivace.errors import InvalidArgumentError
from vivace.metrics._neighbours import (
    Array,
    as_codes,
    as_latent,
    check_k,
    need_two,
    neighbours,
)

USUAL = 0.99
MOST_ASKED = 2000


def predict_labels(
    reference: Any, reference_labels: Iterable[Any], query: Any, *, k: int = 15
) -> Array:
    """Label of each query cell by majority among its k nearest reference cells.

    Ties go to the label whose tied neighbours are nearer in sum.

    Parameters
    ----------
    reference, query
        (N, L) and (Q, L), positions in one latent space.
    reference_labels
        (N,).
    k
        Neighbours; all reference cells where there are fewer.

    Returns
    -------
    (Q,) labels, as an object array.

    Raises
    ------
    InvalidArgumentError
        Wrong shapes, missing values, dimensions that differ, or k < 1.

    Examples
    --------
    >>> predict_labels([[0.0], [1.0], [9.0]], ["a", "a", "b"], [[0.4], [8.0]], k=1).tolist()
    ['a', 'b']
    """
    return carry_labels(reference, reference_labels, query, k=k)["label"].to_numpy()


def carry_labels(
    reference: Any, reference_labels: Iterable[Any], query: Any, *, k: int = 15
) -> pd.DataFrame:
    """Labels of reference cells carried over to query cells, and how sure that is.

    Parameters
    ----------
    reference, reference_labels, query, k
        As for :func:`predict_labels`.

    Returns
    -------
    DataFrame with a row for each query cell: ``label``, that of most of its k nearest reference cells;
    ``share`` of those that have it, in (0, 1]; and ``far``, whether they are farther away than those of
    99 % of the reference cells are, as cells of a kind that the reference lacks may be: a label of such a
    cell means little, however large its share.

    Raises
    ------
    InvalidArgumentError
        As :func:`predict_labels`.

    Examples
    --------
    >>> cells, labels = [[0.0], [0.1], [0.2], [9.0]], ["a", "a", "a", "b"]
    >>> carry_labels(cells, labels, [[0.1], [99.0]], k=3).to_dict("list")
    {'label': ['a', 'a'], 'share': [1.0, 0.666...], 'far': [False, True]}
    """
    reference, query = as_latent(reference, "reference"), as_latent(query, "query")
    codes, names = as_codes(reference_labels, len(reference), "reference_labels")
    check_k(k)
    if reference.shape[1] != query.shape[1]:
        msg = f"query has {query.shape[1]} dimensions; expected those of reference, {reference.shape[1]}."
        raise InvalidArgumentError(msg)
    distance, index = neighbours(reference, query, k)
    winner = _vote(codes, len(names), distance, index)
    share = (codes[index] == winner[:, None]).mean(1)
    far = distance.mean(1) > _usual_distance(reference, k)
    return pd.DataFrame({"label": names[winner], "share": share, "far": far})


def _usual_distance(reference: Array, k: int) -> float:
    """Mean distance to k neighbours that 99 % of reference cells stay below; of 2,000 of them at most."""
    rows = np.unique(np.linspace(0, len(reference) - 1, MOST_ASKED).astype(int))
    distance, _ = neighbours(reference, reference[rows], k + 1)
    others = distance[:, 1:]  # the nearest is the cell itself
    return float(np.quantile(others.mean(1), USUAL)) if others.size else np.inf


def label_transfer(
    reference: Any,
    reference_labels: Iterable[Any],
    query: Any,
    query_labels: Iterable[Any],
    *,
    k: int = 15,
) -> dict[str, float]:
    """How well labels of reference cells carry over to query cells.

    Parameters
    ----------
    reference, reference_labels, query, k
        As for :func:`predict_labels`.
    query_labels
        (Q,) true labels; one that no reference cell has counts as missed.

    Returns
    -------
    ``{"accuracy", "balanced_accuracy"}``, both in [0, 1]: the fraction of query cells predicted right,
    and the mean over the query's labels of that fraction within the label.

    Raises
    ------
    InvalidArgumentError
        As :func:`predict_labels`.

    Examples
    --------
    >>> label_transfer([[0.0], [9.0]], ["a", "b"], [[1.0], [2.0], [7.0]], ["a", "b", "b"], k=1)
    {'accuracy': 0.666..., 'balanced_accuracy': 0.75}
    """
    truth = np.asarray(query_labels, dtype=object).ravel()
    codes, names = as_codes(truth, len(as_latent(query, "query")), "query_labels")
    found = predict_labels(reference, reference_labels, query, k=k)
    predicted = pd.Index(names).get_indexer(found)  # -1: a label that no query cell has
    accuracy = float((predicted == codes).mean())
    return {"accuracy": accuracy, "balanced_accuracy": _balanced(codes, predicted)}


def knn_accuracy(
    latent: Any, labels: Iterable[Any], *, k: int = 15, folds: int = 5, seed: int = 0
) -> float:
    """Fraction of cells whose label is that of most of their neighbours, in cross-validation.

    Cells are dealt to folds at random within each label; the label of a cell is predicted as in
    :func:`predict_labels` from the cells of the other folds.

    Parameters
    ----------
    latent
        (N, L), at least two cells.
    labels
        (N,), at least two distinct ones.
    k
        Neighbours.
    folds
        Number of folds, at least 2; leave-one-out where there are fewer cells, and no more folds than
        the largest label has cells.
    seed
        Seed of the folds.

    Returns
    -------
    In [0, 1], higher is better.

    Raises
    ------
    InvalidArgumentError
        Fewer than two cells, labels or folds, a wrong shape, or missing values.

    Examples
    --------
    >>> knn_accuracy([[0.0], [0.1], [9.0], [9.1]], ["a", "a", "b", "b"], k=1, folds=2)
    1.0
    """
    codes, predicted = _cross_validate(latent, labels, k, folds, seed)
    return float((predicted == codes).mean())


def knn_balanced_accuracy(
    latent: Any, labels: Iterable[Any], *, k: int = 15, folds: int = 5, seed: int = 0
) -> float:
    """Mean over labels of the fraction of their cells predicted right, as in :func:`knn_accuracy`.

    Parameters
    ----------
    latent, labels, k, folds, seed
        As for :func:`knn_accuracy`.

    Returns
    -------
    In [0, 1], higher is better; 1 / number of labels by chance.

    Raises
    ------
    InvalidArgumentError
        As :func:`knn_accuracy`.

    Examples
    --------
    >>> knn_balanced_accuracy([[0.0], [0.1], [9.0], [9.1]], ["a", "a", "b", "b"], k=1, folds=2)
    1.0
    """
    return _balanced(*_cross_validate(latent, labels, k, folds, seed))


def _cross_validate(
    latent: Any, labels: Iterable[Any], k: int, folds: int, seed: int
) -> tuple[Array, Array]:
    """Code of each cell's label (N,), and of the one predicted for it (N,)."""
    latent = as_latent(latent)
    codes, names = as_codes(labels, len(latent))
    check_k(k)
    check_k(folds, "folds")
    for n, what in [(folds, "folds"), (len(latent), "cells"), (len(names), "labels")]:
        need_two(n, what)
    fold = _deal(codes, folds, seed)
    predicted = np.empty_like(codes)
    for held in np.unique(fold):
        test = fold == held
        found = neighbours(latent[~test], latent[test], k)
        predicted[test] = _vote(codes[~test], len(names), *found)
    return codes, predicted


def _deal(codes: Array, folds: int, seed: int) -> Array:
    """(N,) folds, with the cells of each label spread evenly; at most as many as the largest has cells."""
    from sklearn.model_selection import StratifiedKFold

    largest = np.bincount(codes).max()
    if len(codes) <= folds or largest == 1:
        return np.arange(len(codes)) % folds
    fold = np.empty(len(codes), int)
    deal = StratifiedKFold(min(folds, largest), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, cells) in enumerate(deal.split(codes, codes)):
            fold[cells] = number
    return fold


def _vote(codes: Array, n_labels: int, distance: Array, index: Array) -> Array:
    """(Q,) winning code; summed distance breaks ties, so that renaming labels changes nothing."""
    votes, far = np.zeros((2, len(index), n_labels))
    rows = np.arange(len(index))
    for column in range(index.shape[1]):
        label = codes[index[:, column]]
        votes[rows, label] += 1
        far[rows, label] += distance[:, column]
    tied = votes == votes.max(axis=1, keepdims=True)
    return np.asarray(np.where(tied, far, np.inf).argmin(axis=1))


def _balanced(truth: Array, predicted: Array) -> float:
    """Mean over the codes that occur in ``truth`` of the fraction of their cells predicted right."""
    from sklearn.metrics import recall_score

    return float(recall_score(truth, predicted, labels=np.unique(truth), average="macro"))
