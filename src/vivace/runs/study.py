"""The folder of many fits of one model: what it is of, and its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace.errors import ModelFileError
from vivace.runs.layout import TABLES

if TYPE_CHECKING:
    import pandas as pd

PLAN = "plan.json"
VERDICT = "verdict.txt"
NEARLY_ALL = 0.9
"""Share of the fits in which something that stands is found."""
TOO_MUCH = 0.1
"""Share of the structure inside batches whose loss is over-correction."""


def is_study(folder: str | Path) -> bool:
    """Whether a folder holds many fits of one model."""
    return (Path(folder) / PLAN).is_file()


class Study:
    """The files of a folder of many fits, each read when asked for.

    Parameters
    ----------
    folder
        Folder written by ``vivace stability``.

    Raises
    ------
    ModelFileError
        Its fits have not been put together yet.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self._file("fits").is_file():
            msg = (
                f'"{folder}" holds fits that are not put together yet: run the command that made it '
                "again, and it goes on"
            )
            raise ModelFileError(msg)

    def _file(self, name: str) -> Path:
        return self.folder / TABLES / f"{name}.csv"

    @property
    def model(self) -> str:
        """Class of the model."""
        try:
            facts: dict[str, Any] = json.loads((self.folder / PLAN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f'"{self.folder / PLAN}" cannot be read as JSON ({error})'
            raise ModelFileError(msg) from error
        return str(facts.get("model", "model"))

    @property
    def verdict(self) -> str:
        """What the fits agree on, in words."""
        path = self.folder / TABLES / VERDICT
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    def table(self, name: str) -> pd.DataFrame | None:
        """A table with its first column as index, or None if that was not asked.

        Raises
        ------
        ModelFileError
            The file is not a CSV table.
        """
        if not self._file(name).is_file():
            return None
        from pandas import read_csv  # slow to import

        try:
            return read_csv(self._file(name), index_col=0)
        except (OSError, ValueError) as error:
            msg = f'"{self._file(name)}" cannot be read as a table ({error})'
            raise ModelFileError(msg) from error
