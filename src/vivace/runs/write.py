"""Writing a run folder, so that what was there before is never lost half-way."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vivace._files import check_place, replacing_folder
from vivace.errors import InvalidArgumentError
from vivace.runs.layout import MODEL, SUMMARY, TABLES, Table

if TYPE_CHECKING:
    import pandas as pd


def write_table(folder: Path, table: Table, content: pd.DataFrame) -> None:
    """Write one table of a run into the folder of its tables.

    Raises
    ------
    KeyError
        ``content`` lacks a column that the layout promises.
    """
    first = [*table.columns, *table.more]
    rest = [name for name in content.columns if name not in first]
    content[first + rest].to_csv(
        folder / table.file, index_label=table.index, float_format=table.digits
    )


def empty_tables(run: Path) -> Path:
    """The folder of the tables of a run, without the summary whose presence says that all are there."""
    folder = run / TABLES
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY).unlink(missing_ok=True)
    return folder


def check_new_run(out: Path, *, overwrite: bool) -> None:
    """Refuse to replace a run unasked, and anything that is no run at all.

    Raises
    ------
    InvalidArgumentError
        ``out`` is there and may not be replaced, or cannot be written.
    """
    new = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not new and not (out / MODEL).is_file():
        msg = f'"{out}" is there already and is no run folder; name a new folder with --out'
        raise InvalidArgumentError(msg)
    if not new and not overwrite:
        msg = f'"{out}" holds a run already; name another folder with --out, or add --overwrite'
        raise InvalidArgumentError(msg)
    check_place(out)
    try:  # what the rights say is not always true
        tempfile.TemporaryDirectory(dir=nearest_folder(out), prefix=f".{out.name}.").cleanup()
    except OSError as error:
        msg = f'"{out}" cannot be written: {error.strerror}'
        raise InvalidArgumentError(msg) from error


def nearest_folder(path: Path) -> Path:
    """The folder that something is or will be in, or the first one above that is there."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


new_run = replacing_folder
"""A folder beside a run's that takes its place when all went well."""
