"""Where many fits are: a bar in a terminal, else a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vivace.fits.side_by_side import Report

Tell = Callable[[str], None]


@contextmanager
def fits_bar(*, show: bool, tell: Tell | None = None, words: str = "Fits") -> Iterator[Report]:
    """Yields a function to call with the fits that are done, of how many, and seconds left.

    Parameters
    ----------
    show
        Draw a bar, if the terminal is one.
    tell
        Called with a line after each fit where no bar is drawn.
    words
        What is counted.
    """
    if not show or not sys.stderr.isatty():
        yield lines(tell, words)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn(words),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("fits", total=None, note="")

        def update(done: int, n: int | None, left: float) -> None:
            bar.update(task, completed=done, total=n, note=note(done, n, left))

        yield update


def lines(tell: Tell | None, words: str) -> Report:
    """A function that tells of fits in lines, or of nothing."""

    def update(done: int, n: int | None, left: float) -> None:
        if tell is not None and done:
            of = "" if n is None else f" of {n}"
            tell(f"{words}: {done}{of} {note(done, n, left)}".rstrip())

    return update


def note(done: int, n: int | None, left: float) -> str:
    """Time that is left, in words.

    Examples
    --------
    >>> note(3, 16, 130.2), note(16, 16, 0.0)
    ('about 130 s left', '')
    """
    return f"about {left:.0f} s left" if left > 0 and done != n else ""
