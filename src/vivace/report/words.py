"""Numbers and times as people write them."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 3) -> str:
    """Short form with thousands separators; a dash for what is missing.

    Examples
    --------
    >>> number(12345), number(1234.5), number(0.12345), number(2.0), number(None)
    ('12,345', '1,234', '0.123', '2', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if float(value).is_integer() or abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}"


def things(n: float, several: str) -> str:
    """Name of a number of things, which has an "s" too many where there is one.

    Examples
    --------
    >>> things(1, "cells"), things(2, "cells")
    ('cell', 'cells')
    """
    return several.removesuffix("s") if n == 1 else several


def clipped(name: object, letters: int = 28) -> str:
    """A name that fits into a picture.

    Examples
    --------
    >>> clipped("CD4 T"), clipped("a name that goes on and on", 10)
    ('CD4 T', 'a name th…')
    """
    text = str(name)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def percent(fraction: float) -> str:
    """Fraction in percent.

    Examples
    --------
    >>> percent(0.949), percent(0.097), percent(0.001), percent(0.0)
    ('95 %', '10 %', '0.1 %', '0 %')
    """
    value = 100 * fraction
    return f"{value:.0f} %" if value >= 1 or value == 0 else f"{value:.1g} %"


def duration(seconds: float) -> str:
    """Time in the units one would say it in.

    Examples
    --------
    >>> duration(0.4), duration(42.0), duration(150), duration(7320)
    ('0.4 s', '42 s', '2 min 30 s', '2 h 2 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plain(value: object) -> str:
    """Value of a setting as one reads it aloud.

    Examples
    --------
    >>> plain(None), plain(True), plain(0.001), plain([1, 2]), plain("zinb"), plain({"a": 1})
    ('not set', 'yes', '0.001', '1, 2', 'zinb', 'a: 1')
    """
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {plain(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(v) for v in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
