"""What the commands do when all is well."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

import vivace
from vivace.cli import main
from vivace.cli.fit import FITS


def test_fit_writes_a_model_that_python_loads(folder, cells):
    model = vivace.load(folder / "run")
    assert isinstance(model, vivace.SCVI)
    assert model.n_genes == 30
    assert model.training["epochs"] == 2
    assert model.schema.setup_args["batch_key"] == "batch"
    assert set(model.var_names) < set(cells.var_names)


def test_the_run_says_which_genes_were_kept(folder):
    notes = json.loads((folder / "run/tables/summary.json").read_text())["notes"]
    assert "Of 40 genes, the 30 most variable were kept." in notes


def test_fit_passes_options_on(folder, run, tmp_path):
    out = tmp_path / "run"
    done = run(
        "fit", "scvi", folder / "cells.h5ad", "--out", out, "--n-latent", 3, "--n-top-genes", 0,
        "--gene-likelihood", "nb", "--max-epochs", 1, "--lr", 0.005, "--batch-size", 40,
        "--train-size", 0.8, "--seed", 3, "--recipe", "classic", "--early-stopping",
        "--no-use-observed-lib-size",
    )  # fmt: skip
    assert done.code == 0, done.err
    saved = json.loads((out / "model.json").read_text())
    assert saved["options"]["n_latent"] == 3
    assert saved["options"]["gene_likelihood"] == "nb"
    assert saved["options"]["use_observed_lib_size"] is False
    training = saved["training"]
    assert (training["recipe"], training["seed"], training["n_train"]) == ("classic", 3, 64)
    options = training["options"]
    assert (options["lr"], options["batch_size"], options["early_stopping"]) == (0.005, 40, True)
    assert len(saved["schema"]["var_names"]) == 40


def test_latent_is_what_the_model_says(folder, run, tmp_path, cells):
    out = tmp_path / "with_latent.h5ad"
    assert run("latent", folder / "run", folder / "cells.h5ad", "--out", out).code == 0
    model = vivace.load(folder / "run")
    expected = model.get_latent_representation(cells[:, model.var_names].copy())
    written = anndata.read_h5ad(out)
    np.testing.assert_array_equal(written.obsm["X_vivace"], expected)
    assert written.shape == cells.shape
    pd.testing.assert_frame_equal(written.obs, cells.obs, check_categorical=False)


def test_latent_aligns_genes_by_name(folder, run, tmp_path, cells):
    shuffled = cells[:, np.random.default_rng(0).permutation(cells.n_vars)].copy()
    shuffled.write_h5ad(tmp_path / "shuffled.h5ad")
    for name, source in (("a", folder / "cells.h5ad"), ("b", tmp_path / "shuffled.h5ad")):
        done = run("latent", folder / "run", source, "--out", tmp_path / f"{name}.csv")
        assert done.code == 0, done.err
    first, second = (pd.read_csv(tmp_path / f"{n}.csv", index_col="cell") for n in "ab")
    assert list(first.columns) == [f"latent_{i}" for i in range(2)]
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_report_is_written_into_the_run(folder, run, tmp_path):
    page = tmp_path / "page.html"
    done = run("report", folder / "run", "--out", page)
    assert done.code == 0, done.err
    assert str(page) in done.out
    text = page.read_text(encoding="utf-8")
    assert "cells.h5ad" in text
    assert "Coloured by cell_type" in text


def test_overwrite_replaces_a_run_and_leaves_nothing_beside_it(folder, run, tmp_path):
    out = tmp_path / "run"
    words = ("fit", "scvi", folder / "cells.h5ad", "--out", out, "--max-epochs", 1)
    assert run(*words).code == 0
    (out / "old").touch()
    assert run(*words).code == 2
    assert (out / "old").exists()
    assert run(*words, "--overwrite").code == 0
    assert not (out / "old").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_gene_names_that_repeat_get_a_number(folder, run, tmp_path, cells):
    names = cells.var_names.to_list()
    doubled = cells.copy()
    doubled.var_names = [*names[:-1], names[0]]
    doubled.write_h5ad(tmp_path / "doubled.h5ad")
    out = tmp_path / "run"
    done = run("fit", "scvi", tmp_path / "doubled.h5ad", "--out", out, "--max-epochs", 1)
    assert done.code == 0, done.err
    assert "twice" in done.err
    assert f"{names[0]}-1" in vivace.load(out).var_names


def test_warnings_are_sentences(folder, run, tmp_path, cells):
    odd = cells.copy()
    odd.X = odd.X * 0.5
    odd.write_h5ad(tmp_path / "odd.h5ad")
    out = tmp_path / "run"
    words = ("fit", "scvi", tmp_path / "odd.h5ad", "--out", out, "--max-epochs", 1)
    assert run(*words).code == 2
    done = run(*words, "--allow-fractions")
    assert done.code == 0, done.err
    assert "Note: X holds values that are not whole numbers" in done.err
    assert ".py" not in done.err


@pytest.mark.parametrize("words", [(), ("--help",), ("fit",), ("fit", "--help"), ("fit", "scvi")])
def test_help_is_no_mistake(run, words):
    done = run(*words)
    assert done.code == 0
    assert "Usage" in done.out
    assert done.err == ""


EXTRA = {
    "condscvi": ("--labels", "cell_type"),
    "contrastivevi": ("--background", "batch=batch_0", "--target", "batch=batch_1"),
    "sysvi": ("--batch", "batch", "--normalize"),
}
ON_ANNDATA = [name for name in FITS if name != "splicevi"]


@pytest.fixture(scope="module")
def paired(tmp_path_factory) -> Path:
    """``cells.h5mu`` and ``run/``, a SPLICEVI fitted to it; not to be written to."""
    folder = tmp_path_factory.mktemp("paired")
    mdata = vivace.datasets.simulate("splicing", n_cells=80, n_genes=30, n_events=20, observed=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # mudata, of its next version
        mdata.write_h5mu(folder / "cells.h5mu")
    words = ["fit", "splicevi", folder / "cells.h5mu", "--out", folder / "run", "--max-epochs", 1]
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert not stop.value.code
    return folder


def test_splicevi_fits_a_mudata(paired):
    assert type(vivace.load(paired / "run")).__name__ == "SPLICEVI"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_latent_space_of_a_mudata(paired, run, tmp_path):
    words = ("latent", paired / "run", paired / "cells.h5mu", "--out")
    for name in ("latent.csv", "cells.h5mu"):
        done = run(*words, tmp_path / name)
        assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "latent.csv", index_col="cell")
    written = mudata.read_h5mu(tmp_path / "cells.h5mu")
    assert list(table.index) == list(written.obs_names)
    np.testing.assert_allclose(table, written.obsm["X_vivace"], rtol=1e-5)
    mdata = mudata.read_h5mu(paired / "cells.h5mu")
    assert (written["splicing"].X != mdata["splicing"].X).nnz == 0
    done = run(*words, tmp_path / "cells.h5ad")
    assert done.code == 2
    assert ".h5mu" in done.err


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_genes_that_differ_in_a_mudata(paired, run, tmp_path):
    words = ("de", paired / "run", paired / "cells.h5mu", "--groupby", "cell_type", "--out")
    done = run(*words, tmp_path / "de.csv")
    assert done.code == 0, done.err
    assert len(pd.read_csv(tmp_path / "de.csv")) == 4 * 30


def test_a_file_of_the_other_kind_is_refused(paired, folder, run, tmp_path):
    done = run("latent", paired / "run", folder / "cells.h5ad", "--out", tmp_path / "latent.csv")
    assert done.code == 2
    assert "not an .h5mu file" in done.err
    done = run("latent", folder / "run", paired / "cells.h5mu", "--out", tmp_path / "latent.csv")
    assert done.code == 2
    assert "not an .h5ad file" in done.err


@pytest.mark.parametrize("name", ON_ANNDATA)
def test_every_model_of_the_table_fits_and_places_cells(folder, run, tmp_path, name):
    cells, out = folder / "cells.h5ad", tmp_path / "run"
    done = run("fit", name, cells, "--out", out, "--max-epochs", 1, *EXTRA.get(name, ()))
    assert done.code == 0, done.err
    assert type(vivace.load(out)).__name__ == FITS[name].model
    done = run("latent", out, cells, "--out", tmp_path / "latent.csv")
    assert done.code == 0, done.err
    latent = pd.read_csv(tmp_path / "latent.csv", index_col="cell")
    assert len(latent) == 80
    assert np.isfinite(latent).all(axis=None)


def test_latent_of_two_spaces_has_both(folder, run, tmp_path):
    cells, out = folder / "cells.h5ad", tmp_path / "run"
    words = (
        "fit",
        "contrastivevi",
        cells,
        "--out",
        out,
        "--max-epochs",
        1,
        "--n-salient-latent",
        3,
    )
    assert run(*words, *EXTRA["contrastivevi"]).code == 0
    assert run("latent", out, cells, "--out", tmp_path / "both.h5ad").code == 0
    written = anndata.read_h5ad(tmp_path / "both.h5ad")
    assert written.obsm["X_vivace_background"].shape == (80, 10)
    assert written.obsm["X_vivace_salient"].shape == (80, 3)
    tables = {p.name for p in (out / "tables").iterdir()}
    assert {"latent.csv", "salient.csv", "conditions.csv"} <= tables


def test_de_compares_groups(folder, run, tmp_path, cells):
    out = tmp_path / "de.csv"
    done = run("de", folder / "run", folder / "cells.h5ad", "--groupby", "cell_type", "--out", out)
    assert done.code == 0, done.err
    table = pd.read_csv(out, index_col="gene")
    assert len(table) == 30 * cells.obs["cell_type"].nunique()
    assert {"lfc_mean", "proba_de", "is_de_fdr_0.05", "comparison"} <= set(table.columns)
    first = cells.obs["cell_type"].iloc[0]
    done = run(
        "de", folder / "run", folder / "cells.h5ad", "--groupby", "cell_type", "--out", out,
        "--overwrite", "--group1", first, "--mode", "vanilla",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(pd.read_csv(out)) == 30


@pytest.mark.parametrize("name", FITS)
def test_every_model_of_the_table_explains_its_options(run, name):
    done = run("fit", name, "--help-all")
    assert done.code == 0
    for option in ("--out", "-layer", "--n-hidden", "--max-epochs", "--seed"):
        assert option in done.out


@pytest.mark.parametrize(
    ("name", "words"), [("condscvi", "with the cell types"), ("sysvi", "with the system")]
)
def test_a_column_that_a_model_needs_is_explained_by_the_model(run, name, words):
    text = " ".join(run("fit", name, "--help").out.split())
    assert words in text
    assert "not used to learn" not in text


def test_the_installed_command_gives_its_exit_code(tmp_path):
    vivace_command = Path(sys.executable).with_name("vivace")
    version = subprocess.run([vivace_command, "--version"], capture_output=True, text=True)
    assert (version.returncode, version.stdout) == (0, f"vivace {metadata.version('vivace')}\n")
    wrong = subprocess.run(
        [vivace_command, "report", "nowhere"], capture_output=True, text=True, cwd=tmp_path
    )
    assert wrong.returncode == 2
    assert wrong.stdout == ""
    assert wrong.stderr.count("\n") == 1
    assert "nowhere" in wrong.stderr


def test_demo_goes_from_cells_to_a_report(run, tmp_path, monkeypatch):
    pytest.importorskip("scanpy")
    monkeypatch.setattr("vivace.models.scvi_recipe.SCVI_FEW", 0)
    out = tmp_path / "demo"
    done = run("demo", "--out", out)
    assert done.code == 0, done.err
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "verified cell by cell" in text
    assert "Coloured by cell_type" in text
    assert "Coloured by batch" in text
    model = vivace.load(out, vivace.datasets.pbmc68k())
    assert model.get_latent_representation().shape == (700, 10)


def test_demo_says_what_to_install_before_it_starts(run, tmp_path, monkeypatch):
    monkeypatch.setattr("vivace.cli.demo.find_spec", lambda name: None)
    done = run("demo", "--out", tmp_path / "demo")
    assert done.code == 2
    assert 'pip install "vivace[demo]"' in done.err
    assert done.out == ""
    assert not (tmp_path / "demo").exists()


def test_a_model_without_labels_shows_those_that_are_named(folder, run, tmp_path):
    out = tmp_path / "run"
    words = ("fit", "sysvi", folder / "cells.h5ad", "--out", out, "--batch", "batch", "--normalize")
    small = ("--max-epochs", 1, "--n-hidden", 4, "--n-top-genes", 0)
    done = run(*words, *small, "--labels", "cell_typ")
    assert (done.code, 'Did you mean "cell_type"' in done.err) == (2, True)
    assert run(*words, *small, "--labels", "cell_type").code == 0
    assert "type_0" in (out / "tables" / "integration.csv").read_text()
    assert (out / "tables" / "differential.csv").is_file()


def test_options_of_the_network_reach_it(folder, run, tmp_path):
    words = ("fit", "scvi", folder / "cells.h5ad", "--batch", "batch", "--max-epochs", 1)
    done = run(*words, "--out", tmp_path / "a", "--encode-covariates", "--use-layer-norm", "both")
    assert done.code == 0, done.err
    options = vivace.load(tmp_path / "a").options
    assert (options["encode_covariates"], options["use_layer_norm"]) == (True, "both")
    assert "log_variational" not in options, "what was not given is left to the network"
    done = run(*words, "--out", tmp_path / "b", "--use-layer-norm", "bth")
    assert (done.code, 'Did you mean "both"' in done.err) == (2, True)


def test_labels_of_contrastivevi_are_used_to_learn_only_where_that_is_asked_for(run):
    text = " ".join(run("fit", "contrastivevi", "--help-all").out.split())
    assert "not used to learn unless an option of the model says so" in text
