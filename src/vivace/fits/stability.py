"""Was it the seed? One model fitted many times, and how far its answers agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vivace._arguments import read_option
from vivace._settings import settings
from vivace._types import Keys
from vivace.data.columns import text_of
from vivace.errors import (
    InvalidArgumentError,
    TrainingError,
    UnsupportedError,
    check_choice,
    missing_key,
)
from vivace.fits import agreement
from vivace.fits.correction import correction_table
from vivace.fits.folder import kept_in, open_folder
from vivace.fits.one import Arrays
from vivace.fits.plan import Fit, Plan, seeds, training_of
from vivace.fits.progress import Tell, fits_bar
from vivace.fits.side_by_side import run_all
from vivace.fits.verdict import verdict
from vivace.models.base import BaseModel
from vivace.models.contrastivevi import ContrastiveVI
from vivace.models.destvi import DestVI
from vivace.models.sysvi import SysVI
from vivace.runs.layout import DIMENSION
from vivace.tables.cells import MOST_COMPARED, column_of, drawn_rows

QUESTIONS = (
    "neighbours",
    "clusters",
    "labels",
    "mixing",
    "differential",
    "correction",
    "salient_genes",
    "proportions",
)
OF_ONE_FIT = ("seed", "checkpoint", "resume")
"""Arguments of ``train`` that many fits cannot share."""
YARDSTICKS = 3
"""Fits without batches, and as many with shuffled ones."""


@dataclass(frozen=True)
class Stability:
    """What many fits of one model agree on.

    Attributes
    ----------
    model
        Class of the model.
    n_fits
        Fits that ended well.
    failed
        Seed to why there is no fit of it.
    fits
        One row a fit, by its seed: ``epochs``, ``held_out`` (nats per cell), ``seconds``, and
        ``mixing`` (iLISI of the batches) and ``kinds`` (mean F1 of the kinds of cells) where asked.
    cells
        One row a cell that was looked at: ``agreement``, the share of its neighbours that two fits have
        in common, for each latent space; its consensus ``cluster``.
    clusters, together
        Tables of :func:`vivace.fits.agreement.cluster_table` and ``together``.
    labels
        Table of :func:`vivace.fits.agreement.label_table`.
    genes
        Tables of :func:`vivace.fits.agreement.gene_table` one below the other, by ``group``.
    salient_genes
        The same of the genes that the salient state changes, by condition.
    proportions
        One row a type (DestVI): ``mean``, ``spread`` (the mean over spots of the standard deviation over
        fits) and ``correlation`` (mean over pairs of fits).
    correction
        Table of :func:`vivace.fits.correction.correction_table`.
    latent
        (n, L) consensus of the first latent space, of the cells in ``cells``.
    verdict
        A few sentences for a reader who was not there.

    Tables of questions that were not asked, or that the model has no answer to, are None.
    """

    model: str
    n_fits: int
    fits: pd.DataFrame
    verdict: str
    failed: dict[int, str] = field(default_factory=dict)
    cells: pd.DataFrame | None = None
    clusters: pd.DataFrame | None = None
    together: pd.DataFrame | None = None
    labels: pd.DataFrame | None = None
    genes: pd.DataFrame | None = None
    salient_genes: pd.DataFrame | None = None
    proportions: pd.DataFrame | None = None
    correction: pd.DataFrame | None = None
    latent: np.ndarray | None = field(default=None, repr=False)

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables that there are, by name; that of cells with the consensus latent space."""
        names = ("fits", "cells", "clusters", "together", "labels", "genes", "salient_genes")
        found = {n: getattr(self, n) for n in (*names, "proportions", "correction")}
        if self.cells is not None and self.latent is not None:
            numbers = {f"{DIMENSION}{i}": column for i, column in enumerate(self.latent.T)}
            found["cells"] = self.cells.assign(**numbers)
        return {name: table for name, table in found.items() if table is not None}


def stability(
    model: BaseModel | type[BaseModel],
    adata: Any = None,
    n_fits: int = 16,
    *,
    questions: Sequence[str] | None = None,
    labels_key: str | None = None,
    groupby: str | None = None,
    share: float | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    seed: int | None = None,
    n_processes: int | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    tell: Tell | None = None,
) -> Stability:
    """Fit a model many times, with other seeds, and say what all fits agree on.

    Seeds follow each other from ``seed`` on and decide the split, the initial weights, the order of
    cells and all draws. The fits are made side by side in processes of their own.

    Parameters
    ----------
    model
        A model, trained or not, whose options, and if it is trained, training options are taken; or a
        class, for data that were set up for it. It stays as it is.
    adata
        Data of a class; a model has its own.
    n_fits
        At least 2. With batches, three fits without them and three with shuffled ones are made besides,
        as yardsticks for the correction.
    questions
        Out of "neighbours", "clusters", "labels", "mixing", "differential", "correction",
        "salient_genes" and "proportions"; default all that the model and the data have an answer to.
        Clusters need ``vivace[clusters]``.
    labels_key
        Column of ``obs`` with kinds of cells; default the one that was set up.
    groupby
        Column of ``obs`` with groups whose genes are compared with the rest; default ``labels_key``.
    share
        Share of the cells, in (0, 1), that each fit learns from, drawn anew; the others are not seen.
        Default all, of which each fit holds out others.
    model_kwargs, train_kwargs
        Options of a class, and arguments of ``train``.
    seed
        The first; default ``vivace.settings.seed``.
    n_processes
        Fits at once; default as many as cores and memory allow.
    out
        Folder to keep the fits in. Called again with it, fits that are there are not made again, so
        that a study that was stopped goes on and ``n_fits`` can be raised.
    progress
        Show a progress bar, if the terminal is one.
    tell
        Where it is none, called with a line after each.

    Returns
    -------
    :class:`Stability`. Fits that fail are told in it; the others count.

    Raises
    ------
    InvalidArgumentError
        If an argument is out of range, or ``out`` holds fits of something else.
    MissingKeyError
        If a column is not there.
    UnsupportedError
        If ``share`` is given with DestVI, or no question is left.
    TrainingError
        If fewer than two fits end well.
    MissingDependencyError
        If clusters are asked for and igraph is not installed.

    Examples
    --------
    >>> import vivace
    >>> adata = vivace.datasets.simulate("batches", n_cells=120, n_genes=30)
    >>> vivace.SCVI.setup_anndata(adata, labels_key="cell_type")
    >>> model = vivace.SCVI(adata, n_hidden=16, n_latent=4)
    >>> found = vivace.stability(
    ...     model, n_fits=2, questions=["labels"], train_kwargs={"max_epochs": 2}, n_processes=1
    ... )
    >>> list(found.labels)
    ['cells', 'stability', 'lowest', 'found_in']
    """
    n_fits, share = read_option("n_fits", n_fits), read_option("share", share, None)
    plan = make_plan(
        model, adata, questions, labels_key, groupby, share, model_kwargs, train_kwargs
    )
    first = settings.seed if seed is None else read_option("seed", seed)
    fits = fits_of(plan, n_fits, first)
    with kept_in(out) as folder, fits_bar(show=progress, tell=tell) as report:
        open_folder(folder, plan)
        found, failed = run_all(
            plan, fits, folder, read_option("n_processes", n_processes, None), report
        )
    return summarise(plan, found, failed)


def make_plan(
    model: BaseModel | type[BaseModel],
    adata: Any,
    questions: Sequence[str] | None,
    labels_key: str | None,
    groupby: str | None,
    share: float | None,
    model_kwargs: Mapping[str, Any] | None,
    train_kwargs: Mapping[str, Any] | None,
) -> Plan:
    """What is fitted and asked, from the arguments of :func:`stability`."""
    made = model(adata, **dict(model_kwargs or {})) if isinstance(model, type) else model
    if made is model and adata is not None:
        made = model.untrained(adata) if adata is not model.adata else model
    data = made.adata
    if data is None:
        raise InvalidArgumentError("this model was loaded without data: pass adata=")
    labels_key = labels_key or column_of(made, Keys.LABELS)
    groupby = groupby or labels_key
    for argument, name in (("labels_key", labels_key), ("groupby", groupby)):
        if name is not None and name not in data.obs:
            raise missing_key(argument, name, "adata.obs", data.obs.columns)
    if share is not None and isinstance(made, DestVI):
        msg = "share: DestVI learns numbers of each spot, so that spots it has not seen have no answer"
        raise UnsupportedError(msg)
    plan = Plan(
        kind=type(made),
        parts=made._to_save(),
        adata=data,
        train={**training_of(made), **shared_by_all(train_kwargs or {})},
        questions=(),
        labels_key=labels_key,
        groupby=groupby,
        rows=drawn_rows(np.arange(data.n_obs), MOST_COMPARED, 0),
        share=share,
    )
    return replace(plan, questions=asked(made, plan, questions))


def shared_by_all(train_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``train`` that all fits can share: with one seed they would agree on everything.

    Raises
    ------
    InvalidArgumentError
        If one belongs to a single fit.
    """
    for name in OF_ONE_FIT:
        if train_kwargs.get(name) is not None:
            advice = "pass seed=, the first of all" if name == "seed" else "leave it out"
            msg = (
                f'train_kwargs: "{name}" belongs to one fit, and each of many has its own; {advice}'
            )
            raise InvalidArgumentError(msg)
    return dict(train_kwargs)


def asked(model: BaseModel, plan: Plan, questions: Sequence[str] | None) -> tuple[str, ...]:
    """Questions that are asked: those wanted, or all that have an answer."""
    can = answerable(model, plan)
    if questions is None:
        return tuple(name for name in QUESTIONS if can[name])
    for name in questions:
        check_choice("questions", name, QUESTIONS)
        if not can[name]:
            msg = (
                f'questions: "{name}" has no answer for this {type(model).__name__} and these data'
            )
            raise UnsupportedError(msg)
    if len(questions) == 0:
        raise InvalidArgumentError("questions is empty; leave it out to ask all")
    return tuple(name for name in QUESTIONS if name in questions)


def answerable(model: BaseModel, plan: Plan) -> dict[str, bool]:
    """Whether the model and its data have an answer to each question."""
    spots = isinstance(model, DestVI)
    batches = not spots and column_of(model, Keys.BATCH) is not None
    return {
        "neighbours": not spots,
        "clusters": not spots,
        "labels": not spots and plan.labels_key is not None,
        "mixing": batches,
        "differential": model.compares_groups and plan.groupby is not None,
        "correction": batches and not isinstance(model, SysVI),
        "salient_genes": isinstance(model, ContrastiveVI),
        "proportions": spots,
    }


def fits_of(plan: Plan, n_fits: int, first: int) -> list[Fit]:
    """The fits of a study: those asked for, then the yardsticks."""
    yard = YARDSTICKS if "correction" in plan.questions else 0
    return [
        *seeds(n_fits, "as_asked", first),
        *seeds(yard, "no_batch", first),
        *seeds(yard, "shuffled_batch", first),
    ]


# from the answers of the fits to one ------------------------------------------------------------


def summarise(plan: Plan, found: Mapping[Fit, Arrays], failed: Mapping[Fit, str]) -> Stability:
    """What the fits agree on."""
    own = {fit: answers for fit, answers in found.items() if fit.kind == "as_asked"}
    if len(own) < 2:
        why = next(iter(failed.values()), "")
        msg = f"{len(own)} of the fits ended well, and at least 2 are needed. {why}"
        raise TrainingError(msg)
    each = list(own.values())
    spaces = [n.removeprefix("latent:") for n in each[0] if n.startswith("latent:")]
    tables: dict[str, Any] = {}
    if spaces:
        tables |= of_cells(plan, each, spaces)
    if "correction" in plan.questions:
        tables["correction"] = correction_table(plan, found)
    names = plan.model().var_names
    tables["genes"] = of_genes(each, names, "")
    tables["salient_genes"] = of_genes(each, names, "salient_")
    if "proportions" in plan.questions:
        tables["proportions"] = of_proportions(plan, each)
    made = Stability(
        model=plan.kind.__name__,
        n_fits=len(own),
        fits=of_fits(own, tables.pop("kinds", None)),
        verdict="",
        failed={fit.seed: message for fit, message in failed.items() if fit.kind == "as_asked"},
        **tables,
    )
    return replace(made, verdict=verdict(made))


def of_fits(own: Mapping[Fit, Arrays], kinds: np.ndarray | None) -> pd.DataFrame:
    """One row a fit."""
    columns = [
        n for n in ("epochs", "held_out", "seconds", "mixing") if n in next(iter(own.values()))
    ]
    table = pd.DataFrame(
        {name: [float(answers[name]) for answers in own.values()] for name in columns},
        index=pd.Index([fit.seed for fit in own], name="seed"),
    )
    return table if kinds is None else table.assign(kinds=kinds)


def of_cells(plan: Plan, each: Sequence[Arrays], spaces: Sequence[str]) -> dict[str, Any]:
    """Tables of cells, clusters and kinds of cells, and the consensus."""
    tables: dict[str, Any] = {}
    names = plan.model()._cells().obs_names[plan.rows]
    cells = pd.DataFrame(index=pd.Index(names, name="cell"))
    shared = {s: agreement.shared_neighbours([a[f"neighbours:{s}"] for a in each]) for s in spaces}
    for name in spaces:
        column = "agreement" if len(spaces) == 1 else f"agreement_{name}"
        cells[column] = agreement.neighbour_agreement(shared[name], len(each))
    if "clusters" in plan.questions:
        consensus = agreement.consensus_clusters(shared[spaces[0]], settings.seed)
        codes = [answers["clusters"] for answers in each]
        cells["cluster"] = consensus
        tables["clusters"] = agreement.cluster_table(consensus, codes).rename_axis("cluster")
        tables["together"] = pd.DataFrame(agreement.together(consensus, codes)).rename_axis(
            "cluster"
        )
    if "labels" in plan.questions and plan.labels_key is not None:
        codes_of_kinds, kinds = pd.factorize(kinds_of(plan), sort=True)
        nearest = [answers[f"neighbours:{spaces[0]}"] for answers in each]
        tables["labels"] = agreement.label_table(nearest, codes_of_kinds, list(kinds))
        tables["kinds"] = mean_f1(nearest, codes_of_kinds, len(kinds))
    latent = agreement.consensus_latent([answers[f"latent:{spaces[0]}"] for answers in each])
    return {**tables, "cells": cells, "latent": latent.astype(np.float32)}


def kinds_of(plan: Plan) -> pd.Series:
    """Kind of each cell that is looked at, as text; missing ones stay so."""
    values = plan.adata.obs[plan.labels_key].iloc[plan.rows]
    return values.astype(object).map(text_of, na_action="ignore")


def mean_f1(nearest: Sequence[np.ndarray], codes: np.ndarray, n_kinds: int) -> np.ndarray:
    """(F,) mean F1 of the kinds in each fit."""
    known = np.where(codes < 0, n_kinds, codes)
    scores = [agreement.f1_of_kinds(each, known, n_kinds + 1)[:n_kinds] for each in nearest]
    return np.mean(scores, axis=1)


def of_genes(each: Sequence[Arrays], names: Sequence[str], prefix: str) -> pd.DataFrame | None:
    """Tables of the genes of each comparison, one below the other."""
    if f"{prefix}probability" not in each[0]:
        return None
    arrays = {
        name: np.stack([answers[f"{prefix}{name}"] for answers in each])
        for name in ("probability", "fold_change", "found")
    }
    tables = []
    for at, group in enumerate(each[0][f"{prefix}groups"]):
        of_group = {name: values[:, at] for name, values in arrays.items()}
        tables.append(agreement.gene_table(**of_group, genes=names).assign(group=str(group)))
    table = pd.concat(tables)
    return table[["group", *[c for c in table if c != "group"]]]


def of_proportions(plan: Plan, each: Sequence[Arrays]) -> pd.DataFrame:
    """One row a type: its mean proportion, spread over fits, and correlation between them."""
    model = plan.model()
    assert isinstance(model, DestVI)
    shares = np.stack([answers["proportions"] for answers in each])  # (F, spots, types)
    first, second = np.triu_indices(len(each), 1)
    with np.errstate(
        invalid="ignore", divide="ignore"
    ):  # a type that is nowhere correlates with nothing
        pairs = [
            [np.corrcoef(shares[a, :, t], shares[b, :, t])[0, 1] for t in range(shares.shape[2])]
            for a, b in zip(first, second, strict=True)
        ]
    return pd.DataFrame(
        {
            "mean": shares.mean(axis=(0, 1)),
            "spread": shares.std(axis=0).mean(axis=0),
            "correlation": np.mean(pairs, axis=0),
        },
        index=pd.Index(model.cell_type_mapping, name="type"),
    )
