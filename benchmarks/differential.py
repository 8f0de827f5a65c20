"""Does differential expression find what is there, and only that? And how long does it take?

python benchmarks/differential.py markers    # published markers of pbmc3k, rank in their cluster
python benchmarks/differential.py fdr        # realised false discovery rate on simulated batches
python benchmarks/differential.py small      # the same for few genes, trained shortly and longer
python benchmarks/differential.py weights    # what importance weights leave of the draws
python benchmarks/differential.py time       # every group of 20,000 cells x 2,000 genes
"""

from __future__ import annotations

import argparse
import time
import warnings

import anndata
import pandas as pd
import torch

import vivace
from cells import DATA
from vivace.analysis.genes import variable_genes

SEEDS = (0, 1, 2)
MARKERS = {
    "B": ["MS4A1", "CD79A"],
    "NK": ["GNLY", "NKG7"],
    "CD14+ Mono": ["CD14", "LYZ"],
    "Platelet": ["PPBP"],
}
"""Markers of the clusters in the Seurat tutorial whose labels the data set carries."""


def pbmc3k() -> anndata.AnnData | None:
    """Labelled cells, 2,000 variable genes and the markers."""
    file = DATA / "pbmc3k.h5ad"
    if not file.is_file():
        print(f"skipped: {file} is missing")
        return None
    adata = anndata.read_h5ad(file)
    adata = adata[adata.obs["cell_type"] != "unlabelled"].copy()
    known = adata.var_names.isin([gene for genes in MARKERS.values() for gene in genes])
    return adata[:, variable_genes(adata, 2000) | known].copy()


def markers() -> None:
    """Rank of each marker among the genes that are up in its cluster.

    By certainty, as the table comes; and among the genes that are marked at 5 % by the median fold
    change, and by it less a standard deviation: many genes are certain, few change much in all cells.
    """
    adata = pbmc3k()
    if adata is None:
        return
    print("seed cluster marker vanilla_by_certainty change_by_certainty by_median by_reached")
    for seed in SEEDS:
        model = trained(adata, seed)
        vanilla = model.differential_expression(groupby="cell_type")
        change = model.differential_expression(groupby="cell_type", mode="change")
        change = change[change["lfc_median"] > 0]
        marked = change[change["is_de_fdr_0.05"]]
        by_median = marked.sort_values("lfc_median", ascending=False)
        reached = marked.assign(reached=marked["lfc_median"] - marked["lfc_std"])
        by_reached = reached.sort_values("reached", ascending=False)
        rankings = (vanilla, change, by_median, by_reached)
        for cluster, genes in MARKERS.items():
            for gene in genes:
                ranks = [rank(table[table["group1"] == cluster], gene) for table in rankings]
                print(seed, cluster, gene, *ranks, sep="\t", flush=True)


def rank(table: pd.DataFrame, gene: str) -> int | str:
    """Place of a gene, from 1."""
    return table.index.get_loc(gene) + 1 if gene in table.index else "absent"


LONGER = {"max_epochs": 60, "lr": 1e-2, "batch_size": 64}
"""Several times the steps of the fast recipe, and smaller ones."""


def fdr() -> None:
    """Share of genes that are exactly equal between types among those marked at 5 %."""
    print("cells genes (types) seed training test_mode discoveries power realised_fdr")
    for seed in SEEDS:
        realised(seed, "fast", n_cells=3000, n_genes=1000)


def small() -> None:
    """The same for fewer genes and types, whose models get few steps; and with more steps."""
    print("cells genes (types) seed training test_mode discoveries power realised_fdr")
    for seed in (1, 2, 3, 4, 5, 6):
        realised(seed, "fast", n_cells=1500, n_genes=200, n_types=3)
        realised(seed, "longer", n_cells=1500, n_genes=200, n_types=3)


def realised(seed: int, training: str, **size: int) -> None:
    """Print one row a test mode."""
    adata = vivace.datasets.simulate("batches", seed=seed, **size)
    model = trained(adata, seed, batch_key="batch", **(LONGER if training == "longer" else {}))
    for test_mode in ("three", "two"):
        table = model.differential_expression(
            groupby="cell_type", mode="change", batch_correction=True, test_mode=test_mode
        )
        marked = table["is_de_fdr_0.05"].to_numpy()
        truth = adata.var["is_de"].loc[table.index].to_numpy()
        share = (marked & ~truth).sum() / max(marked.sum(), 1)
        row = (*size.values(), seed, training, test_mode, marked.sum())
        print(*row, f"{marked[truth].mean():.3f} {share:.4f}", flush=True)


def timing() -> None:
    """Wall and processor seconds for ten groups of 20,000 cells x 2,000 genes."""
    adata = vivace.datasets.simulate("batches", n_cells=20_000, n_genes=2000, n_types=10)
    model = trained(adata, 0, batch_key="batch", max_epochs=1)
    print("mode batch_correction wall_s cpu_s")
    for mode, correct in (("vanilla", False), ("change", False), ("change", True)):
        wall, cpu = time.perf_counter(), time.process_time()
        model.differential_expression(groupby="cell_type", mode=mode, batch_correction=correct)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(mode, correct, f"{wall:.1f} {cpu:.1f}")


def weights() -> None:
    """What 400 draws are worth once they are weighed, and what weighing costs."""
    adata = pbmc3k()
    if adata is None:
        return
    model = trained(adata, 0)
    for truncation in (False, True):
        options = {"truncation": truncation, "n_mc_samples": 20, "n_mc_samples_per_pass": 20}
        cpu = time.process_time()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model.get_normalized_expression(
                indices=(adata.obs["cell_type"] == "NK").to_numpy(),
                n_samples_overall=400,
                weights="importance",
                importance_weighting_kwargs=options,
            )
        cpu = time.process_time() - cpu
        print(f"truncation={truncation}: {cpu:.1f} s.", *(str(w.message)[:60] for w in told))


def trained(adata, seed: int, batch_key: str | None = None, **options) -> vivace.SCVI:
    vivace.settings.seed = seed
    torch.manual_seed(seed)
    vivace.SCVI.setup_anndata(adata, batch_key=batch_key)
    model = vivace.SCVI(adata)
    model.train(seed=seed, accelerator="cpu", progress=False, **options)
    return model


COMMANDS = {"markers": markers, "fdr": fdr, "small": small, "time": timing, "weights": weights}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    warnings.simplefilter("ignore")
    COMMANDS[parser.parse_args().command]()


if __name__ == "__main__":
    main()
