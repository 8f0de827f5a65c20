"""What a source of cells answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Rows of a matrix as CSR arrays, or dense; float32."""

    shape: tuple[int, int]
    data: np.ndarray | None = None
    indices: np.ndarray | None = None
    indptr: np.ndarray | None = None
    dense: np.ndarray | None = None


BLOCKS_IN_POOL = 512
"""At least. How many cells of each study a minibatch of a sorted file has varies more than in memory, by
a factor of 1 + size of the minibatch / blocks of its pool: 1.25 for 128 cells."""


@dataclass(frozen=True)
class Layout:
    """How rows are best read from a disk.

    Attributes
    ----------
    block
        Neighbouring rows that are read together.
    pool
        Rows that are held in memory while minibatches are made of them.
    stretch
        Neighbouring rows that are read together where the order of the file is followed.
    """

    block: int
    pool: int
    stretch: int = 1

    @classmethod
    def mixed(cls, block: int, pool: int, stretch: int = 1) -> Layout:
        """Blocks that are no larger than minibatches need to be mixed; single rows in a small pool.

        Examples
        --------
        >>> Layout.mixed(64, 1 << 16).block, Layout.mixed(64, 1024).block
        (64, 2)
        """
        return cls(max(min(block, pool // BLOCKS_IN_POOL), 1), pool, min(stretch, pool))

    @classmethod
    def of_all(cls, layouts: Sequence[Layout]) -> Layout:
        """Of several matrices whose rows are read side by side: whole blocks of each."""
        pool = min(each.pool for each in layouts)
        blocks, stretches = zip(*((each.block, each.stretch) for each in layouts), strict=True)
        return cls.mixed(max(blocks), pool, max(stretches))


class Source(Protocol):
    """Anything that answers "these rows"."""

    @property
    def layout(self) -> Layout | None:
        """None in memory, where any order is as fast."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def read(self, rows: np.ndarray) -> Rows:
        """The rows in the order asked for, repeats allowed."""
        ...

    def values(self) -> Iterator[np.ndarray]:
        """All stored values once, in pieces and in the type that they are stored as."""
        ...
