"""``vivace map``, ``expression`` and ``report --data``: answers of a model without Python."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import vivace
from test_import_scvi import published


@pytest.fixture
def here(folder, tmp_path, monkeypatch) -> Path:
    """A folder with ``cells.h5ad`` and ``run``, as the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("cells.h5ad", "run"):
        Path(name).symlink_to(folder / name)
    return tmp_path


@pytest.fixture
def query(here, cells) -> anndata.AnnData:
    """Cells of a batch that the run does not know, genes in another order, as ``query.h5ad``."""
    query = cells[:25, ::-1].copy()
    query.obs = pd.DataFrame({"batch": "new", "mine": np.arange(25)}, index=query.obs_names)
    query.write_h5ad("query.h5ad")
    return query


# new cells --------------------------------------------------------------------------------------


def test_map_carries_labels_and_says_how_sure(query, run):
    words = "map run query.h5ad --out mapped.h5ad --max-epochs 1 --keep kept"
    done = run(*words.split())
    assert done.code == 0, done.err
    mapped = anndata.read_h5ad("mapped.h5ad")
    assert list(mapped.var_names) == list(query.var_names)
    assert list(mapped.obs["mine"]) == list(query.obs["mine"])
    z, kept = mapped.obsm["X_vivace"], pd.read_csv("run/tables/latent.csv", index_col=0)
    reference = kept.filter(like="latent_").to_numpy()
    labels = vivace.metrics.predict_labels(reference, kept["obs:cell_type"], z)
    assert list(mapped.obs["mapped_cell_type"]) == list(labels)
    assert mapped.obs["mapped_cell_type_sure"].between(1 / 15, 1).all()
    assert mapped.obs["mapped_cell_type_far"].dtype == bool
    assert "mapped_cell_type_sure, from 0 to 1" in done.out
    model = vivace.load("kept", query)
    np.testing.assert_allclose(model.get_latent_representation(), z, atol=1e-6)
    assert Path("kept/tables/latent.csv").is_file()


def test_map_as_a_table_of_chosen_labels(query, run):
    words = "map run query.h5ad --out mapped.csv --max-epochs 1 --labels cell_type"
    assert run(*words.split()).code == 0
    found = pd.read_csv("mapped.csv", index_col="cell")
    assert list(found.columns) == [
        *("latent_0", "latent_1"),
        *("mapped_cell_type", "mapped_cell_type_sure", "mapped_cell_type_far"),
    ]


def test_cells_whose_batches_are_known_are_asked_as_they_are(here, run):
    done = run("map", "run", "cells.h5ad", "--out", "mapped.csv")
    assert done.code == 0, done.err
    assert "nothing is to be learned" in done.out
    kept = pd.read_csv("run/tables/latent.csv", index_col=0).filter(like="latent_")
    found = pd.read_csv("mapped.csv", index_col=0).filter(like="latent_")
    pd.testing.assert_frame_equal(found, kept, check_names=False, atol=1e-5)


def test_map_onto_a_model_without_tables_carries_no_labels_and_says_so(query, run, cells):
    vivace.load("run", cells).save("alone")
    done = run("map", "alone", "query.h5ad", "--out", "mapped.csv", "--max-epochs", "1")
    assert done.code == 0, done.err
    assert "vivace report alone --data CELLS" in " ".join(done.err.split()).replace('"', "")
    assert "latent_1" in Path("mapped.csv").read_text().splitlines()[0]
    done = run("map", "alone", "query.h5ad", "--out", "b.csv", "--labels", "cell_type")
    assert done.code == 2
    assert "keeps no labels" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("map run query.h5ad --out m.csv --labels cel_type", 'Did you mean "cell_type"'),
        ("map run query.h5ad --out m.txt", "should end in .h5ad"),
        ("map run query.h5ad --out cells.h5ad", "--overwrite"),
        ("map run query.h5ad --out m.csv --keep run", "--overwrite"),
        ("map contrast query.h5ad --out m.csv", "ContrastiveVI.load_query_data in Python"),
        ("expression run query.h5ad --out e.txt", "should end in .h5ad"),
        ("expression run cells.h5ad --out e.csv --gene gene_x", "--gene"),
        ("expression run cells.h5ad --out e.csv --cell-type a", "DestVI models do"),
        ("expression run query.h5ad --out e.csv", "Map new batches with vivace map"),
        ("states run query.h5ad --out s.csv", "DestVI models do"),
        ("states run query.h5ad --out s.h5ad", "should end in .csv"),
    ],
)
def test_mistakes_are_one_sentence(query, run, cells, words, message):
    if " contrast " in words:
        vivace.ContrastiveVI.setup_anndata(copy := cells.copy(), batch_key="batch")
        vivace.ContrastiveVI(copy, n_hidden=4).save("contrast")
    before = set(Path().iterdir())
    done = run(*words.split())
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert set(Path().iterdir()) == before


# expression -------------------------------------------------------------------------------------


def test_expression_is_that_of_python(here, run, cells, monkeypatch):
    monkeypatch.setattr("vivace.cli.expression.CELLS_AT_ONCE", 30)
    words = "expression run cells.h5ad --gene gene_3 --gene gene_1 --library-size 100"
    words += " --transform-batch batch_0"
    for out in ("e.h5ad", "e.csv"):
        assert run(*words.split(), "--out", out).code == 0
    model = vivace.load("run", cells)
    wanted = pd.concat(
        model.get_normalized_expression(
            indices=np.arange(first, min(first + 30, 80)),
            gene_list=["gene_3", "gene_1"],
            library_size=100,
            transform_batch="batch_0",
        )
        for first in (0, 30, 60)
    )
    found = anndata.read_h5ad("e.h5ad")
    np.testing.assert_allclose(found.to_df(), wanted, rtol=1e-5)
    assert list(found.obs["cell_type"]) == list(cells.obs["cell_type"])
    table = pd.read_csv("e.csv", index_col="cell")
    pd.testing.assert_frame_equal(table, wanted, check_names=False, rtol=1e-5, check_dtype=False)


def test_too_many_values_for_memory_are_refused_before_they_are_made(here, run, monkeypatch):
    monkeypatch.setattr("vivace.cli.expression.memory", lambda: 10_000)
    done = run("expression", "run", "cells.h5ad", "--out", "e.h5ad")
    assert done.code == 2
    assert "--gene" in done.err


# a model without Python -------------------------------------------------------------------------


def test_an_imported_model_is_reported_on_without_python(tmp_path, run):
    assert run("import", published(tmp_path / "old"), "--out", tmp_path / "run").code == 0
    done = run("report", tmp_path / "run")
    assert done.code == 2
    assert "--data CELLS" in done.err
    model = vivace.load(tmp_path / "run")
    cells = anndata.AnnData(
        np.random.default_rng(0).poisson(3.0, (40, 4)).astype("float32"),
        obs={"batch": pd.Categorical(["b0", "b1"] * 20), "kind": pd.Categorical(["x", "y"] * 20)},
        var=pd.DataFrame(index=model.var_names),
    )
    for field in model.schema.fields:
        if field.kind == "categorical":
            for column, known in zip(field.columns, field.categories, strict=True):
                cells.obs[column] = pd.Categorical([known[i % len(known)] for i in range(40)])
    cells.layers["counts"] = cells.X.copy()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    done = run("report", tmp_path / "run", "--data", tmp_path / "cells.h5ad", "--colour", "kind")
    assert done.code == 0, done.err
    assert "kind" in (tmp_path / "run" / "report.html").read_text()
