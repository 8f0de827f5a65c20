"""Local inverse Simpson index: how many batches or labels a neighbourhood effectively holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vivace.metrics._neighbours import (
    Array,
    as_codes,
    as_latent,
    check_k,
    need_two,
    neighbours,
)


def lisi(latent: Any, labels: Iterable[Any], *, perplexity: int = 30) -> Array:
    """Local inverse Simpson index of every cell (Korsunsky et al. 2019).

    A cell's 3 * perplexity nearest neighbours (itself left out) get weights p_j ∝ exp(-β d_j), with
    β set so that the weights have the given perplexity, exp(-Σ p log p) (d is the distance, as in the
    published program, not its square). The index is 1 / Σ_c (Σ_{j in c} p_j)². With fewer cells than
    that, all others are the neighbours and the perplexity is a third of their number, at least 1.

    Parameters
    ----------
    latent
        (N, L), at least two cells.
    labels
        (N,): batches for mixing, cell types for separation.
    perplexity
        Effective number of neighbours.

    Returns
    -------
    (N,) between 1 (only one label around) and the number of labels (all equally often around).

    Raises
    ------
    InvalidArgumentError
        Fewer than two cells, a wrong shape, missing values, or a perplexity below 1.

    Examples
    --------
    >>> import numpy as np
    >>> latent = np.random.default_rng(0).normal(size=(200, 2))
    >>> lisi(latent, np.arange(200) % 2).shape
    (200,)
    """
    latent = as_latent(latent)
    codes, names = as_codes(labels, len(latent))
    check_k(perplexity, "perplexity")
    need_two(len(latent), "cells")
    distance, index = neighbours(latent, None, 3 * perplexity)
    target = float(perplexity) if index.shape[1] == 3 * perplexity else index.shape[1] / 3
    weights = _weights(distance, max(1.0, target))
    share = np.zeros((len(latent), len(names)))
    rows = np.arange(len(latent))
    for column in range(index.shape[1]):
        share[rows, codes[index[:, column]]] += weights[:, column]
    return np.asarray(1.0 / (share**2).sum(axis=1))


def ilisi(
    latent: Any, batch: Iterable[Any], *, perplexity: int = 30, scaled: bool = False
) -> float:
    """Integration LISI: mean :func:`lisi` of the batch, higher is better mixed.

    Parameters
    ----------
    latent, batch, perplexity
        As for :func:`lisi`; at least two batches.
    scaled
        Give (mean - 1) / (number of batches - 1) instead, 0 for separate to 1 for evenly mixed.

    Returns
    -------
    Mean over cells, between 1 and the number of batches; between 0 and 1 if ``scaled``. Batches of
    unequal size cannot reach the upper end.

    Raises
    ------
    InvalidArgumentError
        As :func:`lisi`, or only one batch.

    Examples
    --------
    >>> ilisi([[0.0], [0.1], [9.0], [9.1]], ["a", "a", "b", "b"], perplexity=1)
    1.0...
    """
    return _mean_lisi(latent, batch, perplexity, "batches", scaled, high_is_good=True)


def clisi(
    latent: Any, labels: Iterable[Any], *, perplexity: int = 30, scaled: bool = False
) -> float:
    """Cell-type LISI: mean :func:`lisi` of the label, lower is better separated.

    Parameters
    ----------
    latent, labels, perplexity
        As for :func:`lisi`; at least two labels.
    scaled
        Give (number of labels - mean) / (number of labels - 1) instead, 0 for mixed to 1 for separate.

    Returns
    -------
    Mean over cells, between 1 and the number of labels; between 0 and 1 if ``scaled``.

    Raises
    ------
    InvalidArgumentError
        As :func:`lisi`, or only one label.

    Examples
    --------
    >>> clisi([[0.0], [0.1], [9.0], [9.1]], ["a", "a", "b", "b"], perplexity=1, scaled=True)
    1.0
    """
    return _mean_lisi(latent, labels, perplexity, "labels", scaled, high_is_good=False)


def _mean_lisi(
    latent: Any,
    labels: Iterable[Any],
    perplexity: int,
    what: str,
    scaled: bool,
    *,
    high_is_good: bool,
) -> float:
    labels = np.asarray(labels, dtype=object).ravel()
    mean = float(lisi(latent, labels, perplexity=perplexity).mean())
    n = len(set(labels))
    need_two(n, what)
    if not scaled:
        return mean
    return (mean - 1) / (n - 1) if high_is_good else (n - mean) / (n - 1)


def _weights(distance: Array, perplexity: float) -> Array:
    """(N, k) weights, rows sum to 1, with the given perplexity; bisection on log β, all cells at once."""
    d = distance - distance[:, :1]  # the nearest gets weight exp(0): nothing underflows to 0 / 0
    scale = np.where(d.any(axis=1), d.mean(axis=1), 1.0)
    low, high = np.log(1e-6 / scale), np.log(1e6 / scale)
    for _ in range(60):
        middle = (low + high) / 2
        p = _softmax_of(d, middle)
        entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)
        broad = entropy > np.log(perplexity)
        low, high = np.where(broad, middle, low), np.where(broad, high, middle)
    return _softmax_of(d, (low + high) / 2)


def _softmax_of(d: Array, log_beta: Array) -> Array:
    p = np.exp(-np.exp(log_beta)[:, None] * d)
    return np.asarray(p / p.sum(axis=1, keepdims=True))
