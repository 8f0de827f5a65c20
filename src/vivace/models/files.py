"""Folders of saved models, with or without their cells."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vivace._files import user_path
from vivace.errors import InvalidArgumentError
from vivace.io import SavedModel, cells_beside, load_parts, read_cells, save_parts
from vivace.models.device import pick_device

if TYPE_CHECKING:
    from vivace.models.base import BaseModel

Model = TypeVar("Model", bound="BaseModel")

CELLS = "has_cells"
"""Fact of the training that says whether cells lie beside the model."""


def place_of(folder: str | Path, prefix: str | None = "") -> Path:
    """Folder of a model; with a prefix, one of that name in the folder.

    Raises
    ------
    InvalidArgumentError
        If the prefix is no plain name.

    Examples
    --------
    >>> place_of("models", "run1_").as_posix()
    'models/run1_'
    """
    place = user_path(folder, "folder")
    if not prefix:
        return place
    if Path(prefix).name != prefix:
        msg = f"prefix={prefix!r} must be a plain name, without folders"
        raise InvalidArgumentError(msg)
    return place / prefix


def save_model(
    folder: Path, parts: SavedModel, data: Any, overwrite: bool, with_cells: bool
) -> Path:
    """Save a model, and the cells beside it if that is asked for."""
    parts.training[CELLS] = with_cells
    with cells_beside(folder, data) if with_cells else nullcontext():
        return save_parts(folder, parts, overwrite=overwrite)


def read_model(
    folder: str | Path, adata: Any = None, prefix: str | None = ""
) -> tuple[SavedModel, Any]:
    """A saved model, and the cells that it gets: those given, those saved with it, or None."""
    place = place_of(folder, prefix)
    parts = load_parts(place)
    if parts.training.pop(CELLS, False) and adata is None:
        adata = read_cells(place)
    return parts, None if adata is False else adata


def placed(model: Model, accelerator: str, device: str | int) -> Model:
    """The model on the device that ``accelerator`` and ``device``, a number, name."""
    devices: Any = device if device == "auto" else [device]
    model.to_device(pick_device(accelerator, devices))
    return model
