"""Denoised expression of the genes that tell most: what a map of cells can be coloured by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vivace.data.sources.normalise import TARGET
from vivace.models.base import BaseModel
from vivace.models.contrastivevi import ContrastiveVI
from vivace.models.splicevi import SPLICEVI
from vivace.models.sysvi import SysVI
from vivace.runs.expression import Expression
from vivace.runs.leading import leading_genes, taken_in_turn
from vivace.tables.cells import drawn_rows

MOST_GENES = 200
JUDGED = 2_000
"""Cells whose expression says which genes vary, where no groups were compared."""
UNIT = f"denoised, log2(1 + share x {TARGET:,.0f})"


def telling_genes(
    model: BaseModel, compared: pd.DataFrame | None, wanted: Sequence[str], rows: np.ndarray
) -> list[str]:
    """Genes asked for, then those that lead the groups in turn, then those that vary most; 200 at most.

    What the user asked for comes on top of the 200.
    """
    groups = [] if compared is None else [t for _, t in compared.groupby("group1", sort=False)]
    leading = taken_in_turn([leading_genes(t, MOST_GENES) for t in groups], MOST_GENES)
    if len(leading) < min(MOST_GENES, model.n_genes):
        few = drawn_rows(rows, JUDGED, 0)
        spread = denoised(model, few, list(model.var_names)).std(axis=0)
        leading += [str(model.var_names[i]) for i in np.argsort(-spread, kind="stable")]
    return list(dict.fromkeys([*wanted, *list(dict.fromkeys(leading))[:MOST_GENES]]))


def write_expression(
    model: BaseModel, folder: Path, rows: np.ndarray, genes: Sequence[str]
) -> None:
    """Write ``expression.npz``: the denoised expression of some genes in the cells ``rows``."""
    values = denoised(model, rows, list(genes))
    Expression.of(list(genes), unit_of(model), values).write(folder)


def unit_of(model: BaseModel) -> str:
    """What :func:`denoised` is in words."""
    return "denoised, on the scale of the model" if isinstance(model, SysVI) else UNIT


def denoised(model: BaseModel, rows: np.ndarray, genes: list[str]) -> np.ndarray:
    """Expression from the mean state of each cell, (n, len(genes)), in the unit that is shown.

    Cells of a contrastive model are decoded as what they are: those of the background without a
    salient state.
    """
    asked: Any = model
    options = {} if isinstance(model, SPLICEVI) else {"use_mean": True}
    found = asked.get_normalized_expression(
        indices=rows, gene_list=genes, return_numpy=True, **options
    )
    if isinstance(model, ContrastiveVI):
        assert model.split is not None  # a trained model has one
        background = np.isin(rows, model.split.background)[:, None]
        found = np.where(background, found["background"], found["salient"])
    return found if isinstance(model, SysVI) else np.log2(1 + TARGET * found)
