"""Over- and under-correction of batches, against fits without batches and with shuffled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vivace._types import Keys
from vivace.fits.agreement import overlap, within_groups
from vivace.fits.one import Arrays
from vivace.fits.plan import KINDS, Fit, Plan
from vivace.tables.cells import column_of

FEWEST_CELLS = 5
"""Of a batch whose inner structure is looked at."""


def correction_table(plan: Plan, found: Mapping[Fit, Arrays]) -> pd.DataFrame | None:
    """How batches mix, and how much of the structure inside batches is left.

    The structure that a model has no reason to remove is that inside each batch. It is measured as the
    share of a cell's 15 nearest cells of its own batch that a fit has in common with a fit without
    batches: for the fits as asked, for those with shuffled batch labels (which correct for nothing that
    is there), and between fits without batches (which differ by their seeds alone).

    Parameters
    ----------
    plan, found
        What was fitted, and the answers.

    Returns
    -------
    One row a kind of fit, "as_asked", "no_batch" and "shuffled_batch": ``mixing``, mean iLISI;
    ``possible``, the iLISI of cells that lie at random; ``inner_structure``, the share above. None if a
    yardstick has no fit.
    """
    groups = batches(plan)
    sizes = np.unique(groups, return_counts=True)
    large = np.isin(groups, sizes[0][sizes[1] >= FEWEST_CELLS])
    of_kind = {kind: [a for fit, a in found.items() if fit.kind == kind] for kind in KINDS}
    if not large.any() or not all(of_kind.values()):
        return None
    inner = {
        kind: [within_groups(first_latent(a)[large], groups[large]) for a in each[:3]]
        for kind, each in of_kind.items()
    }
    shares = sizes[1] / len(groups)
    return pd.DataFrame(
        {
            "mixing": [np.mean([a["mixing"] for a in of_kind[kind]]) for kind in KINDS],
            "possible": 1 / (shares**2).sum(),
            "inner_structure": [mean_overlap(inner[kind], inner["no_batch"]) for kind in KINDS],
        },
        index=pd.Index(KINDS, name="fits"),
    )


def batches(plan: Plan) -> np.ndarray:
    """Batch of each cell that is looked at, as text."""
    column = column_of(plan.model(), Keys.BATCH)
    return plan.adata.obs[column].astype(str).to_numpy()[plan.rows]


def first_latent(answers: Arrays) -> np.ndarray:
    """The first latent space of a fit."""
    return next(value for name, value in answers.items() if name.startswith("latent:"))


def mean_overlap(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """Mean overlap of neighbours between two lists of fits, a fit with itself left out."""
    pairs = [overlap(a, b) for a in some for b in others if a is not b]
    return float(np.mean(pairs)) if pairs else float("nan")
