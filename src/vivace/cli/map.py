"""``vivace map``: new cells in the latent space of a reference, with its labels carried over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from vivace._files import replacing
from vivace.cli.counts import counted, whole_counts
from vivace.cli.files import check_new_file, write_cells
from vivace.cli.fit import PROMISE, outcome, size
from vivace.cli.keep import keep_run
from vivace.cli.large import read_cells_of
from vivace.cli.latent import check_ending, joined, named, table
from vivace.cli.words import note, say, several
from vivace.errors import MissingKeyError, UnsupportedError, missing_key
from vivace.runs.layout import COLOUR, DIMENSION, LATENT
from vivace.runs.read import read_table
from vivace.runs.write import check_new_run

if TYPE_CHECKING:
    from vivace.models.base import BaseModel

SURE = 0.9
"""Share of neighbours with one label from which on a cell counts as surely labelled."""


class Known(NamedTuple):
    """Cells of the reference with their labels.

    Attributes
    ----------
    column
        Where the labels come from.
    means, labels
        (N, L) and (N,).
    """

    column: str
    means: np.ndarray
    labels: pd.Series


def run_map(
    run: Path,
    data: Path,
    out: Path,
    *,
    labels: str | None,
    keep: Path | None,
    overwrite: bool,
    allow_fractions: bool,
    **train: Any,
) -> None:
    """Map the cells, carry labels over, and write the cells (and the model, if that is asked for)."""
    check_ending(data, out)
    check_new_file(out, overwrite=overwrite)
    if keep is not None:
        check_new_run(keep, overwrite=overwrite)
    from vivace.models.table import load
    from vivace.tables.capabilities import latent_ranges

    reference = load(run)
    check_maps(reference)
    known = known_cells(run, labels)
    cells = read_cells_of(reference, data)
    say(f"Read {size(cells)} from {data.name}.")
    with whole_counts(allow_fractions=allow_fractions):
        model, prepared = mapped(reference, cells, train)
        means = joined(latent_ranges(model, prepared))
        if keep is not None and model is not reference:
            keep_run(model, keep, source=data.name)
            say(f"Wrote {keep}/")
    found = None if known is None else carried(known, next(iter(means.values())), cells.obs_names)
    if out.suffix == ".csv":
        with replacing(out) as beside:
            parts = [table(means, cells.obs_names), *([] if found is None else [found])]
            pd.concat(parts, axis=1).to_csv(beside, index_label="cell")
    else:
        cells.obsm.update(next(named([means])))
        if found is not None:
            cells.obs = cells.obs.drop(columns=found.columns, errors="ignore").join(found)
        write_cells(cells, out)
    say(f"Wrote {several(cells.n_obs, 'cell')} to {out}{summary(found)}")


def check_maps(model: BaseModel) -> None:
    """Raise unless new cells can be mapped onto a model from the shell."""
    name = type(model).__name__
    if not hasattr(model, "load_query_data"):
        msg = f"{name} models do not map new cells; vivace latent places them as they are"
        raise UnsupportedError(msg)
    if name == "ContrastiveVI":
        msg = (
            "the shell does not map onto ContrastiveVI: use ContrastiveVI.load_query_data in Python"
        )
        raise UnsupportedError(msg)


def mapped(reference: BaseModel, cells: Any, train: dict[str, Any]) -> tuple[BaseModel, Any]:
    """A model that knows the batches of the cells, and the cells with the reference's genes."""
    from vivace.models.query import extended_schema

    kind: Any = type(reference)
    if not hasattr(cells, "mod"):
        cells = counted(cells, reference.schema.setup_args.get("layer"))
        cells = kind.prepare_query_anndata(cells, reference)
    if extended_schema(reference.schema, cells.obs) == reference.schema:
        say("The reference knows all batches of these cells: nothing is to be learned.")
        return reference, cells
    model = kind.load_query_data(cells, reference)
    say(f"Learning the new batches. {PROMISE}")
    model.train(**{name: value for name, value in train.items() if value is not None})
    say(outcome(model.training))
    return model, cells


def known_cells(run: Path, labels: str | None) -> Known | None:
    """Cells of the reference as its run folder keeps them (a sample of many); None where no labels are.

    Raises
    ------
    MissingKeyError
        The labels that were asked for are not there.
    """
    kept = read_table(run, LATENT)
    columns = [] if kept is None else [c for c in kept.columns if is_label(kept, c)]
    names = [column.removeprefix(COLOUR) for column in columns]
    if kept is None or not names:
        missing = f'"{run}" keeps no labels of its cells, so that none are carried over'
        advice = f"vivace report {run} --data CELLS, with the reference's cells, keeps them"
        if labels is not None:
            raise MissingKeyError(f"{missing}: {advice}")
        note(f"Note: {missing}: {advice}")
        return None
    if labels is not None and labels not in names:
        raise missing_key("labels", labels, f'the columns that "{run}" keeps', names)
    column = COLOUR + (labels or usual_labels(run, names))
    kept = kept[kept[column].notna()]
    means = kept[[c for c in kept.columns if c.startswith(DIMENSION)]].to_numpy()
    return Known(column.removeprefix(COLOUR), means, kept[column].astype(str))


def is_label(kept: pd.DataFrame, column: str) -> bool:
    """Whether a column of the kept table names kinds of cells."""
    return column.startswith(COLOUR) and not pd.api.types.is_float_dtype(kept[column])


def usual_labels(run: Path, names: list[str]) -> str:
    """The labels that the model was set up with, or those that are called so, or the first."""
    from vivace.io import load_parts
    from vivace.tables.cells import LABEL_NAMES

    registered = load_parts(run).schema.setup_args.get("labels_key")
    likely = [registered, *(n for n in names if n.lower() in LABEL_NAMES), names[0]]
    return str(next(name for name in likely if name in names))


def carried(known: Known, means: np.ndarray, cells: pd.Index) -> pd.DataFrame:
    """Labels of the cells, and how sure they are, as columns of ``obs``."""
    from vivace.metrics import carry_labels

    found = carry_labels(known.means, known.labels, means).set_axis(cells)
    found["label"] = found["label"].astype(str).astype("category")
    name = f"mapped_{known.column}"
    return found.set_axis([name, f"{name}_sure", f"{name}_far"], axis=1)


def summary(found: pd.DataFrame | None) -> str:
    """What the labels are, and how many are sure."""
    if found is None:
        return ""
    name, sure, far = found.columns
    lines = [f"  {label}: {several(n, 'cell')}" for label, n in found[name].value_counts().items()]
    return (
        f"\nLabels in {name}; {sure}, from 0 to 1, is the share of 15 near cells that agree:\n"
        + "\n".join(lines)
        + f"\n  {several(int((found[sure] >= SURE).sum()), 'cell')} of {len(found):,} are at {SURE} or "
        f"above; {several(int(found[far].sum()), 'cell')} lie farther from the reference than its own "
        f"cells do ({far}), and may be of another kind"
    )
