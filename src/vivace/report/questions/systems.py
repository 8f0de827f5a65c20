"""Do systems mix where they share cells, and do kinds of cells stay apart? The question of SysVI."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vivace.report.page import Check
from vivace.report.words import number, percent
from vivace.runs import Run
from vivace.runs.layout import ALL_CELLS, INTEGRATION

MIXED, SEPARATE = 0.5, 0.1  # of the way from one system around each cell to all of them
GAINED = 0.1  # effective number of systems, over before
BLURRED, LOST = 0.2, 0.5  # more kinds around a cell than before that count as a loss, a grave one


def systems(run: Run) -> list[Check]:
    """The checks of a run; none where nothing was integrated."""
    table = run.table(INTEGRATION)
    return [] if table is None else checks(table)


def checks(table: pd.DataFrame) -> list[Check]:
    """The two questions of an integration, the one against the other."""
    return [mixing(table), *([structure(table)] if "kinds_after" in table else [])]


def mixing(table: pd.DataFrame) -> Check:
    """Do systems mix, in the kinds of cells that several of them have?"""
    row = table.loc[ALL_CELLS]
    shared = table[(table["n_systems"] > 1) & (table.index != ALL_CELLS)]
    shared = shared if len(shared) else table.loc[[ALL_CELLS]]
    share = float(np.average(way(shared, "after"), weights=shared["n_cells"]))
    gained = row["systems_after"] >= row["systems_before"] + GAINED
    text = (
        f"Systems around a cell: {number(row['systems_before'])} before, "
        f"{number(row['systems_after'])} after, of {number(row['n_systems'])}. In kinds that several "
        f"systems have, that is {percent(max(share, 0))} of the way from apart to evenly mixed (good: "
        f"{percent(MIXED)} and more)."
    )
    if share >= MIXED and gained:
        return Check(True, "Systems mix", text)
    advice = (
        "Train for longer, raise the weight of the cycle (plan_kwargs={'z_distance_cycle_weight': 10}), "
        "or try joint_prior=True; then look whether kinds of cells still stay apart. Systems of very "
        "unequal size cannot mix evenly."
    )
    grave = share < SEPARATE or not gained
    title = "Systems hardly mix" if grave else "Systems mix in part"
    return Check(False, title, text, advice, grave=bool(grave))


def way(table: pd.DataFrame, when: str) -> pd.Series:
    """How far on the way from one system around each cell to all of them."""
    return (table[f"systems_{when}"] - 1) / (table["n_systems"] - 1)


def structure(table: pd.DataFrame) -> Check:
    """Do kinds of cells stay apart?"""
    row = table.loc[ALL_CELLS]
    rise = row["kinds_after"] - row["kinds_before"]
    text = (
        f"Kinds of cells around a cell: {number(row['kinds_before'])} before, "
        f"{number(row['kinds_after'])} after; 1 is best."
    )
    if rise <= BLURRED:
        return Check(True, "Kinds of cells stay apart", text)
    alone = table.index[(table["kinds_after"] - table["kinds_before"] > BLURRED)]
    worst = ", ".join(str(name) for name in alone[alone != ALL_CELLS][:4])
    advice = "Mixing went too far: lower the weight of the cycle, or use more latent dimensions."
    advice += f" Most blurred: {worst}." if worst else ""
    return Check(False, "Kinds of cells blur", text, advice, grave=bool(rise > LOST))
