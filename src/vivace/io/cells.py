"""Cells beside a saved model: written whole or not at all, and found again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vivace._files import not_saved, replacing
from vivace._mudata import columns_stay
from vivace.errors import InvalidDataError, ModelFileError

ONE, PAIRED = "adata.h5ad", "mdata.h5mu"
"""Names of the file with an AnnData and of that with a MuData."""


@contextmanager
def cells_beside(folder: Path, data: Any) -> Iterator[None]:
    """Write cells into a folder; they take their place there only if what is done meanwhile goes well.

    Raises
    ------
    InvalidDataError
        If there are no cells, or the file format has no place for something that they hold.
    ModelFileError
        If the folder cannot be written to.
    """
    if data is None:
        msg = "save_anndata=True, but this model was loaded without data: leave it out"
        raise InvalidDataError(msg)
    path = folder / (PAIRED if hasattr(data, "mod") else ONE)
    try:
        with replacing(path) as beside:
            _write(data, beside)
            yield
    except OSError as error:
        raise not_saved(folder, error) from error


def read_cells(folder: Path) -> Any:
    """The cells that were saved beside a model.

    Raises
    ------
    ModelFileError
        If they are gone or damaged.
    """
    import anndata

    paired = (folder / PAIRED).is_file()
    path = folder / (PAIRED if paired else ONE)
    try:
        if not paired:
            return anndata.read_h5ad(path)
        import mudata

        with columns_stay():
            return mudata.read_h5mu(path)
    except Exception as error:  # of h5py and anndata, of any type
        msg = (
            f"{path}, the data saved beside the model, cannot be read ({error}); pass the data as "
            "adata=, or adata=False for a model without any"
        )
        raise ModelFileError(msg) from error


def _write(data: Any, path: Path) -> None:
    """The user's object stays as it is: writing turns columns of text into categories."""
    import anndata

    with anndata.settings.override(allow_write_nullable_strings=True):
        try:
            if hasattr(data, "mod"):
                with columns_stay():
                    data.copy().write_h5mu(path)
            else:
                data.write_h5ad(path, convert_strings_to_categoricals=False)
        except OSError:  # the disk, not the cells
            raise
        except Exception as error:
            msg = f"save_anndata=True, but the data cannot be written ({error}); save them yourself"
            raise InvalidDataError(msg) from error
