"""Rules of what a value read from JSON must look like, to be put together into a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

Rule = Callable[[Any, str], None]
"""Raises :class:`WrongShapeError` unless the value, found at the named place, is as the rule says."""


class WrongShapeError(ValueError):
    """A value is not what its place asks for; the message names place, found and expected."""


def must_be(expected: str, holds: Callable[[Any], bool]) -> Rule:
    """A rule with the words for its message.

    Examples
    --------
    >>> must_be("text", lambda value: isinstance(value, str))(3, "model")
    Traceback (most recent call last):
    vivace.io.shapes.WrongShapeError: model is 3, expected text
    """

    def rule(value: Any, place: str) -> None:
        if not holds(value):
            msg = f"{place} is {_shown(value)}, expected {expected}"
            raise WrongShapeError(msg)

    return rule


def anything(value: Any, place: str) -> None:
    """Everything passes."""


TEXT = must_be("text", lambda value: isinstance(value, str))
WHOLE = must_be("a whole number", lambda value: _is_whole(value))
NUMBER = must_be("a number", lambda value: isinstance(value, float) or _is_whole(value))
FLAG = must_be("true or false", lambda value: isinstance(value, bool))
SCALAR = must_be(
    "text, a number, true, false or null", lambda value: not isinstance(value, dict | list)
)


def matching(pattern: str, expected: str) -> Rule:
    """Text that matches a pattern as a whole."""
    return must_be(
        expected, lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value))
    )


def one_of(choices: Collection[str]) -> Rule:
    """One of some words."""
    expected = "one of " + ", ".join(f'"{choice}"' for choice in choices)
    return must_be(expected, lambda value: isinstance(value, str) and value in choices)


def optional(rule: Rule) -> Rule:
    """Null, or what the rule asks for."""

    def checked(value: Any, place: str) -> None:
        if value is not None:
            rule(value, place)

    return checked


def list_of(rule: Rule) -> Rule:
    """A list of things that each pass."""
    is_list = must_be("a list", lambda value: isinstance(value, list))

    def checked(value: Any, place: str) -> None:
        is_list(value, place)
        for i, item in enumerate(value):
            rule(item, f"{place}[{i}]")

    return checked


def table_of(rule: Rule, names: Rule = TEXT) -> Rule:
    """A table from names to things that each pass."""
    is_table = must_be("a table", lambda value: isinstance(value, dict))

    def checked(value: Any, place: str) -> None:
        is_table(value, place)
        for name, item in value.items():
            names(name, f"{place}: a name")
            rule(item, f"{place}.{name}")

    return checked


def record(*, may_have: dict[str, Rule] | None = None, **must_have: Rule) -> Rule:
    """A table with these entries; what else it has is not looked at."""
    is_table = must_be("a table", lambda value: isinstance(value, dict))

    def checked(value: Any, place: str) -> None:
        is_table(value, place)
        for name, rule in must_have.items():
            if name not in value:
                msg = f"{_inside(place, name)} is missing"
                raise WrongShapeError(msg)
            rule(value[name], _inside(place, name))
        for name, rule in (may_have or {}).items():
            if name in value:
                rule(value[name], _inside(place, name))

    return checked


def all_of(*rules: Rule) -> Rule:
    """Every rule holds."""

    def checked(value: Any, place: str) -> None:
        for rule in rules:
            rule(value, place)

    return checked


def _is_whole(value: Any) -> bool:
    """JSON knows larger numbers than anything that takes one."""
    return type(value) is int and abs(value) < 2**63


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
