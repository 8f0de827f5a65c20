"""Train scvi-tools' SCVI with its defaults; runs inside the environment of scvi_env.py.

Usage: scvi_worker.py cells.h5ad split.npz seed out_prefix [max_epochs]
Writes out_prefix.npy (latent means of all cells) and out_prefix.json.
"""

import json
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import anndata  # noqa: E402
import numpy as np  # noqa: E402
import scvi  # noqa: E402
import torch  # noqa: E402


def main(cells: str, split: str, seed: str, out: str, max_epochs: str = "") -> None:
    torch.set_num_threads(1)
    scvi.settings.seed = int(seed)
    scvi.settings.verbosity = 40
    adata = anndata.read_h5ad(cells)
    parts = np.load(split)
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata)
    wall, cpu = time.perf_counter(), time.process_time()
    model.train(
        max_epochs=int(max_epochs) if max_epochs else None,
        accelerator="cpu",
        enable_progress_bar=False,
        datasplitter_kwargs={
            "external_indexing": [parts["train"], parts["validation"], parts["others"]]
        },
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    draws = [float(model.get_elbo(indices=parts["test"])) for _ in range(10)]
    np.save(out + ".npy", model.get_latent_representation())
    result = {
        "seconds": wall,
        "cpu_seconds": cpu,
        "elbo": float(np.mean(draws)),
        "epochs": int(model.trainer.current_epoch),
        "version": scvi.__version__,
    }
    Path(out + ".json").write_text(json.dumps(result))


main(*sys.argv[1:])
