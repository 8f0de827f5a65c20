"""A run folder takes its place in one step, and its tables have the columns that the layout names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from vivace.errors import InvalidArgumentError, ModelFileError
from vivace.runs import Run, layout
from vivace.runs.layout import MODEL, SUMMARY, TABLES, Table
from vivace.runs.write import check_new_run, empty_tables, new_run, write_table

PLACES = Table("places", "spot", ("x", "y"), more=("z",), digits="%.2f")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The least that is a run folder."""
    folder = tmp_path / "run"
    (folder / TABLES).mkdir(parents=True)
    (folder / MODEL).write_text("{}")
    (folder / TABLES / SUMMARY).write_text("{}")
    return folder


def test_what_was_written_is_read(run: Path):
    content = pd.DataFrame({"w": [1.0], "y": [0.123], "x": [2.0], "z": [3.0]}, index=["a"])
    write_table(run / TABLES, PLACES, content)
    text = (run / TABLES / "places.csv").read_text()
    assert text == "spot,x,y,z,w\na,2.00,0.12,3.00,1.00\n"
    found = Run(run).table(PLACES)
    assert found is not None
    assert found.loc["a", "y"] == 0.12


@pytest.mark.parametrize("column", ["x", "y", "z"])
def test_a_table_without_a_promised_column_is_not_written(run: Path, column: str):
    content = pd.DataFrame({"x": [1.0], "y": [1.0], "z": [1.0]}).drop(columns=column)
    with pytest.raises(KeyError, match=column):
        write_table(run / TABLES, PLACES, content)
    assert not Run(run).has(PLACES)


def test_a_reader_needs_only_the_columns_of_the_report(run: Path):
    (run / TABLES / "places.csv").write_text("spot,x,y\na,1,2\n")
    assert Run(run).table(PLACES) is not None
    with pytest.raises(ModelFileError, match='lacks the column "z"; it has: x, y'):
        Run(run).table(replace(PLACES, columns=("x", "z")))


def test_a_table_that_is_not_there_is_none(run: Path):
    assert Run(run).table(PLACES) is None


def test_no_two_tables_share_a_file():
    tables = [value for value in vars(layout).values() if isinstance(value, Table)]
    assert len({table.file for table in tables}) == len(tables) > 10


def test_tables_that_are_being_written_have_no_summary(run: Path):
    assert not (empty_tables(run) / SUMMARY).exists()
    with pytest.raises(ModelFileError, match="no tables to report on"):
        Run(run)


def test_a_new_run_takes_the_place_of_the_old_one(run: Path):
    with new_run(run) as beside:
        (beside / "new").touch()
        assert (run / MODEL).exists(), "the old one stays until the new one is whole"
    assert [file.name for file in run.iterdir()] == ["new"]
    assert [file.name for file in run.parent.iterdir()] == ["run"]


def test_a_run_that_fails_leaves_the_old_one(run: Path):
    def fail() -> None:
        with new_run(run) as beside:
            (beside / "new").touch()
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert (run / MODEL).exists()
    assert [file.name for file in run.parent.iterdir()] == ["run"]


def test_a_folder_is_replaced_only_if_it_is_a_run_and_one_says_so(run: Path, tmp_path: Path):
    check_new_run(tmp_path / "new", overwrite=False)
    (tmp_path / "empty").mkdir()
    check_new_run(tmp_path / "empty", overwrite=False)
    check_new_run(run, overwrite=True)
    with pytest.raises(InvalidArgumentError, match="--overwrite"):
        check_new_run(run, overwrite=False)
    (run / MODEL).unlink()
    for place in (run, run / TABLES / SUMMARY):
        with pytest.raises(InvalidArgumentError, match="is no run folder"):
            check_new_run(place, overwrite=True)
