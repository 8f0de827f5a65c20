"""Help in two lengths: ``--help`` fits a screen, ``--help-all`` says everything; no name is cut in either."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

REQUIRED = "  [required]"
ALL = "--help-all"
SAYS_ALL = (ALL, "Show every option, and all there is to say.")
CLAUSE = re.compile(r"[.;:](?:\s|$)|\s\((?!\.)")
"""Where the first clause of a description ends; endings of files, in brackets, belong to it."""
NAME = re.compile(r".+?(?= <| / |$)")
"""A name, without the kind of its values and without the name of its contrary."""
KIND = re.compile(r"<(?:list\[)?(\w+)(?:\]| range)>")
"""Kinds of values that are said more simply: ``<list[str]>``, ``<int range>``."""


def brief(text: str) -> str:
    """First clause of a description, and whether it is of something that is required.

    Examples
    --------
    >>> brief("Layer with the raw counts; default: X.")
    'Layer with the raw counts'
    >>> brief("Table (.csv) to write, one (or more). Replaces nothing.  [required]")
    'Table (.csv) to write, one  [required]'
    """
    mark = REQUIRED if REQUIRED.strip() in text else ""
    words = " ".join(text.replace(REQUIRED.strip(), "").split())
    return CLAUSE.split(words, maxsplit=1)[0] + mark


def write_options(ctx: Any, parameters: Iterable[Any], formatter: Any) -> None:
    """Write every option under the heading it belongs to, with its whole name."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for one, record in records(ctx, parameters):
        kind = "Arguments" if one.param_type_name == "argument" else "Options"
        heading = getattr(one, "rich_help_panel", None) or kind
        panels.setdefault(heading, []).append(record)
    panels["Options"].append(SAYS_ALL)
    for heading, rows in panels.items():
        with formatter.section(heading):
            formatter.write_dl(rows)


def write_few(ctx: Any, parameters: Iterable[Any], formatter: Any, *more: tuple[str, str]) -> None:
    """Write a line or two for each parameter, arguments first, then what is required; then ``more``."""
    rows = [(NAME.match(name)[0], brief(text)) for _, (name, text) in records(ctx, parameters)]
    rows.sort(key=lambda row: (row[0].startswith("-"), REQUIRED not in row[1]))
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_dl([*rows, *more])


def records(ctx: Any, parameters: Iterable[Any]) -> Iterator[tuple[Any, tuple[str, str]]]:
    """Parameters that are not hidden, each with its name and description."""
    for one in parameters:
        record = one.get_help_record(ctx)
        if record is not None:
            name, text = record
            yield one, (KIND.sub(r"<\1>", name), text)
