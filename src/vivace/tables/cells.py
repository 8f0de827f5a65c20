"""Tables with a row a cell: latent means beside the columns of ``obs`` that a map is coloured by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vivace._types import Keys
from vivace.errors import missing_key
from vivace.models.base import BaseModel
from vivace.runs.layout import COLOUR, DEPTH, DIMENSION

MOST_CELLS = 100_000
"""The most that a map shows."""
MOST_COMPARED = 20_000
"""The most that are simulated again, and whose neighbourhoods are measured."""
MOST_COLUMNS = 6
MOST_CATEGORIES = 50
LABEL_NAMES = ("cell_type", "celltype", "bulk_labels", "labels")


def drawn_rows(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The rows, or ``most`` of them at random, in order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def colour_columns(
    model: BaseModel, wanted: Sequence[str] | None, labels: str | None = None
) -> list[str]:
    """Columns of ``obs`` to colour by; labels that were named are the first."""
    obs, first = model.adata.obs, [] if labels is None else [labels]
    for argument, names in (("labels", first), ("colour", wanted or [])):
        for name in names:
            if name not in obs:
                raise missing_key(argument, name, "adata.obs", obs.columns)
    if wanted is not None:
        return list(dict.fromkeys([*first, *wanted]))
    registered = [column_of(model, key) for key in (Keys.LABELS, Keys.BATCH)]
    telling = [name for name in obs.columns if few_values(obs[name])]
    chosen = [name for name in registered if name is not None] + telling
    return list(dict.fromkeys(first + chosen))[:MOST_COLUMNS]


def column_of(model: BaseModel, key: str) -> str | None:
    """Column of ``obs`` that was registered for a key of the minibatch."""
    field = model.schema.field(key)
    return field.columns[0] if field is not None and field.columns else None


def label_column(model: BaseModel, columns: list[str]) -> str | None:
    """Column with kinds of cells: the registered one, or one that is called so."""
    registered = column_of(model, Keys.LABELS)
    if registered in columns:
        return registered
    return next((c for c in columns if c.lower() in LABEL_NAMES), None)


def few_values(values: pd.Series) -> bool:
    """Whether a column names a manageable number of groups."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return False
    return 1 < values.nunique() <= min(MOST_CATEGORIES, max(2, len(values) // 3))


def sizes(values: pd.Series) -> dict[str, int]:
    """Number of cells of each value, missing ones included."""
    found = values.astype("string").fillna("missing").value_counts()
    return {str(name): int(n) for name, n in found.items()}


def colour_table(
    obs: pd.DataFrame, names: pd.Index, rows: np.ndarray, columns: list[str], totals: np.ndarray
) -> pd.DataFrame:
    """The columns to colour by, and counts per cell from the total of each row, (n,)."""
    table = {f"{COLOUR}{name}": obs[name].to_numpy()[rows] for name in columns}
    table[f"{COLOUR}{DEPTH}"] = np.log10(np.maximum(totals, 1))
    return pd.DataFrame(table, index=names[rows])


def latent_table(means: np.ndarray, colours: pd.DataFrame) -> pd.DataFrame:
    """Latent means (n, L) in one space, then the columns to colour by."""
    names = [f"{DIMENSION}{i}" for i in range(means.shape[1])]
    return pd.concat([pd.DataFrame(means, colours.index, names), colours], axis=1)


def means_of(table: pd.DataFrame) -> np.ndarray:
    """Latent means of a latent table, (n, L)."""
    return table[[c for c in table.columns if c.startswith(DIMENSION)]].to_numpy()


def kinds_of(table: pd.DataFrame, column: str) -> pd.Series:
    """Column of ``obs`` of a latent table."""
    return table[f"{COLOUR}{column}"]
