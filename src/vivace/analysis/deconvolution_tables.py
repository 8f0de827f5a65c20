"""The tables of a run folder of spots: proportions, their uncertainty, coordinates, markers."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vivace.analysis.deconvolution import type_profiles
from vivace.analysis.tables import (
    VERSIONS,
    counts,
    data_summary,
    history_table,
    row_sums,
    settings_of,
)

COORDINATES = "spatial"
N_MARKERS = 10


def write_spatial_tables(
    model: Any,
    run: str | Path,
    *,
    source: str | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """Write what the report on spots needs to ``run/tables``.

    ``history.csv`` (metrics by epoch), ``proportions.csv`` (share of each type in a spot's molecules),
    ``cell_proportions.csv`` (in its cells), ``proportion_spread.csv`` (standard deviation of the former
    when molecules are counted again), ``coordinates.csv`` (if the spots have ``obsm["spatial"]``),
    ``markers.csv`` and, last, ``summary.json``.

    Parameters
    ----------
    model
        A trained DestVI model with its data.
    run
        Run folder; ``tables`` is made in it.
    source
        Where the spots came from, in words.
    notes
        Sentences about the data to be shown.
    seed
        Seed of the draws.

    Returns
    -------
    The folder of the tables.
    """
    folder = Path(run) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").unlink(missing_ok=True)  # its presence says that all are there
    history_table(model).to_csv(folder / "history.csv")
    proportions = model.get_proportions()
    proportions.to_csv(folder / "proportions.csv", index_label="spot", float_format="%.5g")
    if model.options.get("type_depth") is not None:
        cells = model.get_proportions(of="cells")
        cells.to_csv(folder / "cell_proportions.csv", index_label="spot", float_format="%.5g")
    if model.module.amortizes_proportions:
        spread = model.get_proportion_uncertainty(seed=seed)
        spread.to_csv(folder / "proportion_spread.csv", index_label="spot", float_format="%.5g")
    if COORDINATES in model.adata.obsm:
        place = pd.DataFrame(
            np.asarray(model.adata.obsm[COORDINATES])[:, :2], proportions.index, ["x", "y"]
        )
        place.to_csv(folder / "coordinates.csv", index_label="spot")
    markers = marker_table(model, proportions)
    markers.to_csv(folder / "markers.csv", index=False, float_format="%.5g")
    summary = {
        **data_summary(model, []),
        "unit": "spots",
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "source": source,
        "notes": list(notes),
        "settings": settings_of(model),
        "versions": {**{p: version(p) for p in VERSIONS}, "python": platform.python_version()},
        "wall_seconds": model.training.get("seconds"),
        "metrics": [{"name": "cell types", "value": proportions.shape[1]}],
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1, default=str), "utf-8")
    return folder


def marker_table(model: Any, proportions: pd.DataFrame, n: int = N_MARKERS) -> pd.DataFrame:
    """Does a type lie where its markers are? One row a type and marker.

    Markers of a type are the genes that set its decoded expression ``p`` most apart from the highest of
    any other type ``q``, by ``p log2(p / q)``: much more than elsewhere, and enough to be counted.

    Parameters
    ----------
    model
        A trained DestVI model with its data.
    proportions
        (N, C) of :meth:`vivace.DestVI.get_proportions`.
    n
        Markers of a type at most.

    Returns
    -------
    DataFrame with ``type``, ``gene``, ``log2_fold``; ``correlation``, Pearson's over spots of the
    logarithm of the gene's counts per 10,000 and the type's proportion; ``together``, the same for the
    sum of the type's markers.
    """
    profiles = np.maximum(type_profiles(model.module), 1e-12)  # (C, G)
    matrix = counts(model)
    totals = np.maximum(row_sums(matrix), 1)
    tables = []
    for c, label in enumerate(proportions.columns):
        highest = np.delete(profiles, c, axis=0).max(axis=0) if len(profiles) > 1 else 1.0
        fold = np.log2(profiles[c] / highest)
        genes = np.argsort(-profiles[c] * fold, kind="stable")[:n]
        genes = genes[fold[genes] > 0]
        of_genes = matrix[:, genes]
        of_genes = of_genes.toarray() if hasattr(of_genes, "toarray") else of_genes
        level = 1e4 * np.asarray(of_genes, dtype=float) / totals[:, None]
        share = proportions[label].to_numpy()
        table = {
            "type": label,
            "gene": model.var_names[genes],
            "log2_fold": fold[genes],
            "correlation": [pearson(np.log1p(gene), share) for gene in level.T],
            "together": pearson(np.log1p(level.sum(axis=1)), share),
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation; NaN where one side does not vary.

    Examples
    --------
    >>> import numpy as np
    >>> round(pearson(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0])), 6)
    1.0
    """
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
