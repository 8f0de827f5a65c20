"""Does a model learn as well from a sorted file as in memory? Three seeds, two real data sets.

    python benchmarks/disk_quality.py
    python benchmarks/disk_quality.py --seeds 1 --data celllines_multitech --epochs 2

Cells are sorted by batch and label, the worst order there is. These data sets fit into one pool, so that
"disk" is what their user gets; "as an atlas" makes pools of an eighth of the cells, so that a minibatch
sees as little of the file as in an atlas.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import anndata
import numpy as np

import vivace
from cells import CELLS
from vivace.data.sources import disk
from vivace.metrics import ilisi, knn_accuracy

POOLS = 8
"""Of the cells."""


def main() -> None:
    """Train, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["pbmc_three_studies", "celllines_multitech"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="default: what the recipe finds right")
    args = parser.parse_args()
    print(
        "| data | cells | where | held-out ELBO | kNN accuracy | iLISI |\n|---|---|---|---|---|---|"
    )
    usual = disk.POOL
    for name in args.data:
        disk.POOL = usual
        adata = sorted_worst(CELLS[name].load())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cells.h5ad"
            adata.write_h5ad(path)
            for where in ("memory", "disk", "as an atlas"):
                if where == "as an atlas":
                    small_pools(adata.n_obs)
                cells = adata if where == "memory" else vivace.open_cells(path)
                found = np.array([measured(cells, seed, args.epochs) for seed in range(args.seeds)])
                shown = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in summary(found)]
                print(f"| {name} | {adata.n_obs:,} | {where} | {' | '.join(shown)} |", flush=True)


def sorted_worst(adata: anndata.AnnData) -> anndata.AnnData:
    """The cells by batch and label."""
    return adata[np.lexsort((adata.obs["label"], adata.obs["batch"]))].copy()


def small_pools(n_cells: int) -> None:
    """Pools of such a share of the cells as they are of an atlas, and the blocks that follow from it."""
    pool = disk.clipped_power(n_cells / POOLS, (128, 1 << 16))
    disk.POOL = (pool, pool)


def measured(cells: Any, seed: int, epochs: int | None) -> list[float]:
    """Held-out ELBO, accuracy of labels by neighbours, and mixing of batches."""
    vivace.settings.seed = seed
    vivace.SCVI.setup_anndata(cells, batch_key="batch")
    model = vivace.SCVI(cells)
    model.train(max_epochs=epochs, progress=False)
    latent = model.get_latent_representation()
    return [
        float(model.get_elbo(indices=model.validation_indices)),
        float(knn_accuracy(latent, cells.obs["label"])),
        float(ilisi(latent, cells.obs["batch"])),
    ]


def summary(found: np.ndarray) -> list[tuple[float, float]]:
    """Mean and spread over seeds of each measure."""
    return list(zip(found.mean(axis=0), found.std(axis=0), strict=True))


if __name__ == "__main__":
    main()
