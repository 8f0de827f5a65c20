"""Minibatches of one stream of cells, or of several zipped together.

They are read when they are wanted: picking the rows of a minibatch takes a few hundredths of a step,
and a thread that does so ahead costs more, as both want the interpreter (benchmarks/README.md).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import TypeVar

import numpy as np

from vivace._types import Minibatch
from vivace.data.cells import Cells
from vivace.data.shares import Share
from vivace.data.sources.disk import are_rising

T = TypeVar("T")
DEFAULT_BATCH_SIZE = 256
"""Of questions to a model that decode; training has its own. Larger takes more memory: they are dense."""
ENCODING_BATCH_SIZE = 2048
"""Of questions that only encode, which stays sparse."""


class Loader:
    """Minibatches of some rows.

    Shuffled minibatches always have ``batch_size`` rows: the last one of an epoch is topped up from
    the start of that epoch's order (fewer cells than ``batch_size``: one minibatch of all). The order
    depends on the seed and the epoch alone, so that a run can be resumed at any epoch.

    Parameters
    ----------
    cells
        Where the tensors come from.
    rows
        Row numbers.
    batch_size
        Cells in a minibatch.
    shuffle
        A new order every epoch; otherwise the rows as they are, and the last minibatch may be short.
    seed
        Of the order.

    Attributes
    ----------
    n_obs
        Number of cells.
    """

    def __init__(
        self,
        cells: Cells,
        rows: np.ndarray,
        batch_size: int = DEFAULT_BATCH_SIZE,
        *,
        shuffle: bool = False,
        seed: int = 0,
    ):
        self.cells = cells
        self.rows = np.asarray(rows)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.n_obs = len(self.rows)
        self.part = Share()

    def __len__(self) -> int:
        return math.ceil(self.n_obs / self.batch_size)

    def __iter__(self) -> Iterator[Minibatch]:
        return self.epoch(0)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Minibatch]:
        """The minibatches of one pass over the cells from one on, or the part that this process reads."""
        rows: Iterator[np.ndarray] = itertools.islice(self.row_batches(epoch), first, None)
        rows = self.part.cut(rows) if self.shuffle else self.part.deal(rows)
        if self.cells.layout is None:
            return map(self.cells.minibatch, rows)
        return self._read_ahead(rows)

    def _read_ahead(self, rows: Iterator[np.ndarray]) -> Iterator[Minibatch]:
        """The tensors of rows, those of a pool read together."""
        several = groups(rows, self.n_pooled())
        for held, each in (
            self._in_pools(several) if self.shuffle else ahead(self._in_pools(several))
        ):
            yield from map(held.minibatch, each)
            del held  # before the next ones are read

    def _in_pools(
        self, several: Iterator[list[np.ndarray]]
    ) -> Iterator[tuple[Cells, list[np.ndarray]]]:
        return ((self.cells.held(np.concatenate(rows)), rows) for rows in several)

    def n_pooled(self) -> int:
        """Minibatches whose cells are read from disk together, and mixed if any are; 0 in memory."""
        layout = self.cells.layout
        if layout is None:
            return 0
        if self.shuffle or not are_rising(self.rows):
            return max(layout.pool // self.batch_size, 1)
        return max(math.ceil(layout.stretch / self.batch_size), 1)

    def share(self, rank: int, of: int) -> Loader:
        """The same minibatches for one of several processes, each of which reads its part only.

        Shuffled minibatches are cut, see :meth:`Share.cut`; ordered ones are dealt whole.
        """
        one = copy(self)
        one.part = Share(rank, of)
        return one

    def row_batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Row numbers of each minibatch of one pass."""
        size, short = self.batch_size, -self.n_obs % self.batch_size
        topped_up = self.shuffle and short and self.n_obs > size
        for pool in self._pools(epoch):
            if topped_up:
                first, topped_up = pool[:short], False
            for start in range(0, len(pool), size):
                rows = pool[start : start + size]
                whole = len(rows) == size or not self.shuffle or self.n_obs < size
                yield rows if whole else np.concatenate([rows, first])

    def _pools(self, epoch: int) -> Iterator[np.ndarray]:
        """The rows of one pass in their order, whole minibatches at a time but for the last."""
        if not self.shuffle:
            yield self.rows
            return
        chance, layout = np.random.default_rng((self.seed, epoch)), self.cells.layout
        if layout is None:
            yield chance.permutation(self.rows)
        else:
            pool = self.n_pooled() * self.batch_size
            yield from shuffled_blocks(self.rows, layout.block, pool, chance)


class ZippedLoader:
    """Several streams side by side: each step takes a minibatch of every one.

    An epoch is as long as the longest stream; a shorter one starts again in a new order, so that pairs
    never repeat and no cell is left out. The minibatches of a step have one size: rows of a stream with
    fewer cells than that occur several times.

    Parameters
    ----------
    loaders
        Name of each stream to its loader.
    """

    def __init__(self, loaders: Mapping[str, Loader]):
        self.loaders = dict(loaders)
        self.n_obs = sum(loader.n_obs for loader in self.loaders.values())
        self.part = Share()

    def __len__(self) -> int:
        return max(len(loader) for loader in self.loaders.values())

    def __iter__(self) -> Iterator[dict[str, Minibatch]]:
        return self.epoch(0)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[dict[str, Minibatch]]:
        """The zipped minibatches of one pass over the longest stream, from one on."""
        steps = self.row_batches(epoch, first)
        shuffled = any(loader.shuffle for loader in self.loaders.values())
        mine = self.part.cut(steps) if shuffled else self.part.deal(steps)
        pooled = min(loader.n_pooled() for loader in self.loaders.values())
        if pooled == 0:
            return map(self._minibatches, mine)
        return self._read_ahead(mine, pooled)

    def row_batches(self, epoch: int, first: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Row numbers of each stream's part of each minibatch of one pass, from one on."""
        first_step = epoch * len(self) + first
        streams = {name: _endless(loader, first_step) for name, loader in self.loaders.items()}
        for _ in range(first, len(self)):
            yield _of_one_size({name: next(rows) for name, rows in streams.items()})

    def share(self, rank: int, of: int) -> ZippedLoader:
        """For one of several processes, see :meth:`Loader.share`; pairs stay together."""
        one = copy(self)
        one.part = Share(rank, of)
        return one

    def _minibatches(self, rows: dict[str, np.ndarray]) -> dict[str, Minibatch]:
        return {name: loader.cells.minibatch(rows[name]) for name, loader in self.loaders.items()}

    def _read_ahead(
        self, steps: Iterator[dict[str, np.ndarray]], pooled: int
    ) -> Iterator[dict[str, Minibatch]]:
        for several in groups(steps, pooled):
            held = {
                name: loader.cells.held(np.concatenate([step[name] for step in several]))
                for name, loader in self.loaders.items()
            }
            for step in several:
                yield {name: cells.minibatch(step[name]) for name, cells in held.items()}
            del held  # before the next ones are read


def shuffled_blocks(
    rows: np.ndarray, block: int, pool: int, chance: np.random.Generator
) -> Iterator[np.ndarray]:
    """Rows in an order that a disk can follow: blocks of neighbours from everywhere, mixed in pools.

    Parameters
    ----------
    rows
        Row numbers, in any order.
    block
        Neighbouring rows that stay in one pool.
    pool
        Rows that are permuted together.
    chance
        What decides.

    Returns
    -------
    All rows, each once, pool by pool.

    Examples
    --------
    >>> pools = list(shuffled_blocks(np.arange(100), 5, 20, np.random.default_rng(0)))
    >>> sorted(np.concatenate(pools).tolist()) == list(range(100)), len(set(pools[0] // 5)) < 10
    (True, True)
    """
    rows = np.sort(small_numbers(rows))
    first = int(chance.integers(block))  # blocks begin elsewhere in every epoch
    cuts = np.unique(small_numbers(np.r_[0, first : len(rows) : block, len(rows)]))
    lengths = np.diff(cuts)
    chosen = small_numbers(chance.permutation(len(lengths)))
    ends = np.cumsum(lengths[chosen])
    for start in range(0, len(rows), pool):
        places = np.arange(start, min(start + pool, len(rows)))
        which = np.searchsorted(ends, places, side="right")
        blocks = chosen[which]
        within = places - (ends[which] - lengths[blocks])
        yield chance.permutation(rows[cuts[blocks] + within])


def small_numbers(rows: np.ndarray) -> np.ndarray:
    """Row numbers in four bytes each, where they fit."""
    fits = len(rows) == 0 or rows.max() <= np.iinfo(np.int32).max
    return rows.astype(np.int32) if fits else rows


def groups(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """The items in lists of ``size``; the last may be shorter.

    Examples
    --------
    >>> list(groups(iter("abcde"), 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    while several := list(itertools.islice(items, size)):
        yield several


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made by a thread while the one before is used.

    Examples
    --------
    >>> list(ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield item


def _of_one_size(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    size = max(map(len, rows.values()))
    return {name: np.resize(some, size) for name, some in rows.items()}


def _endless(loader: Loader, first_step: int) -> Iterator[np.ndarray]:
    """Rows of pass after pass, starting where the step of that number would be."""
    passes, done = divmod(first_step, len(loader))
    while True:
        yield from itertools.islice(loader.row_batches(passes), done, None)
        passes, done = passes + 1, 0
