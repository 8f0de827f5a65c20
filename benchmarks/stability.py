"""Does "it stands in all fits" mean that it is right? And what do many fits cost?

python benchmarks/stability.py truth   # planted types, false groups and genes on simulated batches
python benchmarks/stability.py real    # pbmc_three_studies and pbmc_ifnb: what stands, and what does not
python benchmarks/stability.py time    # 16 fits of 3,600 cells x 2,000 genes with their yardsticks
python benchmarks/stability.py tune    # other options against the defaults on three data sets
"""

from __future__ import annotations

import argparse
import resource
import time

import anndata
import numpy as np
import pandas as pd

import vivace
from cells import DATA
from vivace.analysis.genes import variable_genes

SEEDS = (0, 1, 2)
SETS = {
    "pbmc_three_studies": ("study", "cell_type"),
    "pbmc_ifnb": (None, "cell_type_pred"),
    "celllines_multitech": ("batch", "cell_type"),
}
"""Real data with their columns of batches and of kinds of cells."""
DELTA = 0.25
"""Log2 fold change from which a gene is called changed."""
EDGES = (0, 0.25, 0.5, 0.75, 0.999, 1.001)
BINS = ("under 25 %", "25 - 50 %", "50 - 75 %", "75 - 99 %", "all fits")


def simulated(seed: int) -> anndata.AnnData:
    """Six types in three batches; ``group`` splits one of them into halves at random."""
    adata = vivace.datasets.simulate("batches", n_cells=2000, n_genes=800, seed=seed)
    types = adata.obs["cell_type"].astype(str).to_numpy()
    half = np.where(np.random.default_rng(seed).random(len(types)) < 0.5, "a", "b")
    adata.obs["group"] = np.where(types == "type_0", np.char.add("type_0", half), types)
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    return adata


def right(adata: anndata.AnnData, genes: pd.DataFrame) -> np.ndarray:
    """Whether each row names a gene that changes by ``DELTA`` or more, in the direction said."""
    truth = adata.varm["log2_fold_change"]
    change = np.array(
        [truth.loc[gene, group] for gene, group in zip(genes.index, genes["group"], strict=True)]
    )
    return (np.abs(change) >= DELTA) & (np.sign(change) == np.sign(genes["fold_change"]))


def truth(n_fits: int) -> None:
    """Planted types and false groups; share right of genes by the share of fits that find them."""
    tables = []
    print("seed kind cells stability found_in")
    for seed in SEEDS:
        adata = simulated(seed)
        options = {"n_fits": n_fits, "seed": 100 * seed, "progress": False}
        split = vivace.stability(
            vivace.SCVI, adata, labels_key="group", questions=["labels"], **options
        )
        for kind, row in split.labels.iterrows():
            print(f"{seed} {kind} {row['cells']:.0f} {row['stability']:.3f} {row['found_in']:.0f}")
        found = vivace.stability(
            vivace.SCVI, adata, labels_key="cell_type", questions=["differential"], **options
        )
        genes = found.genes.assign(seed=seed, right=right(adata, found.genes))
        tables.append(genes[genes["found_in"] > 0])
    genes = pd.concat(tables)
    share = pd.cut(genes["found_in"] / n_fits, EDGES, labels=BINS)
    print("\nfound_in genes said right lowest_seed highest_seed")
    for name, rows in genes.groupby(share, observed=True):
        by_seed = rows.groupby("seed")["right"].mean()
        print(
            f"{name!r} {len(rows)} {rows['probability'].mean():.3f} {rows['right'].mean():.3f} "
            f"{by_seed.min():.3f} {by_seed.max():.3f}"
        )


def real_cells(name: str, n_genes: int = 2000) -> anndata.AnnData | None:
    """A real data set with its most variable genes, set up for SCVI."""
    file = DATA / f"{name}.h5ad"
    if not file.is_file():
        print(f"skipped: {file} is missing")
        return None
    adata = anndata.read_h5ad(file)
    batch, _ = SETS[name]
    adata = adata[:, variable_genes(adata, n_genes, batch_key=batch)].copy()
    vivace.SCVI.setup_anndata(adata, batch_key=batch)
    return adata


def real(n_fits: int) -> None:
    """What stands in all fits of two published data sets."""
    for name in ("pbmc_three_studies", "pbmc_ifnb"):
        adata = real_cells(name)
        if adata is None:
            continue
        found = vivace.stability(
            vivace.SCVI, adata, n_fits, labels_key=SETS[name][1], out=f"/tmp/stability-{name}"
        )
        print(f"\n{name}: {found.verdict}")
        for table in ("clusters", "labels", "correction"):
            if (content := found.tables().get(table)) is not None:
                print(content.round(3).to_string())
        for group, rows in found.genes[found.genes["fold_change"] > 0].groupby("group"):
            stand = rows[rows["found_in"] == n_fits]
            some = rows[(rows["found_in"] > 0) & (rows["found_in"] <= n_fits / 2)]
            print(f"{group}: {len(stand)} in all, such as {', '.join(stand.index[:5])}; in half or fewer, "
                  f"such as {', '.join(some.index[:3])}")  # fmt: skip


def cost(n_fits: int) -> None:
    """Seconds and memory of a study."""
    adata = real_cells("pbmc_three_studies")
    if adata is None:
        return
    started = time.perf_counter()
    found = vivace.stability(vivace.SCVI, adata, n_fits, labels_key="cell_type")
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{n_fits} fits and yardsticks: {time.perf_counter() - started:.0f} s; peak {own:.0f} MB and "
          f"{children:.0f} MB in the largest process; {found.verdict}")  # fmt: skip


def tuning(minutes: float) -> None:
    """Other options against the defaults, with 1,000 genes."""
    for name in SETS:
        adata = real_cells(name, 1000)
        if adata is None:
            continue
        started = time.perf_counter()
        found = vivace.tune(vivace.SCVI, adata, minutes=minutes)
        print(f"\n{name}, {time.perf_counter() - started:.0f} s: {found.verdict}")
        print(found.comparison.round(2).to_string())
        print(f"recommended: {found.model_kwargs} {found.train_kwargs}")
        print(found.importance.round(2).to_string())
        print(found.trials.round(3).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["truth", "real", "time", "tune"])
    parser.add_argument("--fits", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=10)
    args = parser.parse_args()
    if args.what == "tune":
        tuning(args.minutes)
    else:
        {"truth": truth, "real": real, "time": cost}[args.what](args.fits)


if __name__ == "__main__":
    main()
