"""Do shallow cells stay with their kind? Label transfer from deep cells to shallow ones.

On FACS-sorted PBMC half of the cells are thinned binomially to 20 - 200 counts; on the low-depth worm
neurons the cells below the median total are the shallow ones. Every cell trains, without labels. The
kinds of shallow cells are told from their 15 nearest deep cells, those of deep cells by 5-fold
cross-validation among deep cells. ``labelled`` is what a linear classifier reaches that was trained with
the labels on the deep cells, thinned alike.

    python benchmarks/joint_embedding.py --data pbmc_facs worm_neuron_lowdepth --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

import vivace
from cells import DATA
from recipe import AS_THEY_ARE
from vivace import metrics
from vivace.analysis.genes import variable_genes
from vivace.tables.counts import log_normalised

N_GENES = 1000
SHALLOW = (20.0, 200.0)
SCHEDULE = {**vivace.JointEmbeddingSCVI.recipes["fast"], "lr": 1e-2, "batch_norm_momentum": 0.01}
"""JointEmbeddingSCVI's fast schedule until its peak was raised, to train SCVI with it and tell schedule from
objective."""
SHORTER = {**SCHEDULE, "max_epochs": 56}
"""About half as long: SCVI gains little from going on."""
BEFORE = {"lr": 1e-2}
METHODS = {
    "SCVI, today": ("SCVI", {}, {}),
    "JointEmbedding, today": ("JointEmbeddingSCVI", {}, {}),
    "SCVI, same schedule": ("SCVI", AS_THEY_ARE, SCHEDULE),
    "SCVI, 56 passes": ("SCVI", AS_THEY_ARE, SHORTER),
    "JointEmbedding": ("JointEmbeddingSCVI", AS_THEY_ARE, BEFORE),
    "JointEmbedding, weight 10": (
        "JointEmbeddingSCVI",
        AS_THEY_ARE | {"joint_embedding_weight": 10.0},
        BEFORE,
    ),
    "JointEmbedding, freeze": (
        "JointEmbeddingSCVI",
        AS_THEY_ARE | {"thinned_batch_norm": "freeze"},
        BEFORE,
    ),
    "SCVI, classic": ("SCVI", AS_THEY_ARE, {"recipe": "classic"}),
    "JointEmbedding, classic": ("JointEmbeddingSCVI", AS_THEY_ARE, {"recipe": "classic"}),
}


def thin(counts: sp.csr_matrix, rng: np.random.Generator) -> sp.csr_matrix:
    """Counts dealt down to a total that is log-uniform over the shallow range."""
    total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    target = np.exp(rng.uniform(*np.log(SHALLOW), counts.shape[0]))
    share = np.repeat(np.minimum(target / total, 1), np.diff(counts.indptr))
    out = counts.copy()
    out.data = rng.binomial(counts.data.astype(np.int64), share).astype(np.float32)
    out.eliminate_zeros()
    return out


def load(name: str, seed: int) -> anndata.AnnData:
    """Cells with ``obs["label"]`` and ``obs["shallow"]``."""
    source = anndata.read_h5ad(DATA / f"{name}.h5ad")
    counts = sp.csr_matrix(source.X, dtype=np.float32)[:, variable_genes(source, N_GENES)]
    rng = np.random.default_rng(seed)
    total = np.asarray(counts.sum(axis=1)).ravel()
    if name == "pbmc_facs":
        shallow = rng.permutation(len(total)) % 2 == 1
        order = np.argsort(np.r_[np.flatnonzero(~shallow), np.flatnonzero(shallow)])
        counts = sp.vstack([counts[~shallow], thin(counts[shallow], rng)]).tocsr()[order]
    else:
        shallow = total < np.median(total)
    label = source.obs["cell_type"].astype(str).to_numpy()
    obs = pd.DataFrame({"label": label, "shallow": shallow}, index=source.obs_names)
    adata = anndata.AnnData(sp.csr_matrix(counts), obs=obs)
    return adata[np.asarray(counts.sum(axis=1)).ravel() > 0].copy()


def judge(latent: np.ndarray, obs: pd.DataFrame, seed: int) -> dict[str, float]:
    """Label transfer from deep to shallow cells, and among deep cells."""
    label, shallow = obs["label"].to_numpy(), obs["shallow"].to_numpy()
    deep = np.flatnonzero(~shallow)
    moved = metrics.label_transfer(latent[deep], label[deep], latent[shallow], label[shallow])
    folds = np.array_split(np.random.default_rng(seed).permutation(deep), 5)
    kept = []
    for fold in folds:
        rest = np.setdiff1d(deep, fold)
        kept.append(metrics.label_transfer(latent[rest], label[rest], latent[fold], label[fold]))
    return {
        "shallow": moved["balanced_accuracy"],
        "shallow_accuracy": moved["accuracy"],
        "deep": float(np.mean([k["balanced_accuracy"] for k in kept])),
        "deep_accuracy": float(np.mean([k["accuracy"] for k in kept])),
    }


def labelled(adata: anndata.AnnData, seed: int) -> float:
    """Balanced accuracy on shallow cells of a classifier trained on thinned deep cells with labels."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    shallow, label = adata.obs["shallow"].to_numpy(), adata.obs["label"].to_numpy()
    rng = np.random.default_rng(seed)
    deep = sp.vstack([thin(sp.csr_matrix(adata.X[~shallow]), rng) for _ in range(3)])
    svd = TruncatedSVD(50, random_state=0)
    features = svd.fit_transform(log_normalised(deep))
    model = LogisticRegression(C=0.1, max_iter=300).fit(features, np.tile(label[~shallow], 3))
    found = model.predict(svd.transform(log_normalised(adata.X[shallow])))
    return float(balanced_accuracy_score(label[shallow], found))


def run(method: str, adata: anndata.AnnData, seed: int) -> dict[str, float]:
    name, options, training = METHODS[method]
    kind = getattr(vivace, name)
    vivace.settings.seed = seed
    kind.setup_anndata(adata)
    model = kind(adata, **options)
    if training is SCHEDULE:
        epochs = SCHEDULE["max_epochs"](adata.n_obs, SCHEDULE["batch_size"])
        training = {**SCHEDULE, "max_epochs": epochs}
    cpu = time.process_time()
    model.train(seed=seed, accelerator="cpu", progress=False, **training)
    cpu = time.process_time() - cpu
    return {**judge(model.get_latent_representation(), adata.obs, seed), "cpu_seconds": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["pbmc_facs", "worm_neuron_lowdepth"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--cells", type=int, help="a random choice of this many cells, by seed")
    parser.add_argument("--out", type=Path, help="CSV to append one row a run to")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = []
    for seed in args.seeds:
        for name in args.data:
            if not (DATA / f"{name}.h5ad").is_file():
                print(f"skipped: {DATA / name}.h5ad is missing")
                continue
            adata = load(name, seed)
            if args.cells and args.cells < adata.n_obs:
                chosen = np.random.default_rng(seed).choice(adata.n_obs, args.cells, replace=False)
                adata = adata[np.sort(chosen)].copy()
            if name == "pbmc_facs":
                print(name, seed, "labelled", f"{labelled(adata, seed):.3f}", flush=True)
            for method in args.methods:
                row = {"data": name, "method": method, "seed": seed, **run(method, adata, seed)}
                print(
                    {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()},
                    flush=True,
                )
                rows.append(row)
                if args.out:
                    new = not args.out.is_file()
                    pd.DataFrame([row]).to_csv(args.out, mode="a", header=new, index=False)
    if rows:
        table = pd.DataFrame(rows).drop(columns="seed").groupby(["data", "method"], sort=False)
        print(table.agg(["mean", "std"]).round(3).to_string())


if __name__ == "__main__":
    main()
