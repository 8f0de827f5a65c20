"""Options of the shell made from signatures and docstrings in Python, so that both always agree."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from vivace.cli.words import flag

PLAIN = (str, int, float, bool)
UNPROVEN = ("cuda_graphs",)
"""Options that are accepted and not shown: no device has run them yet."""
ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")
"""A reference to something by its path."""


def from_signature(function: Callable[..., Any], docs: str | None, panel: str) -> list[Any]:
    """Options for the parameters of a function that one can type in a shell.

    Parameters
    ----------
    function
        Its parameters of type str, int, float, bool, a list of str, or one of these or None become
        options; others (data objects, dictionaries) are left out.
    docs
        numpy docstring with a section "Parameters" or "Attributes".
    panel
        Heading in the help.
    """
    hints = get_type_hints(function)
    described = descriptions(docs)
    return [
        option(p.name, kind, p.default, described.get(p.name, ""), panel)
        for p in inspect.signature(function).parameters.values()
        if p.kind is not p.VAR_KEYWORD and (kind := shell_type(hints.get(p.name))) is not None
    ]


def from_dataclass(cls: type, panel: str, *, only: Callable[[str], bool]) -> list[Any]:
    """Options for the fields of a dataclass; not given means that a recipe decides."""
    hints, described = get_type_hints(cls), descriptions(cls.__doc__)
    return [
        option(f.name, shell_type(hints[f.name]), None, described.get(f.name, ""), panel)
        for f in fields(cls)
        if only(f.name) and f.default is not MISSING
    ]


def option(name: str, kind: Any, default: Any, text: str, panel: str) -> inspect.Parameter:
    """One option, as the parameter of a command."""
    names = [flag(name)]
    if kind is bool:
        names = [f"{flag(name)}/--no-{flag(name)[2:]}"]
    described = typer.Option(*names, help=text, rich_help_panel=panel, hidden=name in UNPROVEN)
    if default is None:
        kind = kind | None
    annotation = Annotated[kind, described]  # type: ignore[valid-type]
    return parameter(name, annotation, default)


def asked_later(one: inspect.Parameter) -> inspect.Parameter:
    """An option that is not demanded before the command runs."""
    kind, described = one.annotation.__origin__, one.annotation.__metadata__[0]
    optional = Annotated[kind | None, described]  # type: ignore[valid-type]
    return one.replace(default=None, annotation=optional)


def parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> Any:
    """Parameter of a command."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def with_options(function: Callable[..., None], parameters: Sequence[Any]) -> Callable[..., None]:
    """The same function under a signature that the command line can read."""

    def command(**values: Any) -> None:
        function(**values)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def shell_type(hint: Any) -> Any:
    """Type of an option, or None for what cannot be typed in a shell.

    Examples
    --------
    >>> shell_type(int), shell_type(float | None), shell_type(dict)
    (<class 'int'>, <class 'float'>, None)
    >>> shell_type(Sequence[str] | None)
    list[str]
    """
    kinds = [k for k in get_args(hint) if k is not type(None)] if is_optional(hint) else [hint]
    if len(kinds) != 1:
        return None
    if kinds[0] in PLAIN:
        return kinds[0]
    if get_origin(kinds[0]) in (Sequence, list) and get_args(kinds[0]) == (str,):
        return list[str]
    return None


def is_optional(hint: Any) -> bool:
    """Whether a type hint is a union with None."""
    return type(None) in get_args(hint)


def descriptions(docs: str | None) -> dict[str, str]:
    """What a numpy docstring says of each parameter or attribute.

    Examples
    --------
    >>> descriptions('''Summary.
    ...
    ...     Parameters
    ...     ----------
    ...     a, b
    ...         Two numbers.
    ...     ''')
    {'a': 'Two numbers.', 'b': 'Two numbers.'}
    """
    lines = inspect.cleandoc(docs or "").splitlines()
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for i, line in enumerate(lines):
        under = lines[i + 1] if i + 1 < len(lines) else ""
        if under.startswith("---"):
            inside = line in ("Parameters", "Attributes")
        elif inside and line and not line.startswith((" ", "-")):
            names = [n.strip(" *") for n in line.split(":")[0].split(",")]
        elif inside and line.strip():
            for name in names:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return {name: textwrap.shorten(plain(text), 240) for name, text in found.items()}


def plain(text: str) -> str:
    """Text of a docstring without its marks.

    Examples
    --------
    >>> plain("As ``x``, see :class:`~vivace.nn.Encoder`.")
    'As x, see Encoder.'
    """
    return ROLE.sub(r"\1", text).replace("``", "")
