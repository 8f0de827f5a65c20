"""One fit and what it is asked: plain arrays by name, which fit into a file."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd

from vivace._settings import default_seed
from vivace._types import Keys
from vivace.errors import VivaceError, VivaceWarning
from vivace.fits.agreement import cluster_codes, nearest_cells
from vivace.fits.plan import Fit, Plan
from vivace.metrics import ilisi
from vivace.models.base import BaseModel
from vivace.models.contrastivevi import ContrastiveVI
from vivace.models.destvi import DestVI
from vivace.tables.capabilities import latent_means
from vivace.tables.cells import column_of
from vivace.tables.differential import differential_table
from vivace.tables.headline import held_out_loss

Arrays = dict[str, Any]
"""Numpy arrays and numbers by name."""
DRAWS = 2000
"""Of the comparison that finds genes of the salient state."""
HELD_OUT = 0.1
"""Share of the cells of a fit with a ``share`` that it is judged by."""


def run_fit(plan: Plan, fit: Fit) -> Arrays:
    """Fit the model of a plan with one seed, and ask it.

    Parameters
    ----------
    plan, fit
        What is fitted, and with which chance.

    Returns
    -------
    Arrays by name; see :func:`answers`.

    Raises
    ------
    VivaceError
        As training and questions do.
    KeyboardInterrupt
        If training was interrupted: half a fit says nothing.
    """
    started = time.perf_counter()
    with default_seed(fit.seed), warnings.catch_warnings():
        warnings.simplefilter("ignore", VivaceWarning)  # said once, when the first model was made
        model = with_batches(plan, fit).untrained()
        model.train(**{**training(plan, fit, model), "progress": False})
        if model.training["stopped"] == "interrupted":
            raise KeyboardInterrupt
        found = answers(plan, fit, model)
    return {**found, "seconds": np.float64(time.perf_counter() - started)}


def with_batches(plan: Plan, fit: Fit) -> BaseModel:
    """The model of a plan; for a yardstick, of its data without batches or with shuffled ones."""
    model = plan.model()
    column = column_of(model, Keys.BATCH)
    if fit.kind == "as_asked" or column is None:
        return model
    data = plan.adata.copy()
    given = dict(model.schema.setup_args)
    if fit.kind == "no_batch":
        given["batch_key"] = None
    else:
        order = np.random.default_rng(fit.seed).permutation(data.n_obs)
        data.obs[column] = data.obs[column].to_numpy()[order]
    describe = "setup_mudata" if hasattr(data, "mod") else "setup_anndata"
    getattr(plan.kind, describe)(data, **given)
    return model.untrained(data)


def training(plan: Plan, fit: Fit, model: BaseModel) -> dict[str, Any]:
    """Arguments of ``train``: those of the plan, and which cells are learned from."""
    if plan.share is None:
        return plan.train
    n = model._cells().n_cells
    order = np.random.default_rng(fit.seed).permutation(n)[: max(2, round(plan.share * n))]
    held = max(1, round(HELD_OUT * len(order)))
    parts = [np.sort(order[held:]), np.sort(order[:held]), []]
    return {**plan.train, "datasplitter_kwargs": {"external_indexing": parts}}


def answers(plan: Plan, fit: Fit, model: BaseModel) -> Arrays:
    """What a trained model says.

    Parameters
    ----------
    plan, fit
        Which questions are asked; a yardstick is asked of its latent space alone.
    model
        A trained model.

    Returns
    -------
    ``epochs`` and ``held_out`` (nats per cell; not a number without held-out cells); for each latent
    space ``latent:name`` (n, L) and
    ``neighbours:name`` (n, k); ``clusters`` (n,) and ``mixing`` of the first space; of each comparison
    ``probability``, ``fold_change``, ``found`` (groups, genes) and ``groups``, those of salient genes
    under ``salient_...``; ``proportions`` (spots, types).
    """
    loss = held_out_loss(model)
    found: Arrays = {
        "epochs": np.int64(model.training["epochs"]),
        "held_out": np.float64(np.nan if loss is None else loss),
    }
    if isinstance(model, DestVI):
        return {**found, "proportions": model.get_proportions().to_numpy(np.float32)}
    spaces = latent_means(model, indices=plan.rows)
    for name, latent in spaces.items():
        found[f"latent:{name}"] = latent.astype(np.float32)
        found[f"neighbours:{name}"] = nearest_cells(latent)
    first = next(iter(spaces.values()))
    batch = column_of(plan.model(), Keys.BATCH)
    if "mixing" in plan.questions and batch is not None:
        found["mixing"] = np.float64(ilisi(first, plan.adata.obs[batch].to_numpy()[plan.rows]))
    if fit.kind != "as_asked":
        return found
    if "clusters" in plan.questions:
        found["clusters"] = cluster_codes(found[f"neighbours:{next(iter(spaces))}"], fit.seed)
    return found | genes(plan, model)


def first_space(model: BaseModel, rows: np.ndarray) -> np.ndarray:
    """Means of the first latent space of some cells."""
    return next(iter(latent_means(model, indices=rows).values()))


def genes(plan: Plan, model: BaseModel) -> Arrays:
    """Comparisons of groups, and of target cells with themselves without their salient state."""
    found: Arrays = {}
    if "differential" in plan.questions and plan.groupby is not None:
        table = differential_table(model, plan.groupby)
        found |= {} if table is None else by_group(table, model.var_names)
    if "salient_genes" in plan.questions and isinstance(model, ContrastiveVI):
        table = model.salient_differential_expression(n_samples_overall=DRAWS)
        of_fdr = next(name for name in table if str(name).startswith("is_de_fdr"))
        table = table.rename(columns={of_fdr: "found"})
        found |= {f"salient_{k}": v for k, v in by_group(table, model.var_names).items()}
    return found


def by_group(table: pd.DataFrame, names: pd.Index) -> Arrays:
    """(groups, genes) arrays of a table with a row for each gene and group."""
    groups = sorted(map(str, table["group1"].unique()))
    found: Arrays = {"groups": np.array(groups)}
    columns = {"probability": "proba_de", "fold_change": "lfc_median", "found": "found"}
    for name, column in columns.items():
        wide = table.assign(group1=table["group1"].astype(str)).pivot_table(
            index="group1", columns=table.index, values=column, observed=True, aggfunc="first"
        )
        found[name] = wide.loc[groups, list(names)].to_numpy(np.float32)
    return found


def attempt(plan: Plan, fit: Fit) -> tuple[Fit, Arrays | None, str]:
    """A fit in a process of its own: its answers, or None and why there are none."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return fit, run_fit(plan, fit), ""
    except (VivaceError, MemoryError, ArithmeticError, RuntimeError) as error:
        return fit, None, f"{type(error).__name__}: {error}"
