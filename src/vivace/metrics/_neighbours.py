"""Input checks and exact nearest neighbours, shared by all metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from vivace.errors import InvalidArgumentError

Array = np.ndarray[Any, Any]


def as_latent(latent: Any, argument: str = "latent") -> Array:
    """(N, L) float64 copy of a latent space; raises unless it is two-dimensional and finite."""
    out = np.asarray(latent, dtype=np.float64)
    if out.ndim != 2 or 0 in out.shape:
        msg = (
            f"{argument} has shape {out.shape}; expected (cells, dimensions), at least one of each."
        )
        raise InvalidArgumentError(msg)
    if not np.isfinite(out).all():
        bad = int((~np.isfinite(out)).any(axis=1).sum())
        msg = f"{argument} has missing or infinite values in {bad} of {len(out)} cells; drop them."
        raise InvalidArgumentError(msg)
    return out


def as_codes(labels: Iterable[Any], n_cells: int, argument: str = "labels") -> tuple[Array, Array]:
    """Codes (N,) and the distinct labels (C,); raises on missing labels or another length."""
    values = pd.Series(np.asarray(labels, dtype=object).ravel())
    if len(values) != n_cells:
        msg = f"{argument} has {len(values)} values for {n_cells} cells; expected one a cell."
        raise InvalidArgumentError(msg)
    if values.isna().any():
        msg = f"{argument} is missing for {int(values.isna().sum())} cells; drop or label them."
        raise InvalidArgumentError(msg)
    codes, names = pd.factorize(values)
    return np.asarray(codes), np.asarray(names, dtype=object)


def need_two(n: int, what: str) -> None:
    """Raise unless there are at least two of ``what``."""
    if n < 2:
        msg = f"Found {n} {what}; this measure compares at least 2."
        raise InvalidArgumentError(msg)


def check_k(k: int, argument: str = "k") -> None:
    """Raise unless ``k`` is a whole number of at least 1."""
    if isinstance(k, bool) or int(k) != k or k < 1:
        msg = f"{argument}={k!r} was given; expected a whole number >= 1."
        raise InvalidArgumentError(msg)


def neighbours(fit: Array, query: Array | None, k: int) -> tuple[Array, Array]:
    """Distances and indices (Q, k) of the nearest rows of ``fit``; a cell is not its own neighbour.

    ``query=None`` asks for the neighbours of ``fit`` itself. ``k`` is cut to what there is.
    """
    from sklearn.neighbors import NearestNeighbors

    k = min(k, len(fit) - (query is None))
    # brute force on blocks beats trees from 10 dimensions on, and its time does not depend on the data
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(fit)
    distance, where = index.kneighbors(query)
    return np.asarray(distance), np.asarray(where)
