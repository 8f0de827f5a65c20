"""Which cells are compared with which: categories with each other, with all the rest, or chosen rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vivace.data.columns import categories_of, column, text_of
from vivace.data.selection import cell_rows
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

    @property
    def name(self) -> str:
        """What stands against what."""
        return " vs ".join(self.names or ("idx1", "idx2"))


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
        One category or a list, compared as text; default all of them.
    group2
        The category to compare each with; default all other cells.
    idx1, idx2
        A mask, row numbers, names of cells, or a query of ``obs`` as text; they override the groups.
        ``idx2`` is all other cells by default.

    Raises
    ------
    InvalidArgumentError
        If nothing says what to compare, the two sides share cells, or there is a single category.
    InvalidDataError
        If no cells are left for the other side.
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
    codes, known = categories_of(column(obs, groupby, "groupby", "adata.obs"), groupby, "groupby")
    firsts = known if group1 is None else _as_texts(group1)
    second = None if group2 is None else text_of(group2)
    for argument, names in (("group1", firsts), ("group2", [] if second is None else [second])):
        for name in names:
            if name not in known:
                raise missing_key(argument, name, f"obs[{groupby!r}]", known)
    sets = {name: np.flatnonzero(codes == code) for code, name in enumerate(known)}
    if second is not None:
        return _pairs(sets, firsts, second, listed=group1 is not None)
    if len(known) == 1 and (codes >= 0).all():
        msg = f'obs["{groupby}"] has a single category ("{known[0]}"): there is nothing to compare with'
        raise InvalidArgumentError(msg)
    return _one_versus_rest(sets, firsts, len(codes))


def _plan_of_rows(obs: pd.DataFrame, idx1: Any, idx2: Any) -> Plan:
    rows1 = cell_rows(idx1, obs.index, "idx1", obs=obs)
    if idx2 is None:
        rows2 = np.setdiff1d(np.arange(len(obs)), rows1)
    else:
        rows2 = cell_rows(idx2, obs.index, "idx2", obs=obs)
    if len(rows2) == 0:
        msg = (
            "idx2 chooses no cells: by default it is all others, and idx1 holds all that there are"
        )
        raise InvalidDataError(msg)
    shared = np.intersect1d(rows1, rows2)
    if len(shared):
        msg = (
            f'idx1 and idx2 share {len(shared)} cells, such as "{obs.index[shared[0]]}"; '
            "each cell can be on one side only"
        )
        raise InvalidArgumentError(msg)
    return Plan([rows1, rows2], [Comparison((0,), (1,))])


def _pairs(sets: dict[str, np.ndarray], firsts: list[str], second: str, *, listed: bool) -> Plan:
    if not listed:
        firsts = [name for name in firsts if name != second]
    if second in firsts:
        msg = f'group2="{second}" is also in group1: a group cannot be compared with itself'
        raise InvalidArgumentError(msg)
    comparisons = [Comparison((i,), (len(firsts),), (n, second)) for i, n in enumerate(firsts)]
    return Plan([sets[name] for name in [*firsts, second]], comparisons)


def _one_versus_rest(sets: dict[str, np.ndarray], firsts: list[str], n_cells: int) -> Plan:
    """Every cell is in one set, so that the rest of a group is the union of the other sets."""
    rows = [sets[name] for name in firsts]
    others = np.setdiff1d(np.arange(n_cells), np.concatenate(rows))
    if len(others):
        rows.append(others)
    everyone = range(len(rows))
    comparisons = [
        Comparison((i,), tuple(j for j in everyone if j != i), (name, REST))
        for i, name in enumerate(firsts)
    ]
    return Plan(rows, comparisons)


def _as_texts(names: Any) -> list[str]:
    if isinstance(names, Sequence | np.ndarray | pd.Index) and not isinstance(names, str | bytes):
        return list(dict.fromkeys(map(text_of, names)))
    return [text_of(names)]


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
