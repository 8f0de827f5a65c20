"""How well are spots with known contents read? vivace, non-negative least squares, scvi-tools.

Spots are sums of 3 to 8 random cells of ../shared/data's reference cells, or come from
``simulate("spatial")``. Measured for every method: the Pearson correlation of estimated and true
proportions over spots, mean over types, and their mean absolute error; of molecules (the share of a
type's molecules in the spot) and of cells (the share of its cells). For the simulation also the
correlation over spots of estimated and true expression of a type, where the type makes up at least a
fifth of the spot, mean over the 50 genes that its state moves most and over types.

Every method gives shares of molecules; shares of cells are those divided by the mean counts of the
reference's cells of each type, scvi-tools' too, which has no such conversion ("r cells, as found":
without it). "true molecules" reads the spots' true shares of molecules: what it misses of the cells is
lost in that conversion, and no method that fits molecules can be expected above it.

Seeds below 100 served to choose the defaults of vivace: figures for others come from fresh ones.

    python benchmarks/destvi.py --first-seed 100     # vivace and least squares, 3 seeds
    python benchmarks/destvi.py --scvi               # scvi-tools 1.4.2 as well (hours)
    python benchmarks/destvi.py --data lymphnode --spots 1000 --seeds 1
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scipy.optimize import nnls

import vivace
from scvi_env import scvi_python
from vivace.analysis.genes import variable_genes
from vivace.datasets.spatial import expression_at

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("VIVACE_SHARED_DATA", ROOT.parent / "shared" / "data"))
LABELS = "label"


@dataclass
class Problem:
    """Reference cells, spots, and what is in the spots."""

    reference: anndata.AnnData
    spots: anndata.AnnData
    of_molecules: pd.DataFrame
    of_cells: pd.DataFrame


def from_cells(
    file: str, labels: str, n_spots: int, n_genes: int, seed: int, *, held_out: bool = False
) -> Problem:
    """Spots that are sums of 3 to 8 cells drawn without looking at their type.

    ``held_out``: one half of the cells is the reference, the spots are made of the other half.
    """
    cells = anndata.read_h5ad(DATA / file)
    cells = cells[:, variable_genes(cells, n_genes)].copy()
    cells.obs[LABELS] = cells.obs[labels].astype(str).to_numpy()
    names = sorted(set(cells.obs[LABELS]))
    reference = source = cells
    if held_out:
        first = np.random.default_rng(99).random(cells.n_obs) < 0.5
        reference, source = cells[first].copy(), cells[~first].copy()
    rng = np.random.default_rng(seed)
    rows, members = [], []
    for spot in range(n_spots):
        n_cells = rng.integers(3, 9)
        rows += [spot] * n_cells
        members += list(rng.choice(source.n_obs, n_cells, replace=False))
    mix = sp.csr_matrix((np.ones(len(rows)), (rows, members)), shape=(n_spots, source.n_obs))
    one_hot = (source.obs[LABELS].to_numpy()[:, None] == np.array(names)).astype(float)
    totals = np.asarray(source.X.sum(1)).reshape(-1, 1)
    spots = anndata.AnnData(
        sp.csr_matrix(mix @ source.X, dtype=np.float32), var=source.var[[]].copy()
    )
    spots.obs_names = [f"spot_{i}" for i in range(n_spots)]
    return Problem(
        reference,
        spots,
        shares(mix @ (one_hot * totals), spots.obs_names, names),
        shares(mix @ one_hot, spots.obs_names, names),
    )


def shares(values: np.ndarray, index: pd.Index, names: list[str]) -> pd.DataFrame:
    """Rows that sum to 1."""
    return pd.DataFrame(values / values.sum(1, keepdims=True), index, names)


def simulated(n_spots: int, n_genes: int, seed: int) -> Problem:
    """Spots of the in-house simulation: smooth regions, states, a technology effect on every gene."""
    reference, spots = vivace.datasets.simulate(
        "spatial", n_spots=n_spots, n_genes=n_genes, seed=seed
    )
    reference.obs[LABELS] = reference.obs["cell_type"].astype(str)
    truth = spots.obsm["proportions"]
    return Problem(reference, spots, truth, truth)


PROBLEMS: dict[str, Callable[[int, int, int], Problem]] = {
    "lymphnode": lambda n, g, s: from_cells("lymphnode_sc_reference.h5ad", "cell_type", n, g, s),
    "lymphnode, other cells": lambda n, g, s: from_cells(
        "lymphnode_sc_reference.h5ad", "cell_type", n, g, s, held_out=True
    ),
    "pbmc_facs, coarse": lambda n, g, s: from_cells("pbmc_facs.h5ad", "cell_type_coarse", n, g, s),
    "pbmc_facs, 10 types": lambda n, g, s: from_cells("pbmc_facs.h5ad", "cell_type", n, g, s),
    "simulated": simulated,
}


# methods ----------------------------------------------------------------------------------------


@dataclass
class Answer:
    """Proportions, and the expression of a type in every spot where the method has it."""

    of_molecules: pd.DataFrame
    of_cells: pd.DataFrame
    seconds: float
    expression: Callable[[str], np.ndarray] | None = None


def read_with_vivace(problem: Problem, seed: int, recipe: str = "fast") -> Answer:
    """Reference and spots end to end, with the defaults."""
    vivace.settings.seed = seed
    torch.manual_seed(seed)
    started = time.perf_counter()
    vivace.CondSCVI.setup_anndata(problem.reference, labels_key=LABELS)
    reference = vivace.CondSCVI(problem.reference)
    reference.train(progress=False, recipe=recipe)
    model = vivace.DestVI.from_model(problem.spots, reference)
    model.train(progress=False, recipe=recipe)
    proportions = model.get_proportions()
    return Answer(
        proportions,
        model.get_proportions(of="cells"),
        time.perf_counter() - started,
        lambda label: model.get_scale_for_ct(label).to_numpy(),
    )


def read_with_least_squares(problem: Problem, seed: int) -> Answer:
    """Non-negative least squares of each spot's shares of genes on the mean shares of the types."""
    del seed
    started = time.perf_counter()
    names = list(problem.of_cells.columns)
    x = problem.reference.X.toarray()
    totals = x.sum(1, keepdims=True)
    of_type = [problem.reference.obs[LABELS].to_numpy() == name for name in names]
    profiles = np.stack([(x / totals)[rows].mean(0) for rows in of_type])
    spots = problem.spots.X.toarray()
    spots = spots / np.maximum(spots.sum(1, keepdims=True), 1)
    found = np.stack([nnls(profiles.T, spot)[0] for spot in spots])
    of_molecules = shares(found, problem.spots.obs_names, names)
    return Answer(of_molecules, in_cells(problem, of_molecules), time.perf_counter() - started)


def read_the_truth(problem: Problem, seed: int) -> Answer:
    """The true shares of molecules, turned into shares of cells as everybody else's."""
    del seed
    return Answer(problem.of_molecules, in_cells(problem, problem.of_molecules), 0.0)


def in_cells(problem: Problem, of_molecules: pd.DataFrame) -> pd.DataFrame:
    """Shares of cells: those of molecules, divided by the mean counts of a type's cells."""
    totals = pd.Series(np.asarray(problem.reference.X.sum(1)).ravel())
    depth = totals.groupby(problem.reference.obs[LABELS].to_numpy()).mean()
    divided = of_molecules / depth[of_molecules.columns]
    return divided.div(divided.sum(axis=1), axis=0)


def read_with_scvi_tools(problem: Problem, seed: int) -> Answer:
    """scvi-tools' CondSCVI (prior "mog", the only one that DestVI takes) and DestVI, its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        reference = anndata.AnnData(
            problem.reference.X, problem.reference.obs[[LABELS]], problem.reference.var[[]]
        )
        reference.write_h5ad(Path(folder) / "reference.h5ad")
        anndata.AnnData(problem.spots.X, problem.spots.obs[[]], problem.spots.var[[]]).write_h5ad(
            Path(folder) / "spots.h5ad"
        )
        worker = Path(__file__).with_name("destvi_scvi.py")
        started = time.perf_counter()
        subprocess.run([str(scvi_python()), str(worker), folder, str(seed)], check=True)
        seconds = time.perf_counter() - started
        found = pd.read_csv(Path(folder) / "proportions.csv", index_col=0)
    found = found[list(problem.of_cells.columns)]
    return Answer(found, in_cells(problem, found), seconds)


METHODS: dict[str, Callable[[Problem, int], Answer]] = {
    "true molecules": read_the_truth,
    "least squares": read_with_least_squares,
    "vivace": read_with_vivace,
    "vivace, classic": lambda problem, seed: read_with_vivace(problem, seed, "classic"),
    "scvi-tools 1.4.2": read_with_scvi_tools,
}


# measures ---------------------------------------------------------------------------------------


def agreement(truth: pd.DataFrame, found: pd.DataFrame) -> tuple[float, float]:
    """Pearson correlation over spots, mean over the types that vary; mean absolute error."""
    found = found[list(truth.columns)]
    of_types = [correlation(truth[c], found[c]) for c in truth if truth[c].std() > 0]
    return float(np.mean(of_types)), float(np.abs(truth - found.to_numpy()).to_numpy().mean())


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson; 0 where one side does not vary."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def within_types(problem: Problem, answer: Answer) -> float:
    """Correlation of a type's expression over spots, for the genes that its state moves most."""
    if answer.expression is None or "state" not in problem.spots.obsm:
        return float("nan")
    loadings = problem.reference.varm["state_loadings"]
    found = []
    for label in problem.of_molecules:
        rows = (problem.of_molecules[label] >= 0.2).to_numpy()
        if rows.sum() < 10:
            continue
        states = problem.spots.obsm["state"][label].to_numpy()[rows]
        genes = np.argsort(-np.abs(loadings[label].to_numpy()))[:50]
        truth = expression_at(problem.reference, label, states)[:, genes]
        guess = answer.expression(label)[rows][:, genes]
        found.append(np.mean([correlation(truth[:, g], guess[:, g]) for g in range(len(genes))]))
    return float(np.mean(found))


def measure(problem: Problem, answer: Answer) -> dict[str, float]:
    """One row of the table."""
    molecules = agreement(problem.of_molecules, answer.of_molecules)
    cells = agreement(problem.of_cells, answer.of_cells)
    as_found = agreement(problem.of_cells, answer.of_molecules)
    return {
        "r molecules": molecules[0],
        "error molecules": molecules[1],
        "r cells": cells[0],
        "error cells": cells[1],
        "r cells, as found": as_found[0],
        "r within types": within_types(problem, answer),
        "seconds": answer.seconds,
    }


def cpu_seconds() -> float:
    """Of this process and of its finished children."""
    return sum(os.times()[:4])


def main() -> None:
    """Print a row for every data set, method and seed, then means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument(
        "--methods", nargs="+", default=["least squares", "vivace"], choices=METHODS
    )
    parser.add_argument("--scvi", action="store_true", help="run scvi-tools as well")
    parser.add_argument("--spots", type=int, default=128)
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    if not DATA.is_dir():
        print(f"{DATA} is missing: set VIVACE_SHARED_DATA to the folder with the real data")
        return
    warnings.simplefilter("ignore")
    rows = []
    for name in options.data:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            problem = PROBLEMS[name](options.spots, options.genes, seed)
            for method in options.methods + ["scvi-tools 1.4.2"] * options.scvi:
                started = cpu_seconds()
                row = measure(problem, METHODS[method](problem, seed))
                row["cpu seconds"] = cpu_seconds() - started  # tells on busy machines
                rows.append({"data": name, "method": method, "seed": seed, **row})
                print(
                    {k: v if isinstance(v, str) else round(v, 4) for k, v in rows[-1].items()},
                    flush=True,
                )
    table = pd.DataFrame(rows).drop(columns="seed").groupby(["data", "method"], sort=False)
    print(table.mean().round(3).to_string())
    print("standard deviation over seeds")
    print(table.std().round(3).to_string())


if __name__ == "__main__":
    main()
