"""Of which kind a cell is, where some of the cells that the model learned from had labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vivace._types import Keys
from vivace.analysis.deconvolution import fine_probabilities
from vivace.data.columns import text_of
from vivace.errors import UnsupportedError
from vivace.models.base import BaseModel


def fine_labels(model: BaseModel) -> list[str]:
    """Labels that the model tells apart, in the order of their codes; empty if none were registered."""
    field = model.schema.field(Keys.FINE_LABELS)
    if field is None or not field.categories:
        return []
    names = field.categories[0]  # what a query adds after the unlabelled one is unlabelled as well
    unlabeled = text_of(model.schema.setup_args.get("unlabeled_category", names[-1]))
    return list(names[: max(code for code, name in enumerate(names) if name == unlabeled)])


def predict(
    model: BaseModel,
    adata: Any = None,
    indices: Any = None,
    soft: bool = False,
    batch_size: int | None = None,
    use_posterior_mean: bool = True,
) -> np.ndarray | pd.DataFrame:
    """Label of each cell, of CondSCVI its sub-type.

    Parameters
    ----------
    adata, indices, batch_size
        As in ``get_latent_representation``.
    soft
        Return probabilities.
    use_posterior_mean
        Of the state; otherwise one draw.

    Returns
    -------
    (n,) names, or a DataFrame (n, fine labels) of probabilities.

    Raises
    ------
    UnsupportedError
        If the model was set up without fine labels.
    """
    names = fine_labels(model)
    if not names:
        msg = "there are no sub-types to predict: pass fine_labels_key to setup_anndata"
        raise UnsupportedError(msg)
    cells = model._cells(adata)
    batches = model._loader(cells, indices, batch_size)
    shares = fine_probabilities(model.module, batches, use_mean=use_posterior_mean)
    if not soft:
        return np.asarray(names, dtype=object)[shares.argmax(1)]
    return pd.DataFrame(shares, cells.obs_names[model._rows(cells, indices)], names)
