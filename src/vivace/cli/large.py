"""Cells that stay on disk: whether they should, how they are opened, and how answers join them."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vivace._files import replacing, replacing_folder
from vivace.cli.files import near, read_cells, read_paired_cells
from vivace.cli.words import note, say
from vivace.errors import InvalidDataError, MissingKeyError

if TYPE_CHECKING:
    from anndata import AnnData

    from vivace.models.base import BaseModel

Means = dict[str, np.ndarray]
SHARE = 8
"""Files of more than memory divided by this stay on disk: packed counts take two or three times their
file, and what is done with them as much again."""
ENDINGS = (".h5ad", ".zarr")


def read_files(paths: Sequence[Path], on_disk: bool | None = None) -> AnnData:
    """Cells of one file or several, in memory or, if they are large for it, on disk.

    Parameters
    ----------
    paths
        .h5ad files or .zarr folders.
    on_disk
        Leave counts on disk; default if the files are large for this machine.

    Raises
    ------
    MissingKeyError
        There is no such file.
    InvalidDataError
        One is damaged, or neither kind.
    """
    for path in paths:
        if not path.exists():
            raise MissingKeyError(f'the file "{path}" was not found.{near(path)}')
        if path.suffix.lower() not in ENDINGS:
            msg = f'"{path}" is not an .h5ad file; save your cells as one (AnnData.write_h5ad)'
            raise InvalidDataError(msg)
    stays = are_large(paths) if on_disk is None else on_disk
    if not stays and len(paths) == 1 and paths[0].is_file():
        return read_cells(paths[0])
    from vivace.data.collection import open_cells

    cells = open_cells(paths)
    if not cells.var_names.is_unique:
        note("Note: some gene names occur twice; the later ones get a number (-1, -2 ...).")
        cells.var_names_make_unique()
    if not stays:
        return cells.to_memory()
    why = "as asked" if on_disk else "as the files are large for this machine's memory"
    say(f"Counts stay on disk, {why} (--in-memory loads them).")
    return cells


def read_cells_of(model: BaseModel, path: Path) -> Any:
    """Cells as a model takes them: of an .h5mu file where it knows several modalities."""
    paired = "modalities" in model.schema.setup_args
    return read_paired_cells(path) if paired else read_files([path])


def are_large(paths: Iterable[Path]) -> bool:
    """Whether files hold more than memory takes easily."""
    return sum(map(size_of, paths)) * SHARE > memory()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def stay_on_disk(cells: Any) -> bool:
    """Whether counts of these cells are read as they are needed."""
    from vivace.data.sources import places

    held = [] if hasattr(cells, "mod") else [cells.X, *cells.layers.values()]
    return any(places(matrix) for matrix in held)


def write_beside_counts(
    source: Path, out: Path, ranges: Iterable[Means], n_cells: int
) -> dict[str, int]:
    """Copy a file of cells and put arrays into ``obsm`` of the copy, whole or not at all.

    Parameters
    ----------
    source, out
        The file, and where the copy goes: two .h5ad files or two .zarr folders.
    ranges
        Name of each array to its next rows.
    n_cells
        Rows of all.

    Returns
    -------
    Name of each array to its number of columns.
    """
    with copied_file(source, out) if source.is_file() else copied_folder(source, out) as cells:
        obsm, done, arrays = cells.require_group("obsm"), 0, {}
        for means in ranges:
            for name, values in means.items():
                if name not in arrays:
                    arrays[name] = new_array(obsm, name, (n_cells, values.shape[1]))
                arrays[name][done : done + len(values)] = values
            done += len(values)
        return {name: array.shape[1] for name, array in arrays.items()}


@contextmanager
def copied_file(source: Path, out: Path) -> Iterator[Any]:
    """A copy of an .h5ad file to write to."""
    import h5py

    with replacing(out) as beside:
        shutil.copyfile(source, beside)
        with h5py.File(beside, "r+") as file:
            yield file


@contextmanager
def copied_folder(source: Path, out: Path) -> Iterator[Any]:
    """A copy of a .zarr folder to write to."""
    import zarr

    with replacing_folder(out) as beside:
        shutil.copytree(source, beside, dirs_exist_ok=True)
        consolidated = zarr.open_group(beside, mode="r").metadata.consolidated_metadata
        group = zarr.open_group(beside, mode="r+", use_consolidated=False)
        yield group
        if consolidated is not None:  # a list of all that is there, which would lack what is new
            with warnings.catch_warnings():  # of format 3, as if it had not been so before
                warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
                zarr.consolidate_metadata(group.store)


def new_array(obsm: Any, name: str, shape: tuple[int, int]) -> Any:
    """An array as anndata keeps them, in place of one of that name."""
    if name in obsm:
        del obsm[name]
    create = obsm.create_array if hasattr(obsm, "create_array") else obsm.create_dataset
    made = create(name, shape=shape, dtype="f4")
    made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return made
