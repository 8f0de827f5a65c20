"""The table that the report's section on differential expression is drawn from."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vivace._types import Keys
from vivace.models.base import BaseModel
from vivace.runs.layout import DIFFERENTIAL
from vivace.tables.capabilities import that_compares

DRAWS = 1000
FEWEST_CELLS = 5
MOST_GROUPS = 30


def differential_table(model: BaseModel, groupby: str) -> pd.DataFrame | None:
    """Every group of cells against the rest, gene by gene.

    Parameters
    ----------
    model
        A trained model with its data.
    groupby
        Column of ``obs`` with the groups; those with fewer than five cells are left out.

    Returns
    -------
    One row a gene and group, most certain first: ``group1``; ``proba_de``, probability of a relevant
    change; ``lfc_median`` and ``lfc_std`` (log2); ``found``, whether it is marked at an expected false
    discovery rate of 5 %; mean shares ``scale1`` (group) and ``scale2`` (rest); raw means. None if the
    model cannot compare groups or there are none.
    """
    sizes = model.adata.obs[groupby].value_counts()
    groups = [name for name in sizes.index[sizes >= FEWEST_CELLS] if sizes[name] < sizes.sum()]
    comparing = that_compares(model)
    if comparing is None or not 0 < len(groups) <= MOST_GROUPS:
        return None
    table = comparing.differential_expression(
        groupby=groupby,
        group1=groups,
        mode="change",
        batch_correction=sum(model.schema.n_categories(Keys.BATCH)) > 1,
        n_samples_overall=DRAWS,
    )
    found = next(name for name in table if str(name).startswith("is_de_fdr"))
    table = table.rename(columns={found: "found"}).rename_axis("gene")
    numbers = table.select_dtypes(np.floating).columns
    columns = [*DIFFERENTIAL.columns, *DIFFERENTIAL.more]
    return table.astype(dict.fromkeys(numbers, np.float32))[columns]
