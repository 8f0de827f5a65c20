"""``vivace import``: from a folder of scvi-tools to a run folder."""

from __future__ import annotations

import pytest

import vivace
from test_import_scvi import published
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
