"""How options are read: once each, paths at home, names in full, and columns listed where one is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vivace.cli.columns import populations, rows_where
from vivace.cli.commands import ORDER
from vivace.cli.fit import FITS
from vivace.cli.options import from_dataclass
from vivace.data.columns import text_of
from vivace.errors import InvalidArgumentError, MissingKeyError
from vivace.train import TrainOptions

FIT = ("--max-epochs", "1", "--n-top-genes", "0", "--n-hidden", "4", "--n-latent", "2")


@pytest.fixture
def here(folder, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("cells.h5ad").write_bytes((folder / "cells.h5ad").read_bytes())
    Path("run").symlink_to(folder / "run")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "option", "advice"),
    [
        (
            "fit scvi cells.h5ad --out new --batch batch --batch cell_type",
            "--batch",
            "--categorical",
        ),
        ("fit scvi cells.h5ad --out new --n-latent 2 --n-latent=3", "--n-latent", ""),
        ("fit scvi cells.h5ad --out new --out new2", "--out", ""),
        (
            "fit scvi cells.h5ad --out new --early-stopping --no-early-stopping",
            "--early-stopping",
            "",
        ),
        (
            "de run cells.h5ad --groupby batch --groupby cell_type --out x.csv",
            "--groupby",
            "one column of both",
        ),
        ("report run --out a.html --out b.html", "--out", ""),
    ],
)
def test_an_option_with_one_value_is_given_once(here, run, words, option, advice):
    done = run(*words.split())
    assert done.code == 2
    assert done.err.startswith(f"vivace: {option} was given twice, and takes one value")
    assert advice in done.err
    assert done.err.count("\n") == 1


def test_an_option_with_several_values_is_given_as_often_as_one_likes(here, run):
    words = [
        "fit",
        "scvi",
        "cells.h5ad",
        "--out",
        "new",
        "--colour",
        "batch",
        "--colour",
        "cell_type",
    ]
    assert run(*words, *FIT).code == 0
    columns = pd.read_csv("new/tables/latent.csv", index_col=0).columns
    assert [c for c in columns if c.startswith("obs:")][:2] == ["obs:batch", "obs:cell_type"]


def test_a_tilde_is_the_home_folder_of_every_path(here, run, monkeypatch):
    home = here / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    Path("cells.h5ad").rename(home / "cells.h5ad")
    assert run("fit", "scvi", "~/cells.h5ad", "--out=~/new", *FIT).code == 0
    assert (home / "new" / "model.json").is_file()
    assert run("latent", "~/new", "~/cells.h5ad", "--out", "~/latent.csv").code == 0
    assert (home / "latent.csv").is_file()
    assert not Path("~").exists()


def test_a_tilde_of_nobody_is_a_name(here, run):
    done = run("latent", "run", "~nobody-here/cells.h5ad", "--out", "new.csv")
    assert done.code == 2
    assert "~nobody-here/cells.h5ad" in done.err


@pytest.mark.parametrize(
    "words",
    [
        "fit condscvi cells.h5ad --out new",
        "fit contrastivevi cells.h5ad --out new --background batch=batch_0",
        "fit sysvi cells.h5ad --out new",
        "de run cells.h5ad --out new.csv",
        "deconvolve cells.h5ad cells.h5ad --out new",
    ],
)
def test_a_column_that_is_needed_and_missing_lists_the_columns(here, run, words):
    done = run(*words.split())
    assert done.code == 2
    assert "Missing option '--" in done.err
    assert "batch" in done.err
    assert "cell_type" in done.err
    assert done.err.count("\n") == 1


def test_models_are_found_as_people_write_them(here, run):
    assert "--n-latent" in run("fit", "SCVI", "--help").out
    assert "--n-latent" in run("fit", "SysVI", "--help").out


@pytest.mark.parametrize("columns", ["60", "80"])
@pytest.mark.parametrize("model", ["scvi", "contrastivevi", "splicevi"])
def test_the_help_cuts_no_name(run, monkeypatch, columns, model):
    monkeypatch.setenv("COLUMNS", columns)
    text = run("fit", model, "--help-all").out
    assert "…" not in text
    names = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert len(names) > 20
    assert all(not name.endswith(".") for name in names)
    assert "--no-early-stopping" in text


GROUPS = ("fit", "stability", "tune")
SHORT = [
    [],
    *([name] for name in ORDER),
    *([group, name] for group in GROUPS for name in FITS),
]


@pytest.mark.parametrize("columns", ["60", "80"])
@pytest.mark.parametrize("words", SHORT, ids=" ".join)
def test_the_help_fits_a_screen(run, monkeypatch, columns, words):
    monkeypatch.setenv("COLUMNS", columns)
    done = run(*words, "--help")
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= int(columns)
    assert "…" not in done.out
    assert "..." not in done.out.replace("[ARGS]...", "").replace("{CELLS}...", "")
    assert "--help " in done.out
    if words and tuple(words) not in [(group,) for group in GROUPS]:
        assert "--help-all" in done.out
        assert "--out" in done.out


def test_endings_of_files_are_in_the_short_help(run):
    for words in ("fit scvi", "fit splicevi", "latent", "map", "expression", "deconvolve", "de"):
        assert ".h5" in run(*words.split(), "--help").out


def test_completion_lists_models_without_building_them(tmp_path):
    code = (
        "import sys; from vivace.cli.app import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    words = {"_VIVACE_COMPLETE": "complete_bash", "COMP_WORDS": "vivace fit s", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **words}, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert set(done.stdout.split()) == {"scvi", "sysvi", "splicevi"}
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        [sys.executable, "-c", code, "--show-completion", "bash"],
        env=named,
        capture_output=True,
        text=True,
    )
    assert "_VIVACE_COMPLETE=complete_bash" in shown.stdout


def test_needed_columns_are_marked_in_the_help(run):
    for words in (("fit", "condscvi"), ("fit", "contrastivevi"), ("de",), ("deconvolve",)):
        assert run(*words, "--help").out.count("[required]") >= 3


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0, "0"), (2.5, "2.5"), (True, "True"), ("a", "a"), (np.nan, "nan")],
)
def test_values_are_written_as_one_types_them(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("values", "wanted", "rows"),
    [
        ([0, 1, 0], "0", [0, 2]),
        ([0.0, 1.0, np.nan], "0", [0]),
        ([0.5, 1.0, 0.5], "0.5", [0, 2]),
        ([True, False, True], "False", [1]),
        (pd.Categorical([2, 10, 2]), "2", [0, 2]),
        (pd.Categorical([2.0, 10.0, None]), "10", [1]),
        (pd.array([1, None, 2], dtype="Int64"), "2", [2]),
        (["a=b", "c", "a=b"], "a=b", [0, 2]),
    ],
)
def test_cells_are_chosen_by_values_of_any_kind(values, wanted, rows):
    obs = pd.DataFrame({"dose": values})
    assert rows_where(obs, f"dose={wanted}", "background").tolist() == rows
    with pytest.raises(MissingKeyError, match="no such"):
        rows_where(obs, "dose=no such", "background")


def test_two_columns_may_have_a_value_of_one_name():
    obs = pd.DataFrame({"a": ["x", "y", "z"], "b": ["y", "x", "z"]})
    cells = type("Cells", (), {"obs": obs})()
    chosen = populations(cells, {"background": ["a=z"], "target": ["a=x", "b=x"]})
    found = {name: rows.tolist() for name, rows in chosen["target_indices"].items()}
    assert found == {"a=x": [0], "b=x": [1]}
    chosen = populations(cells, {"background": ["a=z", "b=z"], "target": ["a=x"]})
    assert chosen["background_indices"].tolist() == [2]
    assert chosen["target_indices"].tolist() == [0]


def test_words_without_an_equals_sign_are_explained():
    with pytest.raises(InvalidArgumentError, match="COLUMN=VALUE"):
        rows_where(pd.DataFrame({"a": ["x"]}), "a", "target")


def test_what_no_device_has_run_is_accepted_and_not_listed():
    options = from_dataclass(TrainOptions, "Training", only=lambda name: True)
    hidden = [one.name for one in options if one.annotation.__metadata__[0].hidden]
    assert hidden == ["cuda_graphs"]
