"""``vivace stability MODEL`` and ``vivace tune MODEL``: many fits of one model.

``vivace stability cells.h5ad --model scvi`` is the same as ``vivace stability scvi cells.h5ad``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vivace._files import check_place
from vivace._progress import doing
from vivace.cli.command import Later
from vivace.cli.fit import ESSENTIAL, FITS, Fit, FitCommand, FitGroup, fit_parameters, ready
from vivace.cli.options import parameter, with_options
from vivace.cli.words import flag, say, several
from vivace.errors import InvalidArgumentError

MODEL = "--model"
NOT_OF_MANY = ("out", "overwrite", "colour", "devices", "checkpoint", "resume", "train_size")
"""Options of one fit that many have no use for."""
PANEL = "Many fits"


class FitsCommand(FitCommand):
    """A command whose short help tells of many fits, too."""

    essential = frozenset(
        {*ESSENTIAL, "n_fits", "groupby", "share", "minutes", "n_trials", "measure"}
        - {"layer", "categorical_covariate_keys", "n_latent"}
    )


class FitsGroup(FitGroup):
    """Subcommands by the name of the model, which may also be given as ``--model``."""

    @staticmethod
    def build(name: str, fit: Fit) -> Any:
        """The command of one model."""
        raise NotImplementedError

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line, the name of the model first."""
        return super().parse_args(ctx, model_first(args))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Command of one model."""
        if Path(cmd_name).suffix:  # a file of cells, without a model before it
            raise InvalidArgumentError(f"name the model, such as {MODEL} scvi")
        super().get_command(ctx, cmd_name)  # refuses what is no model
        name = cmd_name.lower()
        return Later(name, FITS[name].help, partial(self.build, name, FITS[name]))


def model_first(args: list[str]) -> list[str]:
    """The words with the value of ``--model`` in front.

    Examples
    --------
    >>> model_first(["cells.h5ad", "--model", "scvi", "--fits", "8"])
    ['scvi', 'cells.h5ad', '--fits', '8']
    """
    for at, word in enumerate(args):
        if word == MODEL and at + 1 < len(args):
            return [args[at + 1], *args[:at], *args[at + 2 :]]
        if word.startswith(f"{MODEL}="):
            return [word.partition("=")[2], *args[:at], *args[at + 1 :]]
    return args


def command(name: str, fit: Fit, run: Any, own: list[Any], text: str) -> Any:
    """The command of one model: options of its fit, and further ones."""
    of_fit = [p for p in fit_parameters(fit) if p.name not in NOT_OF_MANY]
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, cls=FitsCommand, help=text, no_args_is_help=True)(
        with_options(partial(run, fit), [of_fit[0], OUT, *own, *of_fit[1:]])
    )
    return typer.main.get_command(single)


# stability --------------------------------------------------------------------------------------


class StabilityGroup(FitsGroup):
    """``vivace stability``."""

    @staticmethod
    def build(name: str, fit: Fit) -> Any:
        """The command of one model."""
        return command(name, fit, run_stability, ASKED, STABILITY)


def run_stability(
    fit: Fit,
    *,
    out: Path,
    n_fits: int,
    groupby: str | None,
    share: float | None,
    n_processes: int | None,
    seed: int | None,
    **values: Any,
) -> None:
    """Fit a model many times, and write what all fits agree on."""
    check_place(out / "plan.json")
    from vivace.fits.folder import write_tables
    from vivace.fits.stability import stability

    with ready(fit, **values) as given:
        say(f"Fitting {fit.model} {several(n_fits, 'time')}. What is done is kept in {out}/: after "
            "Ctrl-C, the same command goes on.")  # fmt: skip
        with doing("fitting"):
            found = stability(
                given.model,
                n_fits=n_fits,
                labels_key=values.get("labels_key"),
                groupby=groupby,
                share=share,
                train_kwargs=given.train,
                seed=seed,
                n_processes=n_processes,
                out=out,
                tell=say,
            )
        write_tables(out, found.tables(), found.verdict)
    say(f"{found.verdict}\nWrote {out}/tables/\nNext: vivace report {out}")


# tune -------------------------------------------------------------------------------------------


class TuneGroup(FitsGroup):
    """``vivace tune``."""

    @staticmethod
    def build(name: str, fit: Fit) -> Any:
        """The command of one model."""
        return command(name, fit, run_tune, TUNED, TUNE)


def run_tune(
    fit: Fit,
    *,
    out: Path,
    minutes: float,
    n_trials: int | None,
    measure: str,
    n_processes: int | None,
    seed: int | None,
    **values: Any,
) -> None:
    """Try other options of a model within a time, and say which are better than the defaults."""
    check_place(out / "plan.json")
    from vivace.fits.folder import write_tables
    from vivace.fits.tune import tune

    with ready(fit, **values) as given:
        say(f"Trying other options of {fit.model} for {minutes:g} minutes. What is done is kept in "
            f"{out}/: after Ctrl-C, the same command goes on.")  # fmt: skip
        with doing("fitting"):
            found = tune(
                given.model,
                minutes=minutes,
                n_trials=n_trials,
                measure=measure,
                labels_key=values.get("labels_key"),
                train_kwargs=given.train,
                seed=seed,
                n_processes=n_processes,
                out=out,
                tell=say,
            )
        tables = {
            "trials": found.trials,
            "comparison": found.comparison.rename_axis("options"),
            "importance": found.importance.to_frame().rename_axis("option"),
        }
        write_tables(out, tables, found.verdict)
    options = as_options({**found.model_kwargs, **found.train_kwargs})
    advice = f"\nAdd to vivace fit: {options}" if options else ""
    say(f"{found.verdict}{advice}\nWrote {out}/tables/")


def as_options(given: dict[str, Any]) -> str:
    """Options as one types them.

    Examples
    --------
    >>> as_options({"n_latent": 20, "lr": 0.01})
    '--n-latent 20 --lr 0.01'
    """
    return " ".join(f"{flag(name)} {value}" for name, value in given.items())


def _option(name: str, kind: Any, text: str, default: Any = None, *names: str) -> Any:
    described = typer.Option(*names, help=text, rich_help_panel=PANEL)
    return parameter(name, Annotated[kind, described], default)


OUT = parameter("out", Annotated[Path, typer.Option(help="Folder to keep the fits and tables in.")])
PROCESSES = _option(
    "n_processes",
    int | None,
    "Fits at once; default: as many as cores and memory allow.",
    None,
    "--processes",
)
ASKED = [
    _option("n_fits", int, "Fits with other seeds.", 16, "--fits"),
    _option("groupby", str | None, "Column of obs whose groups are compared. Default: the labels."),
    _option(
        "share",
        float | None,
        "Share of the cells that each fit learns from, drawn anew. Default: all.",
    ),
    PROCESSES,
]
TUNED = [
    _option("minutes", float, "Time for all of it.", 10.0),
    _option("n_trials", int | None, "Stop after so many trials.", None, "--trials"),
    _option(
        "measure",
        str,
        "What is compared: elbo, the held-out loss; kinds, how well kinds of cells are told apart; "
        "mixing of the batches.",
        "elbo",
    ),
    PROCESSES,
]
STABILITY = (
    "Fit a model many times with other seeds. Says which clusters, kinds of cells and genes stand in "
    "all fits, and what the correction of batches cost."
)
TUNE = (
    "Try other options of a model. Says whether any, of the model or its training, are clearly better "
    "than the defaults on cells that nothing was chosen by."
)
