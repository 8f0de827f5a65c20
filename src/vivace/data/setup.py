"""Describe an AnnData: what ``setup_anndata`` of the models does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vivace._types import Keys
from vivace.data.checks import (
    check_counts,
    check_log_normalised,
    check_object,
    warn_of_small_categories,
)
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
    fields += _covariates(adata, categorical_covariate_keys, continuous_covariate_keys)
    setup_args = {
        "layer": layer,
        "batch_key": batch_key,
        "labels_key": labels_key,
        "size_factor_key": size_factor_key,
        "categorical_covariate_keys": list(categorical_covariate_keys or []),
        "continuous_covariate_keys": list(continuous_covariate_keys or []),
    }
    return Schema(model, tuple(map(str, adata.var_names)), tuple(fields), setup_args, integer)


def normalised_schema(
    adata: Any,
    model: str,
    *,
    batch_key: str,
    layer: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    weight_batches: bool = False,
    normalise: bool = False,
) -> Schema:
    """Check an AnnData of log-normalised values, or of counts to be normalised, and describe it."""
    check_object(adata)
    if normalise:
        check_counts(adata, layer)
    else:
        check_log_normalised(adata, layer)
    batch = _one_column(adata, Keys.BATCH, batch_key, "batch_key")
    transform = "log_normalise" if normalise else ""
    fields = [
        Field(Keys.X, "matrix", () if layer is None else (layer,), transform=transform),
        batch,
        *_covariates(adata, categorical_covariate_keys, continuous_covariate_keys),
    ]
    if weight_batches:
        fields.append(replace(batch, key=Keys.BATCH_WEIGHTS, kind="balance"))
    setup_args = {
        "layer": layer,
        "batch_key": batch_key,
        "categorical_covariate_keys": list(categorical_covariate_keys or []),
        "continuous_covariate_keys": list(continuous_covariate_keys or []),
        "weight_batches": weight_batches,
        "normalize": normalise,
    }
    return Schema(model, tuple(map(str, adata.var_names)), tuple(fields), setup_args, normalise)


def _covariates(
    adata: Any, categorical: Sequence[str] | None, continuous: Sequence[str] | None
) -> list[Field]:
    found = []
    if categorical:
        argument = "categorical_covariate_keys"
        names = _names(categorical, argument)
        found.append(categorical_field(adata.obs, Keys.CAT_COVS, names, argument))
    if continuous:
        argument = "continuous_covariate_keys"
        names = _names(continuous, argument)
        found.append(numeric_field(adata.obs, Keys.CONT_COVS, names, argument))
    return found


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
