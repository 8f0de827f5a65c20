"""ContrastiveVI on data with known truth and on two treatments, over seeds; and its speed.

Usage: contrastivevi.py [quality] [unequal] [speed] [baseline]     (default: quality)

quality   simulated truth, pbmc_ifnb, glioblastoma_panobinostat (../shared/data, skipped when missing)
unequal   pbmc_ifnb without the B cells of its controls: what the energy distance costs there
baseline  the same questions asked of scvi-tools' ContrastiveVI with its defaults (long; needs pip)
speed     training throughput of both on one thread, the same architecture and minibatches
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch

import vivace
from cells import DATA
from scvi_env import scvi_python
from vivace.analysis.genes import variable_genes
from vivace.metrics import ilisi, knn_balanced_accuracy, silhouette

SEEDS = (0, 1, 2)
INTERFERON = ("ISG15", "IFIT1", "IFIT3", "MX1", "ISG20")
WORKER = Path(__file__).parent / "contrastivevi_worker.py"
Figures = dict[str, float]


@dataclass(frozen=True)
class Latents:
    """What a trained model says: both latent spaces of all cells, and our model where it is ours."""

    salient: np.ndarray
    shared: np.ndarray
    seconds: float
    cpu_seconds: float = 0.0
    model: Any = None


@dataclass(frozen=True)
class Question:
    """Data with a target, and the figures that say whether it was understood."""

    load: Callable[[int], anndata.AnnData]
    target: Callable[[anndata.AnnData], np.ndarray]
    figures: Callable[[anndata.AnnData, Latents], Figures]


def simulated(seed: int) -> anndata.AnnData:
    return vivace.datasets.simulate("contrastive", seed=seed)


def shared(name: str, n_genes: int = 2000) -> Callable[[int], anndata.AnnData]:
    def load(seed: int) -> anndata.AnnData:
        adata = anndata.read_h5ad(DATA / f"{name}.h5ad")
        return adata[:, variable_genes(adata, n_genes)].copy()

    return load


def condition_is(name: str) -> Callable[[anndata.AnnData], np.ndarray]:
    return lambda adata: (adata.obs["condition"] == name).to_numpy()


def explained(latent: np.ndarray, truth: np.ndarray) -> float:
    """Share of the variance of the truth that a linear map of the latent explains, 5-fold."""
    fold = np.random.default_rng(0).permutation(len(latent)) % 5
    design = np.column_stack([latent, np.ones(len(latent))])
    left = np.empty_like(truth)
    for k in range(5):
        weights, *_ = np.linalg.lstsq(design[fold != k], truth[fold != k], rcond=None)
        left[fold == k] = truth[fold == k] - design[fold == k] @ weights
    return float(1 - (left**2).sum() / ((truth - truth.mean(0)) ** 2).sum())


def truth(adata: anndata.AnnData, found: Latents) -> Figures:
    rows = condition_is("treated")(adata)
    programme = adata.obsm["salient_truth"][rows]
    return {
        "R2 of the target-only programme, salient": explained(found.salient[rows], programme),
        "R2 of the target-only programme, background": explained(found.shared[rows], programme),
        "R2 of the shared programme, background": explained(
            found.shared[rows], adata.obsm["background_truth"][rows]
        ),
    }


def separation(adata: anndata.AnnData, found: Latents, columns: dict[str, str]) -> Figures:
    """Balanced 15-neighbour accuracy and silhouette of columns of obs in both spaces."""
    figures = {}
    for name, column in columns.items():
        labels = adata.obs[column].astype(str).to_numpy()
        for space, latent in (("salient", found.salient), ("background", found.shared)):
            figures[f"{name}, {space}: neighbours"] = knn_balanced_accuracy(latent, labels)
            figures[f"{name}, {space}: silhouette"] = silhouette(latent, labels)
    figures["condition, background: mixing"] = ilisi(found.shared, adata.obs["condition"])
    return figures


def interferon(adata: anndata.AnnData, found: Latents) -> Figures:
    figures = separation(adata, found, {"condition": "condition", "cell type": "cell_type_pred"})
    if found.model is not None:
        genes = found.model.salient_differential_expression().index
        for gene in INTERFERON:
            figures[f"rank of {gene} in salient DE"] = 1 + genes.get_loc(gene)
    return figures


def patients(adata: anndata.AnnData, found: Latents) -> Figures:
    return separation(adata, found, {"condition": "condition", "patient": "patient_id"})


QUESTIONS = {
    "simulated": Question(simulated, condition_is("treated"), truth),
    "pbmc_ifnb": Question(shared("pbmc_ifnb"), condition_is("stim"), interferon),
    "glioblastoma_panobinostat": Question(
        shared("glioblastoma_panobinostat"), condition_is("panobinostat"), patients
    ),
}


def ours(
    adata: anndata.AnnData, target: np.ndarray, seed: int, recipe: str = "fast", **options: Any
) -> Latents:
    vivace.settings.seed = seed
    vivace.ContrastiveVI.setup_anndata(adata)
    model = vivace.ContrastiveVI(adata, **options)
    model.train(~target, target, seed=seed, recipe=recipe, progress=False)
    return Latents(
        model.get_latent_representation(),
        model.get_latent_representation(representation_kind="background"),
        model.training["seconds"],
        model=model,
    )


def with_penalty(adata: anndata.AnnData, target: np.ndarray, seed: int) -> Latents:
    return ours(adata, target, seed, wasserstein_penalty=5.0)


def published(adata: anndata.AnnData, target: np.ndarray, seed: int) -> Latents:
    return ours(adata, target, seed, energy_distance_weight=0.0)


def classic(adata: anndata.AnnData, target: np.ndarray, seed: int) -> Latents:
    return ours(adata, target, seed, recipe="classic")


def theirs(adata: anndata.AnnData, target: np.ndarray, seed: int, epochs: int = 0) -> Latents:
    """scvi-tools with its defaults, in an environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        cells, out = Path(folder) / "cells.h5ad", Path(folder) / "out.npz"
        anndata.AnnData(adata.X, obs=adata.obs[[]].copy()).write_h5ad(cells)
        np.save(Path(folder) / "target.npy", target)
        arguments = [cells, Path(folder) / "target.npy", seed, out, epochs]
        subprocess.run([scvi_python(), WORKER, *map(str, arguments)], check=True)
        found = np.load(out)
        return Latents(
            found["salient"],
            found["shared"],
            float(found["seconds"]),
            float(found["cpu_seconds"]),
        )


MODELS = {
    "vivace": ours,
    "vivace, weight 0": published,
    "vivace, classic": classic,
    "vivace, penalty 5": with_penalty,
}


def without_control_b_cells(seed: int) -> anndata.AnnData:
    """Populations of unequal make-up: the type of cells that only the target has is not its response."""
    adata = shared("pbmc_ifnb")(seed)
    is_b = adata.obs["cell_type_pred"].astype(str).str.startswith("B").to_numpy()
    return adata[~is_b | condition_is("stim")(adata)].copy()


UNEQUAL = {
    "pbmc_ifnb": Question(without_control_b_cells, condition_is("stim"), interferon),
}


def quality(
    models: dict[str, Callable[..., Latents]], questions: dict[str, Question] = QUESTIONS
) -> None:
    for name, question in questions.items():
        if name != "simulated" and not (DATA / f"{name}.h5ad").is_file():
            print(f"{name}: skipped, {DATA / name}.h5ad is missing")
            continue
        for label, train in models.items():
            runs = []
            for seed in SEEDS:
                adata = question.load(seed)
                found = train(adata, question.target(adata), seed)
                runs.append({**question.figures(adata, found), "seconds": found.seconds})
            print_table(f"{name}, {label}", runs)


def print_table(title: str, runs: list[Figures]) -> None:
    print(f"\n{title}\n\n| | {' | '.join(f'seed {s}' for s in SEEDS)} | mean | sd |")
    print("|---" * (3 + len(SEEDS)) + "|")
    for name in runs[0]:
        values = [run[name] for run in runs]
        shown = " | ".join(f"{v:.3g}" for v in [*values, np.mean(values), np.std(values)])
        print(f"| {name} | {shown} |", flush=True)


def speed(depth: float, n_cells: int = 8_000, n_genes: int = 2000, repeats: int = 3) -> None:
    """Cells of both populations trained on per second of the processor, best of some runs.

    Processor time, because the machine may be shared; both run on one thread.
    """
    adata = vivace.datasets.simulate(
        "contrastive", n_cells=n_cells, n_genes=n_genes, library_median=depth
    )
    target = condition_is("treated")(adata)
    best = {"vivace": 0.0, "scvi-tools": 0.0}
    for _ in range(repeats):  # in turns, so that both meet the same neighbours
        seconds = {
            "scvi-tools": theirs(adata, target, 0, epochs=1).cpu_seconds,
            "vivace": our_epoch(adata, target),
        }
        best = {name: max(value, n_cells / seconds[name]) for name, value in best.items()}
    ratio = best["vivace"] / best["scvi-tools"]
    found = ", ".join(f"{name} {value:,.0f} cells/s" for name, value in best.items())
    filled = adata.X.nnz / (n_cells * n_genes)
    print(
        f"\n{n_cells:,} cells x {n_genes:,} genes ({100 * filled:.0f} % non-zero), minibatches of "
        f"128 + 128, one thread, best of {repeats}: {found}, ratio {ratio:.1f}"
    )


def our_epoch(adata: anndata.AnnData, target: np.ndarray) -> float:
    """Processor seconds of the second of two epochs: the first compiles."""
    vivace.ContrastiveVI.setup_anndata(adata)
    model = vivace.ContrastiveVI(adata)
    options = {"recipe": "classic", "train_size": 1.0, "max_epochs": 1, "progress": False}
    model.train(~target, target, **options)
    start = time.process_time()
    model.train(~target, target, **options)
    return time.process_time() - start


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    wanted = sys.argv[1:] or ["quality"]
    if "quality" in wanted:
        quality(MODELS)
    if "unequal" in wanted:
        quality({"vivace": ours, "vivace, weight 0": published}, UNEQUAL)
    if "baseline" in wanted:
        quality({"scvi-tools": theirs})
    if "speed" in wanted:
        for depth in (400.0, 1000.0):
            speed(depth)
