"""The table that the report's section on differential expression is drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vivace.analysis.differential import DifferentialOptions
from vivace.data.columns import text_of
from vivace.models.base import BaseModel
from vivace.models.door import arguments_of
from vivace.runs.layout import DIFFERENTIAL
from vivace.tables.capabilities import that_compares

FEWEST_CELLS = 5
MOST_GROUPS = 30


def how_compared(model: BaseModel, **given: Any) -> dict[str, Any]:
    """How a model compares groups where nothing else is asked for, and what is: mode, delta and so on."""
    comparing = that_compares(model)
    assert comparing is not None
    defaults = arguments_of(type(comparing).differential_expression)
    wanted = ("mode", "delta", "fdr_target", "batch_correction", "n_samples_overall")
    rest = DifferentialOptions()
    return {name: given.get(name, defaults.get(name, getattr(rest, name, None))) for name in wanted}


def differential_table(model: BaseModel, groupby: str) -> pd.DataFrame | None:
    """Every group of cells against the rest, gene by gene, as ``differential_expression(groupby=)`` does.

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
    discovery rate of 5 %; mean shares ``scale1`` (group) and ``scale2`` (rest); raw means; ``n_cells1``,
    cells of the group. None if the model cannot compare groups or there are none.
    """
    sizes = model.adata.obs[groupby].value_counts()
    groups = [name for name in sizes.index[sizes >= FEWEST_CELLS] if sizes[name] < sizes.sum()]
    comparing = that_compares(model)
    if comparing is None or not 0 < len(groups) <= MOST_GROUPS:
        return None
    table = comparing.differential_expression(groupby=groupby)
    n_cells = table["comparison"].map({name: n for name, (n, _) in table.attrs["n_cells"].items()})
    table = table.assign(n_cells1=n_cells)
    table = table[table["group1"].isin(set(map(text_of, groups)))]
    found = next(name for name in table if str(name).startswith("is_de_fdr"))
    table = table.rename(columns={found: "found"}).rename_axis("gene")
    numbers = table.select_dtypes(np.floating).columns
    columns = [*DIFFERENTIAL.columns, *DIFFERENTIAL.more]
    return table.astype(dict.fromkeys(numbers, np.float32))[columns]
