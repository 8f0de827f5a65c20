"""The section on spots, from invented tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vivace.report.page import Cards, Figure, Table
from vivace.report.sections.data import data
from vivace.report.sections.glance import glance
from vivace.report.sections.spatial import spatial
from vivace.report.sections.training import training
from vivace.runs import Run

TYPES = ["B cell", "T cell", "Macrophage"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    names = [f"spot_{i}" for i in range(40)]
    tables = tmp_path / "tables"
    tables.mkdir()
    (tmp_path / "model.json").write_text("{}")
    (tables / "summary.json").write_text(json.dumps({"n_cells": 40}))
    shares = pd.DataFrame(rng.dirichlet([3, 2, 1], 40), names, TYPES)
    shares.to_csv(tables / "proportions.csv")
    (shares * 0 + 0.02).to_csv(tables / "proportion_spread.csv")
    pd.DataFrame(rng.random((40, 2)), names, ["x", "y"]).to_csv(tables / "coordinates.csv")
    markers = {"type": TYPES, "gene": ["MS4A1", "CD3E", "CD68"], "together": [0.7, 0.6, 0.5]}
    pd.DataFrame(markers).to_csv(tables / "markers.csv", index=False)
    return tmp_path


def kinds(section, kind):
    return [block for block in section.blocks if isinstance(block, kind)]


def test_one_map_a_type_and_one_of_the_uncertainty(folder):
    section = spatial(Run(folder))
    titles = [figure.title for figure in kinds(section, Figure)]
    assert titles[0] == "How sure the shares are"
    assert set(titles[1:]) == set(TYPES)
    assert all("<svg" in figure.svg for figure in kinds(section, Figure))
    (table,) = kinds(section, Table)
    assert {row[0] for row in table.rows} == set(TYPES)
    assert all(check.good for check in section.blocks[0].items)


def test_steady_shares_do_not_fill_the_colour_scale(folder):
    """The spread is 2 % everywhere: the map says that this is little."""
    (first, *_) = kinds(spatial(Run(folder)), Figure)
    assert first.ramp == ("± 0 %", "± 20 %")


def test_types_without_support_of_their_markers_are_named(folder):
    markers = pd.read_csv(folder / "tables" / "markers.csv")
    markers.loc[markers["type"] == "T cell", "together"] = 0.0
    markers.to_csv(folder / "tables" / "markers.csv", index=False)
    check = spatial(Run(folder)).blocks[0].items[0]
    assert not check.good
    assert "T cell" in check.text


def test_a_type_without_support_is_counted_at_a_glance(folder, make_run):
    summary = (make_run() / "tables" / "summary.json").read_text()
    (folder / "tables" / "summary.json").write_text(summary)
    assert glance(Run(folder)).lead.startswith("Nothing")
    markers = pd.read_csv(folder / "tables" / "markers.csv")
    markers.loc[markers["type"] == "T cell", "together"] = 0.0
    markers.to_csv(folder / "tables" / "markers.csv", index=False)
    assert glance(Run(folder)).lead.startswith("1 of 2 checks")


def test_correlations_with_markers_line_up(folder):
    markers = pd.read_csv(folder / "tables" / "markers.csv")
    markers["together"] = [0.7, 0.0934, -0.4]
    markers.to_csv(folder / "tables" / "markers.csv", index=False)
    (table,) = kinds(spatial(Run(folder)), Table)
    assert {row[0]: row[-1] for row in table.rows} == {
        "B cell": "0.70",
        "T cell": "0.09",
        "Macrophage": "−0.40",
    }


def test_a_run_on_spots_speaks_of_spots(make_run):
    run = make_run()
    file = run / "tables" / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "unit": "spots", "groups": []}))
    for section in (training(Run(run)), data(Run(run))):
        texts = [section.lead, *(f.text + f.alt + f.svg for f in kinds(section, Figure))]
        texts += [words for cards in kinds(section, Cards) for _, words in cards.items]
        assert any("spot" in text for text in texts)
        assert not any("per cell" in text or "training cells" in text for text in texts)


def test_spots_without_coordinates_have_a_table_and_no_map(folder):
    (folder / "tables" / "coordinates.csv").unlink()
    section = spatial(Run(folder))
    assert not kinds(section, Figure)
    assert "without coordinates" in section.lead


def test_other_runs_have_no_such_section(folder):
    (folder / "tables" / "proportions.csv").unlink()
    assert spatial(Run(folder)) is None
