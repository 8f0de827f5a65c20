"""What went in: counts per cell, groups of cells, what was left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from vivace.report.draw import FIRST, INK, canvas, log_ticks
from vivace.report.page import Cards, Figure, Section, Table
from vivace.report.words import number, percent
from vivace.runs import Run

MOST_ROWS = 40
LOW = {"cells": "empty droplets or damaged cells", "spots": "spots beside the tissue"}


def data(run: Run) -> Section:
    """Summary of the data."""
    summary = run.summary
    counts, unit = summary["counts_per_cell"], summary.get("unit", "cells")
    each = unit.removesuffix("s")
    cards = [
        (number(counts["median"]), f"median counts per {each}"),
        (number(summary["genes_per_cell"]["median"]), f"median genes per {each}"),
        (percent(summary["zero_fraction"]), "zeros"),
    ]
    blocks: list[Any] = [Cards(cards), depth(counts, unit)]
    blocks += [group(g) for g in summary.get("groups", [])]
    source = summary.get("source")
    lead = f"Read from {source}." if source else "Given as an object in memory."
    return Section("data", "The data", " ".join([lead, *summary.get("notes", [])]), blocks)


def depth(counts: dict[str, Any], unit: str = "cells") -> Figure:
    """Histogram of counts per cell."""
    each = unit.removesuffix("s")
    edges, cells = np.array(counts["histogram"]["edges"]), counts["histogram"]["cells"]
    with canvas() as sheet:
        axes = sheet.axes
        axes.stairs(cells, edges, fill=True, color=FIRST, alpha=0.85, linewidth=0)
        axes.axvline(
            max(counts["median"], edges[0]), color=INK, linewidth=1.2, linestyle=(0, (4, 3))
        )
        log_ticks(axes, "x")
        axes.set(xlabel=f"counts per {each}", ylabel=unit)
        axes.grid(visible=False, axis="x")
    low, high = number(counts["q05"]), number(counts["q95"])
    return Figure(
        "Sequencing depth",
        sheet.svg,
        f"Histogram of counts per {each}; median {number(counts['median'])}.",
        f"How many molecules were counted in each {each}. Nine in ten {unit} have {low} to {high}; "
        "the dashed line is the median.",
        f"One hump. A second hump at the low end is often {LOW.get(unit, LOW['cells'])}, better "
        "removed before fitting.",
    )


def group(group: dict[str, Any]) -> Table:
    """Cells per batch, cell type or the like."""
    ordered = sorted(group["cells"].items(), key=lambda item: -item[1])
    total, most = sum(group["cells"].values()), max(group["cells"].values())
    shown = ordered[:MOST_ROWS]
    rows = [[name, f"{n:,}", percent(n / total)] for name, n in shown]
    if len(ordered) > MOST_ROWS:
        rest = sum(n for _, n in ordered[MOST_ROWS:])
        rows.append([f"{len(ordered) - MOST_ROWS} more", f"{rest:,}", percent(rest / total)])
    bars = [100 * n / most for _, n in shown] + [0.0] * (len(rows) - len(shown))
    return Table(f"Cells per {group['key']}", [group["key"], "cells", "share"], rows, bars)
