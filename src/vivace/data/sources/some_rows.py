"""Rows of another source, in another order, some of which it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vivace.data.sources.protocol import Rows, Source


class SomeRows:
    """The rows of a source under other numbers; a number of -1 is an empty row.

    Parameters
    ----------
    source
        Where the rows are.
    rows
        (N,) row of the source for each row of this one, -1 for none.

    Examples
    --------
    >>> from vivace.data.sources import MemorySource
    >>> part = SomeRows(MemorySource(np.eye(9)), np.array([2, -1, 0]))
    >>> part.read(np.array([1, 0])).indptr
    array([0, 0, 1], dtype=int32)
    """

    def __init__(self, source: Source, rows: np.ndarray):
        self._source, self._rows = source, rows
        self.layout = source.layout

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._rows), self._source.shape[1]

    def read(self, rows: np.ndarray) -> Rows:
        wanted = self._rows[rows]
        there = wanted >= 0
        found = self._source.read(wanted[there])
        shape = (len(wanted), self._source.shape[1])
        if found.dense is not None:
            dense = np.zeros(shape, dtype=np.float32)
            dense[there] = found.dense
            return Rows(shape, dense=dense)
        assert found.indptr is not None
        lengths = np.zeros(len(wanted), dtype=np.int32)
        lengths[there] = np.diff(found.indptr)
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return replace(found, shape=shape, indptr=indptr)

    def values(self) -> Iterator[np.ndarray]:
        return self._source.values()
