"""The cells of a run with their neighbours: found once, used for the map and for what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from vivace.report.plane import NEIGHBOURS, Neighbours, neighbours, to_plane
from vivace.runs import Run
from vivace.runs.layout import COLOUR, DIMENSION, Table

NEAR = 15
"""Neighbours that say what is around a cell."""


@dataclass(frozen=True)
class Placed:
    """Cells of a latent table.

    Attributes
    ----------
    table
        The rows whose latent means are finite.
    kept
        (n,) which rows those are.
    """

    table: pd.DataFrame
    kept: np.ndarray

    @property
    def dimensions(self) -> list[str]:
        """Columns of the latent means."""
        return [c for c in self.table.columns if c.startswith(DIMENSION)]

    @property
    def colours(self) -> list[str]:
        """Columns of ``obs`` that the map can be coloured by, without their prefix."""
        return [c.removeprefix(COLOUR) for c in self.table.columns if c.startswith(COLOUR)]

    @cached_property
    def latent(self) -> np.ndarray:
        """Latent means, (n, L) float32."""
        return self.table[self.dimensions].to_numpy(dtype=np.float32)

    @cached_property
    def graph(self) -> Neighbours:
        """Nearest neighbours of each cell, itself left out."""
        return neighbours(self.latent, NEIGHBOURS)

    @cached_property
    def plane(self) -> tuple[np.ndarray, str]:
        """Coordinates in the map, (n, 2), and what they are called."""
        return to_plane(self.latent, graph=lambda: self.graph)

    def colour(self, name: str) -> pd.Series:
        """A column of ``obs``."""
        return self.table[f"{COLOUR}{name}"]


@lru_cache(maxsize=4)
def placed(run: Run, table: Table) -> Placed | None:
    """Cells of a latent table of a run, or None where it has none."""
    found = run.table(table)
    if found is None or found.empty:
        return None
    dimensions = [c for c in found.columns if c.startswith(DIMENSION)]
    kept = np.isfinite(found[dimensions]).all(axis=1).to_numpy()
    return Placed(found[kept], kept) if kept.any() else None


def explained(values: np.ndarray, graph: Neighbours, groups: np.ndarray | None = None) -> float:
    """Share of the variance of a number that the mean of a cell's neighbours tells, at least 0.

    Parameters
    ----------
    values
        (N,) the number.
    graph
        Neighbours of the cells.
    groups
        (N,) groups within which variance counts: means over them are taken out on both sides.

    Returns
    -------
    1 - residual over total variance: 0 where neighbours know nothing of the number, 1 where they say it.
    """
    told = values[graph.index[:, :NEAR]].mean(axis=1)
    if groups is not None:
        values, told = values - means_by(values, groups), told - means_by(told, groups)
    total = float(((values - values.mean()) ** 2).sum())
    if total <= 0:
        return 0.0
    return max(0.0, 1 - float(((values - told) ** 2).sum()) / total)


def means_by(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean over the group of each cell, (N,)."""
    codes = np.unique(groups, return_inverse=True)[1]
    return np.asarray((np.bincount(codes, values) / np.bincount(codes))[codes])
