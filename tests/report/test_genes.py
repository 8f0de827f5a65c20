"""Genes of the map: those that tell most, those the user names, then and later; the tissue under spots."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vivace
from vivace.cli.app import main
from vivace.errors import InvalidArgumentError, InvalidDataError, MissingKeyError
from vivace.runs import Run
from vivace.runs.layout import DIFFERENTIAL
from vivace.runs.leading import leading_genes
from vivace.tables import expression, save_run, write_tables
from vivace.tables.counts import fractions, log_normalised
from vivace.tables.more_genes import add_genes
from vivace.tables.tissue import write_tissue


@pytest.fixture(scope="module")
def model():
    adata = vivace.datasets.simulate("batches", n_cells=80, n_genes=30)
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    model = vivace.SCVI(adata, n_latent=2, n_hidden=8)
    model.train(max_epochs=1, progress=False)
    return model


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    """A run with five genes of thirty, and the file of its cells."""
    monkeypatch.setattr(expression, "MOST_GENES", 5)
    model.adata.write_h5ad(tmp_path / "cells.h5ad")
    return save_run(model, tmp_path / "run", genes=["gene_7"])


def in_shell(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code


def test_the_named_gene_comes_first_then_those_that_lead_their_groups(model, run):
    held = Run(run).expression()
    assert held.genes[0] == "gene_7"
    table = Run(run).table(DIFFERENTIAL)
    leaders = {leading_genes(part, 1)[0] for _, part in table.groupby("group1")}
    assert len(leaders & set(held.genes)) >= min(5, len(leaders))
    assert held.values.shape == (len(held.genes), 80)


def test_values_are_those_of_the_model(model, run):
    held = Run(run).expression()
    k = held.genes.index("gene_7")
    said = model.get_normalized_expression(gene_list=["gene_7"], use_mean=True, return_numpy=True)
    expected = np.log2(1 + 1e4 * said[:, 0])
    back = held.low[k] + held.values[k] / 255 * (held.top[k] - held.low[k])
    np.testing.assert_allclose(back, np.minimum(expected, held.top[k]), atol=held.top[k] / 400)


def test_a_gene_that_the_run_does_not_hold_is_asked_of_the_model(run, tmp_path, capsys):
    missing = next(f"gene_{i}" for i in range(30) if f"gene_{i}" not in Run(run).expression().genes)
    page = tmp_path / "page.html"
    assert in_shell("report", run, "--out", page, "--genes", missing) == 2
    said = capsys.readouterr().err
    assert f'"{missing}" is not in the run' in said
    assert "--data FILE" in said
    words = ["--genes", f"gene_7,{missing}", "--data", tmp_path / "cells.h5ad"]
    assert in_shell("report", run, "--out", page, *words) == 0
    assert Run(run).expression().genes[0] == missing
    assert f'"{missing}"' in page.read_text(encoding="utf-8")
    progress = [line for line in capsys.readouterr().out.splitlines() if " %  " in line]
    assert progress[0].strip().startswith("0 %")
    assert len(progress) > 5


def test_a_name_that_is_no_gene_is_said_before_anything_is_written(model, run, tmp_path):
    before = (run / "tables" / "expression.npz").read_bytes()
    with pytest.raises((InvalidArgumentError, MissingKeyError), match="gene_700"):
        add_genes(model, run, ["gene_700"])
    with pytest.raises((InvalidArgumentError, MissingKeyError), match="gene_700"):
        write_tables(model, tmp_path / "other", genes=["gene_700"])
    assert (run / "tables" / "expression.npz").read_bytes() == before
    assert not (tmp_path / "other").exists()


def test_a_gene_that_is_none_has_a_near_name(run, capsys):
    assert in_shell("report", run, "--genes", "gene7") == 2
    assert 'Did you mean "gene_' in capsys.readouterr().err


def test_cells_that_are_not_those_of_the_run_are_refused(model, run):
    path = run / "tables" / "latent.csv"
    table = pd.read_csv(path, index_col=0)
    table.index = ["stranger", *table.index[1:]]
    table.to_csv(path, index_label="cell")
    with pytest.raises(InvalidDataError, match="stranger"):
        add_genes(model, run, ["gene_1"])


@pytest.mark.parametrize("dense", [True, False])
def test_log_normalised_counts_and_fractions(model, dense):
    counts = model.adata.X.toarray() if dense else model.adata.X
    x = model.adata.X.toarray()
    expected = np.log1p(1e4 * x / x.sum(1, keepdims=True))
    found = log_normalised(counts)
    np.testing.assert_allclose(found if dense else found.toarray(), expected, rtol=1e-5)
    assert fractions(counts) == 0
    assert fractions(counts * 0.5) > 0
    assert fractions(counts * 0) == 0


def test_the_tissue_is_a_small_picture_in_units_of_the_spots(tmp_path):
    pixels = np.random.default_rng(0).random((900, 600, 4))
    library = {"images": {"hires": pixels}, "scalefactors": {"tissue_hires_scalef": 0.5}}
    place = write_tissue({"spatial": {"slide": library}}, tmp_path)
    assert place == {"width": 1200, "height": 1800}
    assert (tmp_path / "tissue.jpg").stat().st_size < 300_000


@pytest.mark.parametrize(
    "uns",
    [{}, {"spatial": 1}, {"spatial": {}}, {"spatial": {"a": {}, "b": {}}}, {"spatial": {"a": {}}}],
)
def test_spots_without_one_picture_have_none(tmp_path, uns):
    assert write_tissue(uns, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
