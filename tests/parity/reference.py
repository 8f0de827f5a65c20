"""Train small models with scvi-tools, save them, and write down what they say.

Run by ``make parity`` in an environment of its own:

    python reference.py OUT

For every case OUT/<case>/ holds the saved model, OUT/<case>.npz what :func:`probe.probe` found, and
OUT/<data>.h5ad the cells. It prints nothing but the cases.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import anndata
import numpy as np
import pandas as pd
import scvi
import torch

sys.path.insert(0, str(Path(__file__).parent))
from probe import probe

N, G = 120, 24
EPOCHS = {"max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False}


def cells() -> anndata.AnnData:
    """Counts with batches, labels and covariates of every kind."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 2.0, (N, G))).astype("float32")
    names = [f"cell_{i}" for i in range(N)]
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(rng.choice(["b0", "b1"], N)),
            "label": pd.Categorical(rng.choice(["t0", "t1", "t2"], N)),
            "sex": pd.Categorical(rng.choice(["f", "m"], N)),
            "donor": pd.Categorical(rng.choice(["d0", "d1", "d2"], N)),
            "age": rng.normal(size=N),
            "size": rng.uniform(0.5, 2, N),
        },
        index=names,
    )
    adata = anndata.AnnData(counts, obs=obs)
    adata.var_names = [f"gene_{i}" for i in range(G)]
    adata.layers["counts"] = counts.copy()
    return adata


def logged(adata: anndata.AnnData) -> anndata.AnnData:
    """The same cells, log-normalised."""
    adata.X = np.log1p(adata.X / adata.X.sum(1, keepdims=True) * 1e3)
    return adata


SMALL = {"n_hidden": 12, "n_latent": 3}
BATCH = {"batch_key": "batch"}
ALL = {
    **BATCH,
    "labels_key": "label",
    "categorical_covariate_keys": ["sex", "donor"],
    "continuous_covariate_keys": ["age"],
}
SCVI_CASES = {
    "default": ({}, {}),
    "nb": (BATCH, {"gene_likelihood": "nb"}),
    "poisson": (BATCH, {"gene_likelihood": "poisson"}),
    "normal": (BATCH, {"gene_likelihood": "normal"}),
    "layer": ({"layer": "counts", **BATCH}, {}),
    "covariates": (ALL, {}),
    "encode-covariates": (ALL, {"encode_covariates": True, "n_layers": 2}),
    "shallow": (ALL, {"deeply_inject_covariates": False, "n_layers": 2}),
    "gene-batch": (ALL, {"dispersion": "gene-batch"}),
    "gene-label": (ALL, {"dispersion": "gene-label", "gene_likelihood": "nb"}),
    "gene-cell": (ALL, {"dispersion": "gene-cell"}),
    "latent-library": (BATCH, {"use_observed_lib_size": False}),
    "size-factor": ({**BATCH, "size_factor_key": "size"}, {}),
    "logistic-normal": (BATCH, {"latent_distribution": "ln"}),
    "embedding": (ALL, {"batch_representation": "embedding", "encode_covariates": True}),
    "layer-norm": (BATCH, {"use_batch_norm": "none", "use_layer_norm": "both"}),
}


def first_minibatch(model: object) -> dict:
    return next(iter(model._make_data_loader(model.adata, batch_size=N)))


def scvi_model(setup: dict, options: dict) -> tuple[object, dict]:
    adata = cells()
    scvi.model.SCVI.setup_anndata(adata, **setup)
    model = scvi.model.SCVI(adata, **SMALL, **options)
    model.train(**EPOCHS)
    return model, {}


def write(case: str, model: object, loss_kwargs: dict, out: Path) -> None:
    model.save(str(out / case), overwrite=True)
    latent = np.asarray(model.get_latent_representation())
    tensors = first_minibatch(model)
    np.savez(out / f"{case}.npz", latent=latent, **probe(model.module, tensors, loss_kwargs))
    print(case, flush=True)


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    cells().write_h5ad(out / "cells.h5ad")
    scvi.settings.seed = 0
    torch.set_num_threads(1)
    for name, (setup, options) in SCVI_CASES.items():
        write(f"SCVI-{name}", *scvi_model(setup, options), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
