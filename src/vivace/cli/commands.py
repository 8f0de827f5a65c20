"""The commands: what each takes, and what it says of itself."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from vivace._files import check_place
from vivace.cli.command import Command, Group
from vivace.cli.fit import AllowFractions, FitGroup
from vivace.cli.many import STABILITY, TUNE, StabilityGroup, TuneGroup
from vivace.errors import InvalidArgumentError

ORDER = [
    "demo",
    "fit",
    "deconvolve",
    "report",
    "latent",
    "map",
    "de",
    "expression",
    "states",
    "stability",
    "tune",
    "import",
]


class Commands(Group):
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
    pretty_exceptions_enable=False,
)
app.add_typer(
    typer.Typer(
        cls=FitGroup,
        help="Train a model on your cells. It is kept in a run folder.",
        no_args_is_help=True,
    ),
    name="fit",
)

for name, group, purpose in (
    ("stability", StabilityGroup, STABILITY),
    ("tune", TuneGroup, TUNE),
):
    app.add_typer(typer.Typer(cls=group, help=purpose, no_args_is_help=True), name=name)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, made by vivace fit.")]
Data = Annotated[
    Path,
    typer.Argument(
        metavar="CELLS", help="File with raw counts (.h5ad, or .h5mu of splicing models)."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

Seed = Annotated[int | None, typer.Option(help="Number that fixes all chance.")]
Epochs = Annotated[
    int | None, typer.Option(help="Passes over the cells; default: what the recipe finds right.")
]
Accelerator = Annotated[str, typer.Option(help="Where to compute: auto, cpu or gpu.")]


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


@app.command(cls=Command)
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("vivace-demo"),
    seed: Annotated[int, typer.Option(help="Another seed gives another, equally good, run.")] = 0,
) -> None:
    """Train on real cells and write a report; takes about a minute."""
    from vivace.cli.demo import run_demo

    run_demo(out, seed)


@app.command(cls=Command)
def deconvolve(
    reference: Annotated[
        Path,
        typer.Argument(metavar="REFERENCE", help="Labelled single cells, raw counts (.h5ad)."),
    ],
    spots: Annotated[
        Path, typer.Argument(metavar="SPOTS", help="Spatial spots, raw counts (.h5ad).")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    labels: Annotated[
        str | None,
        typer.Option(help="Column of the reference's obs with cell types.  [required]"),
    ] = None,
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
    max_epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the cells, and over the spots; default: by the recipe."),
    ] = None,
    accelerator: Accelerator = "auto",
    seed: Seed = None,
    overwrite: Overwrite = False,
    allow_fractions: AllowFractions = False,
) -> None:
    """Find which cell types are in each spot (DestVI), and in what proportion.

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
            overwrite=overwrite,
            allow_fractions=allow_fractions,
            recipe=recipe,
            max_epochs=max_epochs,
            accelerator=accelerator,
        )


@app.command(cls=Command)
def latent(
    run: Run,
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            help="File to write (.h5ad, .h5mu or .csv): the cells with their latent space, or a table."
        ),
    ],
    overwrite: Overwrite = False,
    allow_fractions: AllowFractions = False,
) -> None:
    """Place cells in the latent space of a model.

    An .h5ad holds the cells as they came and the latent space in obsm["X_vivace"], ready for
    neighbours, UMAP and clustering in scanpy. Genes are matched by name.
    """
    from vivace.cli.latent import run_latent

    run_latent(run, data, out, overwrite=overwrite, allow_fractions=allow_fractions)


@app.command(cls=Command)
def de(
    run: Run,
    data: Data,
    out: Annotated[Path, typer.Option(help="Table to write (.csv).")],
    groupby: Annotated[
        str | None,
        typer.Option(help="Column of obs with the groups to compare.  [required]"),
    ] = None,
    group1: Annotated[
        str | None, typer.Option(help="Group of interest; default: each group in turn.")
    ] = None,
    group2: Annotated[
        str | None, typer.Option(help="Group to compare with; default: all other cells.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="How groups are compared. change: how sure is a fold change of at least --delta, "
            "and how large is it; vanilla: how sure is any difference. Default: change."
        ),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="Smallest log2 fold change that is of interest. Default: 0.25."),
    ] = None,
    fdr_target: Annotated[
        float | None,
        typer.Option(
            help="Expected share of false findings among the genes marked. Default: 0.05."
        ),
    ] = None,
    batch_correction: Annotated[
        bool | None,
        typer.Option(
            "--batch-correction/--no-batch-correction",
            help="Compare as if all cells were of one batch. Default: not, but with SysVI.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    allow_fractions: AllowFractions = False,
) -> None:
    """Find the genes that differ between groups. Says how sure that is, and how large the change."""
    from vivace.cli.de import run_de

    run_de(
        run,
        data,
        out,
        groupby=groupby,
        overwrite=overwrite,
        allow_fractions=allow_fractions,
        group1=group1,
        group2=group2,
        mode=mode,
        delta=delta,
        fdr_target=fdr_target,
        batch_correction=batch_correction,
    )


@app.command(name="map", cls=Command)
def map_(
    run: Run,
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            help="File to write (.h5ad, .h5mu or .csv): the cells with their latent space and labels, or a "
            "table."
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(help="Which of the reference's columns to carry over; default: its labels."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Run folder to keep the mapped model in, if it is wanted.")
    ] = None,
    max_epochs: Epochs = None,
    accelerator: Accelerator = "auto",
    seed: Seed = None,
    overwrite: Overwrite = False,
    allow_fractions: AllowFractions = False,
) -> None:
    """Map new cells onto a reference. Its labels are carried over, with how sure that is.

    RUN is the run folder of the reference, which stays as it is. CELLS need the columns of obs that it
    was fitted with, such as the batch. Genes are matched by name; those that are missing count as 0.
    """
    from vivace._settings import default_seed
    from vivace.cli.map import run_map

    with default_seed(seed):
        run_map(
            run,
            data,
            out,
            labels=labels,
            keep=keep,
            overwrite=overwrite,
            allow_fractions=allow_fractions,
            max_epochs=max_epochs,
            accelerator=accelerator,
        )


CellType = Annotated[str | None, typer.Option(help="Type, of the models of spots.")]


@app.command(cls=Command)
def expression(
    run: Run,
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            help="File to write (.h5ad or .csv): cells by genes with the expression in X, or a table."
        ),
    ],
    gene_list: Annotated[
        list[str] | None,
        typer.Option("--gene", help="Gene to write; may be given several times. Default: all."),
    ] = None,
    cell_type: CellType = None,
    counts: Annotated[
        bool,
        typer.Option(
            "--counts", help="Instead, the observed counts of a spot that are of the type."
        ),
    ] = False,
    transform_batch: Annotated[
        list[str] | None,
        typer.Option(
            help="As if all cells were of this batch; several times for a mean. Default: their own."
        ),
    ] = None,
    library_size: Annotated[
        float | None, typer.Option(help="What the values of a cell sum to. Default: 1.")
    ] = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
    allow_fractions: AllowFractions = False,
) -> None:
    """Write the expression without the noise of counting. Of spots, that of one cell type in each."""
    from vivace._settings import default_seed
    from vivace.cli.expression import run_expression

    with default_seed(seed):
        run_expression(
            run,
            data,
            out,
            cell_type=cell_type,
            overwrite=overwrite,
            allow_fractions=allow_fractions,
            gene_list=gene_list,
            counts=counts,
            transform_batch=transform_batch,
            library_size=library_size,
        )


@app.command(cls=Command)
def states(
    run: Run,
    data: Annotated[Path, typer.Argument(metavar="SPOTS", help="Spots, raw counts (.h5ad).")],
    out: Annotated[Path, typer.Option(help="Table to write (.csv).")],
    cell_type: CellType = None,
    overwrite: Overwrite = False,
    allow_fractions: AllowFractions = False,
) -> None:
    """Write the state of each cell type in each spot. RUN is made by vivace deconvolve."""
    from vivace.cli.tissue import run_states

    run_states(
        run,
        data,
        out,
        cell_type=cell_type,
        overwrite=overwrite,
        allow_fractions=allow_fractions,
    )


@app.command(cls=Command)
def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: report.html in the run folder.")
    ] = None,
    genes: Annotated[
        list[str] | None,
        typer.Option(help="Genes to colour the map by, beside the 200 that tell most: CD3D,MS4A1."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Cells to report on, for a model that was imported or saved alone; replaces the tables "
            "of the run. With --genes: the cells the run was made from, for genes that it does not hold."
        ),
    ] = None,
    colour: Annotated[
        list[str] | None,
        typer.Option(
            help="With --data: column of obs to colour the map by; several times for more."
        ),
    ] = None,
    allow_fractions: AllowFractions = False,
) -> None:
    """Write one HTML page about a run: what the model is for, maps to touch, training, data, settings.

    The page is a single file that needs no network; open it in any browser, also on a phone.
    """
    from vivace.cli.report import run_report

    if out is not None:
        check_page(out)
    run_report(
        run, out, genes=genes or [], data=data, colour=colour, allow_fractions=allow_fractions
    )


def check_page(out: Path) -> None:
    """Refuse to write a page where something else is, or where nothing can be written."""
    if out.is_dir():
        raise InvalidArgumentError(f'"{out}" is a folder; name a file')
    if out.suffix.lower() not in (".html", ".htm"):
        raise InvalidArgumentError(f'--out "{out}" should end in .html')
    check_place(out)


@app.command(name="import", cls=Command)
def import_(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder saved by scvi-tools or SpliceVI (model.pt)."),
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Cells the model was trained with (.h5ad, .h5mu); needed for SpliceVI only."
        ),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Prefix of the file names, if one was given.")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Bring a model of scvi-tools or SpliceVI; its old numbers come out.

    Nothing in the folder is executed: a file that holds anything but data is refused.
    """
    from vivace.cli.bring import run_import

    run_import(folder, out, data, prefix, overwrite=overwrite)
