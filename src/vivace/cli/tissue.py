"""``vivace states``: the state that each cell type has in each spot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from vivace._files import replacing
from vivace._progress import doing
from vivace.cli.counts import whole_counts
from vivace.cli.files import check_new_file
from vivace.cli.large import read_cells_of
from vivace.cli.latent import cells_for
from vivace.cli.words import say, several
from vivace.errors import InvalidArgumentError, UnsupportedError, missing_key

if TYPE_CHECKING:
    from vivace.models.destvi import DestVI


def run_states(
    run: Path,
    data: Path,
    out: Path,
    *,
    cell_type: str | None,
    overwrite: bool,
    allow_fractions: bool,
) -> None:
    """Load the model, read the spots, write the states as a table."""
    if out.suffix != ".csv":
        raise InvalidArgumentError(f'--out "{out}" should end in .csv')
    check_new_file(out, overwrite=overwrite)
    from vivace.models.destvi import DestVI
    from vivace.models.table import load

    model = load(run)
    if not isinstance(model, DestVI):
        msg = (
            f"{type(model).__name__} models have no states of cell types in spots, DestVI models do "
            "(vivace deconvolve); vivace latent gives the state of each cell"
        )
        raise UnsupportedError(msg)
    with whole_counts(allow_fractions=allow_fractions), doing("asking the model"):
        model.adata = cells_for(model, read_cells_of(model, data))
        states = state_table(model, chosen(model, cell_type))
    with replacing(out) as beside:
        states.to_csv(beside, index_label="spot")
    say(
        f"Wrote {several(len(states), 'row')} to {out}: state_* of each type in each spot. Where its "
        "proportion is next to 0, the state is the reference's guess"
    )


def chosen(model: DestVI, cell_type: str | None) -> list[str]:
    """The types that are asked for."""
    if cell_type is not None and cell_type not in model.cell_type_mapping:
        raise missing_key("cell_type", cell_type, "the cell types", model.cell_type_mapping)
    return model.cell_type_mapping if cell_type is None else [cell_type]


def state_table(model: DestVI, types: list[str]) -> pd.DataFrame:
    """One row a type and spot: its proportion, and its state."""
    states, shares = model.get_gamma(), model.get_proportions()
    parts = []
    for name in types:
        part = states[name].add_prefix("state_")
        part.insert(0, "cell_type", name)
        part.insert(1, "proportion", shares[name])
        parts.append(part)
    return pd.concat(parts)
