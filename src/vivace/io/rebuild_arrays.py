"""Arrays of numpy and tables of pandas, put together from what a pickle says of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

PLAIN_TYPE = r"b1|i[1248]|u[1248]|f[248]|c8|c16|[SU][1-9][0-9]{0,5}|O[48]"
"""Kind and size of the types that hold numbers, text or, at the end, objects."""
MOST_AXES = 32


def whole(value: Any) -> int:
    """A whole number, or an error."""
    if type(value) is not int:
        msg = f"a {type(value).__name__} stands where a whole number belongs"
        raise TypeError(msg)
    return value


def sizes(value: Any) -> tuple[int, ...]:
    """Sizes of the axes of an array."""
    found = tuple(whole(n) for n in value)
    if len(found) > MOST_AXES or any(n < 0 or n >= 2**63 for n in found):
        msg = "an array has sizes that no array has"
        raise ValueError(msg)
    return found


def dtype(code: str, align: Any = False, copy: Any = False, *, state: Any = None) -> np.dtype:
    """A plain type from kind, size and byte order; what else the state says must be nothing."""
    order = "|"
    if state is not None:
        _, order, subtype, names, fields, *_ = state
        if order not in ("<", ">", "=", "|") or (subtype, names, fields) != (None, None, None):
            msg = "a type of arrays is not a plain one"
            raise ValueError(msg)
    if not isinstance(code, str) or not re.fullmatch(PLAIN_TYPE, code):
        msg = "a type of arrays is none of numbers, text or objects"
        raise ValueError(msg)
    if code[0] in "bO" or code in ("i1", "u1") or code[0] == "S":
        order = "|"
    return np.dtype(code[0] if code[0] == "O" else f"{'=' if order == '|' else order}{code}")


def array(kind: Any, shape: Any, typecode: Any, *, state: Any) -> np.ndarray:
    """An array from its bytes, or one of objects from a list of them."""
    if getattr(kind, "name", "") != "numpy.ndarray":
        msg = "an array is of another class than numpy.ndarray"
        raise ValueError(msg)
    _, shape, type_, by_column, contents = state
    shape = sizes(shape)
    flat = _flat(type_, math.prod(shape), contents)
    return flat.reshape(shape, order="F" if by_column is True else "C")


def _flat(type_: Any, n: int, contents: Any) -> np.ndarray:
    if not isinstance(type_, np.dtype):
        msg = "an array has no type"
        raise TypeError(msg)
    if type_.kind == "O":
        if type(contents) is not list or len(contents) != n:
            msg = f"an array of {n} objects comes without them"
            raise ValueError(msg)
        objects = np.empty(n, dtype=object)
        for i, value in enumerate(contents):  # at once, numpy would look into lists
            objects[i] = value
        return objects
    if type(contents) is not bytes or len(contents) != n * type_.itemsize:
        msg = f"an array of {n} values of {type_} does not come with {n * type_.itemsize} bytes"
        raise ValueError(msg)
    values = np.frombuffer(contents, dtype=type_).copy() if n else np.empty(0, dtype=type_)
    if type_.kind == "U":
        _check_text(values)
    return values


def _check_text(values: np.ndarray) -> None:
    points = values.view(values.dtype.byteorder.replace("=", "<") + "u4")
    if ((points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))).any():
        msg = "an array of text holds what is no character"
        raise ValueError(msg)


def scalar(type_: Any, contents: Any = b"") -> Any:
    """One number or text of an array's type."""
    if not isinstance(type_, np.dtype) or type_.kind == "O":
        msg = "a number has no plain type"
        raise TypeError(msg)
    return _flat(type_, 1, contents)[0]


# pandas -------------------------------------------------------------------------------------------

INDEX_TYPES = (
    "pandas.core.indexes.base.Index",
    "pandas.core.indexes.numeric.Int64Index",
    "pandas.core.indexes.range.RangeIndex",
)


TEXTS = "pandas.arrays.StringArray"
"""How pandas 3 keeps text: an array of objects and its type."""


def text_type(*described: Any) -> None:
    """Of an array of text; the values say all of it."""


def texts(kind: Any, checksum: Any, nothing: Any, *, state: Any) -> np.ndarray:
    """Values of an array of text, which may be missing."""
    if getattr(kind, "name", "") != TEXTS:
        msg = "an array of pandas is none of text"
        raise TypeError(msg)
    _, values, *_ = state
    return _of_axes(values, 1)


def index(kind: Any, parts: Any) -> pd.Index:
    """Labels of an axis of a table."""
    name = parts.get("name")
    if name is not None and not isinstance(name, str | int):
        msg = "the name of an index is no text"
        raise TypeError(msg)
    if getattr(kind, "name", "") == "pandas.core.indexes.range.RangeIndex":
        start, stop, step = (whole(parts[key]) for key in ("start", "stop", "step"))
        return pd.RangeIndex(start, stop, step, name=name)
    return pd.Index(_of_axes(parts["data"], 1), name=name)


@dataclass(frozen=True)
class Block:
    """Columns of one type: values by column, and where in the table they stand."""

    values: Any
    places: Any
    n_axes: Any = 2


@dataclass(frozen=True)
class Blocks:
    """All columns of a table, and the labels of columns and rows."""

    blocks: Any
    axes: Any


def frame(*, state: Any) -> pd.DataFrame:
    """A table, column by column."""
    content = state["_mgr"]
    names, rows = content.axes
    if not isinstance(names, pd.Index) or not isinstance(rows, pd.Index):
        msg = "a table lacks the labels of its columns or rows"
        raise TypeError(msg)
    columns: dict[int, Any] = {}
    for block in content.blocks:
        values = _by_column(block.values)
        columns.update(zip(_places(block.places, len(names)), values, strict=True))
    if len(columns) != len(names) or any(len(c) != len(rows) for c in columns.values()):
        msg = "a table has not the columns or rows that its labels say"
        raise ValueError(msg)
    table = pd.DataFrame({place: columns[place] for place in sorted(columns)}, index=rows)
    return table.set_axis(names, axis=1)


def _places(places: Any, n: int) -> list[int]:
    if isinstance(places, slice):
        return list(range(n))[places]
    return _of_axes(places, 1).tolist()


def _by_column(values: Any) -> Any:
    """Values of a block by column; one of text stands by itself, and says so where it is empty."""
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        return _of_axes(values, 2)
    return [values if len(values) else pd.Series(values, dtype="str").array]


def _of_axes(values: Any, n: int) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.ndim != n:
        msg = f"a table holds what is no array of {n} axes"
        raise TypeError(msg)
    return values
