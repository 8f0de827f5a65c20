"""Do systems mix where they share cells, and do kinds of cells stay apart: one picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vivace.report.draw import FIRST, INK, SECOND, canvas
from vivace.report.page import Checks, Figure, Key, Section, Table
from vivace.report.questions.systems import checks
from vivace.report.words import clipped, number
from vivace.runs import Run
from vivace.runs.layout import ALL_CELLS, INTEGRATION

DOT = "M5 1.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7z"


def integration(run: Run) -> Section | None:
    """Neighbourhoods before and after integration."""
    table = run.table(INTEGRATION)
    if table is None:
        return None
    blocks: list[Any] = [Checks(checks(table))]
    if "kinds_after" in table:
        blocks += [picture(table), listing(table)]
    lead = (
        "Before: principal components of the values the model was given. After: its latent space. "
        "Around each cell we count how many systems, and how many kinds of cells, its neighbours come "
        "from (effective numbers, local inverse Simpson index)."
    )
    return Section("integration", "Integration of systems", lead, blocks)


def picture(table: pd.DataFrame) -> Figure:
    """One arrow a kind, from before to after; upper right is best."""
    with canvas(5.0, 3.8) as sheet:
        axes = sheet.axes
        for name, row in table.iloc[::-1].iterrows():  # all cells last, on top
            colour, bold = style(str(name), row)
            start = row["systems_before"], row["kinds_before"]
            end = row["systems_after"], row["kinds_after"]
            arrow = {"arrowstyle": "-|>", "color": colour, "lw": 3 if bold else 1.3, "shrinkA": 0}
            axes.annotate("", end, start, arrowprops=arrow)
            axes.plot(*start, "o", color=colour, ms=7 if bold else 4, mfc="none")
            axes.plot(*end, "o", color=colour, ms=9 if bold else 5)
        write_names(axes, table)
        axes.set_xlabel("systems around a cell")
        axes.set_ylabel("kinds around a cell (1 on top)")
        axes.margins(x=0.16, y=0.12)
        axes.invert_yaxis()
    return Figure(
        "Before and after integration",
        sheet.svg,
        "Arrows from before to after integration, one for each kind of cells: "
        + "; ".join(f"{name}: {words(row)}" for name, row in table.head(8).iterrows()),
        "Each arrow is a kind of cells: from the ring (before) to the dot (after).",
        "Arrows to the right, along the top: systems mix, kinds stay apart. A kind that one system "
        "alone has should hardly move to the right.",
        legend=[
            Key(ALL_CELLS, "var(--ink)", DOT),
            Key("kinds in several systems", FIRST, DOT),
            Key("kinds in one system", SECOND, DOT),
        ],
    )


def style(name: str, row: pd.Series) -> tuple[str, bool]:
    """Colour of an arrow, and whether it is the one of all cells."""
    if name == ALL_CELLS:
        return INK, True
    return (FIRST if row["n_systems"] > 1 else SECOND), False


def words(row: pd.Series) -> str:
    """One arrow in words."""
    return (
        f"systems {number(row['systems_before'])} to {number(row['systems_after'])}, "
        f"kinds {number(row['kinds_before'])} to {number(row['kinds_after'])}"
    )


def write_names(axes: Any, table: pd.DataFrame) -> None:
    """Names beside the dots, left out where two would overlap."""
    taken: list[tuple[float, float]] = []
    ends = table[["systems_after", "kinds_after"]]
    starts = table[["systems_before", "kinds_before"]].to_numpy()
    width, height = np.ptp(np.vstack([starts, ends.to_numpy()]), axis=0)
    for name, (x, y) in zip(table.index, ends.to_numpy(), strict=True):
        if any(abs(x - u) < 0.35 * width and abs(y - v) < 0.08 * height for u, v in taken):
            continue
        taken.append((x, y))
        axes.annotate(
            f" {clipped(name)}",
            (x, y),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=10,
            gid="halo",
            color=INK,
        )


def listing(table: pd.DataFrame) -> Table:
    """The same in figures."""
    columns = [
        "n_cells",
        "n_systems",
        "systems_before",
        "systems_after",
        "kinds_before",
        "kinds_after",
    ]
    rows = [[str(name), *(number(row[c]) for c in columns)] for name, row in table.iterrows()]
    header = ["", "cells", "systems", "systems before", "after", "kinds before", "after"]
    return Table("Effective numbers around a cell", header, rows)
