"""Do cells of a kind differ by state, and by more than their depth? The question of CondSCVI."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vivace.report.graph import Placed, placed
from vivace.report.page import Check
from vivace.report.questions.cells import STATES
from vivace.report.words import percent
from vivace.runs import Run
from vivace.runs.layout import DEPTH, LATENT

ALIVE = 0.05  # variance of the means of a state that says something: the prior has 1
FEWEST = 10
ONLY_DEPTH = 0.5  # of the variance of log depth within a kind


def states(run: Run) -> list[Check]:
    """Kinds with a living state, and whether the states are more than depth."""
    cells = placed(run, LATENT)
    if run.model.get("model") != STATES or cells is None:
        return []
    labels = labels_of(run, cells)
    if labels is None:
        return []
    return [living(cells, labels), *beside_depth(cells, labels)]


def labels_of(run: Run, cells: Placed) -> pd.Series | None:
    """The kinds that the model was given, where the table holds them."""
    column = run.summary.get("settings", {}).get("data", {}).get("labels_key")
    if column not in cells.colours:
        return None
    return cells.colour(column).astype("string").fillna("missing")


def living(cells: Placed, labels: pd.Series) -> Check:
    """In how many kinds does a state vary from cell to cell?"""
    spread = pd.DataFrame(cells.latent).groupby(labels.to_numpy()).var()
    spread = spread[labels.value_counts().reindex(spread.index).to_numpy() >= FEWEST]
    still = [str(name) for name in spread.index[~(spread > ALIVE).any(axis=1)]]
    text = f"In {len(spread) - len(still)} of {len(spread)} kinds of cells, states differ from cell to cell."
    if not still:
        return Check(True, "Cells of a kind differ by state", text)
    advice = (
        "The other kinds look alike to the model, and spots will show their share but no state: "
        f"{', '.join(still[:6])}. More cells or epochs may help."
    )
    grave = len(still) > len(spread) / 2
    return Check(False, "Some kinds have no states", text, advice, grave=grave)


def beside_depth(cells: Placed, labels: pd.Series) -> list[Check]:
    """Is a state more than the depth of its cell?"""
    if DEPTH not in cells.colours or len(labels) < 5 * cells.latent.shape[1]:
        return []
    values = cells.colour(DEPTH).to_numpy(dtype=float)
    named = labels.to_numpy()
    values = values - pd.Series(values).groupby(named).transform("mean").to_numpy()
    states = pd.DataFrame(cells.latent)
    states = (states - states.groupby(named).transform("mean")).to_numpy()
    told = linear(states, values)
    text = (
        f"Within a kind, a line through the states tells {percent(told)} of the variance of depth."
    )
    if told <= ONLY_DEPTH:
        return [Check(True, "States are more than depth", text)]
    advice = "Colour the map by depth: states follow how deeply a cell was read. Try fewer latent dimensions."
    return [Check(False, "States follow depth", text, advice)]


def linear(inputs: np.ndarray, values: np.ndarray) -> float:
    """Share of the variance of centred values that a linear map of centred inputs tells."""
    total = float(values @ values)
    if total <= 0:
        return 0.0
    weights = np.linalg.lstsq(inputs, values, rcond=None)[0]
    return max(0.0, 1 - float(((values - inputs @ weights) ** 2).sum()) / total)
