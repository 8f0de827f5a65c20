"""Keep what was learned: in the run folder, or where there is room for it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace._files import check_place
from vivace._progress import doing
from vivace.cli.words import INTERRUPTED, note
from vivace.errors import ModelFileError
from vivace.runs.layout import MODEL, REFERENCE

if TYPE_CHECKING:
    from vivace.models.base import BaseModel

TABLES_TAKE = 20 * 2**20
"""Bytes that the tables of a run take at most, or nearly so."""


def check_room(model: BaseModel, out: Path) -> None:
    """Refuse, before training, a disk that has no room for the run.

    Raises
    ------
    InvalidArgumentError
        With the place.
    """
    weights = sum(t.numel() * t.element_size() for t in model.module.state_dict().values())
    check_place(out, room=weights + TABLES_TAKE)


def keep_run(
    model: BaseModel, out: Path, *, reference: BaseModel | None = None, **words: Any
) -> None:
    """Save the run; should that fail, put the model where it can be written, and say where.

    Raises
    ------
    ModelFileError
        The run could not be written: where the model is.
    """
    from vivace.tables import save_run

    before = stamp(out)
    try:
        with doing("asking the model for the tables of the report"):
            save_run(model, out, reference=reference, **words)
    except KeyboardInterrupt:
        if stamp(out) == before:
            raise
        note(f"Interrupted; the model is in {out}/. {tables_later(out)}")
        sys.exit(INTERRUPTED)
    except (OSError, ModelFileError) as error:
        found = out if stamp(out) != before else rescued(model, out.name, reference)
        if found is None:
            raise
        what = getattr(error, "strerror", None) or error
        msg = f'"{out}" could not be written in full ({what}). The model is in {found}/; '
        msg += tables_later(found)
        raise ModelFileError(msg) from error


def tables_later(place: Path) -> str:
    """How a model gets its tables after all."""
    return f"vivace report {place} --data CELLS writes its tables and the report"


def stamp(out: Path) -> int | None:
    """When the model in a folder was written; None if there is none."""
    with suppress(OSError):
        return (out / MODEL).stat().st_mtime_ns
    return None


def rescued(model: BaseModel, name: str, reference: BaseModel | None = None) -> Path | None:
    """Save a model to the first place that takes it: here, at home, among temporary files."""
    for folder in (Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
        place = None
        try:
            place = Path(tempfile.mkdtemp(prefix=f"vivace-{name}-", dir=folder))
            model.save(place)
            if reference is not None:
                reference.save(place / REFERENCE)
        except (OSError, ModelFileError):
            if place is not None:
                shutil.rmtree(place, ignore_errors=True)
        else:
            return place
    return None
