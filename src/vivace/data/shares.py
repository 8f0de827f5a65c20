"""Which part of the minibatches a process reads, if several train one model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Share:
    """The part of one process.

    Attributes
    ----------
    rank, of
        Number of the process, from 0, and how many there are.
    """

    rank: int = 0
    of: int = 1

    def cut(self, steps: Iterator[Any]) -> Iterator[Any]:
        """Of every minibatch an equal part.

        Where the number of rows is no multiple of the number of processes, the first rows of the
        minibatch occur twice: all parts have the same size.

        Parameters
        ----------
        steps
            Rows of each minibatch, or a dict of such rows.

        Examples
        --------
        >>> rows = np.array([5, 6, 7])
        >>> [next(Share(rank, 2).cut(iter([rows]))).tolist() for rank in (0, 1)]
        [[5, 7], [6, 5]]
        """
        return steps if self.of == 1 else map(self._cut, steps)

    def deal(self, steps: Iterator[Any]) -> Iterator[Any]:
        """Whole minibatches in turn; some processes may have one more than others.

        Examples
        --------
        >>> [list(Share(rank, 2).deal(iter("abc"))) for rank in (0, 1)]
        [['a', 'c'], ['b']]
        """
        return steps if self.of == 1 else islice(steps, self.rank, None, self.of)

    def _cut(self, rows: Any) -> Any:
        if isinstance(rows, dict):
            return {name: self._cut(some) for name, some in rows.items()}
        size = -(-len(rows) // self.of)
        return np.resize(rows, size * self.of)[self.rank :: self.of]
