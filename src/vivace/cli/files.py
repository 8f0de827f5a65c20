"""Read cells, and look at where an answer is to be written."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace.cli.words import note
from vivace.errors import InvalidArgumentError, InvalidDataError, MissingKeyError

if TYPE_CHECKING:
    from anndata import AnnData

    from vivace.models.base import BaseModel


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

    if not path.exists():
        raise MissingKeyError(f'the file "{path}" was not found.{near(path)}')
    if path.suffix != ".h5ad":
        msg = f'"{path}" is not an .h5ad file; save your cells as one (AnnData.write_h5ad)'
        raise InvalidDataError(msg)
    try:
        cells = anndata.read_h5ad(path)
    except Exception as error:
        msg = f'"{path}" cannot be read as .h5ad; is it complete? ({first_line(error)})'
        raise InvalidDataError(msg) from error
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

    if not path.exists():
        raise MissingKeyError(f'the file "{path}" was not found.{near(path)}')
    if path.suffix != ".h5mu":
        msg = f'"{path}" is not an .h5mu file; save genes and junctions as one (MuData.write_h5mu)'
        raise InvalidDataError(msg)
    try:
        with mudata.set_options(pull_on_update=False):
            return mudata.read_h5mu(path)
    except Exception as error:
        msg = f'"{path}" cannot be read as .h5mu; is it complete? ({first_line(error)})'
        raise InvalidDataError(msg) from error


def read_cells_of(model: BaseModel, path: Path) -> Any:
    """Read the kind of file that a model's cells come in: .h5mu where it knows several modalities."""
    paired = "modalities" in model.schema.setup_args
    return read_paired_cells(path) if paired else read_cells(path)


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
    if path.exists() and not overwrite:
        raise InvalidArgumentError(f'"{path}" is there already; --overwrite replaces it')
    if path.is_dir():
        raise InvalidArgumentError(f'"{path}" is a folder; name a file')
    if not path.parent.is_dir():
        raise InvalidArgumentError(f'there is no folder "{path.parent}" to write "{path.name}" to')
