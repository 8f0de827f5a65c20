"""``vivace import``: from a folder of scvi-tools to a run folder."""

from __future__ import annotations

import re

import pytest

import test_import_splicevi as splicing
import vivace
from model_table import CASES
from test_import_scvi import published
from vivace._mudata import columns_stay
from vivace.cli import main


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def test_import_writes_a_run_folder(tmp_path, capsys):
    assert run("import", published(tmp_path / "old"), "--out", tmp_path / "run") == 0
    assert "SCVI(4 genes" in capsys.readouterr().out
    assert vivace.load(tmp_path / "run").options["n_latent"] == 2


def test_mistakes_are_one_sentence(tmp_path, capsys):
    assert run("import", tmp_path, "--out", tmp_path / "run") == 2
    assert "model.pt is missing" in capsys.readouterr().err
    published(tmp_path / "old")
    (tmp_path / "run").mkdir()
    assert run("import", tmp_path / "old", "--out", tmp_path / "run") == 0
    assert run("import", tmp_path / "old", "--out", tmp_path / "run") == 2
    assert "overwrite" in capsys.readouterr().err


def test_splicing_is_imported_with_the_cells_it_was_trained_with(tmp_path, capsys):
    cells = splicing.cells()
    folder, _ = splicing.published(tmp_path / "old", cells)
    with columns_stay():
        cells.write_h5mu(tmp_path / "cells.h5mu")
    out = tmp_path / "run"
    assert run("import", folder, "--out", out) == 2
    assert "MuData" in capsys.readouterr().err
    assert not out.exists()
    assert run("import", folder, "--out", out, "--data", tmp_path / "cells.h5mu") == 0
    assert "CELLS.h5mu --out FILE.h5mu" in capsys.readouterr().out
    assert type(vivace.load(out)).__name__ == "SPLICEVI"


def test_an_import_replaces_a_run_and_nothing_else(tmp_path, capsys):
    folder = published(tmp_path / "old")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    assert run("import", folder, "--out", mine, "--overwrite") == 2
    assert "is no run folder" in capsys.readouterr().err
    assert [p.name for p in mine.iterdir()] == ["thesis.txt"]
    assert run("import", folder, "--out", tmp_path / "run") == 0
    (tmp_path / "run" / "tables").mkdir()
    assert run("import", folder, "--out", tmp_path / "run", "--overwrite") == 0
    assert not (tmp_path / "run" / "tables").exists(), "tables of another model do not stay"


def test_what_a_model_of_spots_is_good_for_is_what_works(tmp_path, capsys, monkeypatch):
    case = CASES["DestVI"]
    model = case.build(case.data())
    model.train(max_epochs=1, progress=False)
    model.adata.write_h5ad(tmp_path / "spots.h5ad")
    monkeypatch.setattr("vivace.models.table.import_model", lambda *_: model)
    assert run("import", tmp_path, "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "vivace latent" not in said
    for words in re.findall(r"vivace (.*)", said):
        line = words.replace("SPOTS", str(tmp_path / "spots")).replace("FILE", str(tmp_path / "s"))
        assert run(*line.split()) == 0, capsys.readouterr().err
