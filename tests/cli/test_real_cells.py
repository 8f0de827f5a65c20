"""Real cells through the shell, end to end."""

from __future__ import annotations

import anndata
import pytest

from vivace import metrics
from vivace.cli import main


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def test_fit_latent_and_report_separate_sorted_blood_cells(shared_data, tmp_path):
    cells, folder = shared_data("pbmc_facs.h5ad"), tmp_path / "run"
    assert run("fit", "scvi", cells, "--n-top-genes", 2000, "--out", folder) == 0
    assert run("latent", folder, cells, "--out", tmp_path / "cells.h5ad") == 0
    assert run("report", folder) == 0
    assert (folder / "report.html").stat().st_size > 100_000
    placed = anndata.read_h5ad(tmp_path / "cells.h5ad")
    accuracy = metrics.knn_balanced_accuracy(
        placed.obsm["X_vivace"], placed.obs["cell_type"].to_numpy(), k=15, folds=5
    )
    assert accuracy >= 0.70
