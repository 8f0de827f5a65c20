"""SysVI: do systems mix, does structure stay, what does each correction change; and its speed.

Usage: sysvi.py [quality] [speed] [--data NAME ...] [--variants NAME ...] [--genes N] [--epochs N]
                [--seeds N] [--steps N]     (default: quality)

quality  two technologies, three studies (../shared/data, skipped when missing), simulated systems
speed    training steps against scvi-tools' SysVI, the same architecture and minibatches, one thread
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

import vivace
from cells import DATA
from scvi_env import scvi_python
from vivace import SysVI, metrics
from vivace.analysis.genes import variable_genes
from vivace.datasets import simulate

WORKER = Path(__file__).parent / "sysvi_worker.py"
SYSTEMS = {"celllines_multitech": "technology", "pbmc_three_studies": "study"}
CYCLE = SysVI.loss_weights["fast"]["z_distance_cycle_weight"]
VARIANTS: dict[str, tuple[dict, float]] = {  # constructor options, weight of the cycle
    "default": ({}, CYCLE),
    "no cycle": ({}, 0.0),
    "cycle 2": ({}, 2.0),
    "cycle 10": ({}, 10.0),
    "as scvi-tools": ({"compat": "scvi-tools"}, 2.0),
    "as scvi-tools, cycle 5": ({"compat": "scvi-tools"}, 5.0),
    "joint prior": ({"joint_prior": True}, CYCLE),
    "standard normal": ({"prior": "standard_normal"}, CYCLE),
}


def data_sets(names: list[str], n_genes: int) -> Iterator[tuple[str, anndata.AnnData]]:
    """Raw counts with ``obs["system"]`` and ``obs["label"]``."""
    for name in names:
        if name == "simulated":
            adata = simulate("systems", n_cells=2000, n_genes=n_genes, system_effect=0.4, seed=0)
            adata.X = adata.layers["counts"]
            yield name, prepare(adata, adata.obs["system"], n_genes)
            continue
        path = DATA / f"{name}.h5ad"
        if not path.is_file():
            print(f"{name}: skipped, {path} is missing")
            continue
        adata = anndata.read_h5ad(path)
        yield name, prepare(adata, adata.obs[SYSTEMS[name]], n_genes)


def prepare(adata: anndata.AnnData, system: pd.Series, n_genes: int) -> anndata.AnnData:
    """The most variable genes inside systems."""
    adata.obs["system"] = system.astype(str).to_numpy()
    adata.obs["label"] = adata.obs["cell_type"].astype(str).to_numpy()
    if "is_private" not in adata.obs:
        n_systems = adata.obs.groupby("label")["system"].nunique()
        adata.obs["is_private"] = (adata.obs["label"].map(n_systems) == 1).to_numpy()
    kept = variable_genes(adata, n_genes, batch_key="system")
    return anndata.AnnData(sp.csr_matrix(adata.X[:, kept]), obs=adata.obs)


def measure(latent: np.ndarray, obs: pd.DataFrame) -> dict[str, float]:
    """Mixing of systems and structure of labels; private types are left out of the mixing."""
    private = obs["is_private"].to_numpy()
    return {
        "iLISI": metrics.ilisi(latent[~private], obs["system"][~private]),
        "kNN": metrics.knn_accuracy(latent, obs["label"]),
        "balanced kNN": metrics.knn_balanced_accuracy(latent, obs["label"]),
        "silhouette": metrics.silhouette(latent, obs["label"]),
        "private kept": private_kept(latent, obs),
    }


def private_kept(latent: np.ndarray, obs: pd.DataFrame) -> float:
    """Share of the 15 neighbours of private cells that are of the same type."""
    from sklearn.neighbors import NearestNeighbors

    label = obs["label"].to_numpy()
    private = obs["is_private"].to_numpy()
    nearest = NearestNeighbors(n_neighbors=16).fit(latent).kneighbors(latent[private])[1][:, 1:]
    return float((label[nearest] == label[private][:, None]).mean())


def before(adata: anndata.AnnData) -> np.ndarray:
    """50 principal components of the log-normalised values: no integration."""
    totals = np.asarray(adata.X.sum(axis=1))
    values = np.log1p(adata.X.toarray() / np.maximum(totals, 1) * 1e4)
    centred = values - values.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    return u[:, :50] * s[:50]


def quality(options: argparse.Namespace) -> None:
    """One line a data set and variant: means over seeds and their range."""
    for name, adata in data_sets(options.data, options.genes):
        show(name, "before", [measure(before(adata), adata.obs)])
        for variant in options.variants:
            runs = [train(adata, variant, seed, options.epochs) for seed in range(options.seeds)]
            show(name, variant, runs)


def train(adata: anndata.AnnData, variant: str, seed: int, epochs: int | None) -> dict[str, float]:
    """Train one model and measure its latent space."""
    vivace.settings.seed = seed  # initial weights and pseudo-inputs vary too
    model_options, cycle_weight = VARIANTS[variant]
    SysVI.setup_anndata(adata, batch_key="system", normalize=True)
    model = SysVI(adata, **model_options)
    started = time.process_time()
    plan = {"z_distance_cycle_weight": cycle_weight}
    model.train(max_epochs=epochs, seed=seed, plan_kwargs=plan, progress=False)
    seconds = time.process_time() - started
    found = measure(model.get_latent_representation(), adata.obs)
    print("   ", variant, seed, {k: round(v, 3) for k, v in found.items()}, flush=True)
    return {**found, "CPU s": seconds}


def show(name: str, variant: str, runs: list[dict[str, float]]) -> None:
    """Mean and range over seeds."""
    table = pd.DataFrame(runs)
    cells = [
        f"{k} {v.mean():.3f} ({v.min():.3f} .. {v.max():.3f})" if len(v) > 1 else f"{k} {v[0]:.3f}"
        for k, v in table.items()
    ]
    print(f"{name:20} {variant:16}", " | ".join(cells), flush=True)


# speed ------------------------------------------------------------------------------------------


def speed(options: argparse.Namespace) -> None:
    """Milliseconds of one training step of either, alternating so that both see the same machine."""
    torch.set_num_threads(1)
    reference = scvi_python()
    for batch_size in (128, 256, 512):
        ours = {p: step_seconds(batch_size, p, options.steps) for p in ("float32", "bf16")}
        theirs = json.loads(
            subprocess.run(
                [reference, str(WORKER), str(batch_size), str(options.steps)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()[-1]
        )
        for precision, seconds in ours.items():
            print(
                f"minibatch {batch_size:4} {precision:8} {1e3 * seconds:6.1f} ms a step, "
                f"{batch_size / seconds:6.0f} cells/s; scvi-tools {1e3 * theirs:6.1f} ms, "
                f"{batch_size / theirs:6.0f} cells/s; {theirs / seconds:.1f} times",
                flush=True,
            )


def step_seconds(batch_size: int, precision: str, n_steps: int) -> float:
    """Median CPU seconds of one training step, minibatch included."""
    from sysvi_worker import log_values
    from vivace.data import Loader
    from vivace.train import TrainOptions
    from vivace.train.loop import Trainer
    from vivace.train.optimizer import make_optimizer
    from vivace.train.stopping import Interrupt

    adata = log_values()
    SysVI.setup_anndata(adata, batch_key="system")
    model = SysVI(adata)
    options = TrainOptions(max_epochs=1, batch_size=batch_size, precision=precision)
    loader = Loader(model._cells(), np.arange(adata.n_obs), batch_size, shuffle=True)
    optimizer = make_optimizer(model.module.train(), options)
    trainer = Trainer(model.module, loader, optimizer, options, {}, Interrupt())
    times = []
    for step, tensors in zip(range(n_steps), loader.epoch(0), strict=False):
        trainer.step(tensors, step, 1.0)
        times.append(time.process_time())
    return float(np.median(np.diff(times)))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["quality"], choices=["quality", "speed"])
    names = [*SYSTEMS, "simulated"]
    parser.add_argument("--data", nargs="*", default=names, choices=names)
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    for what in options.what:
        {"quality": quality, "speed": speed}[what](options)


if __name__ == "__main__":
    sys.exit(main())
