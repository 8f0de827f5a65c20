"""A run folder, read only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from vivace.errors import ModelFileError

NEEDED = ("n_cells", "n_genes", "counts_per_cell", "genes_per_cell", "zero_fraction")


class Run:
    """The files of a run folder, each read when asked for.

    Parameters
    ----------
    folder
        Folder written by ``vivace fit``, ``vivace demo`` or ``vivace.analysis.tables.write_tables``.

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
        if not (self.folder / "model.json").is_file():
            msg = f'"{folder}" is not a run folder: it holds no model.json'
            raise ModelFileError(msg)
        if not (self.folder / "tables" / "summary.json").is_file():
            msg = (
                f'"{folder}" holds a model but no tables to report on; write them with '
                "vivace.analysis.tables.write_tables(model, folder)"
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
        return self.json("model.json")

    @property
    def summary(self) -> dict[str, Any]:
        """What is known about the data and the training, see ``write_tables``."""
        summary = self.json("tables/summary.json")
        for name in NEEDED:
            if name not in summary:
                msg = f'"{self.folder / "tables" / "summary.json"}" lacks "{name}"'
                raise ModelFileError(msg)
        return summary

    def table(self, name: str, columns: tuple[str, ...] = ()) -> pd.DataFrame | None:
        """Table ``name`` with its first column as index, or None when the run has no such table.

        Raises
        ------
        ModelFileError
            The file is not a CSV table, or one of ``columns`` is missing.
        """
        path = self.folder / "tables" / f"{name}.csv"
        if not path.is_file():
            return None
        try:
            table = pd.read_csv(path, index_col=0)
        except (OSError, ValueError) as error:
            msg = f'"{path}" cannot be read as a table ({error})'
            raise ModelFileError(msg) from error
        missing = [c for c in columns if c not in table.columns]
        if missing:
            msg = f'"{path}" lacks the column "{missing[0]}"; it has: {", ".join(table.columns)}'
            raise ModelFileError(msg)
        return table
