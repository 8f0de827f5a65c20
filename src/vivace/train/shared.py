"""Memory that the processes of one machine share: their sums, and the weights that they train.

gloo carries what is rare. What is of every step goes through memory instead: over the network's stack a
step of the recipe would pay more for its exchanges than a second process saves. It is used where all
processes are on one Linux machine and train on the processor, and nobody has to ask for it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count as counting
from pathlib import Path
from tempfile import mkstemp

import torch

from vivace._ranks import Ranks, lost
from vivace.kernels.counters import LINE, all_count, count
from vivace.train.ranks import PATIENCE, gather

try:
    import fcntl
except ImportError:  # Windows, which has no such memory either
    fcntl = None  # type: ignore[assignment]

PLACE = Path("/dev/shm")
"""Files there are memory."""
SLOT = 2**16
"""Bytes that a process hands over at a time."""
LOOKS = 2000
"""At another's counter, some microseconds, before the core is offered to others."""
YIELDS = 100
PAUSE, LONGEST_PAUSE = 5e-5, 1e-3
"""Seconds to sleep between looks after that, growing."""
WATCH = 0.2
"""Seconds between looks at whether the others are alive."""


class Memory:
    """What all processes map, and how they meet there.

    First a counter for each process, then two tables of one slot a process, which are used in turn: who
    writes to a table a second time has met the others since, so that they have read it. What is left is
    :attr:`rest`.

    Parameters
    ----------
    path
        A file of at least :func:`bytes_for` zeros, which is there for all processes.
    rank, size
        Of the processes.

    Attributes
    ----------
    rest
        Bytes that whoever made the memory has asked for.
    """

    def __init__(self, path: Path, rank: int, size: int):
        self.rank, self.size = rank, size
        self._file = os.open(path, os.O_RDWR)
        n_bytes = os.fstat(self._file).st_size
        whole = torch.from_file(str(path), shared=True, size=n_bytes, dtype=torch.uint8)
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, rank)  # let go when this process ends, however
        counters, tables, self.rest = whole.split(
            [LINE * size, 2 * size * SLOT, n_bytes - size * (LINE + 2 * SLOT)]
        )
        self._tables = tables.view(2, size, SLOT)
        self._counters, self._first = counters, counters.data_ptr()
        self._meetings = 0

    def meet(self) -> None:
        """Wait until all processes have come here, and see all that they have written before.

        Raises
        ------
        TrainingError
            If another process is gone.
        """
        self._meetings += 1
        count(self._first, self.rank, self._meetings)
        if not self._all_are_here():
            self._wait()

    def _all_are_here(self) -> bool:
        return all_count(self._first, self.size, self._meetings, LOOKS)

    def _wait(self) -> None:
        watched = started = time.monotonic()
        for n in counting():
            if self._all_are_here():
                return
            if n < YIELDS:
                os.sched_yield()
                continue
            time.sleep(min(PAUSE * (1 + n / YIELDS), LONGEST_PAUSE))
            now = time.monotonic()
            if now - watched > WATCH:
                watched = now
                gone = now - started > PATIENCE.total_seconds() or not self._all_live()
                if gone and not self._all_are_here():  # one may have ended after it was here
                    raise lost()

    def _all_live(self) -> bool:
        """Whether every process still has its lock."""
        for rank in set(range(self.size)) - {self.rank}:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
            else:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, rank)
                return False
        return True

    def of_all(self, x: torch.Tensor) -> torch.Tensor:
        """(processes, ...) what every process has in place of a tensor that fits into a slot."""
        return self._table(x.reshape(-1)).clone().view(self.size, *x.shape)

    def add_up(self, x: torch.Tensor) -> torch.Tensor:
        """Sum a contiguous tensor over all processes, in place."""
        for part in x.view(-1).split(SLOT // x.element_size()):
            torch.sum(self._table(part), 0, out=part)
        return x

    def _table(self, x: torch.Tensor) -> torch.Tensor:
        """(processes, n) of a vector, which stays until the next meeting."""
        table = self._tables[self._meetings % 2, :, : x.nbytes].view(x.dtype)
        table[self.rank] = x
        self.meet()
        return table

    def close(self) -> None:
        """Let the others know that this process no longer comes to meetings."""
        os.close(self._file)


def bytes_for(size: int, rest: int) -> int:
    """Bytes of the memory of so many processes."""
    return size * (LINE + 2 * SLOT) + rest


@contextmanager
def shared_memory(ranks: Ranks, rest: int) -> Iterator[Memory | None]:
    """Memory of the processes, or None where they have none; a collective call.

    Parameters
    ----------
    ranks
        The processes.
    rest
        Bytes wanted beside what sums need.
    """
    path = _make(bytes_for(ranks.size, rest)) if ranks.writes else None
    memory = None
    try:
        path = gather(ranks, path)[0]
        with suppress(OSError):  # it is of another machine
            memory = None if path is None else Memory(path, ranks.rank, ranks.size)
        all_have = all(gather(ranks, memory is not None))
    finally:
        if path is not None and ranks.writes:
            path.unlink()  # it stays for those who have it, and nobody has to remove it
    try:
        yield memory if all_have else None
    finally:
        if memory is not None:
            memory.close()


def _make(n_bytes: int) -> Path | None:
    """A file of zeros for which there is room; None where there is none."""
    if fcntl is None or not PLACE.is_dir():
        return None
    try:
        file, name = mkstemp(dir=PLACE, prefix="vivace-")
    except OSError:
        return None
    try:
        os.posix_fallocate(file, 0, n_bytes)
    except OSError:
        Path(name).unlink()
        return None
    finally:
        os.close(file)
    return Path(name)
