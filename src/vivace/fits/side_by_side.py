"""Fits side by side in processes, as many as cores and memory allow; what is done is never lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vivace.fits.folder import read_answers, write_answers
from vivace.fits.one import Arrays, attempt
from vivace.fits.plan import Fit, Plan

T = TypeVar("T")
PROCESS_BYTES = 700e6
"""What a process takes without cells: Python, torch and compiled kernels."""
DATA_TIMES = 4
"""Times the data that training and questions take, at most."""
MEMORY_SHARE = 0.8
"""Of the memory that is free, so much is taken."""

Report = Callable[[int, int | None, float], None]
"""Called with fits that are done, of how many (None: nobody knows), and seconds that are left."""


def run_all(
    plan: Plan, fits: Sequence[Fit], folder: Path, n_processes: int | None, report: Report
) -> tuple[dict[Fit, Arrays], dict[Fit, str]]:
    """Answers of the fits, and what went wrong with those that have none.

    Parameters
    ----------
    plan, fits
        What is fitted, and how often.
    folder
        Of fits that are there already, and where the others go.
    n_processes
        At once; None for as many as cores and memory allow.
    report
        Told after each fit.

    Returns
    -------
    Fit to answers, in the order of ``fits``; fit to message.
    """
    found = {fit: done for fit in fits if (done := read_answers(folder, fit)) is not None}
    left = [fit for fit in fits if fit not in found]
    failed: dict[Fit, str] = {}
    started, before = time.perf_counter(), len(found)
    report(len(found), len(fits), float("nan"))
    for fit, answers, message in side_by_side(plan, left, n_processes):
        if answers is None:
            failed[fit] = message
        else:
            write_answers(folder, fit, answers)
            found[fit] = answers
        n_done = len(found) + len(failed)
        each = (time.perf_counter() - started) / (n_done - before)
        report(n_done, len(fits), each * (len(fits) - n_done))
    return {fit: found[fit] for fit in fits if fit in found}, failed


def side_by_side(
    plan: Plan, fits: Sequence[Fit], n_processes: int | None
) -> Iterator[tuple[Fit, Arrays | None, str]]:
    """What each fit comes to, in the order in which they end.

    A process that is ended from outside, as when memory runs out, takes the others with it; those
    fits are then made one after the other.
    """
    left = list(fits)
    n = min(n_processes or how_many(plan), len(left))
    if n > 1:
        for outcome in _parallel(plan, tuple(left), n):  # read bit by bit, while left is cut
            left.remove(outcome[0])
            yield outcome
    for fit in left:
        yield attempt(plan, fit)


def _parallel(plan: Plan, fits: Iterable[Fit], n: int) -> Iterator[tuple[Fit, Arrays | None, str]]:
    return as_they_end(attempt, plan, fits, n)


def as_they_end(
    work: Callable[[Any, Any], T], shared: Any, each: Iterable[Any], n: int
) -> Iterator[T]:
    """What ``work(shared, one)`` gives in n processes, in the order in which they end.

    The next one is read when a process is free. It is over when a process is ended from outside.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with in_processes(n):
        outcomes = Parallel(return_as="generator_unordered", pre_dispatch="n_jobs")(
            delayed(work)(shared, one) for one in each
        )
        try:
            yield from outcomes
        except TerminatedWorkerError:
            return
        finally:
            outcomes.close()


def in_processes(n: int) -> Any:
    """A context in which joblib works in n processes, which share the cores and large arrays."""
    from joblib import parallel_config

    threads = max(1, (os.cpu_count() or 1) // n)
    return parallel_config("loky", n_jobs=n, inner_max_num_threads=threads, mmap_mode="c")


def how_many(plan: Plan) -> int:
    """As many processes as there are cores, and as memory has room for; at least one."""
    need = PROCESS_BYTES + DATA_TIMES * size_of(plan.adata)
    return max(1, min(os.cpu_count() or 1, int(MEMORY_SHARE * free_memory() / need)))


def size_of(data: object) -> int:
    """Bytes of a data object, roughly."""
    return int(data.__sizeof__())


def free_memory() -> int:
    """Bytes of memory that are free for new processes."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
        )
    except (OSError, StopIteration, ValueError):  # not Linux: all of it
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
