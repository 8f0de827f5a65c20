"""What all commands have in common: options given once, ``~`` in paths, and a help that cuts no name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from typer.core import TyperCommand, TyperGroup

from vivace.cli.help import ALL, SAYS_ALL, brief, write_few, write_options
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

    essential: ClassVar[frozenset[str] | None] = None
    """Names of the parameters in the short help; None for all."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "rich_markup_mode": None})  # its tables cut names

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        ctx.meta[ALL] = ALL in args
        if ALL in args or (not args and self.no_args_is_help):
            say(ctx.get_help())
            ctx.exit()
        given = self.make_parser(ctx).parse_args(args=list(args))[2]
        refuse_repeated(given)
        rest = super().parse_args(ctx, args)
        ctx.params = {name: at_home(value) for name, value in ctx.params.items()}
        return rest

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does; in short, its first sentence."""
        if ctx.meta.get(ALL):
            super().format_help_text(ctx, formatter)
            return
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(f"{brief(self.help or '')}.")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options: all of them, or those that one needs first."""
        parameters = self.get_params(ctx)
        if ctx.meta.get(ALL):
            write_options(ctx, parameters, formatter)
            return
        write_few(ctx, filter(self.is_essential, parameters), formatter, SAYS_ALL)

    def is_essential(self, parameter: Any) -> bool:
        """Whether the short help tells of it."""
        return self.essential is None or parameter.name in self.essential


class Group(TyperGroup):
    """Commands in the order in which one uses them, each with what it is for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "rich_markup_mode": None})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line; without any, show the help."""
        if not args and not ctx.resilient_parsing:
            say(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, brief(each.help or "")) for name, each in commands])
        write_few(ctx, self.get_params(ctx), formatter)


class Later(TyperCommand):
    """A command that is built when it is called: to be listed it needs a name and what it is for.

    Parameters
    ----------
    name, purpose
        What is listed.
    build
        ``build()``: the command.
    """

    def __init__(self, name: str, purpose: str, build: Callable[[], Any]) -> None:
        super().__init__(name=name, help=purpose)
        self.build = build

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Context of the command itself."""
        return self.build().make_context(*args, **options)


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
