"""Train small models with scvi-tools, save them, and write down what they say.

Run by ``make parity`` in an environment of its own:

    python reference.py OUT

For every case OUT/<case>/ holds the saved model, OUT/<case>.npz what :func:`probe.probe` found, and
OUT/<data>.h5ad the cells. It prints nothing but the cases.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

warnings.filterwarnings("ignore")

import anndata
import numpy as np
import pandas as pd
import scvi
import torch

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


def trained(
    kind: type, adata: anndata.AnnData, setup: dict, options: dict, **train: object
) -> object:
    kind.setup_anndata(adata, **setup)
    model = kind(adata, **options)
    model.train(**{**EPOCHS, **train})
    return model


def scvi_cases() -> dict[str, Callable[[], object]]:
    return {
        f"SCVI-{name}": lambda setup=setup, options=options: trained(
            scvi.model.SCVI, cells(), setup, SMALL | options
        )
        for name, (setup, options) in SCVI_CASES.items()
    }


LABELS = {"labels_key": "label", "batch_key": "batch"}
COND_CASES = {
    "default": (LABELS, {}),
    "mog": (LABELS, {"prior": "mog", "num_classes_mog": 3}),
    "weighted": ({"labels_key": "label"}, {"weight_obs": True}),
    "encode": (LABELS, {"encode_covariates": True, "n_layers": 1}),
}


def cond_model(setup: dict, options: dict) -> object:
    return trained(scvi.model.CondSCVI, cells(), setup, SMALL | options)


def destvi_model(**options: object) -> object:
    single_cell = cond_model(LABELS, {"prior": "mog", "num_classes_mog": 3})
    spots = cells()
    scvi.model.DestVI.setup_anndata(spots, batch_key="batch")
    model = scvi.model.DestVI.from_rna_model(spots, single_cell, **options)
    model.train(**EPOCHS)
    return model


DESTVI_CASES = {
    "default": {},
    "plain": {"augmentation": False},
    "latent": {"amortization": "latent"},
    "proportion-normal": {"amortization": "none", "prior_mode": "normal", "augmentation": False},
    "two-unknown": {"add_celltypes": 2, "n_latent_amortization": 4},
}

SYSTEMS = {**BATCH, "categorical_covariate_keys": ["donor"], "continuous_covariate_keys": ["age"]}
SYSVI_CASES = {
    "default": (BATCH, {}),
    "covariates": (SYSTEMS, {}),
    "embedded": (SYSTEMS, {"embed_categorical_covariates": True}),
    "standard-normal": (SYSTEMS, {"prior": "standard_normal"}),
    "variance-per-cell": (BATCH, {"out_var_mode": "sample_feature"}),
    "three-components": (BATCH, {"n_prior_components": 3, "n_layers": 1}),
}


def sysvi_model(setup: dict, options: dict) -> object:
    return trained(scvi.external.SysVI, logged(cells()), setup, SMALL | options)


CONTRASTIVE_CASES = {
    "default": {},
    "penalty": {"wasserstein_penalty": 1.5, "n_layers": 2},
    "latent-library": {"use_observed_lib_size": False},
}


def contrastive_model(options: dict) -> object:
    sizes = {"n_hidden": 12, "n_background_latent": 3, "n_salient_latent": 2}
    rows = {"background_indices": np.arange(N // 2), "target_indices": np.arange(N // 2, N)}
    return trained(scvi.external.ContrastiveVI, cells(), BATCH, sizes | options, **rows)


def all_cases() -> dict[str, Callable[[], object]]:
    """Name of each case to what trains it."""
    cases = scvi_cases()
    for name, (setup, options) in COND_CASES.items():
        cases[f"CondSCVI-{name}"] = lambda s=setup, o=options: cond_model(s, o)
    for name, options in DESTVI_CASES.items():
        cases[f"DestVI-{name}"] = lambda o=options: destvi_model(**o)
    for name, (setup, options) in SYSVI_CASES.items():
        cases[f"SysVI-{name}"] = lambda s=setup, o=options: sysvi_model(s, o)
    for name, options in CONTRASTIVE_CASES.items():
        cases[f"ContrastiveVI-{name}"] = lambda o=options: contrastive_model(o)
    return cases


def minibatch(model: object) -> dict:
    """All cells; of ContrastiveVI the first half against the second."""
    tensors = next(iter(model._make_data_loader(model.adata, batch_size=N)))
    if type(model).__name__ != "ContrastiveVI":
        return tensors
    half = N // 2
    return {
        "background": {k: v[:half] for k, v in tensors.items()},
        "target": {k: v[half:] for k, v in tensors.items()},
    }


def questions(model: object) -> dict[str, np.ndarray]:
    """What users ask of the trained model, in float32."""
    kind = type(model).__name__
    if kind == "DestVI":
        # there, proportions that are free parameters pass through a softplus that the model has not,
        # and those behind a latent variable are random
        amortized = model.module.amortization == "both" and not model.module.n_latent_amortization
        return {"proportions": model.get_proportions().to_numpy()} if amortized else {}
    if kind == "ContrastiveVI":
        kinds = ("background", "salient")
        return {k: model.get_latent_representation(representation_kind=k) for k in kinds}
    return {"latent": model.get_latent_representation()}


def write(case: str, model: object, out: Path) -> None:
    model.save(str(out / case), overwrite=True)
    asked = {f"question.{k}": np.asarray(v) for k, v in questions(model).items()}
    # the loss of MRDeconv needs simulated spots, which it has only while it trains
    with_loss = not case.startswith("DestVI")
    np.savez(
        out / f"{case}.npz", **asked, **probe(model.module, minibatch(model), with_loss=with_loss)
    )
    print(case, flush=True)


def main(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    cells().write_h5ad(out / "cells.h5ad")
    logged(cells()).write_h5ad(out / "logged.h5ad")
    scvi.settings.seed = 0
    torch.set_num_threads(1)
    for name, train in all_cases().items():
        write(name, train(), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
