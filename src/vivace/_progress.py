"""No silence: what is under way is said every few seconds in which nothing else is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SILENCE = 8.0
"""Seconds after which something is said."""


@dataclass
class _Present:
    """What is under way, since when, and when something was last said."""

    what: str = "working"
    since: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)


_present = _Present()


def said() -> None:
    """Note that something was said just now."""
    _present.said = time.monotonic()


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Name what is under way inside, should it take long enough to be said; "" if others say it.

    Examples
    --------
    >>> with doing("drawing the map"):
    ...     pass
    """
    before = _present.what, _present.since
    _present.what, _present.since = what, time.monotonic()
    try:
        yield
    finally:
        _present.what, _present.since = before


@contextmanager
def no_silence(say: Callable[[str], None], every: float | None = None) -> Iterator[None]:
    """Inside, ``say`` what is under way whenever nothing was said for a while.

    Parameters
    ----------
    say
        Called from another thread.
    every
        Seconds; :data:`SILENCE` by default.
    """
    wait = SILENCE if every is None else every
    over = threading.Event()

    def watch() -> None:
        while not over.wait(wait / 4):
            now = time.monotonic()
            if _present.what and now - _present.said >= wait:
                say(f"... {_present.what}, {now - _present.since:.0f} s so far")
                said()

    said()
    thread = threading.Thread(target=watch, name="vivace no silence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
