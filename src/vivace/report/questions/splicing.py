"""Does the model predict splicing that was hidden from it, and does its usage follow the reads?"""

from __future__ import annotations

import numpy as np

from vivace.report.page import Check
from vivace.report.words import percent, things
from vivace.runs import Run
from vivace.runs.layout import BASELINES, USAGE

NAMES = {"junction mean": "the mean of each junction", "group mean": "the mean of each group"}
FITS = 0.1  # distance of expected usage from the reads' ratio, weighted by reads
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
    gap = (table["usage"] - table["observed"]).abs()
    far = float(np.average(gap, weights=table["reads"]))
    events = table.assign(gap=gap).groupby("event").apply(weighted_gap, include_groups=False)
    off = [str(name) for name in events.index[events > FITS]]
    text = (
        f"Over groups, expected usage lies {percent(far)} of the reads from where they divide, in "
        f"{len(events)} {things(len(events), 'events')} that differ most (good: up to {percent(FITS)})."
    )
    if far <= FITS:
        return [Check(True, "Usage follows the reads", text)]
    advice = f"Read these from the dots, not from the bars: {', '.join(off[:4])}. Train for longer."
    title = "Usage does not follow the reads" if far > FAR else "Usage follows the reads roughly"
    return [Check(False, title, text, advice, grave=far > FAR)]


def weighted_gap(rows: object) -> float:
    """Distance of usage from the reads of one event, weighted by reads."""
    return float(np.average(rows["gap"], weights=rows["reads"]))  # type: ignore[index]
