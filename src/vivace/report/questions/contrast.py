"""Is the condition in the salient state, and out of the background state?"""

from __future__ import annotations

import pandas as pd

from vivace.report.page import Check
from vivace.runs import Run
from vivace.runs.layout import CONDITIONS

TOLD, HARDLY = 0.75, 0.6  # balanced accuracy of 15 neighbours in the salient space; 0.5 is chance
SHARED, LEAKED = 0.65, 0.8  # the same in the background space


def conditions(run: Run) -> list[Check]:
    """Both sides of the question, for the worst condition of each."""
    table = run.table(CONDITIONS)
    if table is None:
        return []
    table = table.dropna(subset=list(CONDITIONS.columns))
    return [] if table.empty else [salient(table), background(table)]


def salient(table: pd.DataFrame) -> Check:
    """Does the salient state tell each condition from the background?"""
    worst = str(table["salient_separation"].idxmin())
    value = float(table["salient_separation"].min())
    text = (
        f"15 neighbours in the salient space tell {worst} from the background in {value:.2f} of cells "
        f"(0.5 is chance; good: {TOLD} and more)."
    )
    if value >= TOLD:
        return Check(True, "The salient state holds the condition", text)
    advice = (
        "Either the condition changes little, or the background state took it: see the next answer. "
        "Train for longer, or look at a gene that is known to respond on both maps."
    )
    title = "The salient state hardly tells the condition"
    return Check(False, title, text, advice, grave=value < HARDLY)


def background(table: pd.DataFrame) -> Check:
    """Is the background state free of each condition?"""
    worst = str(table["background_separation"].idxmax())
    value = float(table["background_separation"].max())
    text = (
        f"15 neighbours in the background space tell {worst} from the background in {value:.2f} of "
        f"cells (0.5 is chance; good: up to {SHARED})."
    )
    if value <= SHARED:
        return Check(True, "The background state is free of the condition", text)
    advice = (
        "A part of the response is in the state that should hold what all cells share: salient genes "
        'and maps miss it. Train again with recipe="classic", with another seed, or for longer; compare '
        "kinds of cells only within a condition until then."
    )
    title = "The background state still tells the condition"
    return Check(False, title, text, advice, grave=value > LEAKED)
