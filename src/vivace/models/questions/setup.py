"""Which parts of a data object a model uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vivace.data.schema import write_schema
from vivace.data.setup import count_schema
from vivace.models.base import BaseModel


def setup_counts(
    model_class: type[BaseModel],
    adata: Any,
    layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
) -> None:
    """Say which parts of an AnnData the model uses; kept under ``adata.uns["vivace"]``.

    Parameters
    ----------
    adata
        Cells by genes, raw counts. Nothing but ``.uns["vivace"]`` is written, by which a view becomes
        an object of its own.
    layer
        Layer with the raw counts; default ``adata.X``. "raw" takes those of ``adata.raw``.
    batch_key
        Column of ``adata.obs`` whose effect is removed (with ContrastiveVI, not the condition itself).
    labels_key
        Column of ``adata.obs`` that the dispersion of genes may depend on.
    size_factor_key
        Column of ``adata.obs``, > 0, to be used instead of the library size.
    categorical_covariate_keys, continuous_covariate_keys
        Lists of columns of ``adata.obs`` whose effects are removed, like the batch's.

    Raises
    ------
    InvalidDataError
        If counts are negative or not finite, a covariate has missing values, names repeat, there
        are no cells or genes, or ``adata`` is a view of a file.
    InvalidArgumentError
        If an argument is no name.
    MissingKeyError
        If a layer or column does not exist.
    """
    schema = count_schema(
        adata,
        model_class.__name__,
        layer=layer,
        batch_key=batch_key,
        labels_key=labels_key,
        size_factor_key=size_factor_key,
        categorical_covariate_keys=categorical_covariate_keys,
        continuous_covariate_keys=continuous_covariate_keys,
    )
    write_schema(adata, schema)
