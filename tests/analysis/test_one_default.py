"""Groups are compared the same way in Python, in the shell and in the report, and small ones are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import vivace
from model_table import CASES
from vivace._arguments import RULES
from vivace.analysis.differential import DifferentialOptions
from vivace.analysis.differential_splicing import SplicingOptions
from vivace.cli import main
from vivace.errors import InvalidArgumentError
from vivace.models.door import arguments_of
from vivace.runs.layout import DIFFERENTIAL, FEW_CELLS
from vivace.runs.read import read_table
from vivace.tables.differential import how_compared

COMPARING = [name for name in CASES if getattr(vivace, name).compares_groups]


@pytest.fixture(scope="module")
def cells() -> Any:
    """Two large kinds, a small one and a tiny one."""
    adata = vivace.datasets.simulate("batches", n_cells=90, n_genes=20, n_batches=2)
    adata.obs["kind"] = pd.Categorical(["a"] * 40 + ["b"] * 40 + ["few"] * 7 + ["tiny"] * 3)
    return adata


@pytest.mark.parametrize("name", COMPARING)
def test_every_model_asks_how_large_a_change_is(name: str):
    defaults = arguments_of(getattr(vivace, name).differential_expression)
    assert (defaults["mode"], defaults["delta"], defaults["fdr_target"]) == ("change", 0.25, 0.05)


def test_report_shell_and_python_have_the_same_numbers(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cells.write_h5ad("cells.h5ad")
    words = "fit scvi cells.h5ad --batch batch --out run --max-epochs 2 --labels kind --n-hidden 8"
    for line in (words, "de run cells.h5ad --groupby kind --out de.csv"):
        with pytest.raises(SystemExit) as ended:
            main(line.split())
        assert not ended.value.code
    printed = capsys.readouterr().out
    table = vivace.load("run", cells).differential_expression(groupby="kind")
    shell = pd.read_csv("de.csv", index_col="gene")
    report = read_table(tmp_path / "run", DIFFERENTIAL)
    assert report is not None
    assert set(report["group1"]) == {"a", "b", "few"}
    for kind, part in table.groupby("group1"):
        of_shell = shell[shell["group1"] == kind]
        assert list(of_shell.index) == list(part.index)
        np.testing.assert_allclose(of_shell["proba_de"], part["proba_de"], rtol=1e-6)
        if kind != "tiny":
            of_report = report[report["group1"] == kind]
            assert list(of_report["found"]) == list(part["is_de_fdr_0.05"])
            np.testing.assert_allclose(of_report["proba_de"], part["proba_de"], rtol=1e-4)
            np.testing.assert_allclose(of_report["lfc_median"], part["lfc_median"], rtol=1e-4)
    assert (report["n_cells1"] < FEW_CELLS).groupby(report["group1"]).first().to_dict() == {
        "a": False, "b": False, "few": True,
    }  # fmt: skip
    assert table.attrs["n_cells"]["few vs Rest"] == (7, 83)
    assert dict(zip(shell["group1"], shell["n_cells1"], strict=True))["tiny"] == 3
    assert "least 0.25, 5% of the genes marked expected to be wrong, without --batch-c" in printed
    lines = {line.split(" vs ")[0].strip(): line for line in printed.splitlines() if " vs " in line}
    assert "(of 7 cells only: too few to rely on)" in lines["few"]
    assert "too few" not in lines["a"]


def test_how_it_was_compared_is_what_python_does_by_itself(cells):
    vivace.SCVI.setup_anndata(cells)
    how = how_compared(vivace.SCVI(cells, n_hidden=4))
    assert how == {
        "mode": "change", "delta": 0.25, "fdr_target": 0.05, "batch_correction": False,
        "n_samples_overall": 5000,
    }  # fmt: skip
    assert how_compared(vivace.SCVI(cells, n_hidden=4), delta=1.0)["delta"] == 1.0


def test_without_a_pseudocount_shares_are_compared_as_they_are(cells):
    vivace.SCVI.setup_anndata(cells)
    model = vivace.SCVI(cells, n_hidden=4, n_latent=2)
    model.train(max_epochs=1, progress=False)
    table = model.differential_expression(groupby="kind", pseudocounts=0.0, n_samples_overall=100)
    assert (table["pseudocounts"] == 0).all()
    assert np.isfinite(table["lfc_mean"]).all()


RANGES = [
    (DifferentialOptions, "delta", -0.1),
    (DifferentialOptions, "fdr_target", 1.0),
    (DifferentialOptions, "n_samples_overall", 0),
    (DifferentialOptions, "m_permutation", 1.5),
    (DifferentialOptions, "pseudocounts", -1.0),
    (DifferentialOptions, "threshold_counts", float("nan")),
    (DifferentialOptions, "all_stats", 2),
    (DifferentialOptions, "cred_interval_lvls", [0.5, 1.0]),
    (SplicingOptions, "delta", 1.0),
    (SplicingOptions, "delta", None),
    (SplicingOptions, "fdr_target", 0),
    (SplicingOptions, "n_samples_overall", "many"),
]


@pytest.mark.parametrize(("options", "name", "value"), RANGES)
def test_numbers_are_those_of_the_door(options: Any, name: str, value: Any):
    with pytest.raises(InvalidArgumentError, match=f"{name}=.* must be "):
        options(**{name: value})


def test_numbers_are_read_as_everywhere():
    assert DifferentialOptions(n_samples_overall=np.float32(100)).n_samples_overall == 100
    assert SplicingOptions(n_samples_overall=10.0).n_samples_overall == 10
    assert not RULES["level"].holds(1.0)
