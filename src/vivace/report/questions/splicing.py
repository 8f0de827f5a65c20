"""Does the model predict splicing that was hidden from it, and does its usage follow the reads?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from vivace.report.page import Check
from vivace.report.words import percent, things
from vivace.runs import Run
from vivace.runs.layout import BASELINES, USAGE

NAMES = {"junction mean": "the mean of each junction", "group mean": "the mean of each group"}
FITS = 0.1  # of the reads of a group, at another junction than the model expects
FAR = 0.25
MODEL = "model"


def hidden_events(run: Run) -> list[Check]:
    """Are the baselines beaten, per hidden read?"""
    table = run.table(BASELINES)
    if table is None or MODEL not in table.index:
        return []
    scores = table["log_likelihood_read"].dropna()
    if MODEL not in scores or len(scores) < 2:
        return []
    others = scores.drop(MODEL)
    beaten = others.index[scores[MODEL] > others]
    listed = ", ".join(f"{NAMES.get(str(n), str(n))} {scores[n]:.3f}" for n in others.index)
    text = (
        f"Log-likelihood of a read of a hidden event: model {scores[MODEL]:.3f}; {listed} (nats, higher "
        f"is better). Mean distance of ratios {table.loc[MODEL, 'mae']:.2f}."
    )
    if len(beaten) == len(others):
        return [Check(True, "Hidden events are predicted better than by means", text)]
    better = " and ".join(NAMES.get(str(n), str(n)) for n in others.index if n not in beaten)
    advice = (
        f"For these data, take {better} to fill in events, and read no usage of single cells from the "
        "model. More epochs help where the loss still falls; few reads an event limit any model."
    )
    title = "Means predict hidden events as well"
    return [Check(False, title, text, advice, grave=len(beaten) == 0)]


def usage(run: Run) -> list[Check]:
    """Does expected usage lie where the reads of the groups divide?"""
    table = run.table(USAGE)
    if table is None:
        return []
    table = table[(table["reads"] > 0) & table["observed"].notna()]
    if table.empty:
        return []
    gaps = misplaced(table)
    far = float(np.average(gaps["gap"], weights=gaps["reads"]))
    events = gaps.groupby("event").apply(weighted, include_groups=False)
    off = [str(name) for name in events.index[events > FITS]]
    text = (
        f"Expected usage puts {percent(far)} of the reads of a group at another junction than where they "
        f"are, in the {len(events)} {things(len(events), 'events')} that differ most (good: up to "
        f"{percent(FITS)})."
    )
    if far <= FITS:
        return [Check(True, "Usage follows the reads", text)]
    advice = f"Read these from the dots, not from the bars: {', '.join(off[:4])}. Train for longer."
    title = "Usage does not follow the reads" if far > FAR else "Usage follows the reads roughly"
    return [Check(False, title, text, advice, grave=far > FAR)]


def misplaced(table: pd.DataFrame) -> pd.DataFrame:
    """Of each event and group, the share of reads that usage puts at the wrong junction, and its reads."""
    gap = (table["usage"] - table["observed"]).abs() / 2
    rows = table.assign(gap=gap).groupby(["event", "group"], sort=False)
    return rows.agg({"gap": "sum", "reads": "first"}).reset_index()


def weighted(rows: pd.DataFrame) -> float:
    """Mean gap, weighted by reads."""
    return float(np.average(rows["gap"], weights=rows["reads"]))
