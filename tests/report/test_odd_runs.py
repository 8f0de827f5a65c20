"""Runs that are odd: many groups, nothing known, hostile names, a cell or two, a million."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vivace.report import write_report
from vivace.report.colours import MOST
from vivace.report.explore import FINEST, gene_colours, of_cells, place
from vivace.report.packed import script_json
from vivace.runs import Run
from vivace.runs.expression import Expression
from vivace.runs.layout import LATENT
from vivace.tables.cells import drawn_rows

MakeRun = Callable[..., Path]
LONG = '</script><img src=x onerror=alert(1)> & "' + "name" * 40


def content(run: Path) -> dict:
    (explorer,) = of_cells(Run(run), {"": LATENT})
    return json.loads(explorer.data)


def change(run: Path, **columns: object) -> None:
    path = run / "tables" / "latent.csv"
    pd.read_csv(path, index_col=0).assign(**columns).to_csv(path)


def test_five_hundred_categories_are_forty_and_a_rest(make_run: MakeRun):
    run = make_run(n_cells=600, n_latent=2)
    change(run, **{"obs:cell_type": [f"type {i % 500}" for i in range(600)]})
    colour = content(run)["colours"][0]
    assert len(colour["labels"]) == MOST
    assert colour["labels"][-1] == f"{500 - MOST + 1} other categories"
    assert sum(colour["sizes"]) == 600
    assert write_report(run).stat().st_size < 1_500_000


@pytest.mark.parametrize("values", [None, np.nan, ["a", None, "b", None]])
def test_missing_values_are_said_to_be_missing(make_run: MakeRun, values: object):
    run = make_run(n_cells=4, n_latent=2)
    change(run, **{"obs:batch": values, "obs:total_counts": [np.nan, 1.0, 2.0, np.nan]})
    if values is None:  # a whole column of nothing is the oddest to draw
        assert write_report(run).is_file()
    named = {colour["name"]: colour for colour in content(run)["colours"]}
    labels = named["batch"].get("labels", ["missing"])
    assert "missing" in labels
    assert named["total_counts"]["low"] == 1


def test_names_do_not_end_the_script_they_stand_in(make_run: MakeRun):
    run = make_run(n_cells=6, n_latent=2, names=[LONG, "T"])
    path = run / "tables" / "latent.csv"
    table = pd.read_csv(path, index_col=0)
    table.index = [f"{LONG}{i}" for i in range(6)]
    table.to_csv(path, index_label="cell")
    text = write_report(run).read_text(encoding="utf-8")
    assert "<img" not in text
    assert LONG in content(run)["colours"][0]["labels"]
    assert script_json([LONG]).count("<") == 0


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("n_latent", [1, 2, 10])
def test_a_cell_or_two_make_a_page(make_run: MakeRun, n: int, n_latent: int):
    run = make_run(n_cells=n, n_latent=n_latent)
    assert content(run)["n"] == n
    if n_latent == 10:  # the others differ in the map alone
        assert "At a glance" in write_report(run).read_text(encoding="utf-8")


def test_a_million_cells_are_drawn_from_and_said_to_be(make_run: MakeRun):
    rows = drawn_rows(np.arange(1_000_000), 100_000, 0)
    assert len(set(rows.tolist())) == 100_000
    assert abs(rows.mean() - 500_000) < 5_000
    run = make_run(n_cells=30, n_latent=2)
    path = run / "tables" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_cells": 1_000_000}))
    assert "30 of 1,000,000 cells" in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize("n", [10, 10_000, 100_000])
def test_genes_keep_to_what_a_page_may_weigh(n: int):
    """The worst case, noise: steps get coarser, then genes fewer."""
    noise = np.random.default_rng(0).integers(0, 256, (40, n), dtype=np.uint8)
    ends = np.zeros(40, np.float32), np.ones(40, np.float32)
    genes = Expression([f"g{i}" for i in range(40)], "unit", *ends, noise)
    found = gene_colours(genes, np.ones(n, bool), np.arange(n))
    assert found is not None
    weight = sum(map(len, found["values"]))
    assert weight <= 250_000 + 30 * n
    assert (found["levels"] == FINEST) is (n < 100_000)
    assert found["names"][0] == "g0"


def test_the_grid_of_a_map_spans_its_longer_side():
    found = place(np.array([[0.0, 5.0], [10.0, 0.0]]), "map")
    assert found["x"].tolist() == [0, 65_535]
    assert found["y"].tolist() == [round(65_535 / 2), 0]
    assert (found["wide"], found["tall"]) == (1, 0.5)


def test_expression_comes_back_from_its_file(tmp_path: Path):
    (tmp_path / "tables").mkdir()
    values = np.random.default_rng(0).normal(size=(50, 3))
    Expression.of(["a", "b", "ü"], "unit", values).write(tmp_path / "tables")
    found = Expression.read(tmp_path)
    assert found is not None
    span = (found.top - found.low)[:, None]
    back = found.low[:, None] + found.values / 255 * span
    cut = np.minimum(values.T, found.top[:, None])
    np.testing.assert_allclose(back, cut, atol=float(span.max()) / 500)
    assert found.genes == ["a", "b", "ü"]
    assert Expression.read(tmp_path / "nothing") is None
