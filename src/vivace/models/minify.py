"""Keep what the model knows of each cell instead of its counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vivace._types import Keys
from vivace.analysis.latent import latent_distribution
from vivace.data.schema import Field, Schema
from vivace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from vivace.models.base import BaseModel

PLACES = {
    Keys.LATENT_MEAN: "vivace_latent_mean",
    Keys.LATENT_VAR: "vivace_latent_variance",
    Keys.OBSERVED_LIBRARY: "vivace_library_size",
}
"""Key of the minibatch to key of ``obsm``."""


def minified(model: BaseModel) -> tuple[Any, Schema]:
    """Cells with posterior and library size in ``obsm`` and no counts, and the schema that reads them.

    Parameters
    ----------
    model
        Trained model with its data, whose library size is observed.

    Returns
    -------
    AnnData and Schema.

    Raises
    ------
    InvalidArgumentError
        If the cells are minified already, or the library size is latent.
    """
    import anndata

    if is_minified(model.schema):
        msg = "these cells are minified already"
        raise InvalidArgumentError(msg)
    if not getattr(model.module, "use_observed_lib_size", True):
        msg = (
            "cells can be minified only with use_observed_lib_size=True: a latent size needs counts"
        )
        raise InvalidArgumentError(msg)
    means, variances = latent_distribution(model.module, model._loader())
    sizes = model._cells().library_sizes()[:, None]
    adata = anndata.AnnData(
        obs=model.adata.obs.copy(), var=model.adata[:, model.var_names].var.copy()
    )
    for key, values in zip(PLACES, (means, variances, sizes), strict=True):
        adata.obsm[PLACES[key]] = values.astype("float32")
    kept = tuple(f for f in model.schema.fields if f.key != Keys.X)
    added = tuple(Field(key, "obsm", (place,)) for key, place in PLACES.items())
    return adata, replace(model.schema, fields=kept + added)


def is_minified(schema: Schema) -> bool:
    """Whether cells come without counts."""
    return schema.field(Keys.LATENT_MEAN) is not None
