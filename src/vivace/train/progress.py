"""Where training is: a bar in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vivace import _progress

Show = Callable[[float, dict[str, float] | None], None]
WIDE = 100
"""Columns from which on the bar has room for more than what one wants most."""


@contextmanager
def progress_bar(n_epochs: int, first: int, *, show: bool) -> Iterator[Show]:
    """Yields a function to call with the epochs that are done, parts included, and metrics after each."""
    if not show:
        yield lambda done, metrics: None
    elif sys.stderr.isatty():
        with _bar(n_epochs, first) as update:
            yield update
    else:
        yield _Lines(n_epochs, first)


def losses(metrics: dict[str, float]) -> list[str]:
    """Held-out loss and that of training, the one to look at first.

    Examples
    --------
    >>> losses({"elbo_train": 12.31, "elbo_validation": 13.0})
    ['held-out 13.0', 'loss 12.3']
    """
    names = {"elbo_validation": "held-out", "elbo_train": "loss"}
    return [f"{word} {metrics[name]:.1f}" for name, word in names.items() if name in metrics]


@contextmanager
def _bar(n_epochs: int, first: int) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    wide = console.width >= WIDE
    more = [TextColumn("Training"), TimeElapsedColumn(), TextColumn("gone")] if wide else []
    bar = Progress(
        *more,
        BarColumn(bar_width=None if wide else max(4, console.width - 52)),
        MofNCompleteColumn(),
        TextColumn("epochs  {task.fields[note]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
    )
    with bar:
        task = bar.add_task("train", total=n_epochs, completed=first, note="")

        def update(done: float, metrics: dict[str, float] | None) -> None:
            _progress.said()
            bar.update(task, completed=done)
            if metrics is not None:
                found = losses(metrics)
                bar.update(task, note="  ".join(found if wide else found[:1]))

        yield update


class _Lines:
    """A line whenever none was written for a while, from the first seconds on.

    Parameters
    ----------
    n_epochs, first
        Epochs in all, and those of an earlier run.
    """

    def __init__(self, n_epochs: int, first: int):
        self.n_epochs, self.first = n_epochs, first
        self.started = self.written = time.monotonic()
        self.note = ""

    def __call__(self, done: float, metrics: dict[str, float] | None) -> None:
        if metrics is not None:
            self.note = "".join(f", {each}" for each in losses(metrics))
        now = time.monotonic()
        if now - self.written < _progress.SILENCE:
            return
        self.written = now
        left = (now - self.started) / (done - self.first) * (self.n_epochs - done)
        words = f"epoch {done:.1f} of {self.n_epochs}{self.note}; about {in_time(left)} left"
        print(f"Training: {words}", file=sys.stderr, flush=True)  # noqa: T201
        _progress.said()


def in_time(seconds: float) -> str:
    """A time in words.

    Examples
    --------
    >>> in_time(12.3), in_time(300), in_time(9000)
    ('12 s', '5 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
