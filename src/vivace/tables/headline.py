"""The few numbers one looks at first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vivace import metrics
from vivace._types import Keys
from vivace.models.base import BaseModel
from vivace.models.contrastivevi import ContrastiveVI
from vivace.runs.layout import KINDS_KEY, MIXING_KEY
from vivace.tables.cells import column_of, kinds_of, label_column, means_of
from vivace.tables.counts import fractions, log_normalised

COMPONENTS = 30


def headline(
    model: BaseModel, latent: pd.DataFrame, columns: list[str], counts: Any
) -> list[dict[str, Any]]:
    """Held-out loss, how well kinds of cells are told apart, and how well batches mix.

    Parameters
    ----------
    model
        A trained model.
    latent
        Of :func:`vivace.tables.cells.latent_table`.
    columns
        Columns of ``obs`` that it holds.
    counts
        (n, G) counts of the same cells.

    Returns
    -------
    One dict a number: ``name``, ``value``, ``share`` where it is a share of one; those that the report
    judges have a ``key`` and the ``column`` they are about, kinds also ``before``: the same in
    principal components of the data, without the model.
    """
    found = [
        held_out(model),
        agreement(model, latent, columns, counts),
        mixing(model, latent, columns),
    ]
    return [one for one in found if one is not None]


def held_out(model: BaseModel) -> dict[str, Any] | None:
    """Held-out loss, as a headline number; None without held-out cells."""
    loss = held_out_loss(model)
    unit = "pair of cells" if isinstance(model, ContrastiveVI) else "cell"
    return None if loss is None else {"name": f"held-out loss, nats per {unit}", "value": loss}


def held_out_loss(model: BaseModel) -> float | None:
    """Held-out loss of the weights the model has, nats per cell, lower is better."""
    table = model.history.get("elbo_validation")
    if table is None or table.empty:
        return None
    values = table["elbo_validation"]
    best = model.training.get("best_epoch")
    return float(values.loc[best] if best in values.index else values.iloc[-1])


def agreement(
    model: BaseModel, latent: pd.DataFrame, columns: list[str], counts: Any
) -> dict[str, Any] | None:
    """How often the 15 neighbours of a cell name its kind, mean over kinds."""
    labels = label_column(model, columns)
    if labels is None or not enough(kinds_of(latent, labels)):
        return None
    kinds = kinds_of(latent, labels)
    known = kinds.notna().to_numpy()
    share = metrics.knn_balanced_accuracy(means_of(latent)[known], kinds[known])
    before = metrics.knn_balanced_accuracy(components(counts)[known], kinds[known])
    name = f"of cells have the {labels} of most of their 15 neighbours (mean over its groups)"
    return {
        "key": KINDS_KEY,
        "column": labels,
        "name": name,
        "value": share,
        "share": True,
        "before": before,
    }


def components(counts: Any) -> np.ndarray:
    """Cells on the first principal components of their log-normalised counts, (n, 30 at most).

    Values most of which are no whole numbers are taken as they are: they were normalised before.
    """
    from sklearn.utils.extmath import randomized_svd

    given = fractions(counts) > 0.5  # values that were normalised before
    values = counts if given else log_normalised(counts)
    n = min(COMPONENTS, *values.shape)
    left, size, _ = randomized_svd(values, n, random_state=0)
    return np.asarray(left * size)


def mixing(model: BaseModel, latent: pd.DataFrame, columns: list[str]) -> dict[str, Any] | None:
    """Effective number of batches around a cell."""
    batch = column_of(model, Keys.BATCH)
    if batch is None or batch not in columns or not enough(kinds_of(latent, batch)):
        return None
    batches = kinds_of(latent, batch)
    mixed = float(np.mean(metrics.ilisi(means_of(latent), batches)))
    name = f"{batch} groups around a cell, of {batches.nunique()} (iLISI)"
    return {"key": MIXING_KEY, "column": batch, "name": name, "value": mixed}


def enough(values: pd.Series) -> bool:
    """Whether there are at least two groups and five cells in the smallest."""
    found = values.value_counts()
    return len(found) > 1 and found.min() >= 5
