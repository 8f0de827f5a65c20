"""Which cells are compared with which: categories with each other, with all the rest, or chosen rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vivace.errors import InvalidArgumentError, InvalidDataError, VivaceWarning, missing_key

REST = "Rest"


@dataclass(frozen=True)
class Comparison:
    """Two sides, each the union of some of a plan's sets.

    Attributes
    ----------
    first, second
        Positions of the sets on each side.
    names
        Names of the sides, or None if rows were chosen by hand.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    names: tuple[str, str] | None = None


@dataclass(frozen=True)
class Plan:
    """Disjoint or overlapping sets of rows, and the comparisons between them.

    Attributes
    ----------
    sets
        Row numbers of each set.
    comparisons
        Which sets stand against which.
    """

    sets: list[np.ndarray]
    comparisons: list[Comparison]


def make_plan(
    obs: pd.DataFrame,
    groupby: str | None = None,
    group1: Any = None,
    group2: Any = None,
    idx1: Any = None,
    idx2: Any = None,
) -> Plan:
    """Sets of cells and comparisons from what a user says.

    Parameters
    ----------
    obs
        Table of the cells.
    groupby
        Column of ``obs``.
    group1
        One category or a list; default all of them.
    group2
        The category to compare each with; default all other cells.
    idx1, idx2
        A mask, row numbers, or a query of ``obs`` as text; they override the groups. ``idx2`` is
        all other cells by default.

    Raises
    ------
    InvalidArgumentError
        If nothing says what to compare, the two sides share cells, or there is a single category.
    InvalidDataError
        If a side has no cells.
    MissingKeyError
        If the column or a category does not exist.

    Examples
    --------
    >>> import pandas as pd
    >>> obs = pd.DataFrame({"kind": list("aabc")})
    >>> plan = make_plan(obs, "kind")
    >>> [c.names for c in plan.comparisons]
    [('a', 'Rest'), ('b', 'Rest'), ('c', 'Rest')]
    >>> [rows.tolist() for rows in plan.sets]
    [[0, 1], [2], [3]]
    """
    if idx1 is not None:
        return _plan_of_rows(obs, idx1, idx2)
    if groupby is None:
        msg = "say which cells to compare: groupby= (a column of obs), or idx1= (and idx2=)"
        raise InvalidArgumentError(msg)
    if groupby not in obs:
        raise missing_key("groupby", groupby, "adata.obs", obs.columns)
    column = obs[groupby]
    known = list(pd.unique(column.dropna().sort_values()))
    firsts = known if group1 is None else _as_list(group1)
    for argument, names in (("group1", firsts), ("group2", [] if group2 is None else [group2])):
        for name in names:
            if name not in known:
                raise missing_key(argument, name, f"obs[{groupby!r}]", known)
    if group2 is not None:
        return _pairs(column, firsts, group2, listed=group1 is not None)
    if len(known) == 1 and not column.isna().any():
        msg = f'obs["{groupby}"] has a single category ("{known[0]}"): there is nothing to compare with'
        raise InvalidArgumentError(msg)
    return _one_versus_rest(column, firsts)


def _plan_of_rows(obs: pd.DataFrame, idx1: Any, idx2: Any) -> Plan:
    rows1 = rows_of(idx1, obs, "idx1")
    if idx2 is None:
        rows2 = np.setdiff1d(np.arange(len(obs)), rows1)
    else:
        rows2 = rows_of(idx2, obs, "idx2")
    for argument, rows in (("idx1", rows1), ("idx2", rows2)):
        if len(rows) == 0:
            msg = f"{argument} chooses no cells"
            raise InvalidDataError(msg)
    return Plan([rows1, rows2], [Comparison((0,), (1,))])


def _pairs(column: pd.Series, firsts: list[Any], group2: Any, *, listed: bool) -> Plan:
    if not listed:
        firsts = [name for name in firsts if name != group2]
    if group2 in firsts:
        msg = f'group2="{group2}" is also in group1: a group cannot be compared with itself'
        raise InvalidArgumentError(msg)
    sets = [_rows_with(column, name) for name in [*firsts, group2]]
    comparisons = [
        Comparison((i,), (len(firsts),), (str(name), str(group2))) for i, name in enumerate(firsts)
    ]
    return Plan(sets, comparisons)


def _one_versus_rest(column: pd.Series, firsts: list[Any]) -> Plan:
    """Every cell is in one set, so that the rest of a group is the union of the other sets."""
    sets = [_rows_with(column, name) for name in firsts]
    others = np.setdiff1d(np.arange(len(column)), np.concatenate(sets))
    if len(others):
        sets.append(others)
    everyone = range(len(sets))
    comparisons = [
        Comparison((i,), tuple(j for j in everyone if j != i), (str(name), REST))
        for i, name in enumerate(firsts)
    ]
    return Plan(sets, comparisons)


def _rows_with(column: pd.Series, name: Any) -> np.ndarray:
    return np.flatnonzero((column == name).to_numpy(dtype=bool, na_value=False))


def _as_list(names: Any) -> list[Any]:
    if isinstance(names, Sequence | np.ndarray | pd.Index) and not isinstance(names, str):
        return list(dict.fromkeys(names))
    return [names]


def rows_of(selection: Any, obs: pd.DataFrame, argument: str = "indices") -> np.ndarray:
    """Row numbers, (n,), from row numbers, a mask, or a query of ``obs``.

    Raises
    ------
    InvalidArgumentError
        If a mask has another length, a row number is out of range, or the query fails.

    Examples
    --------
    >>> import pandas as pd
    >>> rows_of("n > 1", pd.DataFrame({"n": [1, 2, 3]}))
    array([1, 2])
    """
    if isinstance(selection, str):
        return _query(selection, obs, argument)
    rows = np.asarray(selection)
    if rows.dtype == bool:
        if rows.shape != (len(obs),):
            msg = f"{argument} is a mask of {len(rows)} values for {len(obs)} cells"
            raise InvalidArgumentError(msg)
        return np.flatnonzero(rows)
    if rows.size and (
        rows.dtype.kind not in "iu" or rows.min() < -len(obs) or rows.max() >= len(obs)
    ):
        msg = f"{argument} must be a mask, a query, or row numbers in 0 .. {len(obs) - 1}"
        raise InvalidArgumentError(msg)
    return rows.astype(np.int64).reshape(-1) % len(obs)


def _query(text: str, obs: pd.DataFrame, argument: str) -> np.ndarray:
    numbered = obs.reset_index(drop=True)
    try:
        return numbered.query(text).index.to_numpy()
    except Exception as error:
        msg = f'{argument}="{text}" is not a query that adata.obs can answer: {error}'
        raise InvalidArgumentError(msg) from error


def correction_batches(
    batch_correction: bool,
    batchid1: Sequence[int | None] | None,
    batchid2: Sequence[int | None] | None,
    all_batches: Sequence[int],
) -> tuple[list[int | None], list[int | None]]:
    """Batch codes that each side is decoded for; ``[None]`` is the observed batch of each cell.

    Parameters
    ----------
    batch_correction
        Decode both sides for the same batches, so that batches do not make a difference.
    batchid1, batchid2
        Codes for either side; default all.
    all_batches
        Every code.

    Raises
    ------
    InvalidArgumentError
        If batches are given without ``batch_correction``.

    Examples
    --------
    >>> correction_batches(True, None, [1], [0, 1])
    ([0, 1], [1])
    """
    if not batch_correction:
        if batchid1 is not None or batchid2 is not None:
            msg = "batchid1 and batchid2 need batch_correction=True"
            raise InvalidArgumentError(msg)
        return [None], [None]
    sides = [
        sorted(set(all_batches if ids is None else ids), key=lambda b: -1 if b is None else b)
        for ids in (batchid1, batchid2)
    ]
    return sides[0], sides[1]


def keep_inliers(plan: Plan, latent: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> Plan:
    """Leave out cells of each set that lie apart from it in the latent space.

    An elliptic envelope (robust covariance) is fitted to each set; a set that is too small for one
    is kept whole, with a warning.

    Parameters
    ----------
    plan
        Sets of cells.
    latent
        ``f(rows)``: (n, L) latent means.
    seed
        Of the robust fit.
    """
    return Plan([_inliers(rows, latent(rows), seed) for rows in plan.sets], plan.comparisons)


def _inliers(rows: np.ndarray, means: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.covariance import EllipticEnvelope

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of covariances that lack full rank
            kept = EllipticEnvelope(random_state=seed).fit_predict(means) == 1
    except ValueError:
        msg = f"outliers of a group of {len(rows)} cells cannot be told; keeping all"
        warnings.warn(msg, VivaceWarning, stacklevel=5)
        return rows
    return rows[kept]
