"""Log-normalised values of counts, made of the rows as they are read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vivace.data.sources.protocol import Rows

TARGET = 1e4
"""Total that the counts of every cell are scaled to."""


def log_normalise(rows: Rows) -> Rows:
    """``log1p(counts / total of the cell * 10,000)``; an empty cell stays empty.

    Examples
    --------
    >>> import numpy as np
    >>> rows = log_normalise(Rows((1, 2), dense=np.array([[1.0, 3.0]], dtype=np.float32)))
    >>> np.expm1(rows.dense).round()
    array([[2500., 7500.]], dtype=float32)
    """
    if rows.dense is not None:
        totals = rows.dense.sum(axis=1, dtype=np.float64)
        scale = (TARGET / np.where(totals > 0, totals, 1)).astype(np.float32)
        return replace(rows, dense=np.log1p(rows.dense * scale[:, None]))
    assert rows.data is not None
    assert rows.indptr is not None
    lengths = np.diff(rows.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    totals = np.bincount(row, weights=rows.data, minlength=len(lengths))
    scale = (TARGET / np.where(totals > 0, totals, 1)).astype(np.float32)
    return replace(rows, data=np.log1p(rows.data * scale[row]))


def as_stored(rows: Rows) -> Rows:
    """The rows themselves."""
    return rows


TRANSFORMS = {"": as_stored, "log_normalise": log_normalise}
"""Name of a matrix field's transform to the function."""
