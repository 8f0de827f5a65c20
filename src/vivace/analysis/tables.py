"""The tables of a run folder: what the report is drawn from, and what one may want to read elsewhere."""

from __future__ import annotations

import inspect
import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from vivace._settings import seeded
from vivace._types import Keys
from vivace.analysis.differential_tables import differential_table
from vivace.analysis.populations import write_contrast
from vivace.analysis.splicing_tables import write_splicing
from vivace.errors import NotTrainedError, missing_key

MOST_CELLS = 20_000
MOST_COLUMNS = 6
MOST_CATEGORIES = 50
VERSIONS = ("vivace", "torch", "numpy", "anndata")
LABEL_NAMES = ("cell_type", "celltype", "bulk_labels", "labels")


def write_tables(
    model: Any,
    run: str | Path,
    *,
    source: str | None = None,
    colour_by: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """Write what the report needs to ``run/tables``.

    ``history.csv`` (metrics by epoch), ``latent.csv`` (latent means and, prefixed ``obs:``, columns to
    colour by), ``genes.csv`` (observed and posterior-predictive mean, variance and share of zeros of
    each gene), ``differential.csv`` (every kind of cell against the rest) and, last,
    ``summary.json``. Of more than 20,000 cells as many are drawn at random for
    the tables with a row a cell and for the posterior predictive.

    Models with a background and a salient latent space have the former in ``latent.csv``, the latter in
    ``salient.csv``, and what :func:`vivace.analysis.populations.write_contrast` writes.

    Parameters
    ----------
    model
        A trained model with its data.
    run
        Run folder; ``tables`` is made in it.
    source
        Where the cells came from, in words.
    colour_by
        Columns of ``obs``; by default batch and labels as registered, then those with few values.
    notes
        Sentences about the data to be shown, such as cells that were left out.
    seed
        Seed of the draws.

    Returns
    -------
    The folder of the tables.

    Raises
    ------
    NotTrainedError
        The model is not trained.
    MissingKeyError
        A column of ``colour_by`` does not exist.

    Examples
    --------
    >>> import tempfile, vivace
    >>> adata = vivace.datasets.simulate("batches", n_cells=100, n_genes=30)
    >>> vivace.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = vivace.SCVI(adata)
    >>> model.train(max_epochs=1, progress=False)
    >>> folder = write_tables(model, tempfile.mkdtemp())
    >>> sorted(file.name for file in folder.iterdir())
    ['differential.csv', 'genes.csv', 'history.csv', 'latent.csv', 'summary.json']
    """
    if not model.is_trained:
        msg = f"this {type(model).__name__} is not trained yet: call model.train() first"
        raise NotTrainedError(msg)
    columns = colour_columns(model, colour_by)
    folder = Path(run) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").unlink(missing_ok=True)  # its presence says that all are there
    rows = drawn_rows(model.adata.n_obs, seed)
    history_table(model).to_csv(folder / "history.csv")
    spaces = two_spaces(model)
    latent = latent_table(model, rows, columns, **spaces.get("background", {}))
    latent.to_csv(folder / "latent.csv", index_label="cell")
    if "salient" in spaces:
        salient = latent_table(model, rows, columns, **spaces["salient"])
        salient.to_csv(folder / "salient.csv", index_label="cell")
    labels = label_column(model, columns)
    if hasattr(model, "get_integration_summary"):
        mixing = model.get_integration_summary(labels, indices=rows)
        mixing.to_csv(folder / "integration.csv", index_label="kind")
    with seeded(seed):
        if "salient" in spaces:
            write_contrast(model, folder, {"background": latent, "salient": salient}, labels)
        if hasattr(model, "get_normalized_splicing"):
            write_splicing(model, folder, labels, rows, seed)
        if hasattr(model, "posterior_predictive_sample"):
            gene_table(model, rows).to_csv(folder / "genes.csv")
        compared = None if labels is None else differential_table(model, labels)
        if compared is not None:
            compared.to_csv(folder / "differential.csv", float_format="%.5g")
    summary = {
        **data_summary(model, columns),
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "source": source,
        "notes": [*notes, *drawn_note(rows, model.adata.n_obs)],
        "settings": settings_of(model),
        "versions": {**{p: version(p) for p in VERSIONS}, "python": platform.python_version()},
        "wall_seconds": model.training.get("seconds"),
        "metrics": headline(model, latent, columns),
    }
    text = json.dumps(summary, indent=1, default=str)
    (folder / "summary.json").write_text(text, encoding="utf-8")
    return folder


# rows and columns -------------------------------------------------------------------------------


def drawn_rows(n_cells: int, seed: int) -> np.ndarray:
    """All rows, or ``MOST_CELLS`` of them at random, in order."""
    if n_cells <= MOST_CELLS:
        return np.arange(n_cells)
    return np.sort(np.random.default_rng(seed).choice(n_cells, MOST_CELLS, replace=False))


def drawn_note(rows: np.ndarray, n_cells: int) -> list[str]:
    """Sentence for the report when not all cells are drawn."""
    if len(rows) == n_cells:
        return []
    return [f"Map and comparison use {len(rows):,} cells drawn at random."]


def colour_columns(model: Any, wanted: Sequence[str] | None) -> list[str]:
    """Columns of ``obs`` to colour by."""
    obs = model.adata.obs
    if wanted is not None:
        for name in wanted:
            if name not in obs:
                raise missing_key("colour", name, "adata.obs", obs.columns)
        return list(wanted)
    registered = [column_of(model, key) for key in (Keys.LABELS, Keys.BATCH)]
    telling = [name for name in obs.columns if few_values(obs[name])]
    chosen = [name for name in registered if name is not None] + telling
    return list(dict.fromkeys(chosen))[:MOST_COLUMNS]


def column_of(model: Any, key: str) -> str | None:
    """Column of ``obs`` that was registered for a key of the minibatch."""
    field = model.schema.field(key)
    return field.columns[0] if field is not None and field.columns else None


def few_values(values: pd.Series) -> bool:
    """Whether a column names a manageable number of groups."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return False
    return 1 < values.nunique() <= min(MOST_CATEGORIES, max(2, len(values) // 3))


# one table each ---------------------------------------------------------------------------------


def history_table(model: Any) -> pd.DataFrame:
    """Metrics by epoch, one column each."""
    if not model.history:
        return pd.DataFrame(index=pd.Index([], name="epoch"))
    return pd.concat(list(model.history.values()), axis=1).rename_axis("epoch").sort_index()


def two_spaces(model: Any) -> dict[str, dict[str, str]]:
    """Name to arguments of ``get_latent_representation``; empty for models with one latent space."""
    parameters = inspect.signature(model.get_latent_representation).parameters
    if "representation_kind" not in parameters:
        return {}
    return {name: {"representation_kind": name} for name in ("background", "salient")}


def latent_table(model: Any, rows: np.ndarray, columns: list[str], **space: str) -> pd.DataFrame:
    """Latent means (n, L) and the columns to colour by."""
    means = model.get_latent_representation(indices=rows, **space)
    names = [f"latent_{i}" for i in range(means.shape[1])]
    table = pd.DataFrame(means, index=model.adata.obs_names[rows], columns=names)
    for name in columns:
        table[f"obs:{name}"] = model.adata.obs[name].to_numpy()[rows]
    totals = np.maximum(row_sums(counts(model)[rows]), 1)
    return table.assign(**{"obs:counts per cell, log10": np.log10(totals)})


def gene_table(model: Any, rows: np.ndarray) -> pd.DataFrame:
    """Mean, variance and share of zeros of each gene, in the data and in one simulated data set."""
    observed = moments(counts(model)[rows])
    simulated = moments(model.posterior_predictive_sample(indices=rows))
    both = {"observed": observed, "model": simulated}
    table = {f"{who}_{name}": values[name] for name in observed for who, values in both.items()}
    return pd.DataFrame(table, index=pd.Index(model.var_names, name="gene"))


def counts(model: Any) -> Any:
    """Counts of the model's data, (N, G), genes in the model's order."""
    layer = column_of(model, Keys.X)
    adata = model.adata
    if hasattr(adata, "mod"):  # several matrices: that of the genes, with a row for every cell
        blocks = model._cells().blocks(np.arange(adata.n_obs))
        return sparse.vstack([sparse.csr_array(block) for block in blocks], format="csr")
    matrix = adata.X if layer is None else adata.layers[layer]
    matrix = matrix.tocsr() if hasattr(matrix, "tocsr") else np.asarray(matrix)
    if list(adata.var_names) == list(model.var_names):
        return matrix
    return matrix[:, adata.var_names.get_indexer(model.var_names)]


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


def row_sums(matrix: Any) -> np.ndarray:
    """Total of each row, (N,)."""
    return flat(matrix.sum(axis=1, dtype=np.float64))


def flat(values: Any) -> np.ndarray:
    """One-dimensional float64 array of a row or column."""
    return np.asarray(values, dtype=np.float64).ravel()


# the summary ------------------------------------------------------------------------------------


def data_summary(model: Any, columns: list[str]) -> dict[str, Any]:
    """Size of the data, counts and genes per cell, cells per group."""
    matrix = counts(model)
    totals = row_sums(matrix)
    genes = flat((matrix != 0).sum(axis=1))
    obs = model.adata.obs
    groups = [{"key": c, "cells": sizes(obs[c])} for c in columns if few_values(obs[c])]
    return {
        "n_cells": int(matrix.shape[0]),
        "n_genes": int(matrix.shape[1]),
        "counts_per_cell": {**quantiles(totals), "histogram": histogram(totals)},
        "genes_per_cell": quantiles(genes),
        "zero_fraction": float(1 - genes.sum() / (matrix.shape[0] * matrix.shape[1])),
        "groups": groups,
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


def sizes(values: pd.Series) -> dict[str, int]:
    """Number of cells of each value, missing ones included."""
    found = values.astype("string").fillna("missing").value_counts()
    return {str(name): int(n) for name, n in found.items()}


def settings_of(model: Any) -> dict[str, dict[str, Any]]:
    """Everything that was chosen, by the user or by a recipe."""
    training = dict(model.training)
    options = training.pop("options", {})
    return {
        "data": model.schema.setup_args,
        "model": model.options,
        "training": {**training, **options},
    }


def headline(model: Any, latent: pd.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    """The few numbers one looks at first."""
    from vivace import metrics

    found = []
    loss = held_out_loss(model)
    if loss is not None:
        unit = "pair of cells" if two_spaces(model) else "cell"
        found.append({"name": f"held-out loss, nats per {unit}", "value": loss})
    means = latent.filter(regex=r"^latent_\d+$").to_numpy()
    labels = label_column(model, columns)
    if labels is not None and enough(latent[f"obs:{labels}"]):
        known = latent[f"obs:{labels}"].notna().to_numpy()
        share = metrics.knn_balanced_accuracy(means[known], latent.loc[known, f"obs:{labels}"])
        name = f"{labels} told right by 15 neighbours, mean over its groups"
        found.append({"name": name, "value": share, "share": True})
    batch = column_of(model, Keys.BATCH)
    if batch is not None and batch in columns and enough(latent[f"obs:{batch}"]):
        mixed = float(np.mean(metrics.ilisi(means, latent[f"obs:{batch}"])))
        n = latent[f"obs:{batch}"].nunique()
        found.append({"name": f"{batch} groups around a cell, of {n} (iLISI)", "value": mixed})
    return found


def held_out_loss(model: Any) -> float | None:
    """Held-out loss of the weights the model has, nats per cell, lower is better."""
    table = model.history.get("elbo_validation")
    if table is None or table.empty:
        return None
    values = table["elbo_validation"]
    best = model.training.get("best_epoch")
    return float(values.loc[best] if best in values.index else values.iloc[-1])


def label_column(model: Any, columns: list[str]) -> str | None:
    """Column with kinds of cells: the registered one, or one that is called so."""
    registered = column_of(model, Keys.LABELS)
    if registered in columns:
        return registered
    return next((c for c in columns if c.lower() in LABEL_NAMES), None)


def enough(values: pd.Series) -> bool:
    """Whether there are at least two groups and five cells in the smallest."""
    found = values.value_counts()
    return len(found) > 1 and found.min() >= 5
