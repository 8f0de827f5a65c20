"""``vivace deconvolve``: files in, proportions and a report out."""

from __future__ import annotations

import pandas as pd
import pytest

import vivace


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deconvolve")
    cells, spots = vivace.datasets.simulate(
        "spatial", n_cells=60, n_genes=70, n_spots=16, n_types=3
    )
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(str)
    cells.varm.clear()
    spots.write_h5ad(folder / "spots.h5ad")
    cells.write_h5ad(folder / "cells.h5ad")
    few = spots[:, :20].copy()
    few.write_h5ad(folder / "few.h5ad")
    return folder


def test_from_files_to_a_report(problem, run, monkeypatch):
    monkeypatch.setattr("vivace.models.destvi.FAST_STEPS", 4)
    out = problem / "run"
    done = run(
        "deconvolve", problem / "cells.h5ad", problem / "spots.h5ad", "--labels", "cell_type",
        "--out", out, "--n-top-genes", 55, "--seed", 1,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "70 genes are in both" in done.out
    proportions = pd.read_csv(out / "tables" / "proportions.csv", index_col=0)
    assert proportions.shape == (16, 3)
    assert (proportions.sum(axis=1) - 1).abs().max() < 1e-3
    model = vivace.load(out)
    assert isinstance(model, vivace.DestVI)
    assert model.n_genes == 55
    assert isinstance(vivace.load(out / "reference"), vivace.CondSCVI)
    assert run("report", out).code == 0
    page = (out / "report.html").read_text()
    assert "Cell types in the tissue" in page
    assert "type_2" in page
    again = run(
        "deconvolve", problem / "cells.h5ad", problem / "spots.h5ad", "--labels", "cell_type",
        "--out", out,
    )  # fmt: skip
    assert again.code == 2
    assert "--overwrite" in again.err


@pytest.mark.parametrize(
    ("spots", "labels", "words"),
    [
        ("few.h5ad", "cell_type", "only 20 genes are in both"),
        ("spots.h5ad", "cell_typ", 'Did you mean "cell_type"'),
        ("nothing.h5ad", "cell_type", "was not found"),
    ],
    ids=["few genes", "labels", "file"],
)
def test_mistakes_are_one_sentence(problem, run, tmp_path, spots, labels, words):
    done = run(
        "deconvolve", problem / "cells.h5ad", problem / spots, "--labels", labels,
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
