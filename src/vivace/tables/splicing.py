"""What the report draws of splicing: usage of the events that differ most, and how imputation did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from vivace.metrics.imputation import (
    group_means,
    hidden_entries,
    hide_events,
    psi_imputation,
    with_junction_counts,
)
from vivace.models.splicevi import SPLICEVI
from vivace.runs.layout import BASELINES, CALIBRATION, USAGE
from vivace.runs.write import write_table
from vivace.tables.cells import drawn_rows

MOST_EVENTS = 4
MOST_TESTED = 1_000
FEWEST = 20
HIDDEN = 0.25
BINS = np.linspace(0, 1, 11)


def write_splicing(
    model: SPLICEVI, folder: Path, labels: str | None, rows: np.ndarray, seed: int
) -> None:
    """Write the usage of events (with labels), the calibration, and the baselines of imputation."""
    if labels is not None:
        write_table(folder, USAGE, usage_table(model, labels, rows))
    write_table(folder, CALIBRATION, calibration_table(model, rows, seed))
    tested = drawn_rows(held_out_rows(model, rows), MOST_TESTED, seed)
    beaten = psi_imputation(model, indices=tested, fraction=HIDDEN, groupby=labels, seed=seed)
    write_table(folder, BASELINES, beaten)


def held_out_rows(model: SPLICEVI, rows: np.ndarray) -> np.ndarray:
    """Those of the rows that the model did not learn from, or all where they are few."""
    held_out = model.validation_indices
    if held_out is None or len(held_out) < FEWEST:
        return rows
    return np.intersect1d(rows, held_out)


def usage_table(model: SPLICEVI, labels: str, rows: np.ndarray) -> pd.DataFrame:
    """Usage of each junction by group, for the events whose read-weighted usage varies most.

    Columns ``event``, ``junction``, ``group``, ``usage`` (mean of the decoder over cells), ``observed``
    (read-weighted mean ratio, missing without reads), ``reads`` of the event.
    """
    names = model.adata.obs[labels].astype("string").fillna("missing").to_numpy()[rows]
    known, codes = np.unique(names, return_inverse=True)
    counts = model.get_junction_counts(indices=rows)
    events = model.event_codes
    means = group_means(counts, events, codes, len(known))
    reads = np.stack([counts[codes == g].sum(axis=0) for g in range(len(known))])
    totals = np.stack([np.bincount(events, r) for r in reads])
    spread = np.bincount(events, np.ptp(means, axis=0))
    enough = (totals >= 20).sum(axis=0) > 1
    chosen = [e for e in np.argsort(-np.where(enough, spread, -1)) if enough[e]][:MOST_EVENTS]
    junctions = np.flatnonzero(np.isin(events, chosen))
    order = sorted(junctions, key=lambda j: (chosen.index(events[j]), j))
    expected = model.get_normalized_splicing(
        indices=rows, junction_list=list(model.junction_names[junctions])
    )
    found = []
    for j in order:
        by_group = expected[model.junction_names[j]].groupby(names).mean()
        for g, group in enumerate(known):
            total = totals[g, events[j]]
            observed = reads[g, j] / total if total else np.nan
            found.append(
                (
                    model.event_names[j],
                    model.junction_names[j],
                    group,
                    by_group[group],
                    observed,
                    total,
                )
            )
    return pd.DataFrame(found, columns=list(USAGE.columns))


def calibration_table(model: SPLICEVI, rows: np.ndarray, seed: int) -> pd.DataFrame:
    """Hidden ratios against predicted ones, in ten bins of the prediction.

    Held-out cells if there are any. Columns ``predicted`` (mean of the bin), ``observed`` (read-weighted
    ratio), ``reads`` of the hidden events, ``entries``.
    """
    rows = held_out_rows(model, rows)
    events = model.event_codes
    kept, hidden = hide_events(model.get_junction_counts(indices=rows), events, HIDDEN, seed)
    cell, junction, reads, totals, _ = hidden_entries(hidden, events)
    masked = with_junction_counts(model, model.adata, rows, kept)
    predicted = model.get_normalized_splicing(masked, entries=(cell, junction))
    place = np.digitize(predicted, BINS[1:-1])
    entries = np.bincount(place, minlength=10)
    whole = np.bincount(place, totals, 10)
    table = pd.DataFrame(
        {
            "predicted": np.bincount(place, predicted, 10) / np.maximum(entries, 1),
            "observed": np.bincount(place, reads, 10) / np.maximum(whole, 1),
            "reads": whole,
            "entries": entries,
        }
    )
    return table[entries > 0]
