"""Columns of ``obs`` as one names them in a shell, looked up before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vivace.cli.words import flag
from vivace.errors import InvalidArgumentError, MissingKeyError, missing_key

if TYPE_CHECKING:
    import pandas as pd  # which takes as long to import as all else that --help needs

MOST_NAMES = 30


def check_needed(values: Mapping[str, Any], obs: pd.DataFrame) -> None:
    """Refuse an option that is needed and was not given, and say what it can be.

    Raises
    ------
    MissingKeyError
        Names the option and lists the columns.
    """
    for name, value in values.items():
        if value is None or value == []:
            known = [str(column) for column in obs.columns]
            listed = ", ".join(known[:MOST_NAMES]) + (" ..." if len(known) > MOST_NAMES else "")
            columns = f"the columns of obs are {listed}" if known else "obs has no columns"
            raise MissingKeyError(f"Missing option '{flag(name)}'; {columns}")


def check_columns(option: str, names: Sequence[str] | None, obs: pd.DataFrame) -> None:
    """Refuse a name that is no column."""
    for name in names or []:
        if name not in obs:
            raise missing_key(option, name, "adata.obs", obs.columns)


def populations(cells: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Rows of background and target cells from ``column=value``."""
    check_needed({name: values[name] for name in ("background", "target")}, cells.obs)
    background = [rows_where(cells.obs, words, "background") for words in values["background"]]
    target = {words: rows_where(cells.obs, words, "target") for words in values["target"]}
    names = [words.partition("=")[2] for words in target]
    if len(set(names)) == len(names):  # else two columns have a value of one name
        target = dict(zip(names, target.values(), strict=True))
    return {
        "background_indices": np.unique(np.concatenate(background)),
        "target_indices": target if len(target) > 1 else next(iter(target.values())),
    }


def rows_where(obs: pd.DataFrame, words: str, option: str) -> np.ndarray:
    """Rows of the cells whose column of ``obs`` has a value, given as ``column=value``.

    Raises
    ------
    InvalidArgumentError
        The words have no "=".
    MissingKeyError
        There is no such column, or no cell has the value.

    Examples
    --------
    >>> import pandas as pd
    >>> obs = pd.DataFrame({"dose": [0.0, 2.5, 0.0]})
    >>> rows_where(obs, "dose=0", "background")
    array([0, 2])
    """
    from vivace.data.columns import text_of  # which brings torch, and help does without

    column, equals, value = words.partition("=")
    if not equals:
        msg = f'--{option} "{words}" should be COLUMN=VALUE: a column of obs and one of its values'
        raise InvalidArgumentError(msg)
    check_columns(option, [column], obs)
    texts = obs[column].map(text_of).astype(str)
    rows = np.flatnonzero(texts == value)
    if len(rows) == 0:
        raise missing_key(option, value, f"the column {column} of obs", texts.unique())
    return rows
