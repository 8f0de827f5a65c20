"""Writing is looked at before anything is learned, and what a file cannot hold is told in a sentence."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from vivace._files import check_place
from vivace.cli.files import write_cells
from vivace.errors import InvalidArgumentError, InvalidDataError

COMMANDS = [
    "fit scvi cells.h5ad --out {}",
    "deconvolve cells.h5ad cells.h5ad --labels cell_type --out {}",
    "import old --out {}",
    "demo --out {}",
    "latent run cells.h5ad --out {}.csv",
    "de run cells.h5ad --groupby cell_type --out {}.csv",
    "report run --out {}.html",
]


@pytest.fixture
def here(folder, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("cells.h5ad").write_bytes((folder / "cells.h5ad").read_bytes())
    Path("run").symlink_to(folder / "run")
    Path("file").write_text("mine")
    return tmp_path


@pytest.fixture
def nothing_is_learned(monkeypatch):
    """Reading cells is already too late."""

    def too_late(*_, **__):
        raise AssertionError("the place was not looked at first")

    for name in (
        "anndata.read_h5ad",
        "vivace.models.table.load",
        "vivace.models.table.import_model",
    ):
        monkeypatch.setattr(name, too_late)
    monkeypatch.setattr("vivace.datasets.pbmc68k", too_late)
    monkeypatch.setattr("vivace.report.write_report", too_late)


@pytest.mark.usefixtures("nothing_is_learned")
@pytest.mark.parametrize("words", COMMANDS)
class TestPlaces:
    def test_a_file_on_the_way(self, here, run, words):
        done = run(*words.format("file/new").split())
        assert done.code == 2
        assert "file" in done.err
        assert Path("file").read_text() == "mine"

    def test_a_folder_that_is_read_only(self, here, run, words, monkeypatch):
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
        done = run(*words.format("new").split())
        assert done.code == 2
        assert f'"{here}" is read-only' in done.err

    def test_a_full_disk(self, here, run, words, monkeypatch):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 100, 0))
        done = run(*words.format("new").split())
        assert done.code == 2
        assert f'the disk of "{here}" is full' in done.err


@pytest.mark.usefixtures("nothing_is_learned")
@pytest.mark.parametrize("words", COMMANDS[-3:])
def test_a_folder_where_a_file_is_to_be(here, run, words):
    place = Path(words.split()[-1].format("place"))
    place.mkdir()
    overwrite = () if words.startswith("report") else ("--overwrite",)
    done = run(*words.format("place").split(), *overwrite)
    assert done.code == 2
    assert f'"{place}" is a folder; name a file' in done.err


def test_a_page_replaces_no_file_of_another_kind(here, run):
    done = run("report", "run", "--out", "file")
    assert done.code == 2
    assert "should end in .html" in done.err
    assert Path("file").read_text() == "mine"


def test_a_place_may_be_new_to_any_depth(tmp_path):
    check_place(tmp_path / "a" / "b" / "c")
    assert not list(tmp_path.iterdir()), "looking leaves nothing"
    (tmp_path / "a").touch()
    with pytest.raises(InvalidArgumentError, match="is a file"):
        check_place(tmp_path / "a" / "b" / "c")


def reserved(where: str) -> anndata.AnnData:
    """Cells with a column of the name that anndata keeps for itself."""
    cells = anndata.AnnData(np.ones((3, 2), dtype=np.float32))
    cells.raw = cells.copy()
    if where == "raw.var":
        full = cells.raw.to_adata()
        full.var["_index"] = ["x", "y"]
        cells.raw = full
    else:
        table = getattr(cells, where)
        table["_index"] = [f"x{i}" for i in range(len(table))]
        table["index_"] = 0
    return cells


@pytest.mark.parametrize(
    ("where", "name"), [("raw.var", "index_"), ("obs", "index_1"), ("var", "index_1")]
)
def test_a_reserved_name_is_written_another_way(tmp_path, where, name, capsys):
    cells = reserved(where)
    write_cells(cells, tmp_path / "new.h5ad")
    assert f'the column "_index" of {where} is called "{name}"' in capsys.readouterr().err
    again = anndata.read_h5ad(tmp_path / "new.h5ad")
    table = again.raw.var if where == "raw.var" else getattr(again, where)
    assert table[name].tolist()[:2] == (["x", "y"] if where == "raw.var" else ["x0", "x1"])
    np.testing.assert_array_equal(again.raw.X, 1)


def test_text_of_the_kind_of_pandas_is_written(tmp_path):
    cells = anndata.AnnData(np.ones((3, 2), dtype=np.float32))
    cells.obs["name"] = pd.array(
        ["a", "b", "c"], dtype="string"
    )  # too many values to be categories
    cells.obs["note"] = pd.array(["a", None, "b"], dtype="string")
    write_cells(cells, tmp_path / "new.h5ad")
    found = anndata.read_h5ad(tmp_path / "new.h5ad").obs
    assert found["name"].tolist() == ["a", "b", "c"]
    assert found["note"].isna().tolist() == [False, True, False]


def test_what_a_file_cannot_hold_is_a_sentence_and_no_file(tmp_path):
    cells = anndata.AnnData(np.ones((3, 2), dtype=np.float32))
    cells.uns["function"] = print
    with pytest.raises(InvalidDataError, match=r"cannot be written .*\.csv"):
        write_cells(cells, tmp_path / "new.h5ad")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [OSError("Can't write data"), OSError(28, "No space left on device")]
)
def test_errors_of_the_disk_are_a_sentence(here, run, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", fail)
    done = run("latent", "run", "cells.h5ad", "--out", "new.h5ad")
    assert done.code == 2
    assert (error.strerror or str(error)) in done.err
    assert done.err.count("\n") == 1
    assert not Path("new.h5ad").exists()


def test_too_little_memory_is_a_sentence(here, run, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("Unable to allocate 1. TiB")

    monkeypatch.setattr("vivace.models.table.load", fail)
    done = run("latent", "run", "cells.h5ad", "--out", "new.h5ad")
    assert done.code == 2
    assert done.err == "vivace: there is not enough memory for this (Unable to allocate 1. TiB)\n"
