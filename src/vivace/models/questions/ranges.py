"""Answers with a row a cell that go to a file, range by range of the cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vivace._files import check_place, not_saved, replacing, replacing_folder, user_path
from vivace.data import Cells
from vivace.errors import InvalidArgumentError
from vivace.models.base import BaseModel

CELLS_AT_ONCE = 1 << 17
"""Cells whose answers are held together: whole minibatches of every usual size."""


ENDINGS = (".npy", ".zarr")


def to_file(
    model: BaseModel,
    ask: Callable[[Cells, np.ndarray], np.ndarray],
    adata: Any,
    indices: Any,
    out: str | Path,
) -> Any:
    """What ``ask(cells, rows)`` answers about the cells that were chosen, in a file."""
    cells = model._cells(adata)
    return written(partial(ask, cells), model._rows(cells, indices), out)


def written(ask: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, out: Any) -> Any:
    """Ask of some cells after others, and write what is answered to a file, whole or not at all.

    Parameters
    ----------
    ask
        ``f(rows)``: (n, ...) answers about these cells.
    rows
        (N,) of all cells to ask of, N >= 1.
    out
        An .npy file or .zarr folder to write; one that is there is replaced when all is written.

    Returns
    -------
    (N, ...) array that is read from the file as it is used: of numpy, or of zarr.

    Raises
    ------
    InvalidArgumentError
        If the name ends in neither, nothing can be written there, or a folder there is no zarr array.
    ModelFileError
        If the disk is full.
    """
    path = place_of_answers(out)
    ranges = (rows[start : start + CELLS_AT_ONCE] for start in range(0, len(rows), CELLS_AT_ONCE))
    write = _write_zarr if path.suffix == ".zarr" else _write_npy
    try:
        return write(map(ask, ranges), len(rows), path)
    except OSError as error:
        raise not_saved(path, error) from error


def place_of_answers(out: Any, endings: tuple[str, ...] = ENDINGS) -> Path:
    """The path of a file that answers can be written to."""
    path = user_path(out, "out")
    if path.suffix not in endings:
        msg = f'out="{path}" must end in {" or ".join(endings)}'
        raise InvalidArgumentError(msg)
    if path.suffix == ".zarr" and path.exists() and not (path / "zarr.json").is_file():
        msg = f'out="{path}" is there already and is no zarr array of format 3; name another'
        raise InvalidArgumentError(msg)
    check_place(path)
    return path


def _write_npy(answers: Iterator[np.ndarray], n: int, path: Path) -> np.ndarray:
    with replacing(path) as beside, beside.open("wb") as file:
        for i, values in enumerate(answers):
            if i == 0:
                facts = {"descr": values.dtype.str, "fortran_order": False}
                shape = {"shape": (n, *values.shape[1:])}
                np.lib.format.write_array_header_1_0(file, {**facts, **shape})
            file.write(np.ascontiguousarray(values).tobytes())
    return np.load(path, mmap_mode="r")


def _write_zarr(answers: Iterator[np.ndarray], n: int, path: Path) -> Any:
    import zarr

    with replacing_folder(path) as beside:
        array, done = None, 0
        for values in answers:
            if array is None:
                shape = {"shape": (n, *values.shape[1:]), "chunks": values.shape}
                array = zarr.create_array(beside, **shape, dtype=values.dtype, overwrite=True)
            array[done : done + len(values)] = values
            done += len(values)
    return zarr.open_array(path, mode="r")
