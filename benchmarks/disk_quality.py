"""Does a model learn as well from a sorted file as in memory? Three seeds, two real data sets.

    python benchmarks/disk_quality.py
    python benchmarks/disk_quality.py --seeds 1 --data celllines_multitech --epochs 2

Cells are sorted by batch and label, the worst order there is. As these data sets are small, pools are
made small too: an eighth of the cells, so that a minibatch sees as little of the file as in an atlas.
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
    for name in args.data:
        adata = sorted_worst(CELLS[name].load())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cells.h5ad"
            adata.write_h5ad(path)
            for where, cells in (("memory", adata), ("disk", vivace.open_cells(path))):
                small_pools(adata.n_obs)
                found = np.array([measured(cells, seed, args.epochs) for seed in range(args.seeds)])
                shown = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in summary(found)]
                print(f"| {name} | {adata.n_obs:,} | {where} | {' | '.join(shown)} |", flush=True)


def sorted_worst(adata: anndata.AnnData) -> anndata.AnnData:
    """The cells by batch and label."""
    return adata[np.lexsort((adata.obs["label"], adata.obs["batch"]))].copy()


def small_pools(n_cells: int) -> None:
    """Pools and blocks of such a share of the cells as they are of an atlas."""
    pool = disk.clipped_power(n_cells / POOLS, (128, 1 << 16))
    disk.POOL, disk.BLOCK = (pool, pool), (1, pool // disk.BLOCKS_IN_POOL)


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
