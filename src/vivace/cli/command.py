"""What all commands have in common: options given once, ``~`` in paths, and a help that cuts no name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from vivace.cli.words import say
from vivace.errors import InvalidArgumentError

ADVICE = {
    "--batch": "further columns are for --categorical-covariate, or make one column of both",
    "--labels": "make one column of both",
    "--groupby": "make one column of both",
}
"""What people want who give an option twice."""


class Command(TyperCommand):
    """A command whose options with one value are given once."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "rich_markup_mode": None})  # its tables cut names

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        if not args and self.no_args_is_help:
            say(ctx.get_help())
            ctx.exit()
        given = self.make_parser(ctx).parse_args(args=list(args))[2]
        refuse_repeated(given)
        rest = super().parse_args(ctx, args)
        ctx.params = {name: at_home(value) for name, value in ctx.params.items()}
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write every option under the heading it belongs to, with its whole name."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if one.param_type_name == "argument" else "Options"
                heading = getattr(one, "rich_help_panel", None) or kind
                panels.setdefault(heading, []).append(record)
        for heading, records in panels.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def refuse_repeated(given: Sequence[Any]) -> None:
    """Raise for an option that was given twice and takes one value.

    Parameters
    ----------
    given
        The options in the order in which they were given.

    Raises
    ------
    InvalidArgumentError
        Names the option, and what to do instead.
    """
    seen = set()
    for one in given:
        if one.param_type_name != "option" or one.multiple:
            continue
        name = one.opts[0]
        if name in seen:
            advice = f": {ADVICE[name]}" if name in ADVICE else ""
            raise InvalidArgumentError(f"{name} was given twice, and takes one value{advice}")
        seen.add(name)


def at_home(value: Any) -> Any:
    """A path with ``~`` as the home folder, which shells leave alone in ``--out=~/run``; or several."""
    if isinstance(value, list):
        return [at_home(each) for each in value]
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError:  # "~nobody": a name like any other
        return value
