"""Cells that lie in files, one or several, and are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from vivace.data.gather import gather_rows
from vivace.data.sources.protocol import Layout, Rows, Source
from vivace.data.sources.stored import Place, Stored, as_csr
from vivace.errors import InvalidDataError

VALUES_HELD = 1 << 24
"""Stored values of a pool: 128 MB."""
VALUES_AT_ONCE = 1 << 20
"""Stored values of one read, before genes are chosen: 8 MB; what is much larger is no longer in the
cache when it is looked at, and comes from new pages of memory every time."""
CHUNKS_AT_ONCE = 8
"""At least, where the order of a file is followed: the first and the last are decoded twice."""
POOL = (1 << 10, 1 << 17)
"""Rows of a pool, at least and at most."""
BLOCK = (64, 1024)
"""Neighbouring rows that are read together, at least and at most; larger where chunks are."""
GAP = 16
"""Rows that nobody wants between two that are, which are read along as that costs less than to begin
anew; as many as a chunk has, which would be decoded again."""


@dataclass(frozen=True)
class Part:
    """The matrix of one file.

    Attributes
    ----------
    stored
        Its reader.
    columns
        Stored column of each column that is answered, -1 for one that the file lacks; None for all.
    stamp
        Of the file when it was opened.
    """

    stored: Stored
    columns: np.ndarray | None
    stamp: tuple

    @classmethod
    def of(cls, stored: Stored) -> Part:
        """All columns of a matrix, as it is now."""
        return cls(stored, None, stored.place.stamp())

    @property
    def place(self) -> Place:
        """Where it lies."""
        return self.stored.place

    @property
    def n_columns(self) -> int:
        """Columns that are answered."""
        return self.stored.shape[1] if self.columns is None else len(self.columns)

    def choose(self, columns: np.ndarray) -> Part:
        """Some of its columns; -1 for one that has no values."""
        if self.columns is None:
            return replace(self, columns=np.asarray(columns))
        return replace(self, columns=np.where(columns < 0, -1, self.columns[columns]))

    def read(self, rows: np.ndarray) -> Iterator[Rows]:
        """Rows in rising order, in pieces that are small whatever else lies between them."""
        most = max(int(VALUES_AT_ONCE / max(self.stored.per_row, 1)), 1)
        for start, stop in spans(rows, most, max(GAP, self.stored.chunk)):
            first, last = int(rows[start]), int(rows[stop - 1])
            found = self.stored.rows(first, last + 1, self.columns)
            whole = stop - start == last + 1 - first
            yield found if whole else take(found, rows[start:stop] - first)
        self._check()

    def _check(self) -> None:
        """Refuse what was read from a file that is no longer the one that was opened."""
        if self.place.stamp() != self.stamp:
            msg = (
                f'"{self.place.file}" was changed while it was in use; open it again, and do not write '
                "to a file that a model reads"
            )
            raise InvalidDataError(msg)


class DiskSource:
    """Rows of matrices on disk, one after the other.

    Parameters
    ----------
    parts
        With the same columns.

    Examples
    --------
    >>> import anndata, tempfile, vivace
    >>> from vivace.data.sources import open_source
    >>> path = tempfile.mkdtemp() + "/cells.h5ad"
    >>> vivace.datasets.simulate("batches", n_cells=50, n_genes=9).write_h5ad(path)
    >>> source = open_source(anndata.read_h5ad(path, backed="r").X)
    >>> source.read(np.array([7, 3])).shape
    (2, 9)
    """

    def __init__(self, parts: Sequence[Part]):
        self.parts = tuple(parts)
        ends = np.cumsum([part.stored.shape[0] for part in parts])
        self._starts = np.concatenate([[0], ends]).astype(np.int64)
        self.dense = all(part.stored.dense for part in parts)
        self.layout = layout_of(self.parts)

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._starts[-1]), self.parts[0].n_columns

    def read(self, rows: np.ndarray) -> Rows:
        if are_rising(rows):
            return self.read_in_order(rows)
        wanted, back = np.unique(np.asarray(rows), return_inverse=True)
        return take(self.read_in_order(wanted), back)

    def read_in_order(self, rows: np.ndarray) -> Rows:
        """Rows in rising order, none twice."""
        cuts = np.searchsorted(rows, self._starts)
        pieces = (
            piece
            for part, first, start, stop in zip(
                self.parts, self._starts[:-1], cuts[:-1], cuts[1:], strict=True
            )
            if stop > start
            for piece in part.read(rows[start:stop] - first)
        )
        return joined(pieces, (len(rows), self.shape[1]), dense=self.dense)

    def values(self) -> Iterator[np.ndarray]:
        """Stored values as float32, in pieces."""
        for part in self.parts:
            for rows in part.read(np.arange(part.stored.shape[0])):
                values = rows.data if rows.dense is None else rows.dense
                assert values is not None
                yield values


class HeldRows:
    """Some rows of a source in memory, under the numbers that they have there.

    Parameters
    ----------
    source
        Read once, now; rows that are not held are read from it when they are asked for.
    rows
        To hold, in any order.
    """

    layout = None

    def __init__(self, source: Source, rows: np.ndarray):
        self._source = source
        self._numbers = np.unique(rows)
        self._rows = source.read(self._numbers)

    @property
    def shape(self) -> tuple[int, int]:
        return self._source.shape

    def read(self, rows: np.ndarray) -> Rows:
        at = np.minimum(np.searchsorted(self._numbers, rows), len(self._numbers) - 1)
        if not np.array_equal(self._numbers[at], rows):
            return self._source.read(rows)
        return take(self._rows, at)

    def values(self) -> Iterator[np.ndarray]:
        return self._source.values()


def hold(source: Source, rows: np.ndarray) -> Source:
    """A source that has these rows in memory: itself, if it has all."""
    return source if source.layout is None else HeldRows(source, rows)


def layout_of(parts: Sequence[Part]) -> Layout:
    """How rows of these files are best read: whole chunks, and many places in a pool of bounded size."""
    held = max(min(part.stored.per_row, part.n_columns) for part in parts)
    pool = clipped_power(VALUES_HELD / max(held, 1), POOL)
    chunk = max(part.stored.chunk for part in parts)
    read = max(part.stored.per_row for part in parts)
    stretch = max(int(VALUES_AT_ONCE / max(read, 1)), CHUNKS_AT_ONCE * chunk)
    return Layout.mixed(clipped_power(chunk, BLOCK), pool, stretch)


def clipped_power(value: float, limits: tuple[int, int]) -> int:
    """The power of two that is not above a value, within limits that are such powers.

    Examples
    --------
    >>> clipped_power(100, (16, 1024)), clipped_power(5000, (16, 1024))
    (64, 1024)
    """
    low, high = limits
    return min(max(1 << (max(int(value), 1).bit_length() - 1), low), high)


def are_rising(rows: np.ndarray) -> bool:
    """Whether rows are in the order of the file, none twice."""
    return bool((np.diff(rows) > 0).all())


def spans(rows: np.ndarray, most: int, gap: int = GAP) -> Iterator[tuple[int, int]]:
    """Cut rising rows where many others lie between, or more than ``most`` would be read at once.

    Examples
    --------
    >>> list(spans(np.array([0, 1, 2, 90, 91]), 2))
    [(0, 2), (2, 3), (3, 5)]
    """
    breaks = [0, *(np.flatnonzero(np.diff(rows) > gap) + 1).tolist(), len(rows)]
    for first, stop in pairwise(breaks):
        start = first
        while start < stop:
            end = int(np.searchsorted(rows[start:stop], rows[start] + most)) + start
            yield start, end
            start = end


def take(rows: Rows, positions: np.ndarray) -> Rows:
    """Some of these rows, in any order."""
    shape = (len(positions), rows.shape[1])
    if rows.dense is not None:
        return Rows(shape, dense=rows.dense[positions])
    assert rows.data is not None
    assert rows.indices is not None
    assert rows.indptr is not None
    return Rows(shape, *gather_rows(rows.data, rows.indices, rows.indptr, positions))


def joined(pieces: Iterable[Rows], shape: tuple[int, int], *, dense: bool) -> Rows:
    """Rows one after the other, each piece let go when the next is read; dense only where all are."""
    if dense:
        return Rows(shape, dense=under_each_other(pieces, shape))
    data, indices = np.empty(0, np.float32), np.empty(0, np.int32)
    indptr, done, alone = np.zeros(shape[0] + 1, np.int32), 0, None
    for piece in pieces:
        found = piece if piece.dense is None else as_csr(piece.dense)
        if found.shape[0] == shape[0]:
            alone = found
            continue
        assert found.indptr is not None
        before = int(indptr[done])
        if before + int(found.indptr[-1]) > np.iinfo(np.int32).max:
            msg = f"{shape[0]} cells hold too many values for one answer; ask for fewer"
            raise InvalidDataError(msg)
        indptr[done + 1 : done + found.shape[0] + 1] = found.indptr[1:] + before
        append(data, found.data)
        append(indices, found.indices)
        done += found.shape[0]
    return Rows(shape, data, indices, indptr) if alone is None else alone


def under_each_other(pieces: Iterable[Rows], shape: tuple[int, int]) -> np.ndarray:
    """Dense rows as one array."""
    whole, done = np.empty(shape, np.float32), 0
    for piece in pieces:
        assert piece.dense is not None
        whole[done : done + piece.shape[0]] = piece.dense
        done += piece.shape[0]
    return whole


def append(array: np.ndarray, values: np.ndarray | None) -> None:
    """Make an array longer where it lies: of a large one the system moves pages, and copies nothing."""
    assert values is not None
    n = len(array)
    array.resize(n + len(values), refcheck=False)
    array[n:] = values
