"""What a source of cells answers."""

from __future__ import annotations

from collections.abc import Iterator
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


@dataclass(frozen=True)
class Layout:
    """How rows are best read from a disk.

    Attributes
    ----------
    block
        Neighbouring rows that are read together.
    pool
        Rows that are held in memory while minibatches are made of them.
    """

    block: int
    pool: int


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
