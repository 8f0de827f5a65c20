"""Which arrays of the user's object are counts, batch, labels and covariates. Plain data, saved as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from vivace.errors import InvalidDataError, missing_key

UNS_KEY = "vivace"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Field:
    """One entry of a minibatch and where it comes from.

    Attributes
    ----------
    key
        Key of the minibatch, see :class:`vivace._types.Keys`.
    kind
        "matrix" (the layer's rows), "categorical" (codes of obs columns), "numeric" (obs columns as
        they are), "balance" (weights, 1 on average, that give every category of an obs column the same
        total), "obsm" (an array as it is), or "index" (the row number of the cell).
    columns
        Names of obs columns; of a matrix, its layer, or empty for ``X``; of an array, its key in obsm.
    categories
        Of categorical fields, for each column its categories in the order of their codes.
    transform
        Of matrices, what is done to the rows as they are read: "" or "log_normalise".
    """

    key: str
    kind: str
    columns: tuple[str, ...] = ()
    categories: tuple[tuple[Any, ...], ...] = ()
    transform: str = ""

    @property
    def n_categories(self) -> tuple[int, ...]:
        return tuple(len(c) for c in self.categories)


@dataclass(frozen=True)
class Schema:
    """What ``setup_anndata`` found: the fields and the gene names.

    Attributes
    ----------
    model
        Class the data were set up for.
    var_names
        Gene names in the model's order.
    fields
        Entries of a minibatch.
    setup_args
        Arguments of ``setup_anndata``, to be shown.
    integer_counts
        Whether the counts are whole numbers.
    version
        Version of this format.

    Examples
    --------
    >>> schema = Schema("SCVI", ("gene_a",), (Field("X", "matrix"),), {}, True)
    >>> Schema.from_json(schema.to_json()) == schema
    True
    """

    model: str
    var_names: tuple[str, ...]
    fields: tuple[Field, ...]
    setup_args: dict[str, Any]
    integer_counts: bool = True
    version: int = SCHEMA_VERSION

    def field(self, key: str) -> Field | None:
        """The field of a minibatch key, or None."""
        return next((f for f in self.fields if f.key == key), None)

    def n_categories(self, key: str) -> tuple[int, ...]:
        """Number of categories of each column of a categorical field; () if there is none."""
        field = self.field(key)
        return () if field is None else field.n_categories

    def with_field(self, field: Field) -> Schema:
        """A copy in which ``field`` replaces the one with its key, or is added."""
        kept = tuple(f for f in self.fields if f.key != field.key)
        return replace(self, fields=(*kept, field))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Schema:
        values = json.loads(text)
        fields = tuple(
            Field(
                f["key"],
                f["kind"],
                tuple(f["columns"]),
                tuple(tuple(c) for c in f["categories"]),
                f.get("transform", ""),
            )
            for f in values.pop("fields")
        )
        return cls(fields=fields, var_names=tuple(values.pop("var_names")), **values)


def write_schema(data: Any, schema: Schema) -> None:
    """Keep the schema under one key of ``.uns``, beside those of other models."""
    kept = dict(data.uns.get(UNS_KEY, {}))
    data.uns[UNS_KEY] = {**kept, schema.model: schema.to_json()}


def read_schema(data: Any, model: str) -> Schema:
    """The schema that ``setup_anndata`` of ``model`` left in ``.uns``.

    Raises
    ------
    MissingKeyError
        If the data were not set up for this model.
    """
    stored = data.uns.get(UNS_KEY, {})
    if model not in stored:
        msg = (
            f"this data object was not set up for {model}: call {model}.setup_anndata(adata) first"
        )
        error = missing_key("uns", UNS_KEY, "the data object", [])
        raise type(error)(msg)
    return Schema.from_json(stored[model])


# building fields --------------------------------------------------------------------------------


def categorical_field(obs: pd.DataFrame, key: str, columns: Sequence[str], argument: str) -> Field:
    """Categories of obs columns: pandas order for categoricals, else sorted unique values."""
    return Field(
        key,
        "categorical",
        tuple(columns),
        tuple(_categories(_column(obs, name, argument), name, argument) for name in columns),
    )


def numeric_field(
    obs: pd.DataFrame, key: str, columns: Sequence[str], argument: str, *, positive: bool = False
) -> Field:
    """Numeric obs columns, checked for missing and infinite values."""
    for name in columns:
        values = numeric_values(obs, name, argument)
        if positive and (values <= 0).any():
            msg = f'{argument}="{name}" must be > 0 in every cell; found {values.min():g}'
            raise InvalidDataError(msg)
    return Field(key, "numeric", tuple(columns))


def numeric_values(obs: pd.DataFrame, name: str, argument: str) -> np.ndarray:
    """An obs column as float32, all finite."""
    column = _column(obs, name, argument)
    try:
        values = column.to_numpy(dtype=np.float32)
    except (TypeError, ValueError) as error:
        msg = f'{argument}="{name}" must be numeric; found dtype {column.dtype}'
        raise InvalidDataError(msg) from error
    if not np.isfinite(values).all():
        n_bad = int((~np.isfinite(values)).sum())
        msg = f'{argument}="{name}" has missing or infinite values in {n_bad} cells; fill or drop them'
        raise InvalidDataError(msg)
    return values


def codes_of(obs: pd.DataFrame, name: str, categories: Sequence[Any], argument: str) -> np.ndarray:
    """Codes of an obs column in known categories, int64.

    Raises
    ------
    InvalidDataError
        If a value is missing or is not among the categories.
    """
    column = _column(obs, name, argument)
    _refuse_missing(column, name, argument)
    codes = pd.Index(list(categories), dtype=object).get_indexer(column.astype(object))
    if (codes < 0).any():
        unseen = sorted({str(v) for v in column[codes < 0]})
        msg = (
            f'{argument}="{name}" has categories the model was not trained with: {unseen[:10]}; '
            f"it knows {[str(c) for c in categories][:10]}. Map new batches with load_query_data"
        )
        raise InvalidDataError(msg)
    return codes.astype(np.int64)


def _column(obs: pd.DataFrame, name: str, argument: str) -> pd.Series:
    if name not in obs.columns:
        raise missing_key(argument, name, "obs", obs.columns)
    return obs[name]


def _refuse_missing(column: pd.Series, name: str, argument: str) -> None:
    if column.isna().any():
        msg = (
            f'{argument}="{name}" has missing values in {int(column.isna().sum())} cells; '
            "fill or drop them"
        )
        raise InvalidDataError(msg)


def _categories(column: pd.Series, name: str, argument: str) -> tuple[Any, ...]:
    _refuse_missing(column, name, argument)
    if isinstance(column.dtype, pd.CategoricalDtype):
        present = column.cat.remove_unused_categories().cat.categories
    else:
        present = np.unique(column.to_numpy())
    return tuple(v.item() if isinstance(v, np.generic) else v for v in present)
