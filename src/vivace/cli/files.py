"""Read cells, and write them with an answer."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace._files import check_place, replacing
from vivace._mudata import columns_stay
from vivace._progress import doing
from vivace.cli.words import note
from vivace.errors import InvalidArgumentError, InvalidDataError, MissingKeyError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

PAIRED = ".h5mu"
RESERVED = "_index"
"""A name that anndata keeps for itself and does not write as a column; SeuratDisk's files have it."""


def read_cells(path: Path) -> AnnData:
    """Read an .h5ad file; gene names that occur twice get a number.

    Raises
    ------
    MissingKeyError
        There is no such file.
    InvalidDataError
        It is no .h5ad file, or a damaged one.
    """
    import anndata

    cells = read(path, ".h5ad", "your cells as one (AnnData.write_h5ad)", anndata.read_h5ad)
    if not cells.var_names.is_unique:
        note("Note: some gene names occur twice; the later ones get a number (-1, -2 ...).")
        cells.var_names_make_unique()
    return cells


def read_paired_cells(path: Path) -> Any:
    """Read an .h5mu file.

    Raises
    ------
    MissingKeyError
        There is no such file.
    InvalidDataError
        It is no .h5mu file, or a damaged one.
    """
    import mudata

    with columns_stay():
        return read(
            path, PAIRED, "genes and junctions as one (MuData.write_h5mu)", mudata.read_h5mu
        )


def read(path: Path, ending: str, how: str, reader: Callable[[Path], Any]) -> Any:
    """Read a file with the reader of another library, whose errors become a sentence."""
    if not path.exists():
        raise MissingKeyError(f'the file "{path}" was not found.{near(path)}')
    if path.suffix.lower() != ending:
        raise InvalidDataError(f'"{path}" is not an {ending} file; save {how}')
    try:
        with doing(f"reading {path.name}"):
            return reader(path)
    except Exception as error:
        msg = f'"{path}" cannot be read as {ending}; is it complete? ({first_line(error)})'
        raise InvalidDataError(msg) from error


def read_any_cells(path: Path) -> Any:
    """Read an .h5ad or .h5mu file, as its name says."""
    return read_paired_cells(path) if path.suffix.lower() == PAIRED else read_cells(path)


def write_cells(cells: Any, out: Path) -> None:
    """Write cells as .h5ad or .h5mu, in one step.

    Raises
    ------
    InvalidDataError
        The file format has no place for something that the cells hold.
    """
    import anndata

    write = cells.write_h5mu if hasattr(cells, "mod") else cells.write_h5ad
    for part in getattr(cells, "mod", {"": cells}).values():
        rename_reserved(part)
    with replacing(out) as beside, anndata.settings.override(allow_write_nullable_strings=True):
        try:
            with doing(f"writing {out.name}"):
                write(beside, compression="gzip")
        except OSError:  # the disk, not the cells
            raise
        except Exception as error:
            msg = (
                f'"{out}" cannot be written ({first_line(error)}); '
                "--out with a name that ends in .csv writes the latent space alone"
            )
            raise InvalidDataError(msg) from error


def rename_reserved(cells: AnnData) -> None:
    """Give columns that have a reserved name another one, and say so."""
    for name in ("obs", "var"):
        if RESERVED in getattr(cells, name):
            setattr(cells, name, renamed(getattr(cells, name), name))
    if cells.raw is not None and RESERVED in cells.raw.var:
        full = cells.raw.to_adata()
        full.var = renamed(full.var, "raw.var")
        cells.raw = full


def renamed(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table with another name for its column of the reserved one."""
    new = next(n for i in range(len(table.columns) + 1) if (n := f"index_{i or ''}") not in table)
    note(f'Note: the column "{RESERVED}" of {where} is called "{new}" in the file that is written.')
    return table.rename(columns={RESERVED: new})


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def near(path: Path) -> str:
    """Suggest a file with a similar name in the same folder."""
    folder = path.parent
    if not folder.is_dir():
        return f' There is no folder "{folder}".'
    names = [p.name for p in folder.iterdir()]
    close = get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f' Did you mean "{folder / close[0]}"?' if close else ""


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file unasked, or to write where there is no folder."""
    if path.is_dir() and not is_zarr(path):
        raise InvalidArgumentError(f'"{path}" is a folder; name a file')
    if path.exists() and not overwrite:
        raise InvalidArgumentError(f'"{path}" is there already; --overwrite replaces it')
    if not path.parent.is_dir():
        raise InvalidArgumentError(f'there is no folder "{path.parent}" to write "{path.name}" to')
    check_place(path)


def is_zarr(path: Path) -> bool:
    """Whether a folder is one that zarr wrote."""
    return path.suffix == ".zarr" and any((path / n).is_file() for n in ("zarr.json", ".zgroup"))
