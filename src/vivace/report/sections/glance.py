"""What one wants to know first: the headline figures, and whether anything needs attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vivace.report.page import Cards, Check, Checks, Section
from vivace.report.sections.integration import run_checks as integration_checks
from vivace.report.sections.predictive import compare, typical_ratio
from vivace.report.sections.spatial import run_checks as spatial_checks
from vivace.report.words import duration, number, percent, things
from vivace.runs import Run
from vivace.runs.layout import HISTORY

STILL_IMPROVING = 0.005  # of the loss, over the last tenth of training
WORSE = 0.01  # of the loss, from its best epoch to the last
MEAN_RATIO, VARIANCE_RATIO = 1.1, 1.5  # simulated over observed in the median gene, either way
ZERO_GAP = 0.05  # difference of the share of zeros, mean over genes


def glance(run: Run) -> Section:
    """Headline figures and checks."""
    summary = run.summary
    items = [
        (number(summary["n_cells"]), things(summary["n_cells"], summary.get("unit", "cells"))),
        (number(summary["n_genes"]), things(summary["n_genes"], "genes")),
        *((metric(m), m["name"]) for m in summary.get("metrics", [])),
    ]
    if summary.get("wall_seconds"):
        items.append((duration(summary["wall_seconds"]), "training time"))
    checks = [*training_checks(run), *predictive_checks(run)]
    everywhere = [*checks, *integration_checks(run), *spatial_checks(run)]
    open_questions = sum(not check.good for check in everywhere)
    lead = (
        "Nothing in this run asks for your attention."
        if not open_questions
        else f"{open_questions} of {len(everywhere)} checks on this page ask for a look before you go on."
    )
    return Section("glance", "At a glance", lead, [Cards(items), Checks(checks)])


def metric(found: dict[str, Any]) -> str:
    """Value of a headline metric."""
    return percent(found["value"]) if found.get("share") else number(found["value"])


def training_checks(run: Run) -> list[Check]:
    """Did the loss settle, and did it stay settled on cells the model did not see?"""
    history = run.table(HISTORY)
    if history is None:
        return []
    held_out = history.get("elbo_validation", pd.Series(dtype=float)).dropna()
    if len(held_out) > 1:  # the training loss goes on falling when nothing more is learned
        checks = [settled(held_out, "loss of cells kept aside"), generalises(held_out)]
    elif "elbo_train" in history:
        checks = [settled(history["elbo_train"].dropna())]
    else:
        checks = []
    return [check for check in checks if check is not None]


def settled(loss: pd.Series, name: str = "loss") -> Check | None:
    """Compare the last tenth of the epochs with the tenth before it."""
    tenth = len(loss) // 10
    if tenth == 0:
        return None
    last, before = loss.iloc[-tenth:].mean(), loss.iloc[-2 * tenth : -tenth].mean()
    gain = (before - last) / abs(before)
    good = bool(gain <= STILL_IMPROVING)
    title = "Training has settled" if good else "Training was still improving"
    fell = f"fell by {percent(gain)}" if gain > 0 else "did not fall"
    text = f"The {name} {fell} over the last tenth of the epochs."
    return Check(good, title, text if good else f"{text} More epochs would probably help.")


def generalises(loss: pd.Series) -> Check:
    """Compare the held-out loss at the end with its best epoch."""
    best = loss.idxmin()
    rise = (loss.iloc[-1] - loss.min()) / abs(loss.min())
    if rise <= WORSE:
        text = f"On cells kept aside, the loss ended within {percent(WORSE)} of its best (epoch {best})."
        return Check(True, "It holds on cells it has not seen", text)
    text = (
        f"On cells kept aside, the loss was best at epoch {best} and then rose by {percent(rise)}: "
        "fewer epochs or early stopping would give a better model."
    )
    return Check(False, "It began to learn by heart", text)


def predictive_checks(run: Run) -> list[Check]:
    """Does data simulated from the model look like the data?"""
    genes = compare(run)
    if genes is None:
        return []
    checks = []
    for name, words, most in (
        ("mean", "average expression", MEAN_RATIO),
        ("variance", "variability", VARIANCE_RATIO),
    ):
        ratio = typical_ratio(genes[f"observed_{name}"], genes[f"model_{name}"])
        good = 1 / most <= ratio <= most
        title = f"The model {'reproduces' if good else 'misses'} {words}"
        text = (
            f"In a typical gene it simulates {ratio:.2f} times the observed {words} (good: "
            f"{1 / most:.2g} to {most:.2g})."
        )
        checks.append(Check(good, title, text))
    gap = float(np.mean(np.abs(genes["observed_zero_fraction"] - genes["model_zero_fraction"])))
    good = gap <= ZERO_GAP
    text = f"In an average gene the share of zeros is off by {gap:.2g} (good: up to {ZERO_GAP})."
    return [*checks, Check(good, f"The model {'reproduces' if good else 'misses'} zeros", text)]
