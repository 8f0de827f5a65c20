"""The splicing section, from a trained model to the page; and the shell command that makes both."""

from __future__ import annotations

import numpy as np
import pytest

from vivace._mudata import columns_stay
from vivace.cli.app import main
from vivace.datasets import simulate
from vivace.report.sections.splicing import splicing
from vivace.runs import Run
from vivace.runs.layout import CALIBRATION, USAGE


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with ``cells.h5mu`` and a run made from it in the shell."""
    folder = tmp_path_factory.mktemp("splicing")
    mdata = simulate("splicing", n_cells=120, n_genes=20, n_events=15, observed=0.6)
    with columns_stay():
        mdata.write_h5mu(folder / "cells.h5mu")
    words = ["fit", "splicevi", f"{folder}/cells.h5mu", "--out", f"{folder}/run"]
    words += ["--labels", "splice_group", "--max-epochs", "2", "--n-hidden", "8", "--n-latent", "3"]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    return folder


def test_the_section_shows_events_and_calibration(files):
    run = Run(files / "run")
    section = splicing(run)
    assert section.anchor == "splicing"
    assert 1 < len(section.blocks) <= 5
    assert all("<svg" in block.svg for block in section.blocks)
    assert section.blocks[-1].title == "Hidden events, predicted"


def test_tables_add_up(files):
    run = Run(files / "run")
    usage = run.table(USAGE).reset_index(drop=True)
    sums = usage.groupby(["event", "group"])["usage"].sum()
    np.testing.assert_allclose(sums, 1, rtol=1e-2)
    calibration = run.table(CALIBRATION)
    assert calibration["predicted"].between(0, 1).all()
    assert calibration["entries"].min() > 0


def test_other_runs_have_no_such_section(files, tmp_path):
    import shutil

    shutil.copytree(files / "run", tmp_path / "run")
    (tmp_path / "run" / "tables" / "splicing_calibration.csv").unlink()
    assert splicing(Run(tmp_path / "run")) is None


@pytest.mark.parametrize(
    ("name", "words"), [("cells.h5ad", "not an .h5mu file"), ("cell.h5mu", "Did you mean")]
)
def test_wrong_files_are_named(files, name: str, words: str, capsys):
    (files / "cells.h5ad").touch()
    with pytest.raises(SystemExit) as end:
        main(["fit", "splicevi", f"{files}/{name}", "--out", f"{files}/other"])
    assert end.value.code == 2
    assert words in capsys.readouterr().err
