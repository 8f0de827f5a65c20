"""The integration section: checks that follow the figures, and a picture where kinds are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from vivace.errors import ModelFileError
from vivace.report.page import Checks, Figure, Table
from vivace.report.sections.integration import integration
from vivace.runs import Run

COLUMNS = ["n_cells", "n_systems", "systems_before", "systems_after", "kinds_before", "kinds_after"]
ROWS = {
    "all cells": [90, 2, 1.0, 1.6, 1.1, 1.1],
    "T <cells>": [60, 2, 1.0, 1.7, 1.2, 1.1],
    "private": [30, 1, 1.0, 1.1, 1.0, 1.0],
}


def write(run: Path, **changes: float) -> Path:
    table = pd.DataFrame.from_dict(ROWS, orient="index", columns=COLUMNS)
    for name, value in changes.items():
        table.loc["all cells", name] = value
    table.to_csv(run / "tables" / "integration.csv", index_label="kind")
    return run


def test_section(make_run: Callable[..., Path]):
    run = make_run()
    assert integration(Run(run)) is None
    section = integration(Run(write(run)))
    checks, figure, table = section.blocks
    assert isinstance(checks, Checks)
    assert [check.good for check in checks.items] == [True, True]
    assert isinstance(figure, Figure)
    assert "<svg" in figure.svg
    assert "T <cells>" not in figure.svg, "names are escaped"
    assert isinstance(table, Table)
    assert len(table.rows) == 3


@pytest.mark.parametrize(
    ("changes", "good"),
    [({"systems_after": 1.02}, [False, True]), ({"kinds_after": 1.6}, [True, False])],
)
def test_checks_follow_the_figures(make_run: Callable[..., Path], changes: dict, good: list):
    section = integration(Run(write(make_run(), **changes)))
    assert [check.good for check in section.blocks[0].items] == good


def test_without_kinds_there_is_no_picture(make_run: Callable[..., Path]):
    run = write(make_run())
    path = run / "tables" / "integration.csv"
    pd.read_csv(path, index_col=0).iloc[:1, :4].to_csv(path, index_label="kind")
    (checks,) = integration(Run(run)).blocks
    assert len(checks.items) == 1


def test_a_damaged_table_is_named(make_run: Callable[..., Path]):
    run = write(make_run())
    path = run / "tables" / "integration.csv"
    pd.read_csv(path, index_col=0).drop(columns="systems_after").to_csv(path)
    with pytest.raises(ModelFileError, match="systems_after"):
        integration(Run(run))
