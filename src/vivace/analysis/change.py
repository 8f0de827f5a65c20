"""What draws of expression on two sides say of a change, gene by gene.

Arrays of draws have shape (M, G): M pairs of draws, one from each side. Boyeau et al. 2019, Deep
generative models for detecting differential expression in single cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from vivace.errors import InvalidArgumentError

EPS = 1e-8
SMALLEST = 1e-10
"""Floor of the pseudocount."""
REPORTED = 1e-3
"""The reported fold changes use this share of the pseudocount that probabilities are computed with."""
LEAST_DELTA = 0.1
LEAST = float(np.finfo(np.float32).tiny)

ChangeFn: TypeAlias = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
DomainFn: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def log_fold_change(scale1: np.ndarray, scale2: np.ndarray, pseudocount: float) -> np.ndarray:
    """``log2(scale1 + c) - log2(scale2 + c)``, elementwise; without a pseudocount, 0 and 0 are equal.

    Examples
    --------
    >>> import numpy as np
    >>> log_fold_change(np.array([0.3]), np.array([0.1]), 0.1)
    array([1.])
    >>> log_fold_change(np.array([0.0, 0.4]), np.array([0.0, 0.1]), 0.0)
    array([0., 2.])
    """
    c = max(pseudocount, LEAST)  # a share that is too small for float32 is 0
    return np.log2((scale1 + c) / (scale2 + c))


def beyond(delta: float) -> DomainFn:
    """Where a change is an increase (at least ``delta``), and where it is a decrease (below ``-delta``)."""
    return lambda change: (change >= delta, change < -delta)


def bayes_factor(p: np.ndarray) -> np.ndarray:
    """``ln(p / (1 - p))``, kept finite by 1e-8.

    Examples
    --------
    >>> import numpy as np
    >>> bayes_factor(np.array([0.5]))
    array([0.])
    """
    return np.log(p + EPS) - np.log(1 - p + EPS)


def probability(up: np.ndarray, down: np.ndarray, test_mode: str) -> np.ndarray:
    """Probability of a change, (G,), from boolean (M, G) arrays.

    "three" takes the likelier of increase and decrease, so one minus it is not the probability of no
    change; "two" adds them.
    """
    increased, decreased = up.mean(0), down.mean(0)
    return increased + decreased if test_mode == "two" else np.maximum(increased, decreased)


def estimate_pseudocount(
    maxima1: np.ndarray, maxima2: np.ndarray, silent1: np.ndarray, silent2: np.ndarray
) -> float:
    """Pseudocount below which expression is noise, from genes that are not expressed.

    Parameters
    ----------
    maxima1, maxima2
        (G,) largest sampled expression of each gene on either side.
    silent1, silent2
        (G,) whether the gene is hardly seen on that side.

    Returns
    -------
    ``max(1e-10, max(e1, e2) / G)``, where ``e`` is the 0.9 quantile of the maxima of a side's silent
    genes, 1e-10 if it has none.

    Examples
    --------
    >>> import numpy as np
    >>> silent1, silent2 = np.array([True, False, False]), np.array([True, True, False])
    >>> maxima1, maxima2 = np.array([0.2, 0.3, 0.7]), np.array([0.3, 0.3, 0.8])
    >>> round(estimate_pseudocount(maxima1, maxima2, silent1, silent2), 6)
    0.1
    """
    noise = [
        float(np.quantile(maxima[silent], 0.9)) if silent.any() else SMALLEST
        for maxima, silent in ((maxima1, silent1), (maxima2, silent2))
    ]
    return max(SMALLEST, max(noise) / len(maxima1))


def estimate_delta(mean_change: np.ndarray) -> float:
    """Threshold of a relevant change, from the outer two of three kinds of genes.

    A Gaussian mixture of three components is fitted to the mean change of each gene, (G,); the
    threshold is ``max(0.1, 0.6 * mean(|smallest|, |largest|))`` of its means.

    Examples
    --------
    >>> import numpy as np
    >>> genes = np.concatenate([np.zeros(90), np.full(5, 2.0), np.full(5, -1.0)])
    >>> round(estimate_delta(genes + 1e-3 * np.arange(100) / 100), 2)
    0.9
    """
    from sklearn.mixture import GaussianMixture

    if len(np.unique(mean_change)) < 3:
        return LEAST_DELTA
    start = np.quantile(mean_change, [0.01, 0.5, 0.99])[:, None]
    mixture = GaussianMixture(3, means_init=start, random_state=0)
    centres = np.sort(mixture.fit(mean_change[:, None]).means_.ravel())
    return max(LEAST_DELTA, 0.6 * float(np.abs(centres[[0, -1]]).mean()))


def false_discovery_mask(p: np.ndarray, target: float) -> np.ndarray:
    """The most genes whose expected share of false discoveries is at most ``target``, (G,) bool.

    Examples
    --------
    >>> import numpy as np
    >>> false_discovery_mask(np.array([0.99, 0.2, 0.96, 0.91]), 0.05)
    array([ True, False,  True,  True])
    """
    order = np.argsort(-p, kind="stable")
    expected = np.cumsum(1 - p[order]) / np.arange(1, len(p) + 1)
    chosen = np.zeros(len(p), dtype=bool)
    chosen[order[: np.count_nonzero(expected <= target)]] = True
    return chosen


def highest_density_interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Shortest interval of ``floor(level * M)`` steps between draws.

    Parameters
    ----------
    values
        (..., M) draws.
    level
        In (0, 1).

    Returns
    -------
    Lower and upper ends, (...,).

    Examples
    --------
    >>> import numpy as np
    >>> low, high = highest_density_interval(np.arange(10) ** 2, 0.8)
    >>> int(low), int(high)
    (0, 64)
    """
    n = values.shape[-1]
    steps = min(int(np.floor(level * n)), n - 1)
    ordered = np.sort(values, axis=-1)
    widths = ordered[..., steps:] - ordered[..., : n - steps]
    start = np.argmin(widths, axis=-1)[..., None]
    low = np.take_along_axis(ordered, start, -1)[..., 0]
    return low, np.take_along_axis(ordered, start + steps, -1)[..., 0]


def summarise(change: np.ndarray, levels: Sequence[float]) -> dict[str, np.ndarray]:
    """Mean, median, spread and range of a change, each (G,), from (G, M) draws, contiguous."""
    middle = change.shape[-1] // 2
    ends = [middle] if change.shape[-1] % 2 else [middle - 1, middle]
    columns = {
        "lfc_mean": change.mean(-1),
        # a partial sort places the middle only
        "lfc_median": np.partition(change, ends, axis=-1)[:, ends].mean(-1),
        "lfc_std": change.std(-1),
        "lfc_min": change.min(-1),
        "lfc_max": change.max(-1),
    }
    for level in levels:
        low, high = highest_density_interval(change, level)
        columns[f"lfc_confidence_interval_{level}_min"] = low
        columns[f"lfc_confidence_interval_{level}_max"] = high
    return columns


def check_domain(found: object, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The two boolean arrays that a user's ``m1_domain_fn`` should return.

    Raises
    ------
    InvalidArgumentError
        If it returned anything else.
    """
    parts = [np.asarray(part) for part in found] if isinstance(found, tuple | list) else []
    if len(parts) != 2 or any(part.shape != shape or part.dtype != bool for part in parts):
        msg = f"m1_domain_fn must return two boolean arrays (increased, decreased) of shape {shape}"
        raise InvalidArgumentError(msg)
    return parts[0], parts[1]
