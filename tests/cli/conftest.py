"""Small files with cells, and a way to run a command as a user would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import anndata
import pytest

import vivace
from vivace.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys) -> Callable[..., Outcome]:
    """``run("fit", "scvi", file, "--out", folder)``: exit code and what was printed."""

    def call(*words: object) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        printed = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def cells() -> anndata.AnnData:
    return vivace.datasets.simulate("batches", n_cells=80, n_genes=40, n_batches=2)


@pytest.fixture(scope="session")
def folder(cells, tmp_path_factory) -> Path:
    """``cells.h5ad`` and ``run/``, a model fitted to it; not to be written to."""
    folder = tmp_path_factory.mktemp("cli")
    cells.write_h5ad(folder / "cells.h5ad")
    words = ["fit", "scvi", "cells.h5ad", "--batch", "batch", "--n-top-genes", "30"]
    words += ["--max-epochs", "2", "--n-latent", "2", "--colour", "cell_type", "--out", "run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with pytest.raises(SystemExit) as stop:
            main(words)
    assert not stop.value.code
    return folder
