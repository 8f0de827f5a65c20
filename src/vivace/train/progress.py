"""A progress bar with epoch, held-out loss and time left; silent when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnEpoch = Callable[[int, dict[str, float]], None]


@contextmanager
def progress_bar(n_epochs: int, first: int, *, show: bool) -> Iterator[OnEpoch]:
    """Yields a function to call after each epoch with its number and metrics."""
    if not show or not sys.stderr.isatty():
        yield lambda epoch, metrics: None
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

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            note = f"loss {metrics.get('elbo_train', float('nan')):.1f}"
            if "elbo_validation" in metrics:
                note += f"  held-out {metrics['elbo_validation']:.1f}"
            bar.update(task, completed=epoch + 1, note=note)

        yield on_epoch
