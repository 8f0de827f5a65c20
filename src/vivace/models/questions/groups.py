"""Groups of cells compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vivace.analysis import differential, expression, groups, latent
from vivace.data import Cells
from vivace.models.base import BaseModel
from vivace.models.questions.expression import draw_seed

Scales = Callable[[np.ndarray, int | None], np.ndarray]
"""``f(rows, batch)``: one draw of normalised expression of each row, decoded for a batch."""


def batches_to_decode(
    model: BaseModel, correct: bool, batchid1: Any, batchid2: Any
) -> tuple[list[int | None], list[int | None]]:
    """Codes of the batches that either side of a comparison is decoded for; None is the observed one."""
    codes1, codes2 = (None if b is None else model._batch_codes(b) for b in (batchid1, batchid2))
    n_batch: Any = model.module.n_batch
    return groups.correction_batches(correct, codes1, codes2, range(n_batch))


def compare(
    model: BaseModel,
    cells: Cells,
    which: Sequence[Any],
    batches: tuple[bool, Any, Any],
    options: dict[str, Any],
    *,
    batch_size: int | None = None,
    draw_scales: Scales | None = None,
    filter_outlier_cells: bool = False,
    count_blocks: Callable[[np.ndarray], Any] | None = None,
) -> pd.DataFrame:
    """Differential expression between groups of cells.

    Parameters
    ----------
    model
        Whose cells are compared.
    cells
        Among them the groups.
    which
        ``groupby, group1, group2, idx1, idx2``, see :func:`vivace.analysis.groups.make_plan`.
    batches
        ``batch_correction, batchid1, batchid2``.
    options
        Fields of :class:`vivace.analysis.differential.DifferentialOptions`.
    batch_size
        Cells at a time.
    draw_scales
        Default the decoder's.
    filter_outlier_cells
        Leave out cells that lie apart from their group in the latent space.
    count_blocks
        ``f(rows)``: raw counts, block by block; default the model's.
    """
    how = differential.DifferentialOptions.from_kwargs(**options)
    sides = batches_to_decode(model, *batches)
    plan = groups.make_plan(cells.obs, *which)
    if filter_outlier_cells:
        plan = groups.keep_inliers(
            plan, lambda rows: latent.latent_mean(model.module, model._loader(cells, rows))
        )
    return differential.differential_expression(
        draw_scales or decoder_scales(model, cells, batch_size),
        count_blocks or cells.blocks,
        model.var_names,
        plan,
        options=how,
        batches1=sides[0],
        batches2=sides[1],
        rng=np.random.default_rng(draw_seed()),
    )


def decoder_scales(model: BaseModel, cells: Cells, batch_size: int | None) -> Scales:
    """Draws of the decoder's normalised expression."""

    def draw(rows: np.ndarray, batch: int | None) -> np.ndarray:
        loader = model._loader(cells, rows, batch_size)
        return expression.normalized_expression(model.module, loader, transform_batch=[batch])

    return draw
