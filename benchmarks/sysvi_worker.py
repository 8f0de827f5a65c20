"""Run by the python of an environment with scvi-tools: CPU seconds of one of its training steps."""

from __future__ import annotations

import json
import sys
import time

import anndata
import numpy as np
import scipy.sparse as sp
import torch

N_CELLS, N_GENES, DENSITY = 20_000, 2_000, 0.1


def log_values() -> anndata.AnnData:
    """Values like log-normalised ones, two systems."""
    rng = np.random.default_rng(0)
    x = sp.random(
        N_CELLS,
        N_GENES,
        DENSITY,
        format="csr",
        dtype=np.float32,
        random_state=np.random.RandomState(0),
    )
    x.data = (0.3 + rng.exponential(1.0, len(x.data))).astype(np.float32)
    adata = anndata.AnnData(x)
    adata.obs["system"] = rng.integers(0, 2, N_CELLS).astype(str)
    return adata


def main(batch_size: int, n_steps: int) -> None:
    """Train on so many minibatches; print the median seconds between their ends as JSON."""
    from lightning.pytorch.callbacks import Callback
    from scvi.external import SysVI

    torch.set_num_threads(1)
    adata = log_values()[: n_steps * batch_size].copy()
    times = []

    class Clock(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            times.append(time.process_time())

    SysVI.setup_anndata(adata, batch_key="system")
    SysVI(adata).train(
        max_epochs=1,
        train_size=1.0,
        batch_size=batch_size,
        accelerator="cpu",
        enable_progress_bar=False,
        callbacks=[Clock()],
    )
    print(json.dumps(float(np.median(np.diff(times)))))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
