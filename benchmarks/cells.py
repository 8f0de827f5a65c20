"""Cells that benchmarks train on: real data sets (../shared/data) and simulated ones, cut to size."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import scipy.sparse as sp

from vivace.datasets import simulate

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("VIVACE_SHARED_DATA", ROOT.parent / "shared" / "data"))
N_GENES = 2000
MAX_TRAIN = 640
TEST_SEED = 2026


@dataclass(frozen=True)
class Cells:
    """One data set: where its labels and batches are, and whether the recipe search may see it."""

    name: str
    labels: str
    batch: str | None = None
    simulated: str | None = None
    searched: bool = True
    quick: bool = False  # among the cheap ones that the first round of the search looks at
    large: bool = False  # among those whose every training cell "recipe.py full" takes

    def load(self) -> anndata.AnnData:
        """Counts of the most variable genes, with ``obs["label"]`` and ``obs["batch"]``."""
        if self.simulated:
            source = simulate(self.simulated, n_cells=1500, n_genes=1000, seed=0)
        else:
            source = anndata.read_h5ad(DATA / f"{self.name}.h5ad")
        counts = sp.csr_matrix(source.layers.get("counts", source.X)).astype(np.float32)
        counts = counts[:, variable_genes(counts, N_GENES)]
        adata = anndata.AnnData(counts, obs=source.obs[[]].copy())
        adata.obs["label"] = source.obs[self.labels].astype(str).to_numpy()
        adata.obs["batch"] = source.obs[self.batch].astype(str).to_numpy() if self.batch else "one"
        adata.obs_names = [f"cell_{i}" for i in range(adata.n_obs)]
        return adata[np.asarray(counts.sum(axis=1)).ravel() > 0].copy()


CELLS = {
    c.name: c
    for c in [
        Cells("pbmc_facs", "cell_type", quick=True, large=True),
        Cells("pbmc3k", "cell_type"),
        Cells("celllines_multitech", "cell_type", "batch", quick=True),
        Cells("pbmc_three_studies", "cell_type", "study", large=True),
        Cells("glioblastoma_panobinostat", "condition", "patient_id", quick=True),
        Cells("lymphnode_sc_reference", "cell_type"),
        Cells("sim_batches", "cell_type", "batch", simulated="batches", quick=True),
        Cells("sim_depth", "cell_type", simulated="depth"),
        Cells("sim_contrastive", "cell_type", simulated="contrastive"),
        Cells("sim_systems", "cell_type", "system", simulated="systems"),
        Cells("worm_neuron_lowdepth", "cell_type", searched=False, large=True),
        Cells("pbmc_ifnb", "cell_type_pred", "condition", searched=False, large=True),
    ]
}


def variable_genes(counts: sp.csr_matrix, n: int) -> np.ndarray:
    """Columns with the largest variance of log1p(counts per 10,000), in their order."""
    total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
    log = counts.astype(np.float64)
    log.data = np.log1p(log.data * np.repeat(1e4 / total, np.diff(log.indptr)))
    mean = np.asarray(log.mean(axis=0)).ravel()
    variance = np.asarray(log.power(2).mean(axis=0)).ravel() - mean**2
    return np.sort(np.argsort(-variance, kind="stable")[:n])


@dataclass(frozen=True)
class Split:
    """Rows of one data set, by their use."""

    train: np.ndarray
    validation: np.ndarray  # the training loop sees their loss
    judge: np.ndarray  # the search compares schedules on them; the validation cells are among them
    test: np.ndarray  # only the final comparison sees them

    def others(self, n_cells: int) -> np.ndarray:
        """Cells that are neither trained on nor seen by the training loop."""
        return np.setdiff1d(np.arange(n_cells), np.concatenate([self.train, self.validation]))


def split(n_cells: int, seed: int, most: int = MAX_TRAIN) -> Split:
    """Test cells are the same 30 % for all seeds; the rest is shuffled by the seed.

    Training cells are 60 % of all, at most ``most``; held out are the others, as validation
    cells an eighth of the number of training cells.
    """
    order = np.random.default_rng(TEST_SEED).permutation(n_cells)
    test, rest = np.split(order, [round(0.3 * n_cells)])
    rest = np.random.default_rng(seed).permutation(np.sort(rest))
    train, judge = np.split(rest, [min(most, round(0.6 * n_cells))])
    return Split(np.sort(train), np.sort(judge[: len(train) // 8]), np.sort(judge), np.sort(test))
