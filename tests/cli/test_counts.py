"""Counts in a file: whole numbers unless one says otherwise, and those of raw on request."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata
import numpy as np
import pytest

from vivace.cli.counts import counted, whole_counts, with_genes
from vivace.errors import FractionalCountsWarning, InvalidDataError, VivaceWarning

FIT = ("--max-epochs", "1", "--n-hidden", "4", "--n-latent", "2")


def warn() -> None:
    warnings.warn("adata.X holds fractions", FractionalCountsWarning, stacklevel=2)


def test_fractions_are_a_mistake_unless_they_are_allowed():
    with pytest.raises(InvalidDataError, match=r"holds fractions; --allow-fractions"):  # noqa: SIM117
        with whole_counts(allow_fractions=False):
            warn()


def test_fractions_that_are_allowed_are_noted_once(monkeypatch):
    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: shown.append(str(message))
        with whole_counts(allow_fractions=True) as notes:
            warn()
            warn()
            warnings.warn("another", VivaceWarning, stacklevel=1)
        warn()
    assert notes == ["X holds fractions"]
    assert shown == ["adata.X holds fractions", "another", "adata.X holds fractions"]


def raw_cells(layer: bool = False) -> anndata.AnnData:
    """Log-normalised values of two genes, and the counts of three in raw."""
    full = anndata.AnnData(np.arange(12, dtype=np.float32).reshape(4, 3))
    full.var_names = ["a", "b", "c"]
    cells = full[:, ["a", "b"]].copy()
    cells.X = np.log1p(cells.X)
    cells.raw = full
    if layer:
        cells.layers["raw"] = cells.X
    return cells


def test_counts_of_raw_bring_their_genes():
    cells = counted(raw_cells(), "raw")
    assert list(cells.var_names) == ["a", "b", "c"]
    chosen = with_genes(cells, ["c", "a"], "raw")
    assert list(chosen.raw.var_names) == list(chosen.var_names) == ["c", "a"]
    np.testing.assert_array_equal(chosen.raw.X, [[2, 0], [5, 3], [8, 6], [11, 9]])


@pytest.mark.parametrize(("layer", "name"), [(None, False), ("counts", False), ("raw", True)])
def test_other_layers_leave_the_cells_as_they_are(layer, name):
    cells = raw_cells(layer=name)
    assert counted(cells, layer) is cells
    assert list(with_genes(cells, ["b"], layer).raw.var_names) == ["a", "b", "c"]


@pytest.fixture
def here(cells, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    half = cells.copy()
    half.X.data = half.X.data + 0.5
    half.write_h5ad("half.h5ad")
    logged = cells.copy()
    logged.raw = cells.copy()
    logged.X = logged.X.log1p()
    logged[:, :20].copy().write_h5ad("raw.h5ad")
    cells.write_h5ad("cells.h5ad")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "fit scvi half.h5ad --out new",
        "latent run half.h5ad --out new.csv",
        "de run half.h5ad --groupby cell_type --out new.csv",
    ],
)
def test_commands_refuse_fractions_unless_allowed(here, run, folder, words):
    Path("run").symlink_to(folder / "run")
    done = run(*words.split(), *(FIT if words.startswith("fit") else ()))
    assert done.code == 2
    assert "not whole numbers" in done.err
    assert "--allow-fractions" in done.err
    assert done.err.count("\n") == 1
    assert not list(Path().glob("new*"))
    done = run(*words.split(), *(FIT if words.startswith("fit") else ()), "--allow-fractions")
    assert done.code == 0
    assert done.err.count("not whole numbers") == 1


def test_the_report_says_that_fractions_were_allowed(here, run):
    assert run("fit", "scvi", "half.h5ad", "--out", "new", *FIT, "--allow-fractions").code == 0
    assert "not whole numbers" in Path("new/tables/summary.json").read_text()


def test_values_that_are_modelled_as_normal_may_be_fractions(here, run):
    words = ("fit", "scvi", "half.h5ad", "--out", "new", *FIT, "--gene-likelihood", "normal")
    assert run(*words).code == 0


@pytest.mark.parametrize("top", ["0", "30"])
def test_counts_of_raw_are_fitted_and_found_again(here, run, top):
    done = run(
        "fit", "scvi", "raw.h5ad", "--layer", "raw", "--out", "new", *FIT, "--n-top-genes", top
    )
    assert done.code == 0, done.err
    assert "Read 80 cells x 20 genes" in done.out
    model = Path("new/model.json").read_text()
    assert "gene_39" in model or top == "30"
    assert run("latent", "new", "raw.h5ad", "--out", "new.h5ad").code == 0
    assert anndata.read_h5ad("new.h5ad").shape == (80, 20), "the cells as they came"


@pytest.mark.parametrize(("column", "group"), [("leiden", "0"), ("flag", "True"), ("dose", "2.5")])
def test_groups_that_are_no_text_are_named_as_text(here, run, folder, cells, column, group):
    Path("run").symlink_to(folder / "run")
    cells = cells.copy()
    n = cells.n_obs
    cells.obs["leiden"] = np.arange(n) % 3
    cells.obs["flag"] = np.arange(n) % 2 == 0
    cells.obs["dose"] = (np.arange(n) % 2 * 2.5).astype(str)
    cells.obs["dose"] = cells.obs["dose"].astype(float).astype("category")
    cells.write_h5ad("groups.h5ad")
    words = ("de", "run", "groups.h5ad", "--groupby", column, "--out", "de.csv", "--overwrite")
    assert run(*words).code == 0
    done = run(*words, "--group1", group)
    assert done.code == 0, done.err
    assert f"{group} vs Rest" in done.out
