"""Hidden splicing events told by gradient boosting from all other events: a baseline of splicevi.py."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingRegressor

FEWEST = 20
"""Cells that an event must be seen in for a junction of it to be learned."""


def ratios(counts: sparse.csr_array, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of every junction, missing where its event has no reads, and the reads of its event."""
    dense = counts.toarray()
    totals = np.stack([np.bincount(events, row, events.max() + 1) for row in dense])[:, events]
    return np.where(totals > 0, dense / np.maximum(totals, 1), np.nan), totals


def boosted(
    learned: sparse.csr_array,
    shown: sparse.csr_array,
    genes: tuple[np.ndarray, np.ndarray],
    events: np.ndarray,
    otherwise: np.ndarray,
    seed: int = 0,
) -> np.ndarray:
    """Ratios that boosted trees predict for every junction of other cells, (n, J).

    A regressor a junction (squared error, scikit-learn's defaults), from the ratios of all junctions of
    other events, which may be missing, and the logs of the genes' counts; every cell counts by the
    square root of the reads of its event. Ratios of an event are made to sum to 1.

    Parameters
    ----------
    learned, shown
        (m, J) reads of the cells learned from, and (n, J) what is shown of those to predict.
    genes
        Logs of counts of both, (m, K) and (n, K).
    events
        (J,) event of each junction.
    otherwise
        (J,) the answer for junctions that are seen in too few cells.
    """
    ours, totals = ratios(learned, events)
    theirs, _ = ratios(shown, events)
    found = np.tile(otherwise, (shown.shape[0], 1))
    for junction, event in enumerate(events):
        seen, other = totals[:, junction] > 0, events != event
        if seen.sum() < FEWEST or np.ptp(ours[seen, junction]) == 0:
            continue
        trees = HistGradientBoostingRegressor(random_state=seed)
        inputs = np.column_stack([ours[seen][:, other], genes[0][seen]])
        trees.fit(inputs, ours[seen, junction], np.sqrt(totals[seen, junction]))
        guess = trees.predict(np.column_stack([theirs[:, other], genes[1]]))
        found[:, junction] = guess.clip(0, 1)
    sums = np.stack([np.bincount(events, row, events.max() + 1) for row in found])[:, events]
    return found / np.maximum(sums, 1e-6)
