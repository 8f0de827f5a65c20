"""Reading a run folder; each file when it is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace.errors import ModelFileError
from vivace.runs.layout import MODEL, SUMMARY, SUMMARY_KEYS, TABLES, Table

if TYPE_CHECKING:
    import pandas as pd

    from vivace.runs.expression import Expression


class Run:
    """The files of a run folder, each read when asked for.

    Parameters
    ----------
    folder
        Folder written by ``vivace fit``, ``vivace demo`` or ``vivace.tables.write_tables``.

    Raises
    ------
    ModelFileError
        The folder is not there, or holds neither a model nor tables.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            msg = f'the run folder "{folder}" was not found; "vivace fit ... --out {folder}" makes one'
            raise ModelFileError(msg)
        if not (self.folder / MODEL).is_file():
            msg = f'"{folder}" is not a run folder: it holds no {MODEL}'
            raise ModelFileError(msg)
        if not (self.folder / TABLES / SUMMARY).is_file():
            msg = (
                f'"{folder}" holds a model but no tables to report on; "vivace report {folder} --data '
                'CELLS" writes them, as does vivace.tables.write_tables(model, folder) in Python'
            )
            raise ModelFileError(msg)

    def json(self, name: str) -> dict[str, Any]:
        """Content of a JSON file given by its path inside the folder."""
        path = self.folder / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f'"{path}" cannot be read as JSON ({error}); was it cut short or edited?'
            raise ModelFileError(msg) from error
        if not isinstance(content, dict):
            msg = f'"{path}" should hold a JSON object, found {type(content).__name__}'
            raise ModelFileError(msg)
        return content

    @property
    def model(self) -> dict[str, Any]:
        """What ``save`` wrote about the model: class, options, schema, versions."""
        return self.json(MODEL)

    @property
    def summary(self) -> dict[str, Any]:
        """What is known about the data and the training, see :func:`vivace.tables.write_tables`."""
        summary = self.json(f"{TABLES}/{SUMMARY}")
        for name in SUMMARY_KEYS:
            if name not in summary:
                msg = f'"{self.folder / TABLES / SUMMARY}" lacks "{name}"'
                raise ModelFileError(msg)
        return summary

    def has(self, table: Table) -> bool:
        """Whether the run has a table."""
        return (self.folder / TABLES / table.file).is_file()

    def table(self, table: Table, *, as_text: bool = False) -> pd.DataFrame | None:
        """A table with its first column as index, or None when the run does not have it.

        Parameters
        ----------
        table
            Which one.
        as_text
            Every cell as it stands in the file, for copies with the same numbers.

        Raises
        ------
        ModelFileError
            The file is not a CSV table, or a column of the layout is missing.
        """
        return read_table(self.folder, table, as_text=as_text)

    def expression(self) -> Expression | None:
        """Denoised expression of some genes in the cells of the map, or None."""
        from vivace.runs.expression import Expression  # numpy is slow to import

        return Expression.read(self.folder)


def read_table(run: Path, table: Table, *, as_text: bool = False) -> pd.DataFrame | None:
    """As :meth:`Run.table`, of a folder that may hold no more than a model."""
    path = run / TABLES / table.file
    if not path.is_file():
        return None
    from pandas import read_csv  # slow to import

    as_it_stands = {"dtype": str, "keep_default_na": False} if as_text else {}
    try:
        content = read_csv(path, index_col=0, **as_it_stands)
    except (OSError, ValueError) as error:
        msg = f'"{path}" cannot be read as a table ({error})'
        raise ModelFileError(msg) from error
    missing = [c for c in table.columns if c not in content.columns]
    if missing:
        msg = f'"{path}" lacks the column "{missing[0]}"; it has: {", ".join(content.columns)}'
        raise ModelFileError(msg)
    return content
