"""Does sequencing depth still move cells? The question of a joint embedding."""

from __future__ import annotations

import numpy as np

from vivace.report.graph import Placed, explained, placed
from vivace.report.page import Check
from vivace.report.questions.cells import figure
from vivace.report.words import percent
from vivace.runs import Run
from vivace.runs.layout import DEPTH, KINDS_KEY, LATENT

ASKED_OF = "JointEmbeddingSCVI"
LITTLE, MUCH = 0.1, 0.3  # of the variance of log depth that neighbours tell
FEWEST = 30


def depth(run: Run) -> list[Check]:
    """Do neighbours share their depth, within a kind of cells where kinds are known?"""
    cells = placed(run, LATENT)
    if run.model.get("model") != ASKED_OF or cells is None or len(cells.table) < FEWEST:
        return []
    if DEPTH not in cells.colours:
        return []
    found = figure(run, KINDS_KEY)
    column = None if found is None else str(found["column"])
    told = told_depth(cells, column)
    within = "" if column is None else f" within its {column}"
    text = (
        f"The 15 neighbours of a cell tell {percent(told)} of the variance of its depth{within} (good: "
        f"up to {percent(LITTLE)})."
    )
    if told <= LITTLE:
        return [Check(True, "Depth does not move cells", text)]
    advice = (
        "Colour the map by depth. A gradient inside a cloud is technical: train for longer, or with a "
        "larger weight of the joint embedding. Kinds of cells that truly hold more RNA show as a cloud "
        "of their own instead."
    )
    title = "Depth moves cells" if told > MUCH else "Depth still moves cells a little"
    return [Check(False, title, text, advice, grave=told > MUCH and column is not None)]


def told_depth(cells: Placed, column: str | None) -> float:
    """Share of the variance of log depth that neighbours tell, within groups if there are some."""
    values = cells.colour(DEPTH).to_numpy(dtype=float)
    groups = None if column is None else cells.colour(column).astype("string").fillna("missing")
    known = np.isfinite(values)
    values = np.where(known, values, values[known].mean() if known.any() else 0.0)
    return explained(values, cells.graph, None if groups is None else groups.to_numpy())
