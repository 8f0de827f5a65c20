"""Does a query mapped onto a reference lie where joint training would have put it?

Each study of pbmc_three_studies in turn is the query, the two others the reference. Cell types of the
query's cells are told from their 15 nearest reference cells: in the latent space of one model of all
three studies, and in that of the reference after mapping.

    python benchmarks/query.py --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import anndata
import numpy as np
import torch

import vivace
from cells import DATA
from vivace import metrics
from vivace.analysis.genes import variable_genes

N_GENES = 1000
OPTIONS = {"encode_covariates": True}
"""The encoder sees the batch, so that mapping can correct what it does to the counts."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--layers", type=int, default=2, help="hidden layers of the reference")
    arguments = parser.parse_args()
    seeds, options = arguments.seeds, {**OPTIONS, "n_layers": arguments.layers}
    warnings.simplefilter("ignore")
    file = DATA / "pbmc_three_studies.h5ad"
    if not file.is_file():
        print(f"skipped: {file} is missing")
        return
    adata = anndata.read_h5ad(file)
    adata = adata[:, variable_genes(adata, N_GENES, batch_key="study")].copy()
    print("seed query joint mapped balanced_joint balanced_mapped reference_unchanged")
    for seed in seeds:
        joint = trained(adata, seed, options).get_latent_representation()
        for study in adata.obs["study"].unique():
            new = (adata.obs["study"] == study).to_numpy()
            mapped, unchanged = map_query(adata, new, seed, options)
            scores = [transfer(z, adata, new) for z in (joint, mapped)]
            figures = [f"{s[k]:.3f}" for k in ("accuracy", "balanced_accuracy") for s in scores]
            print(seed, study, *figures, unchanged, flush=True)


def map_query(
    adata: anndata.AnnData, new: np.ndarray, seed: int, options: dict[str, Any]
) -> tuple[np.ndarray, bool]:
    """Latent means of all cells, the query's after mapping; whether the reference is unchanged."""
    reference = trained(adata[~new].copy(), seed, options)
    before = reference.get_latent_representation()
    model = vivace.SCVI.load_query_data(adata[new].copy(), reference)
    model.train(seed=seed, accelerator="cpu", progress=False)
    after = model.get_latent_representation(reference.adata)
    latent = np.empty((adata.n_obs, after.shape[1]), dtype=np.float32)
    latent[~new], latent[new] = after, model.get_latent_representation()
    return latent, bool((before == after).all())


def trained(adata: anndata.AnnData, seed: int, options: dict[str, Any]) -> vivace.SCVI:
    vivace.settings.seed = seed
    torch.manual_seed(seed)
    vivace.SCVI.setup_anndata(adata, batch_key="study")
    model = vivace.SCVI(adata, **options)
    model.train(seed=seed, accelerator="cpu", progress=False)
    return model


def transfer(latent: np.ndarray, adata: anndata.AnnData, new: np.ndarray) -> dict[str, float]:
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    return metrics.label_transfer(latent[~new], labels[~new], latent[new], labels[new])


if __name__ == "__main__":
    main()
