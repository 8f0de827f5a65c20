"""What one wants to know first: the headline figures, and whether anything needs attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vivace.report.page import Cards, Check, Checks, Section
from vivace.report.questions import answers
from vivace.report.questions.cells import STATES
from vivace.report.questions.data import data_checks
from vivace.report.sections.predictive import compare, typical_ratio
from vivace.report.words import duration, number, percent, things
from vivace.runs import Run
from vivace.runs.layout import HISTORY, KINDS_KEY

STILL_IMPROVING = 0.005  # of the loss, over the last tenth of training
WORSE = 0.01  # of the loss, from its best epoch to the last
MEAN_RATIO, VARIANCE_RATIO = 1.1, 1.5  # simulated over observed in the median gene, either way
CLOSE, FAR_APART = 0.03, 0.15  # held-out loss above training loss
ZERO_GAP = 0.05  # difference of the share of zeros, mean over genes
MISFIT = (
    "Look at the genes far off the line below; another gene_likelihood or dispersion, or more epochs, "
    "may describe them."
)


def glance(run: Run) -> Section:
    """Headline figures and checks."""
    summary = run.summary
    items = [
        (number(summary["n_cells"]), things(summary["n_cells"], summary.get("unit", "cells"))),
        (number(summary["n_genes"]), things(summary["n_genes"], "genes")),
        *((metric(m), m["name"]) for m in figures(run)),
    ]
    if summary.get("wall_seconds"):
        items.append((duration(summary["wall_seconds"]), "training time"))
    own = answers(run)
    checks = [*training_checks(run), *predictive_checks(run), *data_checks(run)]
    blocks: list[Any] = [Cards(items)]
    blocks += [Checks(own, "What the model is for")] if own else []
    blocks += [Checks(checks, "Training and data" if own else "")] if checks else []
    return Section("glance", "At a glance", verdict([*own, *checks]), blocks)


def verdict(checks: list[Check]) -> str:
    """The whole page in a sentence."""
    questions = sum(not check.good for check in checks)
    grave = [check.title for check in checks if check.level == "bad"]
    if not questions:
        return "Nothing in this run asks for your attention."
    asks = "asks" if questions == 1 else "ask"
    lead = f"{questions} of {len(checks)} checks on this page {asks} for a look before you go on."
    return f"{lead} First of all: {grave[0][0].lower()}{grave[0][1:]}." if grave else lead


def figures(run: Run) -> list[dict[str, Any]]:
    """Headline figures; kinds are no figure of a space that holds what differs within them."""
    found = run.summary.get("metrics", [])
    within = run.model.get("model") == STATES
    return [m for m in found if not (within and m.get("key") == KINDS_KEY)]


def metric(found: dict[str, Any]) -> str:
    """Value of a headline metric."""
    value = percent(found["value"]) if found.get("share") else number(found["value"])
    return value.replace("-", "−")


def training_checks(run: Run) -> list[Check]:
    """Did the loss settle, and did it stay settled on cells the model did not see?"""
    history = run.table(HISTORY)
    if history is None:
        return []
    held_out = history.get("elbo_validation", pd.Series(dtype=float)).dropna()
    if len(held_out) > 1:  # the training loss goes on falling when nothing more is learned
        checks = [
            settled(held_out, "loss of cells kept aside"),
            generalises(held_out),
            close(history.get("elbo_train", pd.Series(dtype=float)), held_out),
        ]
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
    advice = "" if good else "More epochs would probably help: raise max_epochs."
    return Check(good, title, text, advice)


def generalises(loss: pd.Series) -> Check:
    """Compare the held-out loss at the end with its best epoch."""
    best = loss.idxmin()
    rise = (loss.iloc[-1] - loss.min()) / abs(loss.min())
    if rise <= WORSE:
        text = f"On cells kept aside, the loss ended within {percent(WORSE)} of its best (epoch {best})."
        return Check(True, "It holds on cells it has not seen", text)
    text = (
        f"On cells kept aside, the loss was best at epoch {best} and then rose by {percent(rise)}."
    )
    advice = "Fewer epochs or early_stopping=True would give a better model."
    return Check(False, "It began to learn by heart", text, advice)


def close(train: pd.Series, held_out: pd.Series) -> Check | None:
    """Compare the losses of training and held-out cells where the latter is best.

    None of a loss below zero: it is that of densities, of which no part is a share.
    """
    best = held_out.idxmin()
    if best not in train.index or not train[best] > 0:
        return None
    gap = float((held_out[best] - train[best]) / train[best])
    text = (
        f"The loss of cells kept aside is {percent(abs(gap))} {'above' if gap > 0 else 'below'} that of "
        f"training cells (good: up to {percent(CLOSE)})."
    )
    if gap <= CLOSE:
        return Check(True, "Held-out cells are described as well", text)
    advice = (
        "The model knows the cells it learned from better than new ones: more cells, fewer genes, a "
        "smaller network or more dropout. Numbers for training cells look better than they are."
    )
    title = "Held-out cells are described less well"
    return Check(False, title, text, advice, grave=gap > FAR_APART)


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
        advice = "" if good else MISFIT
        text = (
            f"In a typical gene it simulates {ratio:.2f} times the observed {words} (good: "
            f"{1 / most:.2g} to {most:.2g})."
        )
        checks.append(Check(good, title, text, advice))
    gap = float(np.mean(np.abs(genes["observed_zero_fraction"] - genes["model_zero_fraction"])))
    good = gap <= ZERO_GAP
    text = f"In an average gene the share of zeros is off by {gap:.2g} (good: up to {ZERO_GAP})."
    title = f"The model {'reproduces' if good else 'misses'} zeros"
    return [*checks, Check(good, title, text, "" if good else MISFIT)]
