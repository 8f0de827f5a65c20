"""Do shallow cells stay with their kind? Labels carried from deep cells to two shallower depths.

Of each labelled data set (at most 2,000 cells, the 1,000 most variable genes) half of the cells stay as
they are; a quarter is thinned to a median of 30 counts, a quarter to 80. Every cell trains, without
labels, 10 % of them held out. Both depths are measured in that one model, by ``vivace.metrics``:

    transfer 30, transfer 80   labels of the shallow cells from their 15 nearest deep cells, and balanced
    knn, knn balanced          labels among deep cells, 5 folds
    within                     correlation with neighbours of the same type, by what was measured deeply
    mixing, depth mixing       iLISI of batches among deep cells, and of deep and thinned cells (of 2)
    elbo                       nats a cell, held-out cells

    python benchmarks/depth.py run --methods scvi-tools fast --seeds 0 1 2 [--data NAME ...]
    python benchmarks/depth.py table

Rows go to results/recipe_depth.csv as runs end; a run whose row is there is not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

import vivace
from cells import CELLS, DATA, variable_genes
from recipe import DEPTHS, KEYS, RESULTS, add_row, warm_up
from scvi_env import scvi_python
from vivace import metrics

ROWS = "recipe_depth.csv"
N_CELLS, N_GENES = 2000, 1000
LABELLED = (  # kinds of cells, known
    "pbmc_facs",
    "pbmc3k",
    "celllines_multitech",
    "pbmc_three_studies",
    "lymphnode_sc_reference",
    "worm_neuron_lowdepth",
    "pbmc_ifnb",
)
KEPT_OUT = ("pbmc_ifnb", "lymphnode_sc_reference")
"""Droplets and a tissue that no choice about shallow cells may see; named before the search began."""
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "fast": ("SCVI", {}),
    "classic": ("SCVI", {"recipe": "classic"}),
    "joint": ("JointEmbeddingSCVI", {}),
    "joint classic": ("JointEmbeddingSCVI", {"recipe": "classic"}),
}
Figures = dict[str, float]


def load(name: str, seed: int) -> anndata.AnnData:
    """Cells with obs "label", "batch" and "depth" (0: as it was), and what they were as a layer."""
    whole = CELLS[name].load()
    whole = whole[(whole.obs["label"] != "unlabelled").to_numpy()]
    rng = np.random.default_rng(seed)
    order = rng.permutation(whole.n_obs)[:N_CELLS]
    adata = whole[np.sort(order)].copy()
    adata = adata[:, variable_genes(adata.X, N_GENES)].copy()
    depth = np.array([0, 0, *DEPTHS])[rng.permutation(adata.n_obs) % 4]
    adata.layers["whole"] = adata.X.copy()
    for number, goal in enumerate(DEPTHS):
        adata.X = metrics.thin_to_depth(adata.X, goal, cells=depth == goal, seed=10 * seed + number)
    adata.obs["depth"] = depth
    return adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()


def places(adata: anndata.AnnData, seed: int) -> list[np.ndarray]:
    """Rows that train, and the tenth that is held out."""
    order = np.random.default_rng(seed + 100).permutation(adata.n_obs)
    held, train = np.split(order, [adata.n_obs // 10])
    return [np.sort(train), np.sort(held)]


def judge(latent: np.ndarray, adata: anndata.AnnData) -> Figures:
    """All measures of a latent space."""
    depth = adata.obs["depth"].to_numpy()
    label, batch = (adata.obs[key].to_numpy().astype(str) for key in ("label", "batch"))
    deep = depth == 0
    found: Figures = {}
    for goal in DEPTHS:
        seen = deep | (depth == goal)
        moved = metrics.depth_transfer(latent[seen], label[seen], depth[seen] == goal)
        found |= {f"transfer {goal}": moved["accuracy"]}
        found |= {f"transfer {goal} balanced": moved["balanced_accuracy"]}
    found["knn"] = metrics.knn_accuracy(latent[deep], label[deep])
    found["knn balanced"] = metrics.knn_balanced_accuracy(latent[deep], label[deep])
    of_type = log_normalised(adata.layers["whole"])
    found["within deep"] = metrics.within_type_agreement(latent[deep], of_type[deep], label[deep])
    found["within all"] = metrics.within_type_agreement(latent, of_type, label)
    if len(set(batch)) > 1:
        found["mixing"] = metrics.ilisi(latent[deep], batch[deep])
    found["depth mixing"] = metrics.ilisi(latent, deep)
    return found


def log_normalised(counts: sp.csr_matrix) -> sp.csr_matrix:
    """log(1 + counts per 10,000)."""
    total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
    out = sp.csr_matrix(counts, dtype=np.float64)
    out.data = np.log1p(out.data * np.repeat(1e4 / total, np.diff(out.indptr)))
    return out


def run_vivace(
    adata: anndata.AnnData, seed: int, model: str = "SCVI", options: Any = None, **training: Any
) -> Figures:
    """Train one of our models on all cells but the held-out ones."""
    kind = getattr(vivace, model)
    vivace.settings.seed = seed
    kind.setup_anndata(adata, batch_key="batch")
    fitted = kind(adata, **(options or {}))
    rows = places(adata, seed)
    wall, cpu = time.perf_counter(), time.process_time()
    fitted.train(
        seed=seed,
        accelerator="cpu",
        progress=False,
        datasplitter_kwargs={"external_indexing": rows},
        **training,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    elbo = float(np.mean([float(fitted.get_elbo(indices=rows[1])) for _ in range(10)]))
    found = judge(fitted.get_latent_representation(), adata)
    return {"elbo": elbo, **found, "seconds": wall, "cpu_seconds": cpu}


def run_scvi_tools(adata: anndata.AnnData, seed: int) -> Figures:
    """scvi-tools' SCVI with its defaults on the same cells."""
    train, held = places(adata, seed)
    worker = Path(__file__).parent / "scvi_worker.py"
    with tempfile.TemporaryDirectory() as folder:
        cells, rows, out = (f"{folder}/{name}" for name in ("cells.h5ad", "split.npz", "out"))
        adata.write_h5ad(cells)
        np.savez(rows, train=train, validation=held, others=held[:0], test=held)
        command = [str(scvi_python()), str(worker), cells, rows, str(seed), out]
        subprocess.run(command, check=True, capture_output=True)
        result = json.loads(Path(out + ".json").read_text())
        found = judge(np.load(out + ".npy"), adata)
    times = {key: result[key] for key in ("seconds", "cpu_seconds")}
    return {"elbo": result["elbo"], **found, **times}


def run(methods: list[str], data: list[str], seeds: list[int]) -> None:
    """Every run that the file does not have yet."""
    path = RESULTS / ROWS
    for seed in seeds:
        for name in data:
            for method in methods:
                there = pd.read_csv(path)[KEYS] if path.exists() else pd.DataFrame(columns=KEYS)
                if [method, name, seed] in there.to_numpy().tolist():
                    continue
                adata = load(name, seed)
                if method == "scvi-tools":
                    found = run_scvi_tools(adata, seed)
                else:
                    model, training = METHODS[method]
                    found = run_vivace(adata, seed, model, **training)
                add_row(path, dict(zip(KEYS, (method, name, seed), strict=True)) | found)


def table() -> None:
    """Means over seeds and their spread, and every method against scvi-tools."""
    rows = pd.read_csv(RESULTS / ROWS)
    of_data = rows.drop(columns=["seed", "seconds"]).groupby(["data", "method"])
    shown = of_data.mean().round(3).astype(str) + " ± " + of_data.std().round(3).astype(str)
    print(shown.replace("nan ± nan", "").assign(seeds=of_data.size()).to_string(), "\n")
    by = rows.set_index(["data", "seed"])
    peer = by[by.method == "scvi-tools"].drop(columns="method")
    for method in METHODS:
        ours = by[by.method == method].drop(columns="method")
        if len(ours):
            gain = (ours - peer).dropna(how="all").groupby("data").mean()
            gain["mixing"] = (ours["mixing"] / peer["mixing"]).groupby("data").mean()
            gain["speed-up"] = (peer["cpu_seconds"] / ours["cpu_seconds"]).groupby("data").mean()
            gain = gain.drop(columns=["seconds", "cpu_seconds"]).round(3)
            print(f"{method} less scvi-tools (mixing: their ratio)\n{gain.to_string()}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--methods", nargs="+", choices=["scvi-tools", *METHODS], default=["fast"])
    parser.add_argument("--data", nargs="+", choices=LABELLED, default=list(LABELLED))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.command == "table":
        table()
        return
    there = [name for name in args.data if (DATA / f"{name}.h5ad").is_file()]
    if args.methods != ["scvi-tools"]:
        warm_up()
    run(args.methods, there, args.seeds)


if __name__ == "__main__":
    main()
