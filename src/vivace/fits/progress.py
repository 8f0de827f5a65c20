"""A progress bar over fits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vivace.fits.side_by_side import Report


@contextmanager
def fits_bar(*, show: bool, words: str = "Fits") -> Iterator[Report]:
    """Yields a function to call with the fits that are done, of how many, and seconds left."""
    if not show or not sys.stderr.isatty():
        yield lambda done, n, left: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn(words),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("fits", total=None, note="")

        def update(done: int, n: int | None, left: float) -> None:
            note = f"about {left:.0f} s left" if left > 0 and done != n else ""
            bar.update(task, completed=done, total=n, note=note)

        yield update
