"""Whether systems mix where they share cells, and kinds of cells stay apart: before and after."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from vivace._types import Keys
from vivace.kernels.csr import to_dense
from vivace.metrics import lisi
from vivace.runs.layout import ALL_CELLS

LEAST = 5
"""The fewest cells with which a kind has a row of its own."""


def principal_components(batches: Iterable[Any], n_components: int = 30) -> np.ndarray:
    """Cells on the first principal components of their values: the space before integration.

    Parameters
    ----------
    batches
        Minibatches, passed over twice; only (G, G) sums are kept of them.
    n_components
        Number of components, at most the number of genes.

    Returns
    -------
    (N, n_components) float32.
    """
    n, total, products = 0, 0.0, 0.0
    for tensors in batches:
        x = to_dense(tensors[Keys.X]).double().numpy()
        n, total, products = n + len(x), total + x.sum(0), products + x.T @ x
    mean = np.asarray(total) / n
    _, axes = np.linalg.eigh(np.asarray(products) / n - np.outer(mean, mean))
    axes = axes[:, ::-1][:, :n_components]
    scores = [(to_dense(t[Keys.X]).double().numpy() - mean) @ axes for t in batches]
    return np.concatenate(scores).astype(np.float32)


def summary(
    before: np.ndarray, after: np.ndarray, system: pd.Series, kinds: pd.Series | None = None
) -> pd.DataFrame:
    """Effective numbers of systems and of kinds of cells around a cell, in either space.

    Parameters
    ----------
    before, after
        (N, .) positions without and with integration.
    system
        (N,) system of each cell.
    kinds
        (N,) kind of each cell; missing values are left out.

    Returns
    -------
    DataFrame with one row for all cells and one for each kind: ``n_cells``, ``n_systems`` it is in,
    ``systems_before`` and ``systems_after`` (mean local inverse Simpson index, 1 to ``n_systems``,
    higher is better mixed), ``kinds_before`` and ``kinds_after`` (1 is best: only its own kind).

    References
    ----------
    Korsunsky et al. 2019, Fast, sensitive and accurate integration of single-cell data with Harmony.
    """
    known = np.ones(len(before), bool) if kinds is None else kinds.notna().to_numpy()
    system = system[known].astype(str)
    columns = {}
    for name, space in (("before", before[known]), ("after", after[known])):
        columns[f"systems_{name}"] = lisi(space, system)
        if kinds is not None:
            columns[f"kinds_{name}"] = lisi(space, kinds[known].astype(str))
    cells = pd.DataFrame(columns)
    table = {ALL_CELLS: _row(cells, system)}
    if kinds is not None:
        of_cell = kinds[known].astype(str).to_numpy()
        for kind, n in pd.Series(of_cell).value_counts().items():
            if n >= LEAST:
                table[str(kind)] = _row(cells[of_cell == kind], system[of_cell == kind])
    counts = {"n_cells": int, "n_systems": int}
    return pd.DataFrame.from_dict(table, orient="index").astype(counts)


def _row(cells: pd.DataFrame, system: pd.Series) -> dict[str, float]:
    return {"n_cells": len(cells), "n_systems": system.nunique(), **cells.mean()}
