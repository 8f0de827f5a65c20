"""Commands, and what becomes of errors: exit code 2 and one sentence, never a traceback."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vivace.cli.fit import FitGroup
from vivace.cli.words import in_words, note, say
from vivace.errors import VivaceError, VivaceWarning

INTERRUPTED = 130
ORDER = ["demo", "fit", "deconvolve", "report", "latent", "de", "import"]


class Commands(TyperGroup):
    """Commands in the order in which one uses them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands."""
        return sorted(self.commands, key=[*ORDER, *self.commands].index)


app = typer.Typer(
    name="vivace",
    cls=Commands,
    help="Learn what cells have in common from raw counts, and ask what you learned.",
    epilog="Start with: vivace demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(
    typer.Typer(
        cls=FitGroup,
        help="Train a model on your cells and keep it in a run folder.",
        no_args_is_help=True,
    ),
    name="fit",
)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, made by vivace fit.")]
Data = Annotated[
    Path,
    typer.Argument(
        metavar="CELLS", help="File with raw counts: .h5ad, or .h5mu of splicing models."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"vivace {version('vivace')}")
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    """Options of vivace itself."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("vivace-demo"),
    seed: Annotated[int, typer.Option(help="Another seed gives another, equally good, run.")] = 0,
) -> None:
    """Train on real blood cells and write a report; takes about a minute."""
    from vivace.cli.demo import run_demo

    run_demo(out, seed)


@app.command()
def deconvolve(
    reference: Annotated[
        Path,
        typer.Argument(metavar="REFERENCE", help="Labelled single cells, raw counts (.h5ad)."),
    ],
    spots: Annotated[
        Path, typer.Argument(metavar="SPOTS", help="Spatial spots, raw counts (.h5ad).")
    ],
    labels: Annotated[str, typer.Option(help="Column of the reference's obs with cell types.")],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    batch: Annotated[
        str | None, typer.Option(help="Column of the reference's obs with the batch.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer of the reference with the raw counts; default: X.")
    ] = None,
    spots_layer: Annotated[
        str | None, typer.Option(help="Layer of the spots with the raw counts; default: X.")
    ] = None,
    n_top_genes: Annotated[
        int, typer.Option(min=0, help="Keep this many most variable shared genes; 0 keeps all.")
    ] = 2000,
    recipe: Annotated[
        str, typer.Option(help="fast, or classic: 300 and 2,000 epochs, as published.")
    ] = "fast",
    seed: Annotated[int | None, typer.Option(help="Number that fixes all chance.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Find which cell types are in each spatial spot, and in what proportion (DestVI).

    Genes are matched by name. Spots with obsm["spatial"] get maps in the report.
    """
    from vivace._settings import default_seed
    from vivace.cli.deconvolve import run_deconvolve

    with default_seed(seed):
        run_deconvolve(
            reference,
            spots,
            out,
            labels=labels,
            batch=batch,
            layer=layer,
            spots_layer=spots_layer,
            n_top_genes=n_top_genes,
            recipe=recipe,
            overwrite=overwrite,
        )


@app.command()
def latent(
    run: Run,
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: .h5ad (.h5mu) for the cells with their latent space, or .csv."
        ),
    ],
    overwrite: Overwrite = False,
) -> None:
    """Place cells in the latent space of a trained model.

    An .h5ad holds the cells as they came and the latent space in obsm["X_vivace"], ready for
    neighbours, UMAP and clustering in scanpy. Genes are matched by name.
    """
    from vivace.cli.latent import run_latent

    run_latent(run, data, out, overwrite=overwrite)


@app.command()
def de(
    run: Run,
    data: Data,
    groupby: Annotated[str, typer.Option(help="Column of obs with the groups to compare.")],
    out: Annotated[Path, typer.Option(help="Table to write (.csv).")],
    group1: Annotated[
        str | None, typer.Option(help="Group of interest; default: each group in turn.")
    ] = None,
    group2: Annotated[
        str | None, typer.Option(help="Group to compare with; default: all other cells.")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="change: how sure is a fold change of at least --delta, and how large is it; "
            "vanilla: how sure is any difference."
        ),
    ] = "change",
    delta: Annotated[
        float, typer.Option(help="Smallest log2 fold change that is of interest.")
    ] = 0.25,
    fdr_target: Annotated[
        float, typer.Option(help="Expected share of false findings among the genes marked.")
    ] = 0.05,
    batch_correction: Annotated[
        bool, typer.Option("--batch-correction", help="Compare as if all cells were of one batch.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Find the genes that differ between groups of cells, and say how sure that is."""
    from vivace.cli.de import run_de

    run_de(
        run,
        data,
        out,
        groupby=groupby,
        overwrite=overwrite,
        group1=group1,
        group2=group2,
        mode=mode,
        delta=delta,
        fdr_target=fdr_target,
        batch_correction=batch_correction,
    )


@app.command()
def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: report.html in the run folder.")
    ] = None,
) -> None:
    """Write one HTML page about a run: map of cells, training, checks, data, settings.

    The page is a single file that needs no network; open it in any browser, also on a phone.
    """
    from vivace.report import write_report

    say(f"Wrote {write_report(run, out)}")


@app.command(name="import")
def import_(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder saved by scvi-tools or SpliceVI (model.pt)."),
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Cells the model was trained with (.h5mu); needed for SpliceVI only."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Prefix of the file names, if one was given.")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Bring a model that scvi-tools or SpliceVI trained; its old numbers come out.

    Nothing in the folder is executed: a file that holds anything but data is refused.
    """
    from vivace.cli.files import read_cells
    from vivace.models.table import import_model

    model = import_model(folder, None if data is None else read_cells(data), prefix)
    model.save(out, overwrite=overwrite)
    say(f"Imported {model!r}")
    say(f"Wrote {out}; use it with vivace latent {out} CELLS.h5ad --out ...")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process.

    Parameters
    ----------
    arguments
        Words after ``vivace``; those of the process when not given.

    Raises
    ------
    SystemExit
        With code 0 on success, 2 on a mistake of the user's, 130 when interrupted.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", VivaceWarning)
            warnings.showwarning = show_warning
            code = app(arguments, prog_name="vivace", standalone_mode=False)
    except typer.TyperException as error:
        if not error.format_message():  # a command without arguments has shown its help
            sys.exit(0)
        fail(f"{sentence(error.format_message())} {usage(error)}")
    except VivaceError as error:
        fail(in_words(str(error)))
    except OSError as error:
        if error.filename is None:
            raise
        fail(f'"{error.filename}": {error.strerror}')
    if code == INTERRUPTED:
        note("Interrupted; nothing was written.")
    sys.exit(code if isinstance(code, int) else 0)


def fail(message: str) -> None:
    """Say what was wrong and end with code 2."""
    note(f"vivace: {message}")
    sys.exit(2)


def sentence(message: str) -> str:
    """The message with a full stop, unless it ends with a mark of its own.

    Examples
    --------
    >>> sentence("No such option: --x"), sentence("Did you mean --y?")
    ('No such option: --x.', 'Did you mean --y?')
    """
    return message if message.endswith((".", "?", "!")) else f"{message}."


def usage(error: typer.TyperException) -> str:
    """Where to read about the command that was called wrongly."""
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "vivace"
    return f'See "{path} --help".'


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning of vivace as a sentence, without the line of code it came from."""
    note(f"Note: {in_words(str(message))}")
