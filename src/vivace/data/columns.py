"""Columns of obs: the one place that turns what people keep there into codes, numbers and text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from vivace.errors import InvalidArgumentError, InvalidDataError, missing_key

ONE_KIND = ("string", "integer", "boolean", "floating", "datetime64", "datetime", "date", "decimal")
"""Kinds of object columns, as pandas names them, whose equal values have the same text."""


def read_key(argument: str, value: Any) -> Any:
    """The name of a column or layer, or None.

    Raises
    ------
    InvalidArgumentError
        If a list of names, or the values themselves, were given instead.

    Examples
    --------
    >>> read_key("batch_key", "donor")
    'donor'
    """
    if value is None or isinstance(value, str | int | float):
        return str(value) if isinstance(value, np.str_) else value
    if isinstance(value, list | tuple | pd.Index) and all(isinstance(v, str) for v in value):
        names = list(value)
        joined = ' + "_" + '.join(f'obs["{name}"].astype(str)' for name in names)
        msg = (
            f"{argument}={names!r} must be one name; make one column of several: "
            f'obs["{"_".join(names)}"] = {joined}'
        )
    else:
        msg = (
            f"{argument} must be a name (text), got the values themselves as {type(value).__name__}; "
            "store them in the data object and pass the name they have there"
        )
    raise InvalidArgumentError(msg)


def read_names(**keys: Any) -> dict[str, Any]:
    """Several keys by the names of their arguments."""
    return {argument: read_key(argument, value) for argument, value in keys.items()}


def read_keys(argument: str, value: Any) -> list[Any]:
    """Names of several columns; none if None.

    Examples
    --------
    >>> read_keys("categorical_covariate_keys", ("donor", "site"))
    ['donor', 'site']
    """
    if value is None:
        return []
    if isinstance(value, str):
        msg = f'{argument}="{value}" must be a list of names: ["{value}"]'
        raise InvalidArgumentError(msg)
    if isinstance(value, pd.Series | pd.DataFrame | dict) or not isinstance(value, Iterable):
        msg = f"{argument} must be a list of names of columns, got {type(value).__name__}"
        raise InvalidArgumentError(msg)
    names = [read_key(argument, name) for name in value]
    twice = [name for at, name in enumerate(names) if name in names[:at]]
    if twice or None in names:
        msg = f"{argument}={names!r} must name different columns; found {(twice or [None])[0]!r} again"
        raise InvalidArgumentError(msg)
    return names


def column(obs: pd.DataFrame, name: Any, argument: str, where: str = "obs") -> pd.Series:
    """One column of a table, by its name.

    Raises
    ------
    MissingKeyError
        If there is none.
    InvalidDataError
        If there are two.
    """
    name = read_key(argument, name)
    if name not in obs.columns:
        raise missing_key(argument, name, where, obs.columns)
    found = obs[name]
    if isinstance(found, pd.DataFrame):
        msg = (
            f'{argument}="{name}": {where} has this column twice (as joined tables have); keep one: '
            f"{where} = {where}.loc[:, ~{where}.columns.duplicated()]"
        )
        raise InvalidDataError(msg)
    return found


# text -------------------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """The text that stands for a category, the same for equal values however they are stored.

    Examples
    --------
    >>> [text_of(v) for v in ("a", 0, 0.0, np.float32(0.1), True, b"b", Decimal("2.0"))]
    ['a', '0', '0', '0.1', 'True', 'b', '2']
    >>> text_of(pd.Timestamp("2024-01-02")), text_of(dt.date(2024, 1, 2))
    ('2024-01-02', '2024-01-02')
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating | Decimal):
        return str(int(value)) if value % 1 == 0 else str(value)
    if isinstance(value, np.datetime64 | dt.datetime):
        return pd.Timestamp(value).isoformat().removesuffix("T00:00:00")
    return str(value)


def categories_of(values: pd.Series, name: Any, argument: str) -> tuple[np.ndarray, list[str]]:
    """Codes (N,) int64 and the text of each category; -1 where a value is missing.

    Categories come in pandas' order if the column has one, else sorted: numbers by size, text by
    letters. Unused ones are left out.

    Raises
    ------
    InvalidDataError
        If different values have the same text, such as 1 and "1", or values are no single things.
    """
    try:
        codes, unique = _factorised(values)
    except TypeError as error:
        msg = f'{argument}="{name}" holds values that are no categories (dtype {values.dtype}): {error}'
        raise InvalidDataError(msg) from error
    texts = [text_of(value) for value in unique]
    if len(set(texts)) < len(texts):
        again = next(text for at, text in enumerate(texts) if text in texts[:at])
        kinds = sorted({type(v).__name__ for v, t in zip(unique, texts, strict=True) if t == again})
        msg = (
            f'{argument}="{name}" holds different values that read the same, "{again}" (as '
            f'{" and ".join(kinds)}); make them one: obs["{name}"] = obs["{name}"].astype(str)'
        )
        raise InvalidDataError(msg)
    return codes, texts


def _factorised(values: pd.Series) -> tuple[np.ndarray, list[Any]]:
    """Codes and unique values, in order."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        used = values.cat.remove_unused_categories().cat
        return used.codes.to_numpy().astype(np.int64), list(used.categories)
    if values.dtype == object and pd.api.types.infer_dtype(values, skipna=True) not in ONE_KIND:
        return _factorised_one_by_one(values)
    codes, unique = pd.factorize(values, sort=False)
    order = _order(list(unique))
    place = np.empty(len(order) + 1, dtype=np.int64)
    place[order], place[-1] = np.arange(len(order)), -1  # code -1 reads the last entry
    return place[codes], [unique[at] for at in order]


def _factorised_one_by_one(values: pd.Series) -> tuple[np.ndarray, list[Any]]:
    """Of mixed kinds: 1, 1.0 and True are equal to pandas, but do not read the same."""
    missing = values.isna().to_numpy()
    kinds: dict[tuple[type, Any], int] = {}
    for value, gone in zip(values, missing, strict=True):
        if not gone:
            kinds.setdefault((type(value), value), len(kinds))
    unique = [value for _, value in kinds]
    order = _order(unique)
    place = dict(zip(order, range(len(order)), strict=True))
    codes = [
        -1 if gone else place[kinds[type(value), value]]
        for value, gone in zip(values, missing, strict=True)
    ]
    return np.array(codes, dtype=np.int64), [unique[at] for at in order]


def _order(values: list[Any]) -> list[int]:
    try:
        return sorted(range(len(values)), key=values.__getitem__)
    except TypeError:  # numbers and text
        return sorted(range(len(values)), key=lambda at: text_of(values[at]))


def codes_in(values: pd.Series, categories: Sequence[Any], name: Any, argument: str) -> np.ndarray:
    """Codes (N,) int64 of a column in known categories, which are compared as text.

    Raises
    ------
    InvalidDataError
        If a value is missing or is not among the categories.
    """
    refuse_missing(values, name, argument)
    codes, texts = categories_of(values, name, argument)
    known = {text_of(category): code for code, category in enumerate(categories)}
    unseen = [text for text in texts if text not in known]
    if unseen:
        kind = "" if _is_text(values) else f" (dtype {values.dtype})"
        msg = (
            f'{argument}="{name}" has categories the model was not trained with: {unseen[:10]}{kind}; '
            f"it knows {list(known)[:10]}. Map new batches with load_query_data"
        )
        raise InvalidDataError(msg)
    return np.array([known[text] for text in texts], dtype=np.int64)[codes]


def _is_text(values: pd.Series) -> bool:
    kept = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
    return pd.api.types.infer_dtype(kept, skipna=True) == "string"


def refuse_missing(values: pd.Series, name: Any, argument: str) -> None:
    """Raise if a value is missing."""
    missing = int(values.isna().sum())
    if missing:
        msg = f'{argument}="{name}" has missing values in {missing} cells; fill or drop them'
        raise InvalidDataError(msg)


# numbers ----------------------------------------------------------------------------------------


def numbers_of(
    values: pd.Series, name: Any, argument: str, *, positive: bool = False
) -> np.ndarray:
    """A column as (N,) float32, all finite.

    Raises
    ------
    InvalidDataError
        If values are no numbers (dates and text are none), missing, infinite, or not positive where
        they have to be.
    """
    kept = values.dtype.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
    kind = pd.api.types.infer_dtype(kept, skipna=True)
    if kind not in NUMBERS:
        mend = f'obs["{name}"] = pandas.to_numeric(obs["{name}"])'
        if "date" in kind or "time" in kind or kind == "period":
            mend = (
                f'count from a day: obs["{name}"] = (obs["{name}"] - obs["{name}"].min()).dt.days'
            )
        msg = f'{argument}="{name}" must be numeric; found {kind} (dtype {values.dtype}). {mend}'
        raise InvalidDataError(msg)
    numbers = pd.to_numeric(values.astype(object), errors="coerce").to_numpy(
        np.float64, na_value=np.nan
    )
    with np.errstate(over="ignore"):
        numbers = numbers.astype(np.float32)
    n_bad = int((~np.isfinite(numbers)).sum())
    if n_bad:
        msg = f'{argument}="{name}" has missing or infinite values in {n_bad} cells; fill or drop them'
        raise InvalidDataError(msg)
    if positive and (numbers <= 0).any():
        msg = f'{argument}="{name}" must be > 0 in every cell; found {numbers.min():g}'
        raise InvalidDataError(msg)
    return numbers


NUMBERS = (
    "integer",
    "floating",
    "boolean",
    "decimal",
    "mixed-integer-float",
    "integer-na",
    "empty",
)
"""Kinds of columns, as pandas names them, that are numbers."""
