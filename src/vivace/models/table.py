"""The table of models that ``load``, the command line and the laws read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vivace import models
from vivace._settings import own_session
from vivace.errors import ModelFileError, nearest
from vivace.io.import_scvi import import_parts
from vivace.models import files
from vivace.models.base import BaseModel

MODELS: dict[str, type[BaseModel]] = {name: getattr(models, name) for name in models.HOMES}
"""Class name to class."""


@own_session()
def load(
    folder: str | Path,
    adata: Any = None,
    accelerator: str = "cpu",
    device: str | int = "auto",
    prefix: str = "",
) -> BaseModel:
    """Load a saved model; its class is found from the files.

    Parameters
    ----------
    folder
        Written by ``model.save``; ``~`` is the home folder.
    adata
        Data that later questions are asked of by default; genes are aligned by name. None for those
        that were saved beside the model, if they were, and False for none.
    accelerator, device, prefix
        As in the ``load`` of each model.

    Raises
    ------
    ModelFileError
        If the folder is incomplete, altered, of a newer version, or asks for a module far larger than
        its weights.

    Examples
    --------
    >>> import tempfile, vivace
    >>> adata = vivace.datasets.simulate("batches", n_cells=60, n_genes=30)
    >>> vivace.SCVI.setup_anndata(adata)
    >>> model = vivace.SCVI(adata)
    >>> model.train(max_epochs=1, progress=False)
    >>> folder = model.save(tempfile.mkdtemp())
    >>> type(vivace.load(folder, adata)).__name__
    'SCVI'
    """
    parts, adata = files.read_model(folder, adata, prefix)
    if parts.model not in MODELS:
        msg = f'{folder} holds a model "{parts.model}" that is not known. {nearest(parts.model, MODELS)}'
        raise ModelFileError(msg)
    return files.placed(MODELS[parts.model].from_parts(parts, adata), accelerator, device)


@own_session()
def import_model(folder: str | Path, adata: Any = None, prefix: str = "") -> BaseModel:
    """Bring a model that scvi-tools or SpliceVI trained.

    Nothing in the folder is executed: its pickle is read by a reader that knows arrays, tables and
    containers, and refuses everything else. Where vivace departs from scvi-tools on purpose, the
    model is built so that its old numbers come out.

    Parameters
    ----------
    folder
        Saved by ``model.save`` of scvi-tools 1.x or of SpliceVI.
    adata
        Data that later questions are asked of by default; genes are aligned by name. A model of
        SpliceVI needs the MuData it was trained with.
    prefix
        Prefix of the file names, if one was given.

    Raises
    ------
    ModelFileError
        If the folder is damaged, holds anything that could run code, takes far more memory to read
        than it is large, or is of a model that is not known.
    """
    parts, unused = import_parts(folder, adata, prefix)
    return MODELS[parts.model].from_parts(parts, adata, may_be_unused=unused)
