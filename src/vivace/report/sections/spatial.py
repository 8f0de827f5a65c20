"""Where the cell types lie in the tissue: one map a type, how sure that is, and whether markers agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vivace.report.draw import RAMP, canvas
from vivace.report.explore import of_spots
from vivace.report.page import Checks, Figure, Section, Table
from vivace.report.questions.spots import UNSURE, by_type, checks, evidence
from vivace.report.sections.latent import touched
from vivace.report.words import percent
from vivace.runs import Run
from vivace.runs.layout import COORDINATES, PROPORTIONS

MOST_MAPS = 24


def spatial(run: Run) -> Section | None:
    """Proportion maps, totals, uncertainty and markers of a run on spots."""
    proportions = run.table(PROPORTIONS)
    if proportions is None:
        return None
    spread, markers = evidence(run)
    place = run.table(COORDINATES)
    blocks: list[Any] = [Checks(checks(spread, markers)), totals(proportions, spread, markers)]
    if place is not None:
        order = proportions.mean().sort_values(ascending=False).index[:MOST_MAPS]
        stills = [] if spread is None else [certainty(place, spread)]
        stills += [tissue_map(place, proportions[name], spread) for name in order]
        blocks += touched(of_spots(run), stills)
    lead = (
        f"Each of {len(proportions):,} spots holds several cells. The model reads from its molecules "
        f"what share belongs to each of {proportions.shape[1]} cell types of the reference."
    )
    if place is None:
        lead += " The spots came without coordinates, so there are no maps."
    return Section("spatial", "Cell types in the tissue", lead, blocks)


def totals(
    proportions: pd.DataFrame, spread: pd.DataFrame | None, markers: pd.DataFrame | None
) -> Table:
    """One row a type: share of all spots, uncertainty, markers."""
    mean = proportions.mean().sort_values(ascending=False)
    agree = pd.Series(dtype=float) if markers is None else by_type(markers)
    rows = []
    for name, share in mean.items():
        unsure = None if spread is None else float(spread[name].mean())
        rows.append(
            [
                str(name),
                percent(float(share)).replace(" ", "\u00a0"),
                "–" if unsure is None else percent(unsure).replace(" ", "\u00a0"),
                correlation(agree.get(name)),
            ]
        )
    bars = [100 * float(share) / float(mean.iloc[0]) for share in mean]
    header = ["", "share", "±", "markers"]
    return Table("All spots together", header, rows, bars)


def correlation(value: float | None) -> str:
    """Two decimals, so that a column of them lines up; a dash for what is missing.

    Examples
    --------
    >>> correlation(0.0934), correlation(-0.4), correlation(float("nan"))
    ('0.09', '−0.40', '–')
    """
    if value is None or np.isnan(value):
        return "–"
    return f"{value:.2f}".replace("-", "−")


def tissue_map(place: pd.DataFrame, share: pd.Series, spread: pd.DataFrame | None) -> Figure:
    """Share of one type over the tissue."""
    high = max(float(np.quantile(share, 0.99)), 1e-3)
    svg = draw(place, share.to_numpy(), high)
    text = f"Mean {percent(float(share.mean()))}, highest {percent(float(share.max()))}."
    if spread is not None:
        text += f" Uncertainty on average ± {percent(float(spread[share.name].mean()))}."
    return Figure(
        str(share.name),
        svg,
        f"Map of the tissue coloured by the share of {share.name}. {text}",
        text,
        ramp=("0 %", percent(high)),
    )


def certainty(place: pd.DataFrame, spread: pd.DataFrame) -> Figure:
    """Where shares are least sure: the largest standard deviation of a spot's shares."""
    worst = spread.max(axis=1).to_numpy()
    high = max(float(np.quantile(worst, 0.99)), 2 * UNSURE)  # steady shares look dark
    return Figure(
        "How sure the shares are",
        draw(place, worst, high),
        f"Map of the tissue coloured by the uncertainty of each spot, up to {percent(high)}.",
        "The least certain share of each spot: by how much it would move if its molecules were "
        "counted again.",
        "Dark nearly everywhere; bright spots hold few molecules or types that look alike.",
        ramp=("± 0 %", f"± {percent(high)}"),
    )


def draw(place: pd.DataFrame, values: np.ndarray, high: float) -> str:
    """Spots where they lie, the first axis down as on the slide."""
    x, y = place["x"].to_numpy(), place["y"].to_numpy()
    wide, tall = max(float(np.ptp(x)), 1e-9), max(float(np.ptp(y)), 1e-9)
    height = float(np.clip(5.0 * tall / wide, 2.5, 6.5))
    with canvas(5.0, height) as sheet:
        area = 5.0 * height * 72**2
        size = float(np.clip(0.5 * area / max(len(x), 1), 3, 120))
        sheet.axes.scatter(
            x,
            y,
            c=values,
            s=size,
            cmap=RAMP,
            vmin=0,
            vmax=high,
            linewidths=0,
            rasterized=True,
        )
        sheet.axes.set_aspect("equal")
        sheet.axes.invert_yaxis()
        sheet.axes.axis("off")
    return sheet.svg
