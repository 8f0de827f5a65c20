"""Trains models in this process, or in as many as torchrun has started, and says how fast.

Usage: processes_worker.py cells.h5ad WHAT THREADS [CHECKPOINT]. WHAT is "rates" or "rates-smoke"; the first
process prints a line of JSON: cells a second by model and minibatch, and of latent extraction. With
"train" it trains SCVI on and on with a checkpoint, which another process may cut short.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch

import vivace
from vivace.train import by_rows
from vivace.train.loop import Trainer

warnings.filterwarnings("ignore")

PROCESSES = int(os.environ.get("WORLD_SIZE", "1"))
FIRST = os.environ.get("RANK", "0") == "0"
PER_PROCESS = 256
RECIPE = 64
SECONDS: list[float] = []


def watch_epochs() -> None:
    """Keep the seconds that each pass over the training cells takes."""
    plain = Trainer.epoch

    def timed(self: Trainer, *args: Any) -> dict[str, float]:
        start = time.perf_counter()
        metrics = plain(self, *args)
        SECONDS.append(time.perf_counter() - start)
        return metrics

    Trainer.epoch = timed  # type: ignore[method-assign]


def build(name: str, adata: anndata.AnnData) -> tuple[Any, dict[str, Any]]:
    """An untrained model, and further arguments of its training."""
    model_class = getattr(vivace, name)
    if name == "SysVI":
        model_class.setup_anndata(adata, batch_key="batch", normalize=True)
    else:
        model_class.setup_anndata(adata)
    half = adata.n_obs // 2
    populations = {
        "background_indices": range(half),
        "target_indices": range(half, adata.n_obs),
    }
    return model_class(adata), populations if name == "ContrastiveVI" else {}


def rate(name: str, adata: anndata.AnnData, batch_size: int, epochs: int) -> float:
    """Cells a second of the fastest pass but the first; held-out cells are not looked at."""
    model, given = build(name, adata)
    SECONDS.clear()
    model.train(
        max_epochs=epochs,
        batch_size=batch_size,
        train_size=1.0,
        progress=False,
        **given,
    )
    return model.training["n_train"] / min(SECONDS[1:])


def latent_rate(adata: anndata.AnnData, rounds: int) -> float:
    """Cells a second of latent extraction by ranges of rows."""
    model, _ = build("SCVI", adata)
    model.train(max_epochs=1, batch_size=1024, train_size=1.0, progress=False)

    def ask(rows: np.ndarray) -> np.ndarray:
        return model.get_latent_representation(indices=rows)

    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        by_rows(ask, adata.n_obs)
        seconds.append(time.perf_counter() - start)
    return adata.n_obs / min(seconds[1:])


def rates(adata: anndata.AnnData, epochs: int) -> dict[str, float]:
    """All figures."""
    watch_epochs()
    found = {}
    for name in ("SCVI", "ContrastiveVI", "SysVI"):
        found[f"{name}, {PER_PROCESS} cells a process"] = rate(
            name, adata, PER_PROCESS * PROCESSES, epochs
        )
        found[f"{name}, {RECIPE} cells, the recipe's"] = rate(name, adata, RECIPE, epochs)
    found["SCVI, latent extraction"] = latent_rate(adata, epochs)
    return found


def train_on(adata: anndata.AnnData, checkpoint: Path, epochs: int) -> None:
    """Train with a checkpoint after every epoch, from where an earlier run stopped."""
    model, _ = build("SCVI", adata)
    resume = checkpoint if checkpoint.is_file() else None
    model.train(
        max_epochs=epochs, progress=False, checkpoint=checkpoint, resume=resume, keep_best=False
    )
    print(json.dumps({"epochs": model.training["epochs"]}), flush=True)


def main() -> None:
    cells, what, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    adata = anndata.read_h5ad(cells)
    if what.startswith("train"):
        train_on(adata, Path(sys.argv[4]), int(sys.argv[5]))
        return
    found = rates(adata, 2 if what.endswith("smoke") else 4)
    if FIRST:
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
