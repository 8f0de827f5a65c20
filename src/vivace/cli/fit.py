"""``vivace fit MODEL``: one command a model, its options made from the model's own signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivace.cli.columns import check_columns, check_needed, populations
from vivace.cli.command import Command, Group, Later
from vivace.cli.counts import counted, whole_counts, with_genes
from vivace.cli.files import read_paired_cells
from vivace.cli.help import REQUIRED
from vivace.cli.keep import check_room, keep_run
from vivace.cli.large import read_files
from vivace.cli.options import asked_later, from_dataclass, from_signature, parameter, with_options
from vivace.cli.words import note, say, several
from vivace.errors import InvalidArgumentError, nearest
from vivace.runs.write import check_new_run

if TYPE_CHECKING:
    from vivace.models.base import BaseModel


@dataclass(frozen=True)
class Fit:
    """A model that can be fitted from the shell.

    Attributes
    ----------
    model
        Class name, as in ``vivace.models.HOMES``.
    help
        What it is for, in the words of a biologist.
    needs
        Columns without which there is nothing to fit; asked for when the cells are read, so that the
        message can list what there is.
    own
        Options that no signature knows.
    own_train
        From the cells and the values of ``own`` to arguments of ``train``.
    setup
        Method that describes the cells; "setup_mudata" of models that read .h5mu files.
    """

    model: str
    help: str
    needs: tuple[str, ...] = ()
    own: tuple[Any, ...] = ()
    own_train: Callable[[Any, dict[str, Any]], dict[str, Any]] = lambda cells, values: {}
    setup: str = "setup_anndata"

    @property
    def paired(self) -> bool:
        """Whether the cells come as an .h5mu file."""
        return self.setup == "setup_mudata"


NOT_FOR_THE_SHELL = ("compat", "extra_payload_autotune")
COMMON = ("max_epochs", "batch_size", "lr", "early_stopping")
TRAIN = ("recipe", "seed", "train_size", "accelerator", "checkpoint", "resume")
PANELS = ("Your data", "The model", "Training", "Training, fine tuning")
NETWORK = "The model, fine tuning"
ESSENTIAL = (
    *("data", "out", "overwrite", "layer", "batch_key", "labels_key", "categorical_covariate_keys"),
    *("n_top_genes", "background", "target", "normalize", "n_latent", "max_epochs", "seed", "help"),
)
"""What the short help tells of."""
PLAIN_HELP = {
    "layer": "Layer of the file with the raw counts; default: X. raw takes those of .raw.",
    "batch_key": "Column of obs with the batch (sample, donor, study) whose effect is to be removed.",
    "labels_key": "Column of obs with known kinds of cells; shown and compared in the report, not used to "
    "learn unless an option of the model says so.",
    "size_factor_key": "Column of obs with a size factor (above 0) to use in place of total counts.",
    "categorical_covariate_keys": "Further column of obs with groups to correct for; may be given "
    "several times.",
    "continuous_covariate_keys": "Column of obs with a number to correct for; may be given several "
    "times.",
    "accelerator": "Where to compute: auto, cpu or gpu.",
    "train_size": "Share of the cells to learn from; the others are held out. Default: 0.9.",
    "seed": "Number that fixes all chance: the same seed gives the same result.",
    "n_latent": "Number of latent dimensions: how many numbers describe a cell.",
    "n_hidden": "Width of the hidden layers of the networks.",
    "n_layers": "Number of hidden layers.",
    "dropout_rate": "Share of hidden units silenced at random while training.",
    "gene_likelihood": "Distribution of counts: {likelihoods}.",
}


class FitGroup(Group):
    """Subcommands that are built when they are called: the models need torch, a list of them does not."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the models."""
        return list(FITS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Command of one model."""
        name = cmd_name.lower()
        if name not in FITS:
            msg = f'there is no model "{cmd_name}" to fit. {nearest(name, FITS)}'
            raise InvalidArgumentError(msg)
        return Later(name, FITS[name].help, partial(fit_command, name, FITS[name]))


class FitCommand(Command):
    """A command whose short help tells of what one needs first."""

    essential = frozenset(ESSENTIAL)


def fit_command(name: str, fit: Fit) -> Any:
    """The command of one model."""
    parameters = fit_parameters(fit)

    def run(seed: int | None = None, **values: Any) -> None:
        from vivace._settings import default_seed

        with default_seed(seed):  # initial weights too, which are drawn before training
            run_fit(fit, **values)

    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, cls=FitCommand, help=fit.help, no_args_is_help=True)(
        with_options(run, parameters)
    )
    return typer.main.get_command(single)


def fit_parameters(fit: Fit) -> list[Any]:
    """File arguments, then options of setup, model and training."""
    from vivace import models
    from vivace.models.base import BaseModel
    from vivace.train import TrainOptions

    model = getattr(models, fit.model)
    data, net, training, fine = PANELS
    train = from_signature(BaseModel.train, BaseModel.train.__doc__, training)
    describe = getattr(model, fit.setup)
    setup = from_signature(describe, describe.__doc__, data)
    options = [
        *([CELLS_PAIRED] if fit.paired else [CELLS, ON_DISK]),
        *FILES,
        *fit.own,
        *(asked_later(p) if p.name in fit.needs else p for p in setup),
        *([COLOUR] if fit.paired else [N_TOP_GENES, COLOUR]),
        parameter("allow_fractions", AllowFractions, False),
        *from_signature(constructor(model), model.__doc__, net),
        *module_options(model),
        *from_dataclass(TrainOptions, training, only=lambda n: n in COMMON),
        *(p for p in train if p.name in TRAIN),
        DEVICES,
        *CHECKPOINTS,
        *from_dataclass(TrainOptions, fine, only=lambda n: n not in COMMON),
    ]
    likelihoods = ", ".join(f'"{name}"' for name in model.likelihoods)
    for one in options:
        if one.name in fit.needs:  # the model's own words say what it needs the column for
            one.annotation.__metadata__[0].help += REQUIRED
        elif one.name in PLAIN_HELP:
            text = PLAIN_HELP[one.name].format(likelihoods=likelihoods)
            one.annotation.__metadata__[0].help = text
    return [one for one in options if one.name not in NOT_FOR_THE_SHELL]


def module_options(model: type[BaseModel]) -> list[Any]:
    """What the constructor passes on to its module; not given means the module's default."""
    from vivace.models.door import further_options

    further, found = further_options(model), {}
    for base in (c for c in model.module_class.__mro__ if "__init__" in vars(c)):
        for one in from_signature(vars(base)["__init__"], base.__doc__, NETWORK):
            described = one.annotation.__metadata__[0]
            if one.name in further and one.name not in found and described.help:
                described.help += f"  [default: {further[one.name]}]"
                found[one.name] = asked_later(one)
    return list(found.values())


def run_fit(fit: Fit, *, out: Path, overwrite: bool, **values: Any) -> None:
    """Read, choose genes, train, and write the run folder."""
    check_new_run(out, overwrite=overwrite)
    with ready(fit, **values) as given:
        model = given.model
        check_room(model, out)
        say(f"Training {fit.model}. {PROMISE}")
        model.train(**given.train)
        say(outcome(model.training))
        keep_run(
            model,
            out,
            source=given.source,
            colour_by=values["colour"] or None,
            labels=given.labels,
            notes=given.notes,
        )
    first = values["data"] if fit.paired else values["data"][0]
    say(
        f"Wrote {out}/\nNext: vivace report {out}\n"
        f"      vivace latent {out} {first} --out FILE{'.h5mu' if fit.paired else '.h5ad'}"
    )


@dataclass(frozen=True)
class Ready:
    """A model that waits to be trained.

    Attributes
    ----------
    model, train
        The model with its cells, and arguments of ``train``.
    source
        Names of the files.
    notes
        Sentences about the counts, to be shown.
    labels
        Column with kinds of cells that are only looked at, where the model learns from none.
    """

    model: BaseModel
    train: dict[str, Any]
    source: str
    notes: list[str]
    labels: str | None


@contextmanager
def ready(fit: Fit, *, data: Any, allow_fractions: bool, **values: Any) -> Iterator[Ready]:
    """Read cells, choose genes and build a model; inside, counts are as the user allowed them to be."""
    from vivace import models

    model_class = getattr(models, fit.model)
    own = {p.name: values.pop(p.name) for p in fit.own}
    on_disk = values.pop("on_disk", None)
    setup, options, train = split_values(model_class, values, fit.setup)
    cells = read_paired_cells(data) if fit.paired else read_files(data, on_disk)
    source = data.name if fit.paired else ", ".join(path.name for path in data)
    say(f"Read {size(cells)} from {source}.")
    check_needed({name: values[name] for name in fit.needs}, cells.obs)
    check_columns("colour", values.get("colour") or [], cells.obs)
    shown = own.get("labels_key")
    check_columns("labels_key", [shown] if shown else [], cells.obs)
    train |= fit.own_train(cells, own)
    allowed = allow_fractions or values.get("gene_likelihood") == "normal"
    with whole_counts(allow_fractions=allowed) as notes:
        if not fit.paired:
            n_genes = cells.n_vars
            cells = chosen_genes(cells, values["n_top_genes"], setup)
            if cells.n_vars < n_genes:
                notes.append(f"Of {n_genes:,} genes, the {cells.n_vars:,} most variable were kept.")
        getattr(model_class, fit.setup)(cells, **setup)
        yield Ready(model_class(cells, **options), train, source, notes, shown)


def size(cells: Any) -> str:
    """How many cells and genes, and junctions, there are."""
    if not hasattr(cells, "mod"):
        return f"{several(cells.n_obs, 'cell')} x {several(cells.n_vars, 'gene')}"
    parts = ", ".join(f"{name} {part.n_vars:,}" for name, part in cells.mod.items())
    return f"{several(cells.n_obs, 'cell')} ({parts})"


def chosen_genes(cells: Any, top: int, setup: dict[str, Any]) -> Any:
    """The cells with their most variable genes, if they have more."""
    from vivace.analysis.genes import variable_genes

    layer = setup.get("layer")
    cells = counted(cells, layer)
    if not 0 < top < cells.n_vars:
        return cells
    kept = variable_genes(cells, top, layer=layer, batch_key=setup.get("batch_key"))
    say(f"Kept the {top:,} most variable genes (--n-top-genes 0 keeps all).")
    return with_genes(cells, kept, layer)


def constructor(model: type[BaseModel]) -> Callable[..., Any]:
    """The function whose parameters are the options of a model."""
    return model.__init__  # type: ignore[misc]


def split_values(
    model: type[BaseModel], values: dict[str, Any], describe: str = "setup_anndata"
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Arguments of setup, constructor and training from the values of the options."""
    setup = {p.name for p in from_signature(getattr(model, describe), None, "")}
    net = {p.name for p in from_signature(constructor(model), None, "")}
    net |= {p.name for p in module_options(model)}
    given = {k: v for k, v in values.items() if v is not None and v != []}
    own = {"n_top_genes", "colour"}
    return (
        {k: v for k, v in given.items() if k in setup},
        {k: v for k, v in given.items() if k in net},
        {k: v for k, v in given.items() if k not in setup | net | own},
    )


PROMISE = "Ctrl-C ends training early; from the first epoch on, the best one is kept."


def outcome(training: dict[str, Any]) -> str:
    """One sentence on how training ended.

    Raises
    ------
    KeyboardInterrupt
        It ended before there was anything to keep.
    """
    if training["epochs"] == 0:
        note("Ctrl-C came before the first epoch was over: there is no best one to keep.")
        raise KeyboardInterrupt
    how = {"early stopping": " (stopped early)", "interrupted": " (interrupted)"}
    stopped = how.get(training["stopped"], "")
    epochs = several(training["epochs"], "epoch")
    return f"Trained {epochs}{stopped} on {training['device']} in {training['seconds']:.1f} s."


AllowFractions = Annotated[
    bool,
    typer.Option(
        "--allow-fractions",
        help="Go on with counts that are not whole numbers, such as corrected ones.",
    ),
]
CELLS_PAIRED = parameter(
    "data",
    Annotated[Path, typer.Argument(metavar="CELLS", help="File with raw counts (.h5mu).")],
)
CELLS = parameter(
    "data",
    Annotated[
        list[Path],
        typer.Argument(
            metavar="CELLS",
            help="File with raw counts (.h5ad, or a .zarr folder); of several, the genes that all have.",
        ),
    ],
)
ON_DISK = parameter(
    "on_disk",
    Annotated[
        bool | None,
        typer.Option(
            "--on-disk/--in-memory",
            help="Read counts as they are needed, or all at once. Default: on disk if the files are "
            "large for the memory of this machine.",
            rich_help_panel=PANELS[0],
        ),
    ],
    None,
)
FILES = [
    parameter("out", Annotated[Path, typer.Option(help="Run folder to write.")]),
    parameter(
        "overwrite", Annotated[bool, typer.Option("--overwrite", help="Replace a run.")], False
    ),
]
N_TOP_GENES = parameter(
    "n_top_genes",
    Annotated[
        int,
        typer.Option(
            min=0,
            help="Keep this many most variable genes; 0 keeps all.",
            rich_help_panel=PANELS[0],
        ),
    ],
    2000,
)
COLOUR = parameter(
    "colour",
    Annotated[
        list[str] | None,
        typer.Option(
            help="Column of obs to colour the report's map by; may be given several times. "
            "Default: those with few distinct values.",
            rich_help_panel=PANELS[0],
        ),
    ],
    None,
)
DEVICES = parameter(
    "devices",
    Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes of this machine that train together, each with cores or a card of its own. "
            "Default: one, or those that torchrun has started.",
            rich_help_panel=PANELS[2],
        ),
    ],
    None,
)
CHECKPOINTS = [
    parameter(
        "checkpoint",
        Annotated[
            Path | None,
            typer.Option(
                help="File to keep the state of training in, after every epoch.",
                rich_help_panel=PANELS[2],
            ),
        ],
        None,
    ),
    parameter(
        "resume",
        Annotated[
            Path | None,
            typer.Option(
                help="Go on from such a file, as if nothing had happened.",
                rich_help_panel=PANELS[2],
            ),
        ],
        None,
    ),
]
LABELS_SHOWN = parameter(
    "labels_key",
    Annotated[str | None, typer.Option("--labels", help="", rich_help_panel=PANELS[0])],
    None,
)
"""Of a model that takes no labels: they are for the report alone."""
POPULATIONS = tuple(
    parameter(
        name,
        Annotated[
            list[str] | None,
            typer.Option(metavar="COLUMN=VALUE", help=text + REQUIRED, rich_help_panel=PANELS[0]),
        ],
        None,
    )
    for name, text in (
        ("background", "Cells to compare with, such as condition=control."),
        ("target", "Cells with something new; several times for several conditions."),
    )
)
FITS = {
    "scvi": Fit(
        "SCVI",
        "Embed and denoise counts and correct batches (scVI, Lopez et al. 2018): the model to "
        "start with.",
    ),
    "jointembedding": Fit(
        "JointEmbeddingSCVI",
        "Embed cells so that low sequencing depth moves them little: each cell is tied to a thinned "
        "copy of itself.",
    ),
    "sysvi": Fit(
        "SysVI",
        "Integrate systems that differ more than batches do: species, protocols, organoids and tissue "
        "(SysVI, Hrovatin et al. 2023). --normalize takes raw counts.",
        needs=("batch_key",),
        own=(LABELS_SHOWN,),
    ),
    "condscvi": Fit(
        "CondSCVI",
        "Learn how cells differ within their types: the reference that DestVI reads spots with (vivace "
        "deconvolve trains one by itself).",
        needs=("labels_key",),
    ),
    "splicevi": Fit(
        "SPLICEVI",
        "Put gene expression and alternative splicing into one latent space (SpliceVI): an .h5mu file "
        "with modalities rna and splicing, junction counts, and the event of each junction.",
        setup="setup_mudata",
    ),
    "contrastivevi": Fit(
        "ContrastiveVI",
        "Find what treated cells have that controls have not; apart from what all cells share "
        "(contrastiveVI, Weinberger et al. 2023).",
        own=POPULATIONS,
        own_train=populations,
    ),
}
"""Name in the shell to model. A new model is one entry here."""
