"""A progress bar with epoch, held-out loss and time left; silent when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[[float, dict[str, float] | None], None]


@contextmanager
def progress_bar(n_epochs: int, first: int, *, show: bool) -> Iterator[Show]:
    """Yields a function to call with the epochs that are done, parts included, and metrics after each."""
    if not show or not sys.stderr.isatty():
        yield lambda done, metrics: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("Training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs  {task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("train", total=n_epochs, completed=first, note="")

        def update(done: float, metrics: dict[str, float] | None) -> None:
            bar.update(task, completed=done)
            if metrics is None:
                return
            note = f"loss {metrics.get('elbo_train', float('nan')):.1f}"
            if "elbo_validation" in metrics:
                note += f"  held-out {metrics['elbo_validation']:.1f}"
            bar.update(task, note=note)

        yield update
