"""Does data simulated from the model look like the data? Gene by gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vivace.report.draw import FIRST, INK, canvas, log_ticks
from vivace.report.page import Figure, Section
from vivace.report.words import number
from vivace.runs import Run
from vivace.runs.layout import GENES

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def predictive(run: Run) -> Section | None:
    """Observed against simulated mean, variance and share of zeros."""
    genes = compare(run)
    if genes is None:
        return None
    lead = (
        "The trained model can simulate counts. If it has understood the data, simulated cells have "
        "the same mean, variance and share of zeros as the real ones, gene by gene. Each dot is a "
        "gene; on the line, both agree."
    )
    figures = [
        scatter(genes, "mean", "Average expression", "counts per cell"),
        scatter(genes, "variance", "Variability", "variance of counts"),
        zeros(genes),
    ]
    return Section("predictive", "Does the model look like the data?", lead, figures)


def compare(run: Run) -> pd.DataFrame | None:
    """The genes table, without genes that were never seen."""
    genes = run.table(GENES)
    return None if genes is None else genes[genes["observed_mean"] > 0]


def typical_ratio(observed: pd.Series, model: pd.Series) -> float:
    """Simulated over observed in the median gene, which chance in rare genes does not move."""
    return float(np.median(model.to_numpy() / observed.to_numpy()))


def scatter(genes: pd.DataFrame, name: str, title: str, unit: str) -> Figure:
    """Observed against simulated on log axes."""
    observed, model = genes[f"observed_{name}"], genes[f"model_{name}"]
    positive = (observed > 0) & (model > 0)
    x, y = observed[positive], model[positive]
    ratio = typical_ratio(observed, model)
    correlation = float(np.corrcoef(np.log(x), np.log(y))[0, 1]) if len(x) > 2 else float("nan")
    with canvas(5.0, 4.2) as sheet:
        points(sheet.axes, x, y)
        log_ticks(sheet.axes)
        sheet.axes.set(xlabel=f"observed {unit}", ylabel=f"simulated {unit}")
    text = (
        f"In the median gene, simulated is {ratio:.2f} times observed; correlation of the "
        f"logarithms {number(correlation)}."
    )
    return Figure(
        title, sheet.svg, f"{title}, observed against simulated. {text}", text, GOOD[name]
    )


def zeros(genes: pd.DataFrame) -> Figure:
    """Observed against simulated share of zeros."""
    x, y = genes["observed_zero_fraction"], genes["model_zero_fraction"]
    with canvas(5.0, 4.2) as sheet:
        points(sheet.axes, x, y)
        sheet.axes.set(xlabel="observed share of zeros", ylabel="simulated share of zeros")
    gap = float(np.mean(np.abs(x - y)))
    text = f"On average the two differ by {number(gap, 2)} (on a scale from 0 to 1)."
    return Figure(
        "Zeros",
        sheet.svg,
        f"Share of zeros, observed against simulated. {text}",
        text,
        GOOD["zero_fraction"],
    )


GOOD = {
    "mean": "Dots hug the line. Rare genes (left) scatter more, by chance alone.",
    "variance": "Dots along the line. Above it: the model thinks cells vary more than they do.",
    "zero_fraction": "Dots on the line. Above it: the model produces more zeros than there are.",
}


def points(axes: Axes, x: pd.Series, y: pd.Series) -> None:
    """Genes as dots over the line of agreement."""
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    axes.plot([low, high], [low, high], color=INK, linewidth=1.1, linestyle=(0, (4, 3)), zorder=3)
    axes.scatter(x, y, s=9, color=FIRST, alpha=0.55, linewidths=0, rasterized=True)
