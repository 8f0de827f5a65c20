"""Which cells, which genes: the one reader of row numbers, masks and names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from vivace.errors import InvalidArgumentError, missing_key

NAMES_AT_ONCE = 1 << 16
"""Of which one text is made: of millions, it would take as much memory as they do."""


def cell_rows(
    selection: Any, names: pd.Index, argument: str = "indices", *, obs: pd.DataFrame | None = None
) -> np.ndarray:
    """Row numbers of the cells that a user chose.

    Parameters
    ----------
    selection
        None (all); a mask of any type, 0 and 1 included, as long as there are cells (a Series is put
        into their order by its index); row numbers, negative ones from the end; names of cells; a
        slice; or, with ``obs``, a query of it as text.
    names
        (N,) names of the cells.
    argument
        Its name, for messages.
    obs
        Table that a text is a query of.

    Returns
    -------
    (n,) int64 in 0 .. N - 1, n >= 1.

    Raises
    ------
    InvalidArgumentError
        If nothing is chosen, a mask has another length, a number is no row, or a value is neither.
    MissingKeyError
        If a name is no cell's.

    Examples
    --------
    >>> names = pd.Index(["x", "y", "z"])
    >>> cell_rows([2, -3], names), cell_rows([True, False, True], names), cell_rows(["y"], names)
    (array([2, 0]), array([0, 2]), array([1]))
    """
    if selection is None:
        return np.arange(len(names))
    if isinstance(selection, slice):
        selection = np.arange(len(names))[selection]
    if isinstance(selection, str):
        rows = _rows_of_text(selection, names, argument, obs)
    else:
        rows = _positions(selection, names, argument, "cell")
    if len(rows) == 0:
        msg = f"{argument} chooses no cells; None stands for all of them"
        raise InvalidArgumentError(msg)
    return rows


def name_positions(selection: Any, names: pd.Index, argument: str, what: str) -> np.ndarray | None:
    """Positions of genes or junctions that a user chose, in the order asked for; None for all.

    Parameters
    ----------
    selection
        One name, several, or a mask.
    names
        Of the model.
    argument, what
        Name of the argument, and of what is chosen ("gene"), for messages.

    Raises
    ------
    InvalidArgumentError
        If nothing is chosen, or values are neither names nor a mask.
    MissingKeyError
        If a name is not the model's.

    Examples
    --------
    >>> name_positions(["c", "a"], pd.Index(["a", "b", "c"]), "gene_list", "gene")
    array([2, 0])
    """
    if selection is None:
        return None
    if isinstance(selection, str):
        selection = [selection]
    values = _values(selection, names, argument)
    if values.size and values.dtype.kind not in "bU":
        msg = f"{argument} must be a list of {what} names; found {_shown(values)}"
        raise InvalidArgumentError(msg)
    positions = _positions(values, names, argument, what)
    if len(positions) == 0:
        msg = f"{argument} chooses no {what}s; None stands for all of them"
        raise InvalidArgumentError(msg)
    return positions


def names_digest(names: pd.Index) -> str:
    """Text that tells whether row numbers mean the same cells as before.

    Examples
    --------
    >>> names_digest(pd.Index(["a", "b"])) == names_digest(pd.Index(["b", "a"]))
    False
    """
    digest = hashlib.blake2b(digest_size=8)
    for start in range(0, len(names), NAMES_AT_ONCE):
        text = "\n".join(map(str, names[start : start + NAMES_AT_ONCE]))
        digest.update(("\n" * (start > 0) + text).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _rows_of_text(
    text: str, names: pd.Index, argument: str, obs: pd.DataFrame | None
) -> np.ndarray:
    if obs is None or text in names:
        return _positions([text], names, argument, "cell")
    try:
        return obs.reset_index(drop=True).query(text).index.to_numpy(dtype=np.int64)
    except Exception as error:
        msg = f'{argument}="{text}" is not a query that adata.obs can answer: {error}'
        raise InvalidArgumentError(msg) from error


def _positions(selection: Any, names: pd.Index, argument: str, what: str) -> np.ndarray:
    values = _values(selection, names, argument)
    if values.size == 0:
        return np.empty(0, dtype=np.int64)
    if values.dtype.kind == "U":
        return _of_names(values, names, argument, what)
    if _is_mask(values, len(names)):
        if len(values) != len(names):
            msg = f"{argument} is a mask of {len(values)} values for {len(names)} {what}s"
            raise InvalidArgumentError(msg)
        return np.flatnonzero(values)
    return _of_numbers(values, len(names), argument)


def _values(selection: Any, names: pd.Index, argument: str) -> np.ndarray:
    """The selection as a flat array of bool, numbers or text."""
    if isinstance(selection, pd.Series):
        selection = _in_order(selection, names, argument)
    if isinstance(selection, Mapping | set | frozenset | bool | np.bool_):
        msg = f"{argument} must be row numbers, a mask or names; found {type(selection).__name__}"
        raise InvalidArgumentError(msg)
    if isinstance(selection, Iterable) and not hasattr(selection, "__len__"):
        selection = list(selection)
    try:
        values = np.asarray(selection)
    except ValueError as error:
        msg = f"{argument} must be one row of numbers, a mask or names; found lists of several lengths"
        raise InvalidArgumentError(msg) from error
    if values.dtype.kind in "US" and not hasattr(selection, "dtype"):
        values = np.asarray(selection, dtype=object)  # numpy made text of numbers beside text
    if values.ndim > 1 and values.size != max(values.shape):
        msg = f"{argument} must have one dimension; found shape {values.shape}"
        raise InvalidArgumentError(msg)
    return _plain(values.reshape(-1), argument)


def _plain(values: np.ndarray, argument: str) -> np.ndarray:
    kind = values.dtype.kind
    if kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    if kind in "biufU" or values.size == 0:
        return values
    found = pd.api.types.infer_dtype(values, skipna=False)
    plain = {"string": str, "boolean": bool, "integer": object, "mixed-integer-float": np.float64}
    plain |= {"floating": np.float64, "decimal": np.float64}
    if found not in plain or kind not in "OT":
        msg = f"{argument} must be row numbers, a mask or names; found {_shown(values)}"
        raise InvalidArgumentError(msg)
    if found == "integer":  # numbers beyond 64 bits stay what they are, and out of range
        return values.astype(np.float64 if max(map(abs, values)) > 2**62 else np.int64)
    return values.astype(plain[found])


def _in_order(series: pd.Series, names: pd.Index, argument: str) -> np.ndarray:
    """A mask's values in the order of the cells, which its index names."""
    values = series.to_numpy()
    by_name = series.dtype in (bool, "boolean") and not isinstance(series.index, pd.RangeIndex)
    if series.isna().any():
        msg = f"{argument} has missing values; say of every cell whether it is meant"
        raise InvalidArgumentError(msg)
    if not by_name or len(series) != len(names) or series.index.equals(names):
        return values
    places = series.index.get_indexer(names) if series.index.is_unique else np.array([-1])
    if (places < 0).any():
        msg = f"{argument} is a mask whose index names other cells; pass its values to use it as it is"
        raise InvalidArgumentError(msg)
    return values[places]


def _is_mask(values: np.ndarray, n: int) -> bool:
    """Booleans, or 0 and 1 for every cell: two row numbers repeated that often are never meant."""
    if values.dtype.kind == "b":
        return True
    return n > 2 and len(values) == n and bool(((values == 0) | (values == 1)).all())


def _of_numbers(values: np.ndarray, n: int, argument: str) -> np.ndarray:
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.rint(values))).all():
        wrong = values[~(np.isfinite(values) & (values == np.rint(values)))][0]
        msg = f"{argument} must be whole row numbers, a mask or names; found {wrong:g}"
        raise InvalidArgumentError(msg)
    low, high = values.min(), values.max()
    if low < -n or high >= n:
        msg = f"{argument} must lie in 0 .. {n - 1}; found {low:.20g} .. {high:.20g}"
        raise InvalidArgumentError(msg)
    return values.astype(np.int64) % n


def _of_names(values: np.ndarray, names: pd.Index, argument: str, what: str) -> np.ndarray:
    positions = names.get_indexer(pd.Index(values, dtype=object))
    if (positions < 0).any():
        unknown = str(values[positions < 0][0])
        where = "the cells" if what == "cell" else f"the model's {what}s"
        raise missing_key(argument, unknown, where, names)
    return positions.astype(np.int64)


def _shown(values: np.ndarray) -> str:
    return f"{', '.join(repr(v) for v in values[:3].tolist())} (dtype {values.dtype})"
