"""Do kinds of cells stay apart, and do batches mix?"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from vivace.report.graph import placed
from vivace.report.page import Check
from vivace.report.words import number, percent
from vivace.runs import Run
from vivace.runs.layout import INTEGRATION, KINDS_KEY, LATENT, MIXING_KEY

APART, HARDLY = 0.6, 0.3  # of the way from chance to always
LOST = 0.1  # share of cells that the data told without the model
MIXED, SEPARATE = 0.5, 0.15  # of the way from one batch around each cell to all that its kind has
STATES = "CondSCVI"  # its space holds what differs within a kind, so that kinds lie on each other


EARLIER = {
    KINDS_KEY: re.compile(r"of cells have the (.+) of most of their 15 neighbours"),
    MIXING_KEY: re.compile(r"(.+) groups around a cell, of \d+ \(iLISI\)"),
}
"""Names of the figures in runs that were written before figures had keys."""


def figure(run: Run, key: str) -> dict[str, Any] | None:
    """A headline figure by its key, or None."""
    for found in run.summary.get("metrics", []):
        if found.get("key") == key:
            return dict(found)
        if "key" not in found and (old := EARLIER[key].match(found["name"])):
            return {**found, "column": old[1]}
    return None


def kinds(run: Run) -> list[Check]:
    """Are kinds of cells told by their neighbours, and as well as without the model?"""
    found = figure(run, KINDS_KEY)
    cells = placed(run, LATENT)
    if found is None or cells is None or run.model.get("model") == STATES or run.has(INTEGRATION):
        return []
    if found["column"] not in cells.colours:
        return []
    names = cells.colour(found["column"])
    n = max(2, int(names.nunique()))
    share, before = float(found["value"]), found.get("before")
    above_chance = (share - 1 / n) / (1 - 1 / n)
    lost = before is not None and share < float(before) - LOST
    text = (
        f"{percent(share)} of cells lie among their own {found['column']} (mean over {n} groups; "
        f"chance gives {percent(1 / n)}"
    )
    text += "" if before is None else f", components of the data {percent(float(before))}"
    return [kinds_check(f"{text}).", above_chance, lost=lost, column=found["column"])]


def kinds_check(text: str, above_chance: float, *, lost: bool, column: str) -> Check:
    """The answer, from how far above chance kinds are told and whether the model lost some."""
    if above_chance >= APART and not lost:
        return Check(True, "Kinds of cells stay apart", text)
    if lost:
        advice = (
            "The data tell them better than the model: train for longer, with more latent dimensions, "
            "or with the most variable genes."
        )
    else:
        advice = (
            f"The data hardly tell them either: ask whether these genes can tell {column}, or take "
            "coarser groups."
        )
    grave = above_chance < HARDLY
    title = "Most kinds of cells are not found" if grave else "Some kinds of cells blur"
    return Check(False, title, text, advice, grave=grave)


def batches(run: Run) -> list[Check]:
    """Are the batches of a kind mixed?"""
    found = figure(run, MIXING_KEY)
    cells = placed(run, LATENT)
    if found is None or cells is None or run.has(INTEGRATION):
        return []
    if found["column"] not in cells.colours:
        return []
    batch = cells.colour(found["column"])
    of_kind = figure(run, KINDS_KEY)
    kind = (
        None
        if of_kind is None or of_kind["column"] not in cells.colours
        else cells.colour(of_kind["column"])
    )
    most = best_mixing(batch, kind)
    if most < 1.05:
        return []
    share = (float(found["value"]) - 1) / (most - 1)
    text = (
        f"Around a cell lie {number(found['value'])} of {number(most)} {found['column']} groups that "
        f"its kind could have there ({percent(max(share, 0))} of the way from none mixed to all)."
    )
    if share >= MIXED:
        return [Check(True, "Batches mix", text)]
    advice = (
        f"Colour the map by {found['column']}: where one kind of cells falls into clouds by "
        f"{found['column']}, train for longer, or use SysVI where the groups differ by technology or "
        "species. Kinds that only one group has cannot mix and need not."
    )
    title = "Batches hardly mix" if share < SEPARATE else "Batches mix in part"
    return [Check(False, title, text, advice, grave=share < SEPARATE)]


def best_mixing(batch: pd.Series, kind: pd.Series | None) -> float:
    """Effective number of batches around a cell if the cells of each kind were shuffled.

    Examples
    --------
    >>> import pandas as pd
    >>> best_mixing(pd.Series(["a", "b"] * 10), None)
    2.0
    >>> best_mixing(pd.Series(["a", "b"] * 10), pd.Series(["x", "y"] * 10))
    1.0
    """
    names = batch.astype("string").fillna("missing")
    groups = pd.Series("all", index=names.index) if kind is None else kind.astype("string")
    table = pd.crosstab(groups.fillna("missing").to_numpy(), names.to_numpy()).to_numpy()
    sizes = table.sum(axis=1)
    effective = 1 / ((table / sizes[:, None]) ** 2).sum(axis=1)
    return float(np.average(effective, weights=sizes))
