"""What a model says it can answer, as types: the flags stand in its class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd

from vivace.models.base import BaseModel
from vivace.models.questions.ranges import CELLS_AT_ONCE


class HasLatent(Protocol):
    """A model that places cells in a latent space: all do, each with arguments of its own."""

    def get_latent_representation(self, adata: Any = None, **which: Any) -> np.ndarray:
        """Latent means, (n, L)."""


class HasBound(Protocol):
    """A model with an evidence lower bound: all but that of spots."""

    def get_elbo(self, adata: Any = None, indices: Any = None) -> Any:
        """Nats per cell, higher is better."""


class ComparesGroups(Protocol):
    """A model that compares the expression of groups of cells."""

    def differential_expression(self, adata: Any = None, **how: Any) -> pd.DataFrame:
        """One row a gene and comparison."""


class SimulatesCounts(Protocol):
    """A model that draws counts as it believes them to be."""

    def posterior_predictive_sample(self, adata: Any = None, **which: Any) -> Any:
        """Counts, (n, G)."""


class Denoises(Protocol):
    """A model that says what it believes the expression of each cell to be: all of cells do."""

    def get_normalized_expression(self, adata: Any = None, **which: Any) -> pd.DataFrame:
        """Expression, (n, G)."""


def latent_means(model: BaseModel, adata: Any = None, **which: Any) -> dict[str, np.ndarray]:
    """Latent means of cells, (n, L), in each latent space of the model, by its name."""
    asked = cast("HasLatent", model)
    return {
        name: asked.get_latent_representation(adata, **which, **space)
        for name, space in model.latent_spaces.items()
    }


def latent_ranges(model: BaseModel, adata: Any = None) -> Iterator[dict[str, np.ndarray]]:
    """Latent means of all cells in ranges of their order, so that no more is held at once."""
    cells = model._cells(adata)
    for start in range(0, cells.n_cells, CELLS_AT_ONCE):
        rows = np.arange(start, min(start + CELLS_AT_ONCE, cells.n_cells))
        yield latent_means(model, cells, indices=rows)


def that_compares(model: BaseModel) -> ComparesGroups | None:
    """The model, if it compares the expression of groups of cells."""
    return cast("ComparesGroups", model) if model.compares_groups else None


def that_simulates(model: BaseModel) -> SimulatesCounts | None:
    """The model, if it draws counts."""
    return cast("SimulatesCounts", model) if model.simulates_counts else None
