"""Junction usage of the events that differ most between groups, and whether imputation can be trusted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vivace.report.colours import categories
from vivace.report.draw import FIRST, SOFT, canvas
from vivace.report.page import Figure, Section
from vivace.report.words import clipped, number
from vivace.runs import Run
from vivace.runs.layout import CALIBRATION, USAGE

MOST_GROUPS = 12


def splicing(run: Run) -> Section | None:
    """Usage by group, then calibration."""
    calibration = run.table(CALIBRATION)
    if calibration is None:
        return None
    usage = run.table(USAGE)
    blocks: list[Any] = []
    if usage is not None and len(usage):
        blocks += [event_figure(e, t) for e, t in usage.groupby("event", sort=False)]
    blocks.append(calibration_figure(calibration))
    lead = (
        "An event is a set of junctions that compete for the same splice sites; its reads divide among "
        "them. Shown are the events whose usage differs most between groups, and how well the model "
        "predicts events that were hidden from it."
    )
    return Section("splicing", "Splicing", lead, blocks)


def event_figure(event: Any, table: pd.DataFrame) -> Figure:
    """A bar a group, divided by junctions; a dot where the reads themselves divide."""
    largest = table.groupby("group", sort=False)["reads"].first().nlargest(MOST_GROUPS).index
    groups = [g for g in table["group"].unique() if g in largest]
    names = list(table["junction"].unique())
    colours = {c.label: c for c in categories(pd.Series(names))}
    keys = []
    with canvas(5.0, 1.2 + 0.36 * len(groups)) as sheet:
        places = np.arange(len(groups))
        left, read = np.zeros(len(groups)), np.zeros(len(groups))
        for k, name in enumerate(names):
            rows = table[table["junction"] == name].set_index("group").loc[groups]
            colour = colours.get(str(name))
            fill = SOFT if colour is None else colour.colour
            sheet.axes.barh(places, rows["usage"], left=left, height=0.72, color=fill)
            left += rows["usage"].to_numpy()
            read += rows["observed"].to_numpy()
            if k < len(names) - 1:
                sheet.axes.plot(read, places, "o", ms=5, mfc="white", mec="black", mew=1, ls="")
        sheet.axes.set(xlim=(0, 1), xlabel="share of the event's reads")
        sheet.axes.set_yticks(places, [clipped(g) for g in groups])
        sheet.axes.invert_yaxis()
        sheet.axes.grid(visible=False)
        keys = [replace(c.key, note="") for c in colours.values()]
    spread = table.groupby("junction")["usage"].agg(lambda v: v.max() - v.min()).max()
    return Figure(
        f"Usage of {event}",
        sheet.svg,
        f"Stacked bars of the usage of {len(names)} junctions of {event} in {len(groups)} groups.",
        "Bars: usage the model expects, averaged over the cells of a group. Dots: where the reads of "
        f"the group divide. Largest difference between groups: {number(spread)}.",
        "Dots at the borders of the bars, most of all in groups with many reads.",
        legend=keys,
    )


def calibration_figure(table: pd.DataFrame) -> Figure:
    """Hidden ratios against predicted ones."""
    error = np.average((table["predicted"] - table["observed"]).abs(), weights=table["reads"])
    sizes = 30 + 170 * np.sqrt(table["reads"] / table["reads"].max())
    with canvas(5.0, 4.2) as sheet:
        sheet.axes.plot([0, 1], [0, 1], color=SOFT, lw=1)
        sheet.axes.scatter(
            table["predicted"], table["observed"], s=sizes, color=FIRST, alpha=0.85, linewidths=0
        )
        sheet.axes.set(
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
            xlabel="predicted share of reads",
            ylabel="share of the hidden reads",
        )
    return Figure(
        "Hidden events, predicted",
        sheet.svg,
        f"Predicted against observed usage in {len(table)} bins, mean distance {number(error)}.",
        f"A quarter of the events of each held-out cell were hidden ({int(table['entries'].sum()):,} "
        "ratios). Each dot gathers predictions of similar size; larger dots hold more reads. Mean "
        f"distance from the line, weighted by reads: {number(error)}.",
        "Dots on the line: of junctions predicted at 30 %, 30 % of reads are seen.",
    )
