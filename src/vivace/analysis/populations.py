"""How a background and the target conditions against it come apart in the two latent spaces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from vivace.metrics import knn_balanced_accuracy

LEAST = 5
"""Cells that a population needs for its separation to be told."""


def summary(
    rows: dict[str, np.ndarray],
    *,
    held_out: np.ndarray,
    salient: np.ndarray,
    shared: np.ndarray,
    elbo: Callable[[np.ndarray], np.ndarray],
) -> pd.DataFrame:
    """One row for the background and one for each condition.

    Parameters
    ----------
    rows
        Row numbers by name; the first is the background.
    held_out
        Rows that were not trained on.
    salient, shared
        (N, L) latent means of all cells in either space.
    elbo
        ``f(rows)``: (n,) evidence lower bounds, nats.

    Returns
    -------
    DataFrame with ``n_cells``, ``n_held_out``, ``elbo``, ``salient_norm``, ``salient_separation`` and
    ``background_separation``.
    """
    background, table = next(iter(rows.values())), {}
    for i, (name, own) in enumerate(rows.items()):
        kept = np.intersect1d(own, held_out)
        table[name] = {
            "n_cells": len(own),
            "n_held_out": len(kept),
            "elbo": float(np.mean(elbo(kept if len(kept) else own))),
            "salient_norm": float(np.linalg.norm(salient[own], axis=1).mean()),
            "salient_separation": separation(salient, background, own) if i else np.nan,
            "background_separation": separation(shared, background, own) if i else np.nan,
        }
    counts = {"n_cells": int, "n_held_out": int}
    return pd.DataFrame.from_dict(table, orient="index").astype(counts)


def separation(latent: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """Balanced accuracy with which 15 neighbours tell two sets of rows apart; 0.5 is chance.

    Examples
    --------
    >>> import numpy as np
    >>> separation(np.repeat([[0.0], [9.0]], 30, axis=0), np.arange(30), np.arange(30, 60))
    1.0
    """
    if min(len(one), len(other)) < LEAST:
        return float("nan")
    labels = np.repeat(["one", "other"], [len(one), len(other)])
    return float(knn_balanced_accuracy(latent[np.concatenate([one, other])], labels))
