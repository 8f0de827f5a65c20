"""``vivace fit MODEL``: one command a model, its options made from the model's own signatures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from typer.core import TyperGroup

from vivace.cli.files import check_new_run, new_folder, read_cells, read_paired_cells
from vivace.cli.options import from_dataclass, from_signature, parameter, with_options
from vivace.cli.words import say
from vivace.errors import InvalidArgumentError, missing_key, nearest


@dataclass(frozen=True)
class Fit:
    """A model that can be fitted from the shell.

    Attributes
    ----------
    model
        Class name, as in ``vivace.models.table.MODELS``.
    help
        What it is for, in the words of a biologist.
    needs
        Arguments of ``setup_anndata`` that the model can do without and its users cannot.
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


NOT_FOR_THE_SHELL = ("compat",)
COMMON = ("max_epochs", "batch_size", "lr", "early_stopping")
TRAIN = ("recipe", "seed", "train_size", "accelerator", "checkpoint", "resume")
PANELS = ("Your data", "The model", "Training", "Training, fine tuning")
PLAIN_HELP = {
    "layer": "Layer of the file with the raw counts; default: X.",
    "batch_key": "Column of obs with the batch (sample, donor, study) whose effect is to be removed.",
    "labels_key": "Column of obs with known kinds of cells; shown in the report, not used to learn "
    "unless an option of the model says so.",
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


class FitGroup(TyperGroup):
    """Subcommands that are built when asked for: the models need torch, ``vivace --help`` does not."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the models."""
        return list(FITS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Command of one model."""
        if cmd_name not in FITS:
            msg = f'there is no model "{cmd_name}" to fit. {nearest(cmd_name, FITS)}'
            raise InvalidArgumentError(msg)
        return fit_command(cmd_name, FITS[cmd_name])


def fit_command(name: str, fit: Fit) -> Any:
    """The command of one model."""
    parameters = fit_parameters(fit)

    def run(seed: int | None = None, **values: Any) -> None:
        from vivace._settings import default_seed

        with default_seed(seed):  # initial weights too, which are drawn before training
            run_fit(fit, **values)

    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, help=fit.help, no_args_is_help=True)(with_options(run, parameters))
    return typer.main.get_command(single)


def fit_parameters(fit: Fit) -> list[Any]:
    """File arguments, then options of setup, model and training."""
    from vivace.models.base import BaseModel
    from vivace.models.table import MODELS
    from vivace.train import TrainOptions

    model: Any = MODELS[fit.model]
    data, net, training, fine = PANELS
    train = from_signature(BaseModel.train, BaseModel.train.__doc__, training)
    describe = getattr(model, fit.setup)
    setup = from_signature(describe, describe.__doc__, data)
    options = [
        *FILES,
        *fit.own,
        *(p.replace(default=p.empty) if p.name in fit.needs else p for p in setup),
        *(GENES if fit.setup == "setup_anndata" else [p for p in GENES if p.name == "colour"]),
        *from_signature(model.__init__, model.__doc__, net),
        *from_dataclass(TrainOptions, training, only=lambda n: n in COMMON),
        *(p for p in train if p.name in TRAIN),
        *CHECKPOINTS,
        *from_dataclass(TrainOptions, fine, only=lambda n: n not in COMMON),
    ]
    likelihoods = ", ".join(f'"{name}"' for name in model.likelihoods)
    for one in options:
        if one.name in PLAIN_HELP:
            text = PLAIN_HELP[one.name].format(likelihoods=likelihoods)
            one.annotation.__metadata__[0].help = text
    return [one for one in options if one.name not in NOT_FOR_THE_SHELL]


def run_fit(fit: Fit, *, data: Path, out: Path, overwrite: bool, **values: Any) -> None:
    """Read, choose genes, train, and write the run folder."""
    check_new_run(out, overwrite=overwrite)
    from vivace.analysis.genes import variable_genes
    from vivace.analysis.tables import write_tables
    from vivace.models.table import MODELS

    model_class: Any = MODELS[fit.model]
    own = {p.name: values.pop(p.name) for p in fit.own}
    setup, options, train = split_values(model_class, values, fit.setup)
    cells = read_cells(data) if fit.setup == "setup_anndata" else read_paired_cells(data)
    say(f"Read {cells.n_obs:,} cells x {cells.n_vars:,} genes from {data.name}.")
    check_columns(values["colour"], cells.obs)
    top = values.get("n_top_genes", 0)
    if 0 < top < cells.n_vars:
        kept = variable_genes(
            cells, top, layer=setup.get("layer"), batch_key=setup.get("batch_key")
        )
        cells = cells[:, kept].copy()
        say(f"Kept the {top:,} most variable genes (--n-top-genes 0 keeps all).")
    train |= fit.own_train(cells, own)
    getattr(model_class, fit.setup)(cells, **setup)
    model = model_class(cells, **options)
    say(f"Training {fit.model}. Ctrl-C ends training early and keeps the best so far.")
    model.train(**train)
    say(outcome(model.training))
    with new_folder(out) as folder:
        model.save(folder)
    write_tables(model, out, source=data.name, colour_by=values["colour"] or None)
    say(
        f"Wrote {out}/\nNext: vivace report {out}\n      vivace latent {out} {data} --out FILE.h5ad"
    )


def check_columns(names: list[str] | None, obs: Any) -> None:
    """Say before training, not after it, that a column to colour by does not exist."""
    for name in names or []:
        if name not in obs:
            raise missing_key("colour", name, "adata.obs", obs.columns)


def split_values(
    model: Any, values: dict[str, Any], describe: str = "setup_anndata"
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Arguments of setup, constructor and training from the values of the options."""
    setup = {p.name for p in from_signature(getattr(model, describe), None, "")}
    net = {p.name for p in from_signature(model.__init__, None, "")}
    given = {k: v for k, v in values.items() if v is not None and v != []}
    own = {"n_top_genes", "colour"}
    return (
        {k: v for k, v in given.items() if k in setup},
        {k: v for k, v in given.items() if k in net},
        {k: v for k, v in given.items() if k not in setup | net | own},
    )


def outcome(training: dict[str, Any]) -> str:
    """One sentence on how training ended."""
    how = {"early stopping": " (stopped early)", "interrupted": " (interrupted)"}
    stopped = how.get(training["stopped"], "")
    epochs = f"{training['epochs']} epoch{'' if training['epochs'] == 1 else 's'}"
    return f"Trained {epochs}{stopped} on {training['device']} in {training['seconds']:.1f} s."


def populations(cells: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Rows of background and target cells from ``column=value``."""
    background = {w: rows_where(cells, w, "background") for w in values["background"]}
    target = {w.partition("=")[2]: rows_where(cells, w, "target") for w in values["target"]}
    return {
        "background_indices": np.concatenate(list(background.values())),
        "target_indices": target if len(target) > 1 else next(iter(target.values())),
    }


def rows_where(cells: Any, words: str, option: str) -> np.ndarray:
    """Rows of the cells whose column of ``obs`` has a value, given as ``column=value``.

    Raises
    ------
    InvalidArgumentError
        The words have no "=", or no cell has the value.
    MissingKeyError
        There is no such column.
    """
    column, equals, value = words.partition("=")
    if not equals:
        msg = f'--{option} "{words}" should be COLUMN=VALUE: a column of obs and one of its values'
        raise InvalidArgumentError(msg)
    if column not in cells.obs:
        raise missing_key(option, column, "adata.obs", cells.obs.columns)
    rows = np.flatnonzero(cells.obs[column].astype(str) == value)
    if len(rows) == 0:
        known = cells.obs[column].astype(str).unique()
        raise missing_key(option, value, f"the column {column} of obs", known)
    return rows


FILES = [
    parameter(
        "data",
        Annotated[Path, typer.Argument(metavar="CELLS", help="File with raw counts (.h5ad).")],
    ),
    parameter("out", Annotated[Path, typer.Option(help="Run folder to write.")]),
    parameter(
        "overwrite", Annotated[bool, typer.Option("--overwrite", help="Replace a run.")], False
    ),
]
GENES = [
    parameter(
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
    ),
    parameter(
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
    ),
]
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
POPULATIONS = tuple(
    parameter(
        name,
        Annotated[
            list[str],
            typer.Option(metavar="COLUMN=VALUE", help=text, rich_help_panel=PANELS[0]),
        ],
    )
    for name, text in (
        ("background", "The cells to compare with, such as condition=control."),
        ("target", "The cells with something new; several times for several conditions."),
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
        "Find what treated cells have that controls have not, apart from what all cells share "
        "(contrastiveVI, Weinberger et al. 2023).",
        own=POPULATIONS,
        own_train=populations,
    ),
}
"""Name in the shell to model. A new model is one entry here."""
