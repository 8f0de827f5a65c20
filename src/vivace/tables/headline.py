"""The few numbers one looks at first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vivace import metrics
from vivace._types import Keys
from vivace.models.base import BaseModel
from vivace.models.contrastivevi import ContrastiveVI
from vivace.tables.cells import column_of, kinds_of, label_column, means_of


def headline(model: BaseModel, latent: pd.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    """Held-out loss, how well kinds of cells are told apart, and how well batches mix.

    Parameters
    ----------
    model
        A trained model.
    latent
        Of :func:`vivace.tables.cells.latent_table`.
    columns
        Columns of ``obs`` that it holds.

    Returns
    -------
    One dict a number: ``name``, ``value``, and ``share`` where it is a share of one.
    """
    found = [held_out(model), agreement(model, latent, columns), mixing(model, latent, columns)]
    return [one for one in found if one is not None]


def held_out(model: BaseModel) -> dict[str, Any] | None:
    """Held-out loss of the weights the model has, nats per cell, lower is better."""
    table = model.history.get("elbo_validation")
    if table is None or table.empty:
        return None
    values = table["elbo_validation"]
    best = model.training.get("best_epoch")
    loss = float(values.loc[best] if best in values.index else values.iloc[-1])
    unit = "pair of cells" if isinstance(model, ContrastiveVI) else "cell"
    return {"name": f"held-out loss, nats per {unit}", "value": loss}


def agreement(model: BaseModel, latent: pd.DataFrame, columns: list[str]) -> dict[str, Any] | None:
    """How often the 15 neighbours of a cell name its kind, mean over kinds."""
    labels = label_column(model, columns)
    if labels is None or not enough(kinds_of(latent, labels)):
        return None
    kinds = kinds_of(latent, labels)
    known = kinds.notna().to_numpy()
    share = metrics.knn_balanced_accuracy(means_of(latent)[known], kinds[known])
    name = f"of cells have the {labels} of most of their 15 neighbours (mean over its groups)"
    return {"name": name, "value": share, "share": True}


def mixing(model: BaseModel, latent: pd.DataFrame, columns: list[str]) -> dict[str, Any] | None:
    """Effective number of batches around a cell."""
    batch = column_of(model, Keys.BATCH)
    if batch is None or batch not in columns or not enough(kinds_of(latent, batch)):
        return None
    batches = kinds_of(latent, batch)
    mixed = float(np.mean(metrics.ilisi(means_of(latent), batches)))
    return {"name": f"{batch} groups around a cell, of {batches.nunique()} (iLISI)", "value": mixed}


def enough(values: pd.Series) -> bool:
    """Whether there are at least two groups and five cells in the smallest."""
    found = values.value_counts()
    return len(found) > 1 and found.min() >= 5
