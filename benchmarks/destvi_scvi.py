"""Worker of destvi.py: scvi-tools' CondSCVI and DestVI with their defaults, in scvi-tools' environment."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import anndata
import scvi

warnings.simplefilter("ignore")
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
scvi.settings.seed = seed
reference = anndata.read_h5ad(folder / "reference.h5ad")
spots = anndata.read_h5ad(folder / "spots.h5ad")
scvi.model.CondSCVI.setup_anndata(reference, labels_key="label")
cells = scvi.model.CondSCVI(reference, prior="mog")
cells.train(enable_progress_bar=False)
model = scvi.model.DestVI.from_rna_model(spots, cells)
model.train(enable_progress_bar=False)
model.get_proportions().to_csv(folder / "proportions.csv")
