"""The page about many fits."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from vivace.errors import ModelFileError
from vivace.report import write_report
from vivace.report.study import check_of, check_of_correction
from vivace.runs.study import Study

N = 10


@pytest.fixture
def study(tmp_path):
    """Tables of ten fits: two of three clusters and all kinds stand."""
    rng = np.random.default_rng(0)
    found = [10, 9, 4]
    clusters = pd.DataFrame(
        {"cells": [30, 20, 10], "stability": [0.95, 0.9, 0.5], "found_in": found,
         "splits_in": [0, 1, 2], "merges_in": [0, 0, 4], "merges_with": [-1, -1, 0]}
    )  # fmt: skip
    labels = pd.DataFrame(
        {"cells": [40, 20], "stability": [0.99, 0.97], "lowest": [0.98, 0.9], "found_in": [10, 10]},
        index=["T <b>&", "B"],
    )
    genes = pd.DataFrame(
        {"group": "B", "found_in": [10, 3], "probability": [1.0, 0.7], "rank": [1, 9],
         "rank_spread": [0, 8], "fold_change": [2.0, 0.5], "fold_change_spread": [0.1, 1.0]},
        index=["CD79A", "NOISE"],
    )  # fmt: skip
    correction = pd.DataFrame(
        {"mixing": [2.0, 1.1, 1.1], "possible": 2.9, "inner_structure": [0.3, 0.5, 0.45]},
        index=["as_asked", "no_batch", "shuffled_batch"],
    )
    cells = pd.DataFrame(
        {"agreement": rng.uniform(size=60), "latent_0": rng.normal(size=60), "latent_1": 0.0}
    )
    fits = pd.DataFrame({"epochs": 20, "held_out": rng.normal(1000, 5, N)}, index=range(N))
    tables = {"fits": fits, "clusters": clusters, "labels": labels, "genes": genes,
              "correction": correction, "cells": cells}  # fmt: skip
    (tmp_path / "tables").mkdir()
    for name, table in tables.items():
        table.to_csv(tmp_path / f"tables/{name}.csv")
    (tmp_path / "tables/verdict.txt").write_text("2 of 3 clusters stand.")
    (tmp_path / "plan.json").write_text(json.dumps({"model": "SCVI"}))
    return tmp_path


def test_the_page_says_what_stands_and_escapes_names(study):
    text = write_report(study).read_text()
    assert "2 of 3 clusters stand." in text
    assert "1 of 3 clusters depend on the seed" in text
    assert "All known kinds of cells stand" in text
    assert "CD79A" in text
    assert "10 of 10" in text
    assert "T &lt;b&gt;&amp;" in text
    assert "T <b>" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_what_was_not_asked_has_no_section(study):
    for name in ("clusters", "labels", "genes", "correction", "cells"):
        (study / f"tables/{name}.csv").unlink()
    text = write_report(study).read_text()
    assert 'id="fits"' in text
    assert 'id="clusters"' not in text


def test_checks_are_as_grave_as_what_is_lost():
    table = pd.DataFrame({"found_in": [10, 9, 2]})
    assert not check_of(table.iloc[:2], N, "clusters").advice
    assert check_of(table, N, "clusters").level == "look"
    assert check_of(table.iloc[1:], N, "clusters").level == "look"
    assert check_of(pd.DataFrame({"found_in": [1, 2, 10]}), N, "clusters").level == "bad"


@pytest.mark.parametrize(("inner", "level"), [(0.45, "good"), (0.35, "look"), (0.1, "bad")])
def test_correction_is_judged(inner, level):
    index = ["as_asked", "no_batch", "shuffled_batch"]
    table = pd.DataFrame(
        {"mixing": 2.0, "possible": 3.0, "inner_structure": [inner, 0.5, 0.45]}, index=index
    )
    assert check_of_correction(table).level == level


def test_fits_that_are_not_put_together_are_no_page_yet(study):
    (study / "tables/fits.csv").unlink()
    with pytest.raises(ModelFileError, match="goes on"):
        Study(study)


def test_a_damaged_plan_is_told(study):
    (study / "plan.json").write_text("{")
    with pytest.raises(ModelFileError, match="cannot be read as JSON"):
        write_report(study)
