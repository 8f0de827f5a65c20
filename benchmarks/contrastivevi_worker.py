"""Train scvi-tools' ContrastiveVI with its defaults; runs inside the environment of scvi_env.py.

Usage: contrastivevi_worker.py cells.h5ad target.npy seed out.npz max_epochs (0: its default)
With max_epochs, all cells are trained on and an epoch is run beforehand, so that only training is timed.
"""

import sys
import time
import warnings

warnings.filterwarnings("ignore")

import anndata  # noqa: E402
import numpy as np  # noqa: E402
import scvi  # noqa: E402
import torch  # noqa: E402
from scvi.external import ContrastiveVI  # noqa: E402


def main(cells: str, target: str, seed: str, out: str, max_epochs: str) -> None:
    torch.set_num_threads(1)
    scvi.settings.seed = int(seed)
    scvi.settings.verbosity = 40
    adata = anndata.read_h5ad(cells)
    is_target = np.load(target)
    ContrastiveVI.setup_anndata(adata)
    model = ContrastiveVI(adata)
    epochs = int(max_epochs) or None
    options = {
        "background_indices": np.flatnonzero(~is_target).tolist(),
        "target_indices": np.flatnonzero(is_target).tolist(),
        "max_epochs": epochs,
        "train_size": 1.0 if epochs else None,
        "accelerator": "cpu",
        "enable_progress_bar": False,
    }
    if epochs:
        model.train(**options)
    start, cpu = time.perf_counter(), time.process_time()
    model.train(**options)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    np.savez(
        out,
        salient=model.get_latent_representation(representation_kind="salient"),
        shared=model.get_latent_representation(representation_kind="background"),
        seconds=seconds,
        cpu_seconds=cpu,
    )


main(*sys.argv[1:])
