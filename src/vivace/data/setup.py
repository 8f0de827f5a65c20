"""Describe an AnnData: what ``setup_anndata`` of the models does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from vivace._types import Keys
from vivace.data.checks import check_object, warn_of_small_categories
from vivace.data.columns import (
    categories_of,
    column,
    numbers_of,
    read_key,
    read_keys,
    read_names,
    refuse_missing,
    text_of,
)
from vivace.data.facts import Facts
from vivace.data.matrices import read_matrix, warn_of_empty_cells
from vivace.data.schema import Field, Schema
from vivace.errors import InvalidDataError


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
    setup_args = {
        **read_names(layer=layer, batch_key=batch_key, labels_key=labels_key),
        **read_names(size_factor_key=size_factor_key),
        "categorical_covariate_keys": read_keys(CATEGORICAL, categorical_covariate_keys),
        "continuous_covariate_keys": read_keys(CONTINUOUS, continuous_covariate_keys),
    }
    source, facts = read_matrix(adata, layer, "whole")
    warn_of_empty_cells(source)
    fields = [
        matrix_field(Keys.X, layer, facts),
        one_column(adata, Keys.BATCH, batch_key, "batch_key"),
        one_column(adata, Keys.LABELS, labels_key, "labels_key"),
    ]
    if size_factor_key is not None:
        fields.append(
            numeric_field(
                adata.obs, Keys.SIZE_FACTOR, [size_factor_key], "size_factor_key", positive=True
            )
        )
    fields += covariates(adata, categorical_covariate_keys, continuous_covariate_keys)
    return Schema(model, tuple(map(str, adata.var_names)), tuple(fields), setup_args, facts.whole)


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
    setup_args = {
        **read_names(layer=layer, batch_key=batch_key),
        "categorical_covariate_keys": read_keys(CATEGORICAL, categorical_covariate_keys),
        "continuous_covariate_keys": read_keys(CONTINUOUS, continuous_covariate_keys),
        "weight_batches": bool(weight_batches),
        "normalize": bool(normalise),
    }
    source, facts = read_matrix(adata, layer, "whole" if normalise else "logged")
    if normalise:
        warn_of_empty_cells(source)
        field = replace(matrix_field(Keys.X, layer, facts), transform="log_normalise")
    else:
        field = replace(matrix_field(Keys.X, layer, facts), expected="logged")
    batch = one_column(adata, Keys.BATCH, batch_key, "batch_key")
    fields = [
        field,
        batch,
        *covariates(adata, categorical_covariate_keys, continuous_covariate_keys),
    ]
    if weight_batches:
        fields.append(replace(batch, key=Keys.BATCH_WEIGHTS, kind="balance"))
    return Schema(model, tuple(map(str, adata.var_names)), tuple(fields), setup_args, normalise)


CATEGORICAL, CONTINUOUS = "categorical_covariate_keys", "continuous_covariate_keys"


# fields -----------------------------------------------------------------------------------------


def matrix_field(key: str, layer: str | None, facts: Facts, **options: Any) -> Field:
    """A matrix of counts, which have to be whole numbers later if they are now."""
    expected = "whole" if facts.whole else "counts"
    return Field(key, "matrix", () if layer is None else (layer,), expected=expected, **options)


def covariates(
    data: Any, categorical: Sequence[str] | None, continuous: Sequence[str] | None
) -> list[Field]:
    """Fields of further covariates, those that there are."""
    found = []
    names = read_keys(CATEGORICAL, categorical)
    if names:
        found.append(categorical_field(data.obs, Keys.CAT_COVS, names, CATEGORICAL))
    names = read_keys(CONTINUOUS, continuous)
    if names:
        found.append(numeric_field(data.obs, Keys.CONT_COVS, names, CONTINUOUS))
    return found


def one_column(data: Any, key: str, name: str | None, argument: str) -> Field:
    """A categorical field of one column, or of none."""
    name = read_key(argument, name)
    if name is None:
        return Field(key, "categorical")
    field = categorical_field(data.obs, key, [name], argument)
    codes = categories_of(column(data.obs, name, argument), name, argument)[0]
    warn_of_small_categories(codes, name, field.categories[0])
    return field


def categorical_field(obs: pd.DataFrame, key: str, names: Sequence[str], argument: str) -> Field:
    """Categories of obs columns, none of which may lack a value."""
    found = []
    for name in names:
        values = column(obs, name, argument)
        refuse_missing(values, name, argument)
        found.append(tuple(categories_of(values, name, argument)[1]))
    return Field(key, "categorical", tuple(names), tuple(found))


def partly_known(obs: pd.DataFrame, column: str, unlabeled: str, argument: str) -> Field:
    """Fine labels whose last category is the unlabelled one, whether or not it occurs."""
    field = categorical_field(obs, Keys.FINE_LABELS, [column], argument)
    unlabeled = text_of(unlabeled)
    known = tuple(c for c in field.categories[0] if c != unlabeled)
    if not known:
        msg = f'{argument}="{column}" holds nothing but "{unlabeled}"; at least one label is needed'
        raise InvalidDataError(msg)
    return replace(field, categories=((*known, unlabeled),))


def numeric_field(
    obs: pd.DataFrame, key: str, names: Sequence[str], argument: str, *, positive: bool = False
) -> Field:
    """Numeric obs columns, checked."""
    for name in names:
        numbers_of(column(obs, name, argument), name, argument, positive=positive)
    return Field(key, "numeric", tuple(names))
