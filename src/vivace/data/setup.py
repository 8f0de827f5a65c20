"""Describe an AnnData of counts: what ``setup_anndata`` of the count models does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vivace._types import Keys
from vivace.data.checks import check_counts, check_object, warn_of_small_categories
from vivace.data.schema import Field, Schema, categorical_field, codes_of, numeric_field
from vivace.errors import InvalidArgumentError


def count_schema(
    adata: Any,
    model: str,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
) -> Schema:
    """Check an AnnData of counts and describe it."""
    check_object(adata)
    integer = check_counts(adata, layer)
    fields = [
        Field(Keys.X, "matrix", () if layer is None else (layer,)),
        _one_column(adata, Keys.BATCH, batch_key, "batch_key"),
        _one_column(adata, Keys.LABELS, labels_key, "labels_key"),
    ]
    if size_factor_key is not None:
        fields.append(
            numeric_field(
                adata.obs, Keys.SIZE_FACTOR, [size_factor_key], "size_factor_key", positive=True
            )
        )
    for key, names, argument, make in (
        (
            Keys.CAT_COVS,
            categorical_covariate_keys,
            "categorical_covariate_keys",
            categorical_field,
        ),
        (Keys.CONT_COVS, continuous_covariate_keys, "continuous_covariate_keys", numeric_field),
    ):
        if names:
            fields.append(make(adata.obs, key, _names(names, argument), argument))
    setup_args = {
        "layer": layer,
        "batch_key": batch_key,
        "labels_key": labels_key,
        "size_factor_key": size_factor_key,
        "categorical_covariate_keys": list(categorical_covariate_keys or []),
        "continuous_covariate_keys": list(continuous_covariate_keys or []),
    }
    return Schema(model, tuple(map(str, adata.var_names)), tuple(fields), setup_args, integer)


def _one_column(adata: Any, key: str, column: str | None, argument: str) -> Field:
    if column is None:
        return Field(key, "categorical")
    field = categorical_field(adata.obs, key, [column], argument)
    categories = field.categories[0]
    codes = codes_of(adata.obs, column, categories, argument).ravel()
    warn_of_small_categories(codes, column, categories)
    return field


def _names(names: Sequence[str], argument: str) -> list[str]:
    if isinstance(names, str):
        msg = f'{argument}="{names}" must be a list of names: ["{names}"]'
        raise InvalidArgumentError(msg)
    return list(names)
