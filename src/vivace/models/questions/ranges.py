"""Answers with a row a cell that go to a file, range by range of the cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vivace._files import check_place, not_saved, replacing, user_path
from vivace.errors import InvalidArgumentError

CELLS_AT_ONCE = 1 << 17
"""Cells whose answers are held together: whole minibatches of every usual size."""


def written(ask: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, out: Any) -> np.ndarray:
    """Ask of some cells after others, and write what is answered to an .npy file, whole or not at all.

    Parameters
    ----------
    ask
        ``f(rows)``: (n, ...) answers about these cells.
    rows
        (N,) of all cells to ask of, N >= 1.
    out
        File to write; one that is there is replaced when all is written.

    Returns
    -------
    (N, ...) array that is read from the file as it is used.

    Raises
    ------
    InvalidArgumentError
        If the name does not end in .npy, or nothing can be written there.
    ModelFileError
        If the disk is full.
    """
    path = user_path(out, "out")
    if path.suffix != ".npy":
        msg = f'out="{path}" must end in .npy'
        raise InvalidArgumentError(msg)
    check_place(path)
    ranges = (rows[start : start + CELLS_AT_ONCE] for start in range(0, len(rows), CELLS_AT_ONCE))
    try:
        with replacing(path) as beside:
            _write(map(ask, ranges), len(rows), beside)
    except OSError as error:
        raise not_saved(path, error) from error
    return np.load(path, mmap_mode="r")


def _write(answers: Any, n: int, path: Path) -> None:
    with path.open("wb") as file:
        for i, values in enumerate(answers):
            if i == 0:
                facts = {"descr": values.dtype.str, "fortran_order": False}
                shape = {"shape": (n, *values.shape[1:])}
                np.lib.format.write_array_header_1_0(file, {**facts, **shape})
            file.write(np.ascontiguousarray(values).tobytes())
