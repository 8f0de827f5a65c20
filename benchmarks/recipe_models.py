"""Fast against classic for the models that are not SCVI, each by what it is used for, over seeds.

    python benchmarks/recipe_models.py [--models NAME ...] [--seeds N]

CondSCVI and DestVI: see destvi.py, which has both recipes. Rows go to results/recipe_models.csv as runs end.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import mudata
import pandas as pd
import torch

import joint_embedding
import sysvi
import vivace
from cells import DATA
from contrastivevi import INTERFERON, QUESTIONS, ours
from recipe import add_row
from splicevi import imputed

RESULTS = Path(__file__).parent / "results" / "recipe_models.csv"
RECIPES = ("fast", "classic")
KINDS = ("h5ad", "h5mu")
Figures = dict[str, float]


def joint(recipe: str, seed: int) -> Figures:
    """Labels of shallow cells from deep ones, and among deep ones (sorted PBMC)."""
    method = "JointEmbedding, today" if recipe == "fast" else "JointEmbedding, classic"
    found = joint_embedding.run(method, joint_embedding.load("pbmc_facs", seed), seed)
    return {"shallow cells": found["shallow"], "deep cells": found["deep"]}


def systems(recipe: str, seed: int) -> Figures:
    """Mixing of technologies and labels of neighbours (cell lines)."""
    [(_, adata)] = sysvi.data_sets(["celllines_multitech"], n_genes=2000)
    vivace.SysVI.setup_anndata(adata, batch_key="system", normalize=True)
    model = vivace.SysVI(adata)
    model.train(seed=seed, recipe=recipe, progress=False)
    found = sysvi.measure(model.get_latent_representation(), adata.obs)
    return {"iLISI": found["iLISI"], "kNN": found["kNN"]}


def contrast(data: str) -> Callable[[str, int], Figures]:
    """The answers to a question of contrastivevi.py."""

    def answers(recipe: str, seed: int) -> Figures:
        question = QUESTIONS[data]
        adata = question.load(seed)
        latents = ours(adata, question.target(adata), seed, recipe=recipe)
        found = question.figures(adata, latents)
        ranks = [found.pop(f"rank of {gene} in salient DE", None) for gene in INTERFERON]
        if None not in ranks:
            found["last interferon gene"] = max(ranks)
        return {k: v for k, v in found.items() if "silhouette" not in k}

    return answers


def splicing(recipe: str, seed: int) -> Figures:
    """Hidden events of lung cells, without labels."""
    mdata = mudata.read_h5mu(DATA / "lung_splicing.h5mu")
    vivace.SPLICEVI.setup_mudata(mdata)
    _, table = imputed(mdata, "cell_type", seed, fraction=0.25, recipe=recipe)
    found = table.loc["model"]
    return {"error of hidden ratios": found["mae"], "log-likelihood": found["log_likelihood"]}


MODELS: dict[str, Callable[[str, int], Figures]] = {
    "JointEmbeddingSCVI, pbmc_facs": joint,
    "SysVI, celllines_multitech": systems,
    "ContrastiveVI, simulated": contrast("simulated"),
    "ContrastiveVI, pbmc_ifnb": contrast("pbmc_ifnb"),
    "SPLICEVI, lung_splicing": splicing,
}


def is_there(name: str) -> bool:
    """Whether the data are simulated, or among those shared."""
    data = name.split(", ")[1]
    found = data == "simulated" or any((DATA / f"{data}.{kind}").is_file() for kind in KINDS)
    if not found:
        print(f"{name}: skipped, {DATA / data} is missing")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in filter(is_there, args.models):
        for seed in range(args.seeds):
            for recipe in RECIPES:
                vivace.settings.seed = seed  # initial weights vary too
                cpu = time.process_time()
                figures = MODELS[name](recipe, seed)
                keys = {"model": name, "recipe": recipe, "seed": seed}
                add_row(RESULTS, {**keys, **figures, "CPU s": time.process_time() - cpu})
    found = pd.read_csv(RESULTS).drop(columns="seed").groupby(["model", "recipe"], sort=False)
    shown = found.mean().round(3).astype(str) + " ± " + found.std().round(3).astype(str)
    print(shown.T.replace("nan ± nan", "").to_string())


if __name__ == "__main__":
    main()
