"""Minibatches of one stream of cells, or of several zipped together.

They are read when they are wanted: picking the rows of a minibatch takes a few hundredths of a step,
and a thread that does so ahead costs more, as both want the interpreter (benchmarks/README.md).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from copy import copy

import numpy as np

from vivace._types import Minibatch
from vivace.data.cells import Cells
from vivace.data.shares import Share

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

    def epoch(self, epoch: int) -> Iterator[Minibatch]:
        """The minibatches of one pass over the cells, or the part of them that this process reads."""
        rows = self.row_batches(epoch)
        rows = self.part.cut(rows) if self.shuffle else self.part.deal(rows)
        return map(self.cells.minibatch, rows)

    def share(self, rank: int, of: int) -> Loader:
        """The same minibatches for one of several processes, each of which reads its part only.

        Shuffled minibatches are cut, see :meth:`Share.cut`; ordered ones are dealt whole.
        """
        one = copy(self)
        one.part = Share(rank, of)
        return one

    def row_batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Row numbers of each minibatch of one pass."""
        size = self.batch_size
        order = self._order(epoch)
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return self.rows
        order = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        short = -self.n_obs % self.batch_size
        if short and self.n_obs > self.batch_size:
            order = np.concatenate([order, order[:short]])
        return order


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

    def epoch(self, epoch: int) -> Iterator[dict[str, Minibatch]]:
        """The zipped minibatches of one pass over the longest stream."""
        first_step = epoch * len(self)
        streams = {name: _endless(loader, first_step) for name, loader in self.loaders.items()}
        steps = (_of_one_size({n: next(s) for n, s in streams.items()}) for _ in range(len(self)))
        shuffled = any(loader.shuffle for loader in self.loaders.values())
        return map(self._minibatches, self.part.cut(steps) if shuffled else self.part.deal(steps))

    def share(self, rank: int, of: int) -> ZippedLoader:
        """For one of several processes, see :meth:`Loader.share`; pairs stay together."""
        one = copy(self)
        one.part = Share(rank, of)
        return one

    def _minibatches(self, rows: dict[str, np.ndarray]) -> dict[str, Minibatch]:
        return {name: loader.cells.minibatch(rows[name]) for name, loader in self.loaders.items()}


def _of_one_size(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    size = max(map(len, rows.values()))
    return {name: np.resize(some, size) for name, some in rows.items()}


def _endless(loader: Loader, first_step: int) -> Iterator[np.ndarray]:
    """Rows of pass after pass, starting where the step of that number would be."""
    passes, done = divmod(first_step, len(loader))
    while True:
        yield from itertools.islice(loader.row_batches(passes), done, None)
        passes, done = passes + 1, 0
