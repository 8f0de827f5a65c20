"""Which cells train, which validate, which are kept for testing."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np

from vivace._arguments import read_option
from vivace.errors import InvalidArgumentError, VivaceWarning

DEFAULT_TRAIN_SIZE = 0.9


@dataclass(frozen=True)
class Split:
    """Row numbers of the three parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_sizes(
    n: int, train_size: float | None, validation_size: float | None, batch_size: int
) -> tuple[int, int]:
    """Number of training and of validation cells.

    Examples
    --------
    >>> split_sizes(400, None, None, 128), split_sizes(143, None, None, 128)
    ((360, 40), (128, 15))
    """
    share = read_option("train_size", DEFAULT_TRAIN_SIZE if train_size is None else train_size)
    validation_size = read_option("validation_size", validation_size, None)
    if share + (validation_size or 0) > 1:
        msg = f"train_size + validation_size is {share + (validation_size or 0):g}, more than 1"
        raise InvalidArgumentError(msg)
    n_train = math.ceil(share * n)
    n_val = n - n_train if validation_size is None else math.floor(n * validation_size)
    rest = n_train % batch_size
    if train_size is None and n_val > 0 and 0 < rest < 3 and n_train > batch_size:
        n_train, n_val = n_train - rest, n_val + rest
    if n_train == 0:
        msg = f"no training cells are left of {n} with train_size={train_size}"
        raise InvalidArgumentError(msg)
    return n_train, n_val


def split_cells(
    rows: np.ndarray,
    train_size: float | None = None,
    validation_size: float | None = None,
    *,
    batch_size: int = 128,
    shuffle: bool = True,
    seed: int = 0,
    external_indexing: list[np.ndarray] | None = None,
) -> Split:
    """Split rows into training, validation and test rows.

    Parameters
    ----------
    rows
        Row numbers to split.
    train_size
        Share of training cells, in (0, 1]; default 0.9.
    validation_size
        Share of validation cells, in [0, 1); default all the others.
    batch_size
        With the default ``train_size``, 1 or 2 cells that would be left beside full minibatches are
        validated on instead.
    shuffle, seed
        Permute the rows first.
    external_indexing
        Up to three arrays of row numbers, used as they are (those among ``rows``).

    Raises
    ------
    InvalidArgumentError
        If shares are out of range or arrays overlap.

    Examples
    --------
    >>> import numpy as np
    >>> split = split_cells(np.arange(10), train_size=0.8)
    >>> len(split.train), len(split.validation), len(split.test)
    (8, 2, 0)
    """
    if external_indexing is not None:
        return _external(rows, external_indexing)
    n_train, n_val = split_sizes(len(rows), train_size, validation_size, batch_size)
    order = np.random.RandomState(seed).permutation(len(rows)) if shuffle else np.arange(len(rows))
    order = rows[order]
    return Split(order[n_val : n_val + n_train], order[:n_val], order[n_val + n_train :])


def _external(rows: np.ndarray, parts: list[np.ndarray]) -> Split:
    arrays = [np.asarray(p, dtype=np.int64) for p in parts]
    arrays += [np.empty(0, dtype=np.int64)] * (3 - len(arrays))
    together = np.concatenate(arrays)
    if len(np.unique(together)) < len(together):
        msg = "external_indexing: the arrays share or repeat cells; each cell may occur once"
        raise InvalidArgumentError(msg)
    if len(together) and (together.min() < 0 or together.max() > rows.max()):
        msg = f"external_indexing: row numbers must lie in 0 .. {rows.max()}"
        raise InvalidArgumentError(msg)
    train, validation, test = (a[np.isin(a, rows)] for a in arrays)
    if len(train) == 0:
        msg = "external_indexing: the first array, the training cells, is empty"
        raise InvalidArgumentError(msg)
    if len(together) < len(rows):
        warnings.warn(
            f"external_indexing leaves {len(rows) - len(together)} cells unused",
            VivaceWarning,
            stacklevel=4,
        )
    return Split(train, validation, test)
