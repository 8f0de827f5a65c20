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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

import vivace
from cells import CELLS, DATA, variable_genes
from recipe import AS_THEY_ARE, DEPTHS, KEYS, RESULTS, add_row, warm_up
from scvi_env import scvi_python
from vivace import metrics
from vivace.models.scvi_recipe import Passes, scvi_epochs

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


@dataclass(frozen=True)
class Schedule:
    """A one-cycle schedule; of pairs the second is for data with batches."""

    lr: float
    passes: tuple[int, int] = (20, 30)
    kl: tuple[float, float] = (1.0, 2.0)  # at the start; 1 after 80 % of the steps
    thinned_share: float = 0.0

    def options(self, adata: anndata.AnnData) -> dict[str, Any]:
        """Options of ``train`` for these cells, with the fast recipe's rule for few cells."""
        batches = adata.obs["batch"].nunique() > 1
        passes = self.passes[batches]
        few = Passes(passes, of_many=20_000 * passes, of_few=1200 * passes)
        return {
            "lr": self.lr,
            "max_epochs": scvi_epochs(len(places(adata, 0)[0]), 64, few),
            "min_kl_weight": self.kl[batches],
            "kl_warmup_fraction": 0.8,
            "thinned_share": self.thinned_share,
        }


BEFORE = (11, 20)
SEARCHED = {
    "6e-2 (before)": Schedule(6e-2, BEFORE),
    "6e-2, thinned": Schedule(6e-2, BEFORE, thinned_share=0.5),
    "6e-2, KL from 0": Schedule(6e-2, BEFORE, kl=(0.0, 0.0)),
    "6e-2, KL from 0, thinned": Schedule(6e-2, BEFORE, kl=(0.0, 0.0), thinned_share=0.5),
    "6e-2, more passes, thinned": Schedule(6e-2, thinned_share=0.5),
    "6e-2, more passes, KL from 0": Schedule(6e-2, kl=(0.0, 0.0)),
    "4e-2, more passes": Schedule(4e-2),
    "4e-2, more passes, KL from 0": Schedule(4e-2, kl=(0.0, 0.0)),
    "3e-2, 16 passes": Schedule(3e-2, (16, 30)),
    "3e-2, more passes": Schedule(3e-2),
    "3e-2, more passes, KL from 0.5": Schedule(3e-2, kl=(0.5, 1.0)),
    "2e-2, more passes": Schedule(2e-2),
    "2e-2, more passes, KL 1": Schedule(2e-2, kl=(1.0, 1.0)),
    "2e-2, more passes, KL from 0.5": Schedule(2e-2, kl=(0.5, 1.0)),
    "2e-2, more passes, KL from 0": Schedule(2e-2, kl=(0.0, 0.0)),
    "2e-2, more passes, thinned": Schedule(2e-2, thinned_share=0.5),
    "2e-2, more passes, a quarter thinned": Schedule(2e-2, thinned_share=0.25),
    "1.2e-2, more passes": Schedule(1.2e-2),
}
"""What was tried for shallow cells, on the searched data sets; "more" are 20 passes, with batches 30."""
CLASSIC = {"recipe": "classic"}
METHODS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # model, its options, training
    "fast": ("SCVI", {}, {}),
    "scaled to one depth": ("SCVI", {"encoder_depth_scaling": 1.0}, {}),
    "3e-2, as they are": ("SCVI", AS_THEY_ARE, {}),
    "classic": ("SCVI", AS_THEY_ARE, CLASSIC),
    "joint": ("JointEmbeddingSCVI", {}, {}),
    "joint, as they are": ("JointEmbeddingSCVI", AS_THEY_ARE, {}),
    "joint classic": ("JointEmbeddingSCVI", AS_THEY_ARE, CLASSIC),
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


def run(path: Path, methods: list[str], data: list[str], seeds: list[int]) -> None:
    """Every run that the file does not have yet."""
    for seed in seeds:
        for name in data:
            for method in methods:
                there = pd.read_csv(path)[KEYS] if path.exists() else pd.DataFrame(columns=KEYS)
                if [method, name, seed] in there.to_numpy().tolist():
                    continue
                adata = load(name, seed)
                if method == "scvi-tools":
                    found = run_scvi_tools(adata, seed)
                elif method in SEARCHED:
                    training = SEARCHED[method].options(adata)
                    found = run_vivace(adata, seed, options=AS_THEY_ARE, **training)
                else:
                    model, options, training = METHODS[method]
                    found = run_vivace(adata, seed, model, options, **training)
                add_row(path, dict(zip(KEYS, (method, name, seed), strict=True)) | found)


def table() -> None:
    """Means over seeds and their spread, and every method against scvi-tools and the recipe before."""
    rows = pd.read_csv(RESULTS / ROWS)
    of_data = rows.drop(columns=["seed", "seconds"]).groupby(["data", "method"])
    shown = of_data.mean().round(3).astype(str) + " ± " + of_data.std().round(3).astype(str)
    print(shown.replace("nan ± nan", "").assign(seeds=of_data.size()).to_string(), "\n")
    for other in ("scvi-tools", "3e-2, as they are", "6e-2 (before)", "joint classic"):
        for method in METHODS:
            gain = against(rows, method, other)
            if len(gain):
                print(f"{method} less {other} (mixing, time: ratio)\n{gain.to_string()}\n")


def against(rows: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Differences of two methods on the seeds that both have, mean for each data set."""
    by = rows.set_index(["data", "seed"])
    ours, theirs = (by[by.method == m].drop(columns="method") for m in (method, other))
    both = ours.index.intersection(theirs.index)
    ours, theirs = ours.loc[both], theirs.loc[both]
    gain = ours - theirs
    gain["mixing"], gain["time"] = (ours[c] / theirs[c] for c in ("mixing", "cpu_seconds"))
    out = gain.drop(columns=["seconds", "cpu_seconds"]).groupby("data").mean().round(3)
    return out.assign(seeds=gain.groupby("data").size())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument(
        "--methods", nargs="+", choices=["scvi-tools", *METHODS, *SEARCHED], default=["fast"]
    )
    parser.add_argument("--data", nargs="+", choices=LABELLED, default=list(LABELLED))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS / ROWS, help="CSV to add rows to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.command == "table":
        table()
        return
    there = [name for name in args.data if (DATA / f"{name}.h5ad").is_file()]
    if args.methods != ["scvi-tools"]:
        warm_up()
    run(args.out, args.methods, there, args.seeds)


if __name__ == "__main__":
    main()
