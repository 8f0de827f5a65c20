"""``vivace deconvolve``: files in, proportions and a report out."""

from __future__ import annotations

import anndata
import numpy as np
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
    ask(run, out, problem / "spots.h5ad", monkeypatch)
    again = run(
        "deconvolve", problem / "cells.h5ad", problem / "spots.h5ad", "--labels", "cell_type",
        "--out", out,
    )  # fmt: skip
    assert again.code == 2
    assert "--overwrite" in again.err


def ask(run, out, spots, monkeypatch):
    """States and expression of the types are those of Python."""
    monkeypatch.setattr("vivace.cli.expression.CELLS_AT_ONCE", 10)
    model = vivace.load(out, anndata.read_h5ad(spots))
    assert run("states", out, spots, "--out", out / "s.csv").code == 0
    states = pd.read_csv(out / "s.csv", index_col="spot")
    assert len(states) == 16 * 3
    part = states[states["cell_type"] == "type_1"]
    wanted = model.get_gamma()["type_1"]
    np.testing.assert_allclose(part.filter(like="state_"), wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(part["proportion"], model.get_proportions()["type_1"], rtol=1e-4)
    one = ("--cell-type", "type_1", "--overwrite")
    assert run("states", out, spots, "--out", out / "s.csv", *one).code == 0
    assert len(pd.read_csv(out / "s.csv")) == 16
    words = ("expression", out, spots, "--out", out / "e.csv", "--gene", model.var_names[3])
    for more, values in (
        ((), model.get_scale_for_ct("type_1")),
        (("--counts",), model.get_expression_for_ct("type_1")),
    ):
        assert run(*words, *one, *more).code == 0
        found = pd.read_csv(out / "e.csv", index_col=0)
        np.testing.assert_allclose(found, values.iloc[:, [3]], rtol=1e-4)
    done = run(*words, "--overwrite")
    assert (done.code, "type_0, type_1, type_2" in done.err) == (2, True)
    done = run(*words, *one, "--library-size", "100")
    assert (done.code, "--library-size" in done.err) == (2, True)
    done = run("states", out, spots, "--out", out / "t.csv", "--cell-type", "type_9")
    assert (done.code, 'Did you mean "type_' in done.err) == (2, True)


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
