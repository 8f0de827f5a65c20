"""Which training schedule gives the better model in the least time? Search, then a fair comparison.

Successive halving over schedules on the searched data sets, judged on validation cells; then the
winner ("fast"), "classic" and scvi-tools' defaults on test cells that the search never saw, and on
two data sets that it never saw at all. Every run is one row of a CSV file, written when it ends: a
stopped search goes on where it was.

    python benchmarks/recipe.py baseline            # scvi-tools 1.4.2, its defaults
    python benchmarks/recipe.py search              # successive halving
    python benchmarks/recipe.py passes              # how many, of which size, on all training cells
    python benchmarks/recipe.py final               # fast and classic on test cells
    python benchmarks/recipe.py full                # all three, on all training cells
    python benchmarks/recipe.py table               # docs/recipe.md's tables, from the CSV files
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch

import vivace
from cells import CELLS, MAX_TRAIN, split
from scvi_env import scvi_python
from vivace import metrics
from vivace.models.scvi_recipe import SCVI_FEW, Passes, scvi_epochs

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2)
WIDE = (  # real data sets of the search with hundreds of training cells and more
    "pbmc_three_studies",
    "glioblastoma_panobinostat",
    "celllines_multitech",
    "pbmc_facs",
    "pbmc3k",
)
PASSES = {  # batch size, passes, peak learning rate, KL weight at the start
    True: [
        (32, 30, 6e-2, 1.0),
        (64, 30, 6e-2, 1.0),
        (64, 20, 6e-2, 1.0),
        (64, 20, 6e-2, 2.0),
        (64, 20, 8e-2, 2.0),
        (64, 20, 8e-2, 3.0),
    ],
    False: [
        (32, 11, 6e-2, 1.0),
        (64, 11, 6e-2, 1.0),
        (64, 11, 8e-2, 1.0),
        (64, 8, 6e-2, 1.0),
        (128, 16, 8e-2, 1.0),
    ],
}
DEPTHS = (30, 80)
"""Median counts of the shallow twins of cells to be judged, which nothing was trained on."""
SCORED = ("elbo", "knn", "ilisi", *(f"transfer_{goal}" for goal in DEPTHS))
METHODS = ("fast", "classic", "scvi-tools")
KEYS = ["method", "data", "seed"]
AS_THEY_ARE = {"encoder_depth_scaling": 0.0}
"""The encoder sees the counts as they are: the published model, of which the schedule was searched."""
Row = dict[str, float | str | int]


def measure(latent: np.ndarray, obs: pd.DataFrame, fit: np.ndarray, judge: np.ndarray) -> Row:
    """Structure and mixing of a latent space.

    ``knn`` and ``knn_balanced``: labels of ``judge`` cells from their 15 nearest ``fit`` cells;
    ``transfer_30`` and so on: the same of their shallow twins; silhouette and LISI: over both.
    """
    known = obs["label"].to_numpy() != "unlabelled"
    fit, judge = fit[known[fit]], judge[known[judge]]
    both = np.concatenate([fit, judge])
    labels, batch = obs["label"].to_numpy(), obs["batch"].to_numpy()
    knn = metrics.label_transfer(latent[fit], labels[fit], latent[judge], labels[judge])
    return {
        "knn": knn["accuracy"],
        "knn_balanced": knn["balanced_accuracy"],
        "silhouette": metrics.silhouette(latent[both], labels[both]),
        "ilisi": metrics.ilisi(latent[both], batch[both]) if len(set(batch)) > 1 else np.nan,
        **carried(latent, obs, fit),
    }


def with_shallow_twins(adata: anndata.AnnData, rows: np.ndarray) -> anndata.AnnData:
    """The cells, and below them these rows again as they would be at each shallower depth.

    ``obs["depth"]`` is 0 for cells as they are. The twins are nobody's training cells.
    """
    parts = [adata.copy()]
    parts[0].obs["depth"] = 0
    for goal in DEPTHS:
        twins = adata[rows].copy()
        twins.X = metrics.thin_to_depth(twins.X, goal, seed=goal)
        twins.obs["depth"] = goal
        parts.append(twins[np.asarray(twins.X.sum(axis=1)).ravel() > 0])
    return anndata.concat(parts, index_unique="-")


def carried(latent: np.ndarray, obs: pd.DataFrame, fit: np.ndarray) -> Row:
    """Labels of the shallow twins from the cells trained on, at each depth."""
    labels, depth = obs["label"].to_numpy(), obs["depth"].to_numpy()
    found: Row = {}
    for goal in DEPTHS:
        twins = np.flatnonzero((depth == goal) & (labels != "unlabelled"))
        rows = np.concatenate([fit, twins])
        moved = metrics.depth_transfer(latent[rows], labels[rows], depth[rows] == goal)
        found |= {f"transfer_{goal}": moved["accuracy"]}
        found |= {f"transfer_{goal}_balanced": moved["balanced_accuracy"]}
    return found


def run_vivace(
    adata: anndata.AnnData, seed: int, judge: str, most: int = MAX_TRAIN, **options
) -> Row:
    """Train SCVI on the training cells and judge it on the "judge" or "test" cells.

    The recipe "fast" is that of today's model, all else of the published one.
    """
    cells = split(adata.n_obs, seed, most)
    rows = np.concatenate([cells.train, cells.validation])
    seen = adata[rows].copy()  # recipes count cells, so those held out must not be there
    vivace.settings.seed = seed
    vivace.SCVI.setup_anndata(seen, batch_key="batch")
    model = vivace.SCVI(seen, **({} if options.get("recipe") == "fast" else AS_THEY_ARE))
    places = np.split(np.arange(len(rows)), [len(cells.train)])
    wall, cpu = time.perf_counter(), time.process_time()
    model.train(
        seed=seed,
        accelerator="cpu",
        progress=False,
        datasplitter_kwargs={"external_indexing": places},
        **options,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    held = getattr(cells, judge)
    shown = with_shallow_twins(adata, held)
    draws = [float(model.get_elbo(adata, indices=held)) for _ in range(10)]
    curve = model.history["elbo_validation"].iloc[:, 0]
    return {
        "elbo": float(np.mean(draws)),
        **measure(model.get_latent_representation(shown), shown.obs, cells.train, held),
        "seconds": wall,
        "cpu_seconds": cpu,
        "epochs": len(curve),
        "overfit": float(curve.iloc[-1] / curve.min() - 1),  # 0.003 is the most a recipe may lose
    }


def warm_up() -> None:
    """Train for a moment, so that compiling the kernels (once a process) is in nobody's time."""
    adata = vivace.datasets.simulate("batches", n_cells=100, n_genes=50)
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    vivace.SCVI(adata).train(max_epochs=1, accelerator="cpu", progress=False)


def run_scvi_tools(adata: anndata.AnnData, seed: int, most: int = MAX_TRAIN) -> Row:
    """Train scvi-tools' SCVI with its defaults and judge it on test cells."""
    parts = split(adata.n_obs, seed, most)
    adata = with_shallow_twins(adata, parts.test)
    worker = Path(__file__).parent / "scvi_worker.py"
    with tempfile.TemporaryDirectory() as folder:
        cells, rows, out = (f"{folder}/{name}" for name in ("cells.h5ad", "split.npz", "out"))
        adata.write_h5ad(cells)
        np.savez(rows, **vars(parts), others=parts.others(adata.n_obs))
        command = [str(scvi_python()), str(worker), cells, rows, str(seed), out]
        subprocess.run(command, check=True, capture_output=True)
        result = json.loads(Path(out + ".json").read_text())
        latent = np.load(out + ".npy")
    return {
        "elbo": result["elbo"],
        **measure(latent, adata.obs, parts.train, parts.test),
        "seconds": result["seconds"],
        "cpu_seconds": result["cpu_seconds"],
        "epochs": result["epochs"],
    }


def collect(
    file: str, jobs: Iterable[tuple[str, str, int]], run: Callable[[str, anndata.AnnData, int], Row]
) -> pd.DataFrame:
    """Run every (method, data, seed) that the CSV file does not have yet, adding one row each."""
    path = RESULTS / file
    RESULTS.mkdir(exist_ok=True)
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {tuple(row[key] for key in KEYS) for row in rows}
    for method, data, seed in jobs:
        if (method, data, seed) in done:
            continue
        adata = CELLS[data].load()
        row = dict(zip(KEYS, (method, data, seed), strict=True)) | run(method, adata, seed)
        add_row(path, row)
    return pd.read_csv(path)


def add_row(path: Path, row: Row) -> None:
    """One run to the CSV file, which other processes may write to as well."""
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    pd.DataFrame([*rows, row]).to_csv(path, index=False, float_format="%.6g")
    print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


def baseline() -> None:
    """Train scvi-tools with its defaults on every data set."""
    jobs = [("scvi-tools", data, seed) for seed in SEEDS for data in by_importance()]
    collect("recipe_baseline.csv", jobs, lambda _, adata, seed: run_scvi_tools(adata, seed))


def by_importance() -> list[str]:
    """Real data sets before simulated ones, and of those the ones with batches first."""
    return sorted(CELLS, key=lambda n: (CELLS[n].simulated is not None, CELLS[n].batch is None))


def search() -> None:
    """Successive halving: many schedules on little evidence, then few on much."""
    schedules = candidates()
    searched = [name for name in by_importance() if CELLS[name].searched]
    first = [name for name in searched if CELLS[name].quick]
    alive = list(schedules)
    for round_number, (data_sets, seeds, keep) in enumerate(
        [(first, SEEDS[:1], 3), (searched, SEEDS[:1], 2), (searched, SEEDS, 1)]
    ):
        jobs = [(name, data, seed) for data in data_sets for seed in seeds for name in alive]
        rows = collect(
            "recipe_search.csv",
            jobs,
            lambda name, adata, seed: run_vivace(
                adata, seed, "judge", **fitted(schedules[name], adata)
            ),
        )
        seen = rows.method.isin(alive) & rows.data.isin(data_sets) & rows.seed.isin(seeds)
        score = rank(rows[seen])
        print(f"round {round_number + 1}\n{score.to_string()}", flush=True)
        alive = list(score.index[:keep])


def candidates() -> dict[str, dict[str, object]]:
    """Schedules to choose from, all one-cycle and of about the same cost.

    A larger minibatch gets more passes, since its steps cost less per cell. The KL weight is 1 all
    along, or falls from 2 to 1: a strong KL term while much is still moving drives batches out of the
    latent space. The momentum is that of the batch norms.
    """
    grid = [  # batch size, passes, learning rate, KL weight at the start, momentum
        (32, 11, 4e-2, 2.0, 0.01),
        (32, 11, 4e-2, 2.0, 0.1),
        (32, 11, 4e-2, 1.0, 0.1),
        (32, 11, 6e-2, 1.0, 0.1),
        (32, 11, 8e-2, 1.0, 0.1),
        (32, 11, 8e-2, 2.0, 0.1),
        (64, 15, 8e-2, 1.0, 0.1),
    ]
    return {
        f"batch {batch}, lr {lr:g}, KL {kl:g}, momentum {momentum:g}": {
            "batch_size": batch,
            "max_epochs": at_least(passes),
            "lr": lr,
            "min_kl_weight": kl,
            "kl_warmup_fraction": 0.6,
            "batch_norm_momentum": momentum,
        }
        for batch, passes, lr, kl, momentum in grid
    }


def fitted(schedule: dict[str, object], adata: anndata.AnnData) -> dict[str, object]:
    """Without batches a strong KL term has nothing to drive out, so its weight is 1."""
    return schedule if adata.obs["batch"].nunique() > 1 else schedule | {"min_kl_weight": 1.0}


def at_least(passes: int) -> Callable[[int, int], int]:
    """So many passes, or more for so few cells that the fast recipe gives them more."""
    rule = up_to_20_000_cells(11)
    return lambda n_cells, batch_size: max(passes, scvi_epochs(n_cells, batch_size, rule))


def passes() -> None:
    """Of minibatches, passes and the KL weight at the start, on as many cells as there are."""
    for batches, schedules in PASSES.items():
        grid = {
            f"batch {b}, {n} passes, lr {lr:g}, KL {kl:g}": (b, n, lr, kl)
            for b, n, lr, kl in schedules
        }
        searched = [n for n in WIDE if bool(CELLS[n].batch) == batches]
        jobs = [(name, data, seed) for seed in SEEDS[:2] for data in searched for name in grid]
        rows = collect(
            "recipe_passes.csv",
            jobs,
            lambda name, adata, seed, grid=grid: run_vivace(
                adata, seed, "judge", adata.n_obs, **at_length(*grid[name])
            ),
        )
        shown = ["elbo", "knn", "silhouette", "ilisi", "cpu_seconds", "overfit"]
        rows = rows[rows.method.isin(grid)]
        print(rows.groupby(["data", "method"], sort=False)[shown].mean().round(3).to_string())


def at_length(batch_size: int, n_passes: int, lr: float, kl: float) -> dict[str, object]:
    """Options of a schedule with the fast recipe's rule for few cells."""
    return {
        "batch_size": batch_size,
        "max_epochs": partial(scvi_epochs, passes=up_to_20_000_cells(n_passes)),
        "lr": lr,
        "min_kl_weight": kl,
        "kl_warmup_fraction": 0.8,
    }


def up_to_20_000_cells(n_passes: int) -> Passes:
    """So many passes; more over few cells, and fewer over many."""
    return Passes(n_passes, of_many=20_000 * n_passes, of_few=SCVI_FEW * n_passes)


def rank(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean rank of each method over data sets and seeds (0 is best, 1 is worst), best first.

    ELBO, kNN, batch mixing and labels carried to either depth count the same; a data set without batches
    has no mixing to rank, and runs from before there were depths none of those.
    """
    rows = rows.reindex(columns=[*KEYS, *SCORED])
    of_run = rows.groupby(["data", "seed"])
    ranks = pd.DataFrame(
        {key: of_run[key].rank(ascending=False, pct=True) for key in SCORED}
    ).assign(method=rows.method)
    mean = ranks.groupby("method").mean()
    return mean.assign(score=mean.mean(axis=1)).sort_values("score").round(3)


def final(methods: tuple[str, ...] = METHODS[:2]) -> None:
    """Fast and classic on test cells."""
    jobs = [(m, data, seed) for seed in SEEDS for m in methods for data in by_importance()]
    collect(
        "recipe_final.csv",
        jobs,
        lambda name, adata, seed: run_vivace(adata, seed, "test", recipe=name),
    )


def full(methods: tuple[str, ...] = METHODS) -> None:
    """All three on test cells, after training on 60 % of the cells, however many."""

    def run(method: str, adata: anndata.AnnData, seed: int) -> Row:
        if method == "scvi-tools":
            return run_scvi_tools(adata, seed, adata.n_obs)
        return run_vivace(adata, seed, "test", adata.n_obs, recipe=method)

    large = [name for name in by_importance() if CELLS[name].large]
    jobs = [(m, data, s) for s in SEEDS for data in large for m in methods]
    jobs.sort(key=lambda job: CELLS[job[1]].searched)  # those kept out first, all seeds
    collect("recipe_full.csv", jobs, run)


def table() -> None:
    """Print the final comparisons: up to 640 training cells, then as many as there are."""
    for files in (["recipe_baseline.csv", "recipe_final.csv"], ["recipe_full.csv"]):
        there = [RESULTS / file for file in files if (RESULTS / file).exists()]
        print_table(pd.concat([pd.read_csv(file) for file in there]))


def print_table(rows: pd.DataFrame) -> None:
    """Means over seeds, and fast against each of the others."""
    carried = [f"transfer_{goal}{kind}" for goal in DEPTHS for kind in ("", "_balanced")]
    shown = ["elbo", "knn", "knn_balanced", "silhouette", "ilisi", *carried, "cpu_seconds"]
    rows = rows.reindex(columns=list(dict.fromkeys([*rows.columns, *shown])))
    of_data = rows.groupby(["data", "method"])
    means = of_data[shown].mean().join(of_data["elbo"].std().rename("elbo sd"))
    means.insert(0, "seeds", of_data.size())
    print(means.round(3).to_string(na_rep=""), "\n")
    for other in sorted(set(rows.method) - {"fast"}):
        print(f"fast against {other}, on the seeds both have\n{against(rows, other).to_string()}\n")


def against(rows: pd.DataFrame, other: str) -> pd.DataFrame:
    """Differences of fast to another method per data set, and whether the promise holds."""
    by_method = rows.set_index(["data", "seed", "method"]).unstack("method")
    both = by_method.dropna(subset=[("elbo", "fast"), ("elbo", other)])
    mean = both.groupby("data").mean(numeric_only=True)
    out = pd.DataFrame(
        {
            "seeds": both.groupby("data").size(),
            "elbo gain": mean["elbo"]["fast"] - mean["elbo"][other],
            "knn gain": mean["knn"]["fast"] - mean["knn"][other],
            **{
                f"transfer {goal} gain": mean[f"transfer_{goal}"]["fast"]
                - mean[f"transfer_{goal}"][other]
                for goal in DEPTHS
            },
            "mixing ratio": mean["ilisi"]["fast"] / mean["ilisi"][other],
            "speed-up": mean["cpu_seconds"][other] / mean["cpu_seconds"]["fast"],
        }
    )
    out["kept"] = (
        (out["elbo gain"] >= 0)
        & (out["knn gain"] >= -0.01)
        & ~(out["mixing ratio"] < 0.95)
        & ~(out[[f"transfer {goal} gain" for goal in DEPTHS]] < -0.01).any(axis=1)
        & (out["speed-up"] >= (100 if other == "scvi-tools" else 1))
    )
    return out.round(3)


COMMANDS = {
    "baseline": baseline,
    "search": search,
    "passes": passes,
    "final": final,
    "full": full,
    "table": table,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, help="of final and full: only these"
    )
    args = parser.parse_args()
    if args.methods and args.command not in ("final", "full"):
        parser.error(f"--methods belongs to final and full, not to {args.command}")
    if args.command in ("search", "passes", "final", "full"):
        warm_up()
    COMMANDS[args.command](**{"methods": tuple(args.methods)} if args.methods else {})


if __name__ == "__main__":
    main()
