"""``vivace stability`` and ``vivace tune`` as one types them."""

from __future__ import annotations

import pandas as pd
import pytest

import vivace
from vivace.cli.many import model_first
from vivace.fits.stability import Stability

QUICK = ["--max-epochs", "1", "--n-hidden", "8", "--processes", "1"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    adata = vivace.datasets.simulate("batches", n_cells=90, n_genes=30)
    adata.obs["condition"] = ["a", "b", "c"] * 30
    adata.write_h5ad(path)
    return path


def test_the_model_comes_first_wherever_it_is_named():
    words = ["cells.h5ad", "--out", "x"]
    assert model_first([*words, "--model", "scvi"]) == ["scvi", *words]
    assert model_first(["--model=scvi", *words]) == ["scvi", *words]
    assert model_first(["scvi", *words]) == ["scvi", *words]


def test_stability_writes_tables_and_goes_on(run, file, tmp_path):
    out = tmp_path / "study"
    words = ["stability", str(file), "--model", "scvi", "--labels", "cell_type", "--out", str(out)]
    first = run(*words, "--fits", "2", *QUICK)
    assert first.code == 0, first.err
    assert "2 fits of SCVI with other seeds" in first.out
    assert (out / "tables/verdict.txt").read_text().strip() in first.out
    labels = pd.read_csv(out / "tables/labels.csv", index_col=0)
    assert set(labels.columns) == {"cells", "stability", "lowest", "found_in"}
    kept = {p: p.stat().st_mtime_ns for p in (out / "fits").iterdir()}
    more = run(*words, "--fits", "3", *QUICK)
    assert "3 fits of SCVI" in more.out
    assert all(p.stat().st_mtime_ns == at for p, at in kept.items())
    other = run(*words, "--fits", "3", *QUICK, "--n-latent", "4")
    assert other.code == 2
    assert "differ in their options" in other.err


def test_populations_are_named_as_in_fit(run, file, tmp_path):
    words = ["stability", "contrastivevi", str(file), "--out", str(tmp_path / "study")]
    found = run(
        *words, "--background", "condition=a", "--target", "condition=b", "--fits", "2", *QUICK
    )
    assert found.code == 0, found.err
    assert (tmp_path / "study/tables/salient_genes.csv").is_file()


def test_tune_says_what_to_type(run, file, tmp_path):
    pytest.importorskip("optuna")
    words = ["tune", "scvi", str(file), "--out", str(tmp_path / "tuned"), "--trials", "1", *QUICK]
    found = run(*words)
    assert found.code == 0, found.err
    assert "held-out loss" in found.out
    assert {p.name for p in (tmp_path / "tuned/tables").iterdir()} == {
        *("trials.csv", "comparison.csv", "importance.csv", "verdict.txt")
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stability", "CELLS", "--out", "OUT"], "name the model, such as --model scvi"),
        (["stability", "svci", "CELLS", "--out", "OUT"], "scvi"),
        (["stability", "scvi", "CELLS", "--out", "OUT", "--fits", "1"], "--fits"),
        (["stability", "scvi", "CELLS", "--out", "OUT", "--labels", "typ"], "cell_type"),
        (["tune", "scvi", "CELLS", "--out", "OUT", "--measure", "kinds", *QUICK], "--labels"),
    ],
)
def test_mistakes_end_with_a_sentence(run, file, tmp_path, words, said):
    given = {"CELLS": str(file), "OUT": str(tmp_path / "out")}
    found = run(*[given.get(word, word) for word in words])
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err


def test_a_verdict_names_failures():
    table = pd.DataFrame({"held_out": [1.0, 2.0]})
    found = Stability("SCVI", 2, table, "", failed={3: "TrainingError: no"})
    from vivace.fits.verdict import verdict

    assert "1 more fit failed" in verdict(found)
