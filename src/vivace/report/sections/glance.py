"""What one wants to know first: the headline figures, and whether anything needs attention."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vivace.report.page import Cards, Check, Checks, Section
from vivace.report.run import Run
from vivace.report.sections.predictive import close, compare
from vivace.report.words import duration, number, percent

STILL_IMPROVING = 0.005  # of the loss, over the last tenth of training
WORSE = 0.01  # of the loss, from its best epoch to the last


def glance(run: Run) -> Section:
    """Headline figures and checks."""
    summary = run.summary
    items = [
        (number(summary["n_cells"]), "cells"),
        (number(summary["n_genes"]), "genes"),
        *((number(m["value"]), m["name"]) for m in summary.get("metrics", [])),
    ]
    if summary.get("wall_seconds"):
        items.append((duration(summary["wall_seconds"]), "training time"))
    checks = [*training_checks(run), *predictive_checks(run)]
    open_questions = sum(not check.good for check in checks)
    lead = (
        "Nothing in this run asks for your attention."
        if not open_questions
        else f"{open_questions} of {len(checks)} checks ask for a look before you go on."
    )
    return Section("glance", "At a glance", lead, [Cards(items), Checks(checks)])


def training_checks(run: Run) -> list[Check]:
    """Did the loss settle, and did it stay settled on cells the model did not see?"""
    history = run.table("history")
    if history is None:
        return []
    checks = []
    if "elbo_train" in history:
        checks.append(settled(history["elbo_train"].dropna()))
    held_out = history.get("elbo_validation", pd.Series(dtype=float)).dropna()
    if len(held_out) > 1:
        checks.append(generalises(held_out))
    return [check for check in checks if check is not None]


def settled(loss: pd.Series) -> Check | None:
    """Compare the last tenth of the epochs with the tenth before it."""
    tenth = len(loss) // 10
    if tenth == 0:
        return None
    last, before = loss.iloc[-tenth:].mean(), loss.iloc[-2 * tenth : -tenth].mean()
    gain = (before - last) / abs(before)
    good = bool(gain <= STILL_IMPROVING)
    title = "Training has settled" if good else "Training was still improving"
    text = f"The loss fell by {percent(max(gain, 0.0))} over the last tenth of the epochs."
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
    for name, words in (("mean", "average expression"), ("variance", "variability")):
        share = close(genes[f"observed_{name}"], genes[f"model_{name}"])
        good = share >= 0.8
        verb = "reproduces" if good else "misses"
        text = (
            f"Simulated {words} is within 25 % of the observed for {percent(share)} of the genes."
        )
        checks.append(Check(good, f"The model {verb} {words}", text))
    gap = float(np.mean(np.abs(genes["observed_zero_fraction"] - genes["model_zero_fraction"])))
    good = gap <= 0.02
    text = f"The share of zeros differs by {percent(gap)} of the cells in an average gene."
    title = "The model reproduces zeros" if good else "The model misses zeros"
    return [*checks, Check(good, title, text)]
