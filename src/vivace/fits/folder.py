"""A folder of fits: what they are of, and a file with the answers of each, whole or not there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from vivace._files import replacing, user_path
from vivace.errors import InvalidArgumentError, ModelFileError
from vivace.fits.one import Arrays
from vivace.fits.plan import Fit, Plan
from vivace.runs.layout import TABLES
from vivace.runs.study import PLAN, VERDICT

FITS = "fits"


@contextmanager
def kept_in(out: str | Path | None) -> Iterator[Path]:
    """The folder that fits are kept in; without one, a folder for the time being."""
    if out is not None:
        yield user_path(out, "out")
        return
    with tempfile.TemporaryDirectory(prefix="vivace-fits-") as name:
        yield Path(name)


def open_folder(folder: Path, plan: Plan) -> None:
    """Make a folder for the fits of a plan, or look whether those that it holds are of this plan.

    Raises
    ------
    InvalidArgumentError
        It holds fits of other data, another model or other options, or something else.
    ModelFileError
        Its ``plan.json`` is damaged.
    """
    facts = plan.facts()
    path = folder / PLAN
    if not path.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            msg = f'out="{folder}" holds something else than fits; name a new or an empty folder'
            raise InvalidArgumentError(msg)
        (folder / FITS).mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            beside.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        return
    (folder / FITS).mkdir(exist_ok=True)
    differing = [name for name, value in facts.items() if _facts_of(path).get(name) != value]
    if differing:
        msg = (
            f'out="{folder}" holds fits that differ in their {differing[0]}: ask for what they were made '
            "with, to go on, or name another folder"
        )
        raise InvalidArgumentError(msg)


def _facts_of(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f'"{path}" cannot be read as JSON ({error}); remove the folder to begin anew'
        raise ModelFileError(msg) from error
    return facts if isinstance(facts, dict) else {}


def file_of(folder: Path, fit: Fit) -> Path:
    """File with the answers of a fit; its seed is in the name, since another seed is another fit."""
    return folder / FITS / f"{fit.name}-seed-{fit.seed}.npz"


def write_answers(folder: Path, fit: Fit, found: Arrays) -> None:
    """Keep the answers of a fit."""
    with replacing(file_of(folder, fit)) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **found)


def read_answers(folder: Path, fit: Fit) -> Arrays | None:
    """The answers of a fit, or None if it has none yet or its file is damaged."""
    try:
        with file_of(folder, fit).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame], verdict: str) -> Path:
    """Write tables as CSV and the verdict beside them; returns their folder."""
    place = folder / TABLES
    for name, table in tables.items():
        with replacing(place / f"{name}.csv") as beside:
            table.to_csv(beside, float_format="%.5g")
    with replacing(place / VERDICT) as beside:
        beside.write_text(f"{verdict}\n", encoding="utf-8")
    return place
