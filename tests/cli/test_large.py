"""Commands with cells that stay on disk."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

import vivace
from vivace.cli import large
from vivace.data import facts

FIT = ["--batch", "batch", "--n-top-genes", 20, "--max-epochs", 1, "--n-latent", 2, "--n-hidden", 4]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(facts, "_known", {})


@pytest.fixture
def files(cells: anndata.AnnData, tmp_path: Path) -> list[Path]:
    """Two files of one study each."""
    found = []
    for name in cells.obs["batch"].cat.categories:
        found.append(tmp_path / f"{name}.h5ad")
        cells[cells.obs["batch"] == name].copy().write_h5ad(found[-1])
    return found


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine for which every file is large."""
    monkeypatch.setattr(large, "memory", lambda: 1000)


def test_several_files_are_fitted_as_one(run, files, tmp_path, cells):
    done = run("fit", "scvi", *files, "--out", tmp_path / "run", *FIT)
    assert done.code == 0, done.err
    names = ", ".join(path.name for path in files)
    assert f"Read 80 cells x 40 genes from {names}." in done.out
    assert "stay on disk" not in done.out
    summary = json.loads((tmp_path / "run" / "tables" / "summary.json").read_text())
    assert (summary["n_cells"], summary["n_genes"], summary["source"]) == (80, 20, names)


def test_large_files_stay_on_disk_and_that_is_said(run, files, tmp_path, small_memory):
    done = run("fit", "scvi", *files, "--out", tmp_path / "run", *FIT)
    assert done.code == 0, done.err
    assert "Counts stay on disk, as the files are large for this machine" in done.out
    loaded = run("fit", "scvi", *files, "--in-memory", "--out", tmp_path / "other", *FIT)
    assert "stay on disk" not in loaded.out
    genes = [set(vivace.load(tmp_path / name).var_names) for name in ("run", "other")]
    assert genes[0] == genes[1]


def test_a_run_on_disk_is_one_in_memory_but_for_the_order_of_cells(run, folder, tmp_path):
    words = ["fit", "scvi", folder / "cells.h5ad", *FIT]
    for where in ("--on-disk", "--in-memory"):
        done = run(*words, where, "--out", tmp_path / where)
        assert done.code == 0, done.err
    found = [
        json.loads((tmp_path / where / "tables" / "summary.json").read_text())
        for where in ("--on-disk", "--in-memory")
    ]
    for fact in ("n_cells", "n_genes", "counts_per_cell", "genes_per_cell", "zero_fraction"):
        assert found[0][fact] == found[1][fact]


def test_latent_joins_the_cells_of_a_large_file(run, folder, tmp_path, small_memory):
    out = tmp_path / "new.h5ad"
    done = run("latent", folder / "run", folder / "cells.h5ad", "--out", out)
    assert done.code == 0, done.err
    cells, new = anndata.read_h5ad(folder / "cells.h5ad"), anndata.read_h5ad(out)
    np.testing.assert_array_equal(new.X.toarray(), cells.X.toarray())
    model = vivace.load(folder / "run", cells[:, vivace.load(folder / "run").var_names].copy())
    np.testing.assert_allclose(
        new.obsm["X_vivace"], model.get_latent_representation(), rtol=1e-4, atol=1e-6
    )
    assert {*new.obsm} == {*cells.obsm, "X_vivace"}


def test_answers_are_written_by_ranges(run, folder, tmp_path, small_memory, monkeypatch):
    words = ["latent", folder / "run", folder / "cells.h5ad", "--out"]
    assert run(*words, tmp_path / "whole.csv").code == 0
    monkeypatch.setattr("vivace.tables.capabilities.CELLS_AT_ONCE", 30)
    for ending in ("csv", "h5ad"):
        assert run(*words, tmp_path / f"ranges.{ending}").code == 0
    tables = [pd.read_csv(tmp_path / f"{name}.csv", index_col=0) for name in ("whole", "ranges")]
    pd.testing.assert_frame_equal(*tables, rtol=1e-4, atol=1e-6)
    beside = anndata.read_h5ad(tmp_path / "ranges.h5ad").obsm["X_vivace"]
    np.testing.assert_allclose(beside, tables[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ending", ["csv", "h5ad"])
def test_an_answer_is_written_whole_or_not_at_all(
    run, folder, tmp_path, small_memory, monkeypatch, ending
):
    monkeypatch.setattr("vivace.tables.capabilities.CELLS_AT_ONCE", 30)
    asked = iter(range(9))
    ask = vivace.SCVI.get_latent_representation

    def fail_later(*words, **options):
        if next(asked) == 2:
            raise OSError(28, "No space left on device")
        return ask(*words, **options)

    monkeypatch.setattr(vivace.SCVI, "get_latent_representation", fail_later)
    words = ["latent", folder / "run", folder / "cells.h5ad", "--out", tmp_path / f"new.{ending}"]
    done = run(*words)
    assert done.code != 0
    assert "No space left" in done.err
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


def test_a_file_that_is_missing_or_damaged_is_named(run, files, tmp_path):
    nowhere = run("fit", "scvi", files[0], tmp_path / "nowhere.h5ad", "--out", tmp_path / "run")
    assert nowhere.code == 2
    assert "nowhere.h5ad" in nowhere.err
    with h5py.File(files[1], "r+") as file:
        del file["X/indices"]
    damaged = run("fit", "scvi", *files, "--out", tmp_path / "run")
    assert damaged.code == 2
    assert files[1].name in damaged.err
    assert not (tmp_path / "run").exists()


def test_a_column_that_one_file_lacks_is_named(run, files, tmp_path):
    without = anndata.read_h5ad(files[1])
    del without.obs["batch"]
    without.write_h5ad(files[1])
    done = run("fit", "scvi", *files, "--out", tmp_path / "run", *FIT)
    assert done.code == 2
    assert f'"batch" (not in {files[1].name})' in done.err


def test_a_large_reference_of_tissue_stays_on_disk(run, tmp_path, small_memory):
    parts = vivace.datasets.simulate("spatial", n_cells=120, n_genes=60, n_spots=40)
    for name, part in zip(("cells", "spots"), parts, strict=True):
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    words = [
        "deconvolve",
        tmp_path / "cells.h5ad",
        tmp_path / "spots.h5ad",
        "--labels",
        "cell_type",
    ]
    done = run(*words, "--out", tmp_path / "run", "--max-epochs", 1, "--n-top-genes", 55)
    assert done.code == 0, done.err
    assert "Counts stay on disk" in done.out
    assert (tmp_path / "run" / "tables" / "markers.csv").exists()


@pytest.mark.filterwarnings("ignore:Consolidated metadata", "ignore:Writing zarr v2")  # of anndata
@pytest.mark.filterwarnings("ignore:This setting will be removed in 0.14:DeprecationWarning")  # too
@pytest.mark.filterwarnings("ignore:zarr v3 will become the only option:DeprecationWarning")  # too
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.usefixtures("unsharded")
def test_latent_joins_a_copy_of_a_zarr_folder(run, folder, tmp_path, version):
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    source, out = tmp_path / "cells.zarr", tmp_path / "new.zarr"
    with anndata.settings.override(zarr_write_format=version):
        cells.write_zarr(source)
    words = ["latent", folder / "run", source, "--out", out]
    assert run(*words).code == 0
    again = run(*words)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert run(*words, "--overwrite").code == 0
    new = anndata.read_zarr(out)
    np.testing.assert_array_equal(new.X.toarray(), cells.X.toarray())
    pd.testing.assert_frame_equal(new.obs, anndata.read_zarr(source).obs)
    model = vivace.load(folder / "run")
    expected = model.get_latent_representation(cells[:, model.var_names].copy())
    np.testing.assert_allclose(new.obsm["X_vivace"], expected, rtol=1e-4, atol=1e-6)
    assert run(*words[:-1], tmp_path / "new.h5ad").code == 2
    assert run(*words[:-1], tmp_path / "run.zarr").code == 0
    (tmp_path / "mine.zarr").mkdir()
    refused = run(*words[:-1], tmp_path / "mine.zarr", "--overwrite")
    assert refused.code == 2
    assert "is a folder" in refused.err
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == [
        "cells.zarr",
        "mine.zarr",
        "new.zarr",
        "run.zarr",
    ]
