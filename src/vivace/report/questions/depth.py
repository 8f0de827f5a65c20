"""Does sequencing depth still move cells? The question of a joint embedding."""

from __future__ import annotations

import numpy as np

from vivace.report.graph import Placed, explained, placed
from vivace.report.page import Check
from vivace.report.questions.cells import figure
from vivace.report.words import percent
from vivace.runs import Run
from vivace.runs.layout import DEPTH, HISTORY, KINDS_KEY, LATENT

ASKED_OF = "JointEmbeddingSCVI"
INVARIANCE = "cco_invariance_train"
AGREE, DISAGREE = 0.85, 0.6  # correlation of a cell's two views, over cells
LITTLE = 0.1  # of the variance of log depth that neighbours tell
FEWEST = 30


def depth(run: Run) -> list[Check]:
    """Is a cell placed alike when it is thinned, and do neighbours share their depth?"""
    cells = placed(run, LATENT)
    if run.model.get("model") != ASKED_OF or cells is None or len(cells.table) < FEWEST:
        return []
    return [*views(run, len(cells.dimensions)), *neighbours_in_depth(run, cells)]


def views(run: Run, n_latent: int) -> list[Check]:
    """Does the thinned view of a cell lie where the whole one does, at the end of training?"""
    history = run.table(HISTORY)
    if history is None or INVARIANCE not in history or history[INVARIANCE].dropna().empty:
        return []
    apart = float(history[INVARIANCE].dropna().iloc[-1]) / n_latent
    agree = 1 - float(np.sqrt(max(apart, 0.0)))
    text = (
        f"A cell and the same cell thinned to fewer counts are placed alike with correlation {agree:.2f} "
        f"(good: {AGREE} and more)."
    )
    if agree >= AGREE:
        return [Check(True, "A cell keeps its place at fewer counts", text)]
    advice = (
        'Train for longer (the gain appears late; recipe="classic" goes on longest), or with a larger '
        "joint_embedding_weight."
    )
    grave = agree < DISAGREE
    title = "A cell loses its place at fewer counts" if grave else "Fewer counts still move a cell"
    return [Check(False, title, text, advice, grave=grave)]


def neighbours_in_depth(run: Run, cells: Placed) -> list[Check]:
    """Do neighbours share their depth, within a kind of cells where kinds are known?"""
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
        return [Check(True, "Neighbours differ in depth", text)]
    advice = (
        "Colour the map by depth. A gradient inside a cloud is often technical, and then a longer "
        "training helps; cells that truly hold more RNA lie together for good reason."
    )
    return [Check(False, "Neighbours share their depth", text, advice)]


def told_depth(cells: Placed, column: str | None) -> float:
    """Share of the variance of log depth that neighbours tell, within groups if there are some."""
    values = cells.colour(DEPTH).to_numpy(dtype=float)
    groups = None if column is None else cells.colour(column).astype("string").fillna("missing")
    known = np.isfinite(values)
    values = np.where(known, values, values[known].mean() if known.any() else 0.0)
    return explained(values, cells.graph, None if groups is None else groups.to_numpy())
