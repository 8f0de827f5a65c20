"""Every mistake ends with code 2 and one sentence that says what to do; nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vivace.models.base


@pytest.fixture
def here(folder, cells, tmp_path, monkeypatch) -> Path:
    """A folder with good and damaged files, as the current one."""
    monkeypatch.chdir(tmp_path)
    whole = (folder / "cells.h5ad").read_bytes()
    Path("cells.h5ad").write_bytes(whole)
    Path("cut.h5ad").write_bytes(whole[: len(whole) // 2])
    Path("text.h5ad").write_text("hello")
    Path("table.csv").write_text("a,b\n")
    Path("run").symlink_to(folder / "run")
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    negative = cells.copy()
    negative.X.data[0] = -1
    negative.write_h5ad("negative.h5ad")
    cells[:, :5].copy().write_h5ad("few_genes.h5ad")
    return tmp_path


FIT = "fit scvi cells.h5ad --out new --max-epochs 1"
CONTRAST = "fit contrastivevi cells.h5ad --out new --max-epochs 1"
MISTAKES = [
    ("fitt", "Did you mean 'fit'?"),
    ("fit scvii cells.h5ad --out new", 'Did you mean "scvi"'),
    ("fit scvi cells.h5ad", "Missing option '--out'"),
    ("fit scvi cell.h5ad --out new", 'Did you mean "cells.h5ad"?'),
    ("fit scvi no/cells.h5ad --out new", 'There is no folder "no"'),
    ("fit scvi table.csv --out new", "is not an .h5ad file"),
    ("fit scvi cut.h5ad --out new", "is it complete?"),
    ("fit scvi text.h5ad --out new", "is it complete?"),
    ("fit scvi negative.h5ad --out new", "negative"),
    ("fit scvi cells.h5ad --out run", "--overwrite"),
    ("fit scvi cells.h5ad --out mine --overwrite", "is no run folder"),
    ("fit scvi cells.h5ad --out mine/thesis.txt", "is no run folder"),
    (f"{FIT} --batch btch", '--batch "btch" was not found in obs. Did you mean "batch"?'),
    (f"{FIT} --layer counts", '--layer "counts" was not found'),
    (f"{FIT} --colour celltype", 'Did you mean "cell_type"?'),
    (f"{FIT} --max-epoch 3", "--max-epochs"),
    (f"{FIT} --batch-size none", "Invalid value for '--batch-size'"),
    (f"{FIT} --batch-size 0", "--batch-size 0 must be > 0"),
    (f"{FIT} --n-top-genes -1", "Invalid value for '--n-top-genes'"),
    (f"{FIT} --recipe fst", 'Did you mean "fast"?'),
    (f"{FIT} --gene-likelihood zimb", 'Did you mean "zinb"?'),
    (f"{FIT} --train-size 2", "--train-size 2"),
    (f"{FIT} --resume nothing.pt", "nothing.pt"),
    ("latent nowhere cells.h5ad --out new.h5ad", "nowhere"),
    ("latent mine cells.h5ad --out new.h5ad", "mine"),
    ("latent run cell.h5ad --out new.h5ad", 'Did you mean "cells.h5ad"?'),
    ("latent run few_genes.h5ad --out new.h5ad", "of the model's 30 genes are not in var_names"),
    ("latent run cells.h5ad --out cells.h5ad", "--overwrite"),
    ("latent run cells.h5ad --out new.txt", "should end in .h5ad"),
    ("latent run cells.h5ad --out no/new.h5ad", 'there is no folder "no"'),
    ("latent run cells.h5ad --out mine.csv --overwrite extra", "extra"),
    ("de run cells.h5ad --groupby cel_type --out new.csv", 'Did you mean "cell_type"'),
    ("de run cells.h5ad --groupby cell_type --out new.txt", "should end in .csv"),
    ("de run cells.h5ad --groupby cell_type --out new.csv --group1 nobody", "nobody"),
    ("de run cells.h5ad --groupby cell_type --out new.csv --mode chnge", 'Did you mean "change"'),
    ("fit contrastivevi cells.h5ad --out new", "Missing option '--background'"),
    (f"{CONTRAST} --background batch --target batch=batch_1", "should be COLUMN=VALUE"),
    (f"{CONTRAST} --background btch=batch_0 --target batch=batch_1", 'Did you mean "batch"?'),
    (f"{CONTRAST} --background batch=btch_0 --target batch=batch_1", 'Did you mean "batch_0"'),
    (f"{CONTRAST} --background batch=batch_0 --target batch=batch_0", "target"),
    ("report nowhere", 'the run folder "nowhere" was not found'),
    ("report mine", "is not a run folder"),
    ("report", "Missing argument"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_one_sentence(here, run, words, message):
    before = {p: p.stat().st_mtime_ns for p in here.rglob("*")}
    done = run(*words.split())
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert done.err.startswith("vivace: ")
    assert {p: p.stat().st_mtime_ns for p in here.rglob("*")} == before


def test_a_bug_is_not_dressed_up_as_a_mistake(here, run, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(vivace.models.base.BaseModel, "train", broken)
    with pytest.raises(ZeroDivisionError):
        run(*FIT.split())
    assert not Path("new").exists()


def test_ctrl_c_outside_training_says_that_nothing_was_written(here, run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("anndata.read_h5ad", interrupted)
    done = run(*FIT.split())
    assert done.code == 130
    assert "nothing was written" in done.err
    assert not Path("new").exists()


def test_a_save_that_fails_leaves_the_old_run(here, run, cells, monkeypatch):
    assert run(*FIT.split()).code == 0
    before = {p: p.read_bytes() for p in Path("new").rglob("*") if p.is_file()}

    def full(*_, **__):
        raise OSError(28, "No space left on device", "new")

    monkeypatch.setattr(vivace.models.base.BaseModel, "save", full)
    done = run(*FIT.split(), "--overwrite")
    assert done.code == 2
    assert "No space left on device" in done.err
    assert {p: p.read_bytes() for p in Path("new").rglob("*") if p.is_file()} == before
    assert np.all([not p.name.startswith(".new") for p in Path().iterdir()])
