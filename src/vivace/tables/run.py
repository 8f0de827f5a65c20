"""The tables of a run folder: what the report is drawn from, and what one may want to read elsewhere."""

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

from vivace._ranks import is_first
from vivace._settings import seeded
from vivace.errors import NotTrainedError
from vivace.models.base import BaseModel
from vivace.models.contrastivevi import ContrastiveVI
from vivace.models.destvi import DestVI
from vivace.models.splicevi import SPLICEVI
from vivace.models.sysvi import SysVI
from vivace.runs import layout
from vivace.runs.write import empty_tables, new_run, write_table
from vivace.tables import cells
from vivace.tables.capabilities import latent_means, that_simulates
from vivace.tables.cells import (
    colour_columns,
    colour_table,
    drawn_rows,
    few_values,
    label_column,
    latent_table,
    sizes,
)
from vivace.tables.contrast import write_contrast
from vivace.tables.counts import counts, fractions, gene_table, row_sums, size_summary
from vivace.tables.differential import differential_table, how_compared
from vivace.tables.expression import telling_genes, write_expression
from vivace.tables.headline import headline
from vivace.tables.splicing import write_splicing
from vivace.tables.spots import write_spots

VERSIONS = ("vivace", "torch", "numpy", "anndata")


def save_run(
    model: BaseModel, run: str | Path, *, reference: BaseModel | None = None, **words: Any
) -> Path:
    """Save a trained model as a run folder, then write its tables; of several processes the first does.

    The model takes the place of what was there in one step, before the tables are made: a table that
    fails does not cost the model.

    Parameters
    ----------
    model
        A trained model with its data.
    run
        Run folder.
    reference
        The model of single cells that spots were read with; it is kept inside the run.
    **words
        As for :func:`write_tables`.

    Returns
    -------
    The run folder.

    Raises
    ------
    NotTrainedError
        The model is not trained.

    Examples
    --------
    >>> import tempfile, vivace
    >>> adata = vivace.datasets.simulate("batches", n_cells=100, n_genes=30)
    >>> vivace.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = vivace.SCVI(adata)
    >>> model.train(max_epochs=1, progress=False)
    >>> folder = save_run(model, tempfile.mkdtemp())
    >>> type(vivace.load(folder)).__name__
    'SCVI'
    """
    check_trained(model)
    run = Path(run)
    if not is_first():
        return run
    with new_run(run) as folder:
        model.save(folder)
        if reference is not None:
            reference.save(folder / layout.REFERENCE)
    write_tables(model, run, **words)
    return run


def write_tables(
    model: BaseModel,
    run: str | Path,
    *,
    source: str | None = None,
    colour_by: Sequence[str] | None = None,
    labels: str | None = None,
    notes: Sequence[str] = (),
    genes: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """Write what the report needs to ``run/tables``.

    ``history.csv`` (metrics by epoch), ``latent.csv`` (latent means and, prefixed ``obs:``, columns to
    colour by), ``genes.csv`` (observed and posterior-predictive mean, variance and share of zeros of
    each gene), ``differential.csv`` (every kind of cell against the rest) and, last,
    ``summary.json``. ``expression.npz`` holds the denoised expression of the most telling genes, see
    :mod:`vivace.tables.expression`. Of more than 100,000 cells as many are drawn at random for the
    tables with a row a cell, and of more than 20,000 as many of those for the posterior predictive.

    Models with a background and a salient latent space have the former in ``latent.csv``, the latter in
    ``salient.csv``, and what :func:`vivace.tables.contrast.write_contrast` writes. A DestVI model has
    the tables of :func:`vivace.tables.spots.write_spots` instead of those of cells.

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
    labels
        Column of ``obs`` with kinds of cells to be compared; by default the registered one, or one that
        is called so.
    notes
        Sentences about the data to be shown, such as cells that were left out.
    genes
        Genes that the map can be coloured by, beside the 200 that tell most.
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
    InvalidArgumentError
        A name of ``genes`` is no gene of the model.

    Examples
    --------
    >>> import tempfile, vivace
    >>> adata = vivace.datasets.simulate("batches", n_cells=100, n_genes=30)
    >>> vivace.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = vivace.SCVI(adata)
    >>> model.train(max_epochs=1, progress=False)
    >>> folder = write_tables(model, tempfile.mkdtemp())
    >>> sorted(file.name for file in folder.iterdir())
    ['differential.csv', 'expression.npz', 'genes.csv', 'history.csv', 'latent.csv', 'summary.json']
    """
    check_trained(model)
    columns = [] if isinstance(model, DestVI) else colour_columns(model, colour_by, labels)
    model._gene_positions(list(genes) or None)  # a wrong name is said before anything is written
    folder = empty_tables(Path(run))
    write_table(folder, layout.HISTORY, history_table(model))
    if isinstance(model, DestVI):
        own = write_spots(model, folder, genes, seed)
    else:
        own = write_cells(model, folder, columns, genes, seed, labels)
    summary = {
        **size_summary(model),
        "groups": [
            {"key": c, "cells": sizes(model.adata.obs[c])}
            for c in columns
            if few_values(model.adata.obs[c])
        ],
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "source": source,
        "settings": settings_of(model),
        "versions": {**{p: version(p) for p in VERSIONS}, "python": platform.python_version()},
        "wall_seconds": model.training.get("seconds"),
        **own,
        "notes": [*notes, *own.get("notes", [])],
    }
    text = json.dumps(summary, indent=1, default=str)
    (folder / layout.SUMMARY).write_text(text, encoding="utf-8")
    return folder


def check_trained(model: BaseModel) -> None:
    """Raise unless the model is trained."""
    if not model.is_trained:
        msg = f"this {type(model).__name__} is not trained yet: call model.train() first"
        raise NotTrainedError(msg)


def write_cells(
    model: BaseModel,
    folder: Path,
    columns: list[str],
    genes: Sequence[str],
    seed: int,
    labels: str | None = None,
) -> dict[str, Any]:
    """Write the tables of a model of cells; returns what its summary says beside the common facts."""
    n = model.adata.n_obs
    placed = drawn_rows(np.arange(n), cells.MOST_CELLS, seed)
    rows = drawn_rows(placed, cells.MOST_COMPARED, seed)
    spaces = latent_tables(model, placed, columns)
    for table, content in zip((layout.LATENT, layout.SALIENT), spaces.values(), strict=False):
        write_table(folder, table, content)
    compared_spaces = {name: t.loc[np.isin(placed, rows)] for name, t in spaces.items()}
    labels = label_column(model, columns) if labels is None else labels
    if isinstance(model, SysVI):
        mixing = model.get_integration_summary(labels, indices=rows)
        write_table(folder, layout.INTEGRATION, mixing)
    of_rows = counts(model, rows)
    with seeded(seed):
        if isinstance(model, ContrastiveVI):
            write_contrast(model, folder, compared_spaces, labels)
        if isinstance(model, SPLICEVI):
            write_splicing(model, folder, labels, rows, seed)
        simulating = that_simulates(model)
        if simulating is not None:
            simulated = gene_table(simulating, of_rows, rows).set_axis(model.var_names)
            write_table(folder, layout.GENES, simulated)
        compared = None if labels is None else differential_table(model, labels)
        if compared is not None:
            write_table(folder, layout.DIFFERENTIAL, compared)
        write_expression(model, folder, placed, telling_genes(model, compared, genes, rows))
    first = next(iter(compared_spaces.values()))
    return {
        **({} if compared is None else {"comparison": how_compared(model)}),
        "notes": of_drawn(n, len(placed), len(rows)),
        "metrics": headline(model, first, columns, of_rows),
        "fractions": fractions(of_rows),
    }


def of_drawn(n: int, placed: int, compared: int) -> list[str]:
    """What was asked of a part of the cells alone, in sentences."""
    if placed < n:
        return [f"Map and comparison use {placed:,} and {compared:,} cells drawn at random."]
    if compared < n:
        return [f"Comparison uses {compared:,} cells drawn at random."]
    return []


def latent_tables(
    model: BaseModel, rows: np.ndarray, columns: list[str]
) -> dict[str, pd.DataFrame]:
    """Name of each latent space of the model to its table."""
    adata = model.adata
    totals = np.concatenate([row_sums(block) for block in model._cells().blocks(rows)])
    colours = colour_table(adata.obs, adata.obs_names, rows, columns, totals)
    means = latent_means(model, indices=rows)
    return {name: latent_table(of_space, colours) for name, of_space in means.items()}


def history_table(model: BaseModel) -> pd.DataFrame:
    """Metrics by epoch, one column each."""
    if not model.history:
        return pd.DataFrame()
    return pd.concat(list(model.history.values()), axis=1).sort_index()


def settings_of(model: BaseModel) -> dict[str, dict[str, Any]]:
    """Everything that was chosen, by the user or by a recipe."""
    training = dict(model.training)
    options = training.pop("options", {})
    return {
        "data": model.schema.setup_args,
        "model": model.options,
        "training": {**training, **options},
    }
