"""Minibatches of one stream of cells, or of several zipped together.

They are read when they are wanted: picking the rows of a minibatch takes a few hundredths of a step,
and a thread that does so ahead costs more, as both want the interpreter (benchmarks/README.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from vivace._types import Minibatch
from vivace.data.cells import Cells

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
        self._held = cells

    def __len__(self) -> int:
        return math.ceil(self.n_obs / self.batch_size)

    def __iter__(self) -> Iterator[Minibatch]:
        return self.epoch(0)

    def epoch(self, epoch: int) -> Iterator[Minibatch]:
        """The minibatches of one pass over the cells."""
        return map(self.minibatch, self.row_batches(epoch))

    def minibatch(self, rows: np.ndarray) -> Minibatch:
        """The tensors of rows, most quickly of those that :meth:`row_batches` yielded last."""
        return self._held.minibatch(rows)

    def row_batches(self, epoch: int, first: int = 0) -> Iterator[np.ndarray]:
        """Row numbers of each minibatch of one pass from the first wanted on.

        Of cells on disk, those of some minibatches are read together ahead.
        """
        size, pool = self.batch_size, self._pool()
        order = self._order(epoch)
        for start in range(first * size, len(order), size):
            if pool and (start % pool == 0 or start == first * size):
                self._held = self.cells  # let go of the last pool before the next one is read
                self._held = self.cells.held(order[start : start - start % pool + pool])
            yield order[start : start + size]
        self._held = self.cells

    def _pool(self) -> int:
        """Rows that are held together: whole minibatches; 0 in memory."""
        layout = self.cells.layout
        return 0 if layout is None else max(layout.pool // self.batch_size, 1) * self.batch_size

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return self.rows
        chance, layout = np.random.default_rng((self.seed, epoch)), self.cells.layout
        if layout is None:
            order = chance.permutation(self.rows)
        else:
            order = shuffled_blocks(self.rows, layout.block, self._pool(), chance)
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

    def __len__(self) -> int:
        return max(len(loader) for loader in self.loaders.values())

    def __iter__(self) -> Iterator[dict[str, Minibatch]]:
        return self.epoch(0)

    def epoch(self, epoch: int) -> Iterator[dict[str, Minibatch]]:
        """The zipped minibatches of one pass over the longest stream."""
        first_step = epoch * len(self)
        streams = {name: _endless(loader, first_step) for name, loader in self.loaders.items()}
        steps = ({n: next(s) for n, s in streams.items()} for _ in range(len(self)))
        return map(self._minibatches, steps)

    def _minibatches(self, rows: dict[str, np.ndarray]) -> dict[str, Minibatch]:
        size = max(map(len, rows.values()))
        return {
            name: loader.minibatch(np.resize(rows[name], size))
            for name, loader in self.loaders.items()
        }


def shuffled_blocks(
    rows: np.ndarray, block: int, pool: int, chance: np.random.Generator
) -> np.ndarray:
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
    All rows, each once.

    Examples
    --------
    >>> order = shuffled_blocks(np.arange(100), 5, 20, np.random.default_rng(0))
    >>> sorted(order.tolist()) == list(range(100)), len(set(order[:20] // 5)) < 10
    (True, True)
    """
    rows = np.sort(rows)
    first = int(chance.integers(block))  # blocks begin elsewhere in every epoch
    cuts = np.unique([0, *range(first, len(rows), block), len(rows)])
    lengths = np.diff(cuts)
    chosen = chance.permutation(len(lengths))
    ends = np.cumsum(lengths[chosen])
    places = np.arange(len(rows)) - np.repeat(ends - lengths[chosen], lengths[chosen])
    order = rows[np.repeat(cuts[:-1][chosen], lengths[chosen]) + places]
    for start in range(0, len(order), pool):
        order[start : start + pool] = chance.permutation(order[start : start + pool])
    return order


def _endless(loader: Loader, first_step: int) -> Iterator[np.ndarray]:
    """Rows of pass after pass, starting where the step of that number would be."""
    passes, done = divmod(first_step, len(loader))
    while True:
        yield from loader.row_batches(passes, done)
        passes, done = passes + 1, 0
