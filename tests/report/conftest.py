"""A run folder made of invented tables, so that the report is tested without training a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

TYPES = ["CD4 T", "CD8 T", "B", "Monocyte", "NK", "Dendritic", "Platelet", "CD34+ progenitor"]


def summary(n_cells: int, n_genes: int, cells: dict[str, int]) -> dict[str, Any]:
    edges = np.geomspace(200, 8000, 31)
    counts = np.exp(-0.5 * ((np.log(edges[:-1]) - 7.3) / 0.5) ** 2) * n_cells / 8
    return {
        "created": "2026-01-02 03:04 UTC",
        "source": "cells.h5ad",
        "n_cells": n_cells,
        "n_genes": n_genes,
        "counts_per_cell": {
            "min": 210, "q05": 600, "q25": 1100, "median": 1516, "q75": 2100, "q95": 3600,
            "max": 7900, "histogram": {"edges": edges.tolist(), "cells": counts.round().tolist()},
        },
        "genes_per_cell": {"median": 611},
        "zero_fraction": 0.949,
        "groups": [{"key": "cell_type", "cells": cells}, {"key": "batch", "cells": {"a": 2, "b": 1}}],
        "notes": ["2 cells without counts were left out."],
        "settings": {
            "model": {"n_latent": 10, "gene_likelihood": "zinb"},
            "training": {"max_epochs": 20, "lr": 0.001, "early_stopping": False, "seed": None},
        },
        "versions": {"vivace": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        "wall_seconds": 42.3,
        "metrics": [
            {"name": "held-out loss, nats per cell", "value": 1304.9},
            {"name": "cells with the cell_type of most of their neighbours", "value": 0.83, "share": True},
        ],
    }  # fmt: skip


def history(n_epochs: int) -> pd.DataFrame:
    epochs = np.arange(n_epochs)
    rng = np.random.default_rng(1)
    table = pd.DataFrame(index=pd.Index(epochs, name="epoch"))
    for part, shift in (("train", 0.0), ("validation", 6.0)):
        noise = rng.normal(scale=0.7, size=n_epochs)
        table[f"reconstruction_loss_{part}"] = 1290 + 200 * np.exp(-epochs / 2) + shift + noise
        table[f"kl_local_{part}"] = 15 * (1 - np.exp(-epochs / 2))
        table[f"elbo_{part}"] = table[f"reconstruction_loss_{part}"] + table[f"kl_local_{part}"]
    return table


def latent(n_cells: int, n_latent: int, names: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, len(names) + 1)
    codes = rng.choice(len(names), n_cells, p=share / share.sum())
    centres = rng.normal(scale=1.3, size=(len(names), n_latent))
    table = pd.DataFrame(
        centres[codes] + rng.normal(size=(n_cells, n_latent)),
        index=[f"cell_{i}" for i in range(n_cells)],
        columns=[f"latent_{i}" for i in range(n_latent)],
    )
    table["obs:cell_type"] = np.array(names, dtype=object)[codes]
    table["obs:batch"] = rng.choice(["study one", "study two", "study three"], n_cells)
    table["obs:total_counts"] = rng.lognormal(7, 0.5, n_cells)
    return table


def genes(n_genes: int) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    mean = np.exp(rng.normal(-3, 1.5, n_genes))
    table = pd.DataFrame(index=pd.Index([f"gene_{i}" for i in range(n_genes)], name="gene"))
    table["observed_mean"] = mean
    table["model_mean"] = mean * np.exp(rng.normal(0, 0.06, n_genes))
    table["observed_variance"] = mean + 0.5 * mean**2
    table["model_variance"] = table["observed_variance"] * np.exp(rng.normal(0, 0.12, n_genes))
    table["observed_zero_fraction"] = np.exp(-mean)
    table["model_zero_fraction"] = np.clip(np.exp(-mean) + rng.normal(0, 0.003, n_genes), 0, 1)
    return table


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """``make_run(n_cells=10, names=[...])`` writes a run folder and gives its path."""
    return lambda **options: write_run(tmp_path / "run", **options)


@pytest.fixture(scope="session")
def write_invented() -> Callable[..., Path]:
    """``write_invented(folder, n_cells=10, ...)``, for a run that several tests share."""
    return write_run


def write_run(
    folder: Path,
    n_cells: int = 10,
    n_genes: int = 50,
    n_latent: int = 10,
    n_epochs: int = 20,
    names: list[str] = TYPES,
) -> Path:
    tables = folder / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps({"model": "SCVI", "format_version": 1}))
    cells = latent(n_cells, n_latent, names)
    counted = cells["obs:cell_type"].value_counts().to_dict()
    (tables / "summary.json").write_text(json.dumps(summary(n_cells, n_genes, counted)))
    history(n_epochs).to_csv(tables / "history.csv")
    cells.to_csv(tables / "latent.csv", index_label="cell")
    genes(n_genes).to_csv(tables / "genes.csv")
    return folder
