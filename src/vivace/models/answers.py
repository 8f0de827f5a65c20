"""What several models answer alike: tables of cells by genes, and groups of cells compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from vivace.analysis import differential, groups, latent
from vivace.models.base import BaseModel


def draw_seed() -> int:
    """A seed from torch's generator, so that torch's seed fixes what numpy draws."""
    return int(torch.randint(2**31, ()))


def cells_table(
    model: BaseModel,
    values: np.ndarray,
    adata: Any,
    indices: Any,
    names: pd.Index,
    *,
    average: bool,
    as_array: bool,
) -> pd.DataFrame | np.ndarray:
    """Decoded values as users get them.

    Parameters
    ----------
    values
        (n, G), or (S, n, G) of S draws.
    adata, indices
        The cells, as the question named them.
    names
        (G,) of the columns.
    average
        Average over the draws.
    as_array
        No DataFrame, which draws that are not averaged never are.
    """
    if values.ndim == 3 and average:
        values = values.mean(0)
    if as_array or values.ndim == 3:
        return values
    cells = model._cells(adata)
    return pd.DataFrame(values, cells.obs_names[model._rows(cells, indices)], names)


def batches_to_decode(
    model: Any, correct: bool, batchid1: Any, batchid2: Any
) -> tuple[list[int | None], list[int | None]]:
    """Codes of the batches that either side of a comparison is decoded for; None is the observed one."""
    codes1, codes2 = (None if b is None else model._batch_codes(b) for b in (batchid1, batchid2))
    return groups.correction_batches(correct, codes1, codes2, range(model.module.n_batch))


def compare_groups(
    model: BaseModel,
    adata: Any,
    draw_scales: Callable[[np.ndarray, int | None], np.ndarray],
    which: Sequence[Any],
    batches: tuple[list[int | None], list[int | None]],
    options: differential.DifferentialOptions,
    *,
    filter_outlier_cells: bool = False,
    count_blocks: Callable[[np.ndarray], Any] | None = None,
) -> pd.DataFrame:
    """Differential expression between groups of cells.

    Parameters
    ----------
    model
        Whose cells are compared.
    adata
        Other cells of the same genes, or cells that were read already; None for the model's own.
    draw_scales
        ``f(rows, batch)``: one draw of normalised expression of each row, decoded for a batch.
    which
        ``groupby, group1, group2, idx1, idx2``, see :func:`vivace.analysis.groups.make_plan`.
    batches
        Of :func:`batches_to_decode`.
    options
        How to compare.
    filter_outlier_cells
        Leave out cells that lie apart from their group in the latent space.
    count_blocks
        ``f(rows)``: raw counts, block by block; default the model's.
    """
    cells = model._cells(adata)
    plan = groups.make_plan(cells.obs, *which)
    if filter_outlier_cells:
        plan = groups.keep_inliers(
            plan, lambda rows: latent.latent_mean(model.module, model._loader(cells, rows))
        )
    return differential.differential_expression(
        draw_scales,
        count_blocks or cells.blocks,
        model.var_names,
        plan,
        options=options,
        batches1=batches[0],
        batches2=batches[1],
        rng=np.random.default_rng(draw_seed()),
    )
