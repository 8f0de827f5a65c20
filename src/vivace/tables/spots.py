"""The tables of a run on spots: proportions, their uncertainty, coordinates, markers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vivace.analysis.deconvolution import type_profiles
from vivace.data.sources.normalise import TARGET
from vivace.models.destvi import DestVI
from vivace.runs import layout
from vivace.runs.expression import Expression
from vivace.runs.leading import taken_in_turn
from vivace.runs.write import write_table
from vivace.tables.counts import row_sums
from vivace.tables.expression import MOST_GENES
from vivace.tables.tissue import write_tissue

PLACE = "spatial"
"""Key of ``obsm`` with the coordinates of spots."""
N_MARKERS = 10
OBSERVED = f"observed, log2(1 + counts per {TARGET:,.0f})"


def write_spots(model: DestVI, folder: Path, genes: Sequence[str], seed: int) -> dict[str, Any]:
    """Write the tables of a model of spots.

    ``proportions.csv`` (share of each type in a spot's molecules), ``cell_proportions.csv`` (in its
    cells), ``proportion_spread.csv`` (standard deviation of the former when molecules are counted
    again), ``coordinates.csv`` (if the spots have ``obsm["spatial"]``), a picture of the tissue (if they
    bring one), ``markers.csv``, and ``expression.npz`` with what was counted of the markers.

    Parameters
    ----------
    model
        A trained DestVI model with its data.
    folder
        Of the tables.
    genes
        Further genes for ``expression.npz``.
    seed
        Seed of the draws.

    Returns
    -------
    What the summary says beside the common facts.
    """
    proportions = model.get_proportions()
    write_table(folder, layout.PROPORTIONS, proportions)
    if model.options.get("type_depth") is not None:
        write_table(folder, layout.CELL_PROPORTIONS, model.get_proportions(of="cells"))
    if model.module.amortizes_proportions:
        spread = model.get_proportion_uncertainty(seed=seed)
        write_table(folder, layout.PROPORTION_SPREAD, spread)
    if PLACE in model.adata.obsm:
        place = np.asarray(model.adata.obsm[PLACE])[:, :2]
        columns = list(layout.COORDINATES.columns)
        write_table(folder, layout.COORDINATES, pd.DataFrame(place, proportions.index, columns))
    markers = marker_table(model, proportions)
    write_table(folder, layout.MARKERS, markers.set_index(layout.MARKERS.index))
    by_type = [list(part["gene"]) for _, part in markers.groupby("type", sort=False)]
    shown = list(dict.fromkeys([*genes, *taken_in_turn(by_type, MOST_GENES)]))
    Expression.of(shown, OBSERVED, np.log2(1 + levels_of(model, shown))).write(folder)
    return {
        "unit": "spots",
        "tissue": write_tissue(model.adata.uns, folder),
        "metrics": [{"name": "cell types", "value": proportions.shape[1]}],
    }


def marker_table(model: DestVI, proportions: pd.DataFrame, n: int = N_MARKERS) -> pd.DataFrame:
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
    chosen = markers_of(np.maximum(type_profiles(model.module), 1e-12), n)
    used = np.unique(np.concatenate([genes for genes, _ in chosen]))
    levels = levels_of(model, list(model.var_names[used]))
    tables = []
    for label, (genes, fold) in zip(proportions.columns, chosen, strict=True):
        level, share = levels[:, np.searchsorted(used, genes)], proportions[label].to_numpy()
        table = {
            "type": label,
            "gene": model.var_names[genes],
            "log2_fold": fold,
            "correlation": [pearson(np.log1p(gene), share) for gene in level.T],
            "together": pearson(np.log1p(level.sum(axis=1)), share),
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def levels_of(model: DestVI, genes: list[str]) -> np.ndarray:
    """Counts per 10,000 of some genes, (N, len(genes)); spots may lie on disk."""
    totals, counted, used = [], [], model._gene_positions(genes)
    for block in model._cells().blocks(np.arange(model.adata.n_obs)):
        totals.append(row_sums(block))
        of_genes = block[:, used]
        counted.append(of_genes.toarray() if hasattr(of_genes, "toarray") else of_genes)
    per_total = TARGET / np.maximum(np.concatenate(totals), 1)
    return np.concatenate(counted).astype(float) * per_total[:, None]


def markers_of(profiles: np.ndarray, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Markers of each type and their log2 folds, from decoded expression (C, G)."""
    found = []
    for c in range(len(profiles)):
        highest = np.delete(profiles, c, axis=0).max(axis=0) if len(profiles) > 1 else 1.0
        fold = np.log2(profiles[c] / highest)
        genes = np.argsort(-profiles[c] * fold, kind="stable")[:n]
        genes = genes[fold[genes] > 0]
        found.append((genes, fold[genes]))
    return found


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
