"""The counts of a model's cells, and what is told of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from vivace.data.sources.normalise import TARGET
from vivace.models.base import BaseModel
from vivace.runs.layout import GENES
from vivace.tables.capabilities import SimulatesCounts


def counts(model: BaseModel, rows: np.ndarray) -> Any:
    """Counts of some of the model's own cells as they are stored, (n, G), genes in the model's order."""
    blocks = list(model._cells().blocks(rows))
    return np.concatenate(blocks) if isinstance(blocks[0], np.ndarray) else sparse.vstack(blocks)


def gene_table(model: SimulatesCounts, matrix: Any, rows: np.ndarray) -> pd.DataFrame:
    """Mean, variance and share of zeros of each gene, in the data and in one simulated data set."""
    found = {
        "observed": moments(matrix),
        "model": moments(model.posterior_predictive_sample(indices=rows)),
    }
    columns = {name: name.split("_", 1) for name in GENES.columns}
    return pd.DataFrame({name: found[who][what] for name, (who, what) in columns.items()})


def moments(matrix: Any) -> dict[str, np.ndarray]:
    """Mean, variance and share of zeros of each column of a sparse or dense matrix."""
    matrix = matrix.astype(np.float64)  # squares of large counts do not fit into float32
    squares = matrix.multiply(matrix) if hasattr(matrix, "multiply") else matrix**2
    n = matrix.shape[0]
    mean = flat(matrix.sum(axis=0)) / n
    return {
        "mean": mean,
        "variance": np.maximum(flat(squares.sum(axis=0)) / n - mean**2, 0),
        "zero_fraction": 1 - flat((matrix != 0).sum(axis=0)) / n,
    }


def fractions(matrix: Any) -> float:
    """Share of the non-zero values that are no whole numbers; 0 where there is none."""
    values = matrix.data if sparse.issparse(matrix) else np.asarray(matrix)[np.asarray(matrix) != 0]
    return float(np.mean(values != np.round(values))) if len(values) else 0.0


def log_normalised(matrix: Any) -> Any:
    """log(1 + counts per 10,000) of cells, in the form of the counts, float32."""
    scale = (TARGET / np.maximum(row_sums(matrix), 1)).astype(np.float32)
    if not sparse.issparse(matrix):
        return np.log1p(np.maximum(np.asarray(matrix, dtype=np.float32), 0) * scale[:, None])
    found = sparse.csr_array(matrix).astype(np.float32)
    found.data = np.log1p(found.data * np.repeat(scale, np.diff(found.indptr)))
    return found


def size_summary(model: BaseModel) -> dict[str, Any]:
    """Size of the data, and counts and genes per cell, looked at block by block."""
    cells = model._cells()
    found = [(row_sums(b), row_sums(b != 0)) for b in cells.blocks(np.arange(cells.n_cells))]
    totals, genes = (np.concatenate(each) for each in zip(*found, strict=True))
    return {
        "n_cells": cells.n_cells,
        "n_genes": model.n_genes,
        "counts_per_cell": {**quantiles(totals), "histogram": histogram(totals)},
        "genes_per_cell": quantiles(genes),
        "zero_fraction": float(1 - genes.sum() / (cells.n_cells * model.n_genes)),
    }


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Range, quartiles and the middle nine tenths."""
    levels = {"min": 0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1}
    return {name: float(np.quantile(values, level)) for name, level in levels.items()}


def histogram(totals: np.ndarray, bins: int = 30) -> dict[str, list[float]]:
    """Cells in bins of equal width on the log scale; empty cells fall into the first."""
    values = np.maximum(totals, 1)
    low, high = values.min(), max(values.max(), values.min() * 1.1)
    edges = np.geomspace(low, high, bins + 1)
    edges[[0, -1]] = low, high  # exact ends, so that no cell falls out by rounding
    cells, _ = np.histogram(values, edges)
    return {"edges": edges.tolist(), "cells": cells.tolist()}


def row_sums(matrix: Any) -> np.ndarray:
    """Total of each row, (N,)."""
    return flat(matrix.sum(axis=1, dtype=np.float64))


def flat(values: Any) -> np.ndarray:
    """One-dimensional float64 array of a row or column."""
    return np.asarray(values, dtype=np.float64).ravel()
