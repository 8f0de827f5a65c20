"""Train SCVI on a file, and be killed before a step: ``python killed.py FILE CHECKPOINT STEP``."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import vivace
from vivace.data.sources import disk

STEPS_A_POOL = 4
PLAN = {"max_epochs": 3, "batch_size": 32, "progress": False}


def model_of(file: Path) -> Any:
    """A small model of cells that stay on disk, several pools of them."""
    pool = STEPS_A_POOL * PLAN["batch_size"]
    disk.POOL = (pool, pool)
    cells = vivace.open_cells(file)
    vivace.SCVI.setup_anndata(cells, batch_key="batch")
    return vivace.SCVI(cells, n_hidden=8, n_latent=2)


def killed_before(model: Any, last: int) -> Any:
    """The model, which ends this process, nothing written or closed, before that step."""
    step, taken = model.module.on_step, itertools.count()

    def first_count(kl_weight: float) -> None:
        if next(taken) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        step(kl_weight)

    model.module.on_step = first_count
    return model


if __name__ == "__main__":
    file, checkpoint, last = sys.argv[1:]
    model = killed_before(model_of(Path(file)), int(last))
    model.train(**PLAN, checkpoint=checkpoint, checkpoint_every_n_minutes=1e-9)
