"""How learning went: loss on training and held-out cells, and its two parts."""

from __future__ import annotations

import pandas as pd

from vivace.report.draw import FIRST, SECOND, canvas
from vivace.report.page import Figure, Key, Section
from vivace.report.words import number, things
from vivace.runs import Run
from vivace.runs.layout import HISTORY, SALIENT

LINE_PATH = "M0 4h10v2H0z"


def training(run: Run) -> Section | None:
    """Training curves."""
    history = run.table(HISTORY)
    if history is None or history.empty:
        return None
    epochs = len(history)
    unit = run.summary.get("unit", "cells")
    pairs = run.has(SALIENT)  # such models learn from two populations at once
    each = "pair of a background and a target cell" if pairs else unit.removesuffix("s")
    passes = f"{epochs:,} {things(epochs, 'times')}"
    lead = (
        f"The model saw the training {unit} {passes}. Lower is better; the unit is nats per {each} "
        "(natural-log units of probability)."
    )
    parts = of_spots(history) if unit == "spots" else of_cells(history)
    return Section("training", "Training", lead, [p for p in parts if p is not None])


def of_spots(history: pd.DataFrame) -> list[Figure | None]:
    """Loss of a model of spots, which has no latent posterior but states under a prior."""
    return [
        curve(
            history,
            "elbo",
            "Loss",
            "Reconstruction plus states. What is learned from simulated spots is not part of it.",
            "It falls and flattens.",
            unit="spots",
        ),
        curve(
            history,
            "reconstruction_loss",
            "Reconstruction",
            "How badly types, their shares and their states explain the counts of a spot.",
            "It falls steeply, then flattens.",
            unit="spots",
        ),
        curve(
            history,
            "kl_local",
            "States",
            "How unusual the states of the types in a spot are among those of the reference's cells "
            "(minus the log density of the prior).",
            "It settles: a steady rise means that states are bent to fit counts.",
            unit="spots",
        ),
    ]


def of_cells(history: pd.DataFrame) -> list[Figure | None]:
    """Loss of a model of cells, and its two parts."""
    return [
        elbo(history),
        curve(
            history,
            "reconstruction_loss",
            "Reconstruction",
            "How badly the model explains the counts from the latent position of a cell.",
            "It falls steeply, then flattens.",
        ),
        curve(
            history,
            "kl_local",
            "Information kept",
            "How far cells sit from the prior, that is, how much the latent space says about each "
            "cell (Kullback-Leibler divergence).",
            "Clearly above zero: at zero the latent space holds nothing.",
        ),
    ]


def elbo(history: pd.DataFrame) -> Figure | None:
    """The loss as a whole."""
    return curve(
        history,
        "elbo",
        "Loss",
        "The negative evidence lower bound: reconstruction plus information kept. Cells held out "
        "take no part in learning and show how the model does on new cells.",
        "Both curves fall and flatten close together. A held-out curve that turns upwards means the "
        "model learns by heart.",
    )


def curve(
    history: pd.DataFrame, metric: str, title: str, text: str, good: str, *, unit: str = "cells"
) -> Figure | None:
    """One metric over epochs for training and held-out cells; None when it was not recorded."""
    lines = [
        (label, history[f"{metric}_{part}"].dropna(), colour)
        for part, label, colour in (
            ("train", f"training {unit}", FIRST),
            ("validation", f"held-out {unit}", SECOND),
        )
        if f"{metric}_{part}" in history
    ]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return None
    with canvas() as sheet:
        for _, values, colour in lines:
            marker = "o" if len(values) == 1 else ""
            sheet.axes.plot(values.index, values, color=colour, marker=marker)
        sheet.axes.set(xlabel="epoch", ylabel="nats", ylim=window(lines))
        sheet.axes.locator_params(integer=True, axis="x", nbins=6)
    ends = "; ".join(f"{label} end at {number(v.iloc[-1], 4)}" for label, v, _ in lines)
    legend = [Key(label, colour, LINE_PATH, number(v.iloc[-1], 4)) for label, v, colour in lines]
    return Figure(title, sheet.svg, f"{title} by epoch: {ends}.", text, good, legend)


def window(lines: list[tuple[str, pd.Series, str]]) -> tuple[float, float]:
    """Range of the y axis: a first epoch far above the others does not flatten the rest."""
    later = pd.concat([values.iloc[len(values) // 20 :] for _, values, _ in lines])
    low = min(values.min() for _, values, _ in lines)
    margin = 0.06 * (later.max() - low) or 0.01 * abs(low) or 1.0
    return low - margin, later.max() + margin
