"""Do types lie where their markers are, and how sure are their shares? The question of DestVI."""

from __future__ import annotations

import pandas as pd

from vivace.report.page import Check
from vivace.report.words import percent
from vivace.runs import Run
from vivace.runs.layout import MARKERS, PROPORTION_SPREAD, PROPORTIONS

AGREES = 0.2  # correlation of a type's markers, taken together, with its proportion
UNSURE = 0.1  # mean standard deviation of a proportion


def evidence(run: Run) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Uncertainty of shares, and markers."""
    return run.table(PROPORTION_SPREAD), run.table(MARKERS)


def spots(run: Run) -> list[Check]:
    """The checks of a run; none where there are no spots."""
    return [] if not run.has(PROPORTIONS) else checks(*evidence(run))


def checks(spread: pd.DataFrame | None, markers: pd.DataFrame | None) -> list[Check]:
    """Do markers agree, and how much is chance in counting molecules?"""
    found = []
    if markers is not None:
        agree = by_type(markers)
        weak = [str(name) for name in agree.index[~(agree >= AGREES)]]
        text = (
            f"Over spots, the sum of a type's ten best markers goes with its share: correlation "
            f"{agree.mean():.2f} on average."
        )
        advice = ""
        if weak:
            text += f" Hardly so for {', '.join(weak[:6])}{' and others' if len(weak) > 6 else ''}."
            advice = (
                "Read their maps with care: colour the tissue by their markers. Types that look alike "
                "share their markers; merge them, or give the reference more of their cells."
            )
        grave = len(weak) > len(agree) / 2
        title = "Markers lie where their types are" if not weak else "Some types lack support"
        title = "Most types lack support" if grave else title
        found.append(Check(not weak, title, text, advice, grave=grave))
    if spread is not None:
        typical = float(spread.to_numpy().mean())
        title = "Shares are steady" if typical < UNSURE else "Shares are shaky"
        text = (
            f"Counting the molecules again would move a share by {percent(typical)} of the spot on "
            "average. What the reference lacks is not part of this figure."
        )
        advice = (
            "" if typical < UNSURE else "Sum neighbouring spots, or merge types that look alike."
        )
        found.append(Check(typical < UNSURE, title, text, advice))
    return found


def by_type(markers: pd.DataFrame) -> pd.Series:
    """Correlation of each type's share with its markers, taken together."""
    return markers["together"].groupby(level=0, sort=False).first()
