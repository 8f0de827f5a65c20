"""``vivace de``: which genes differ between groups of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from vivace._files import replacing
from vivace.cli.columns import check_needed
from vivace.cli.counts import whole_counts
from vivace.cli.files import check_new_file
from vivace.cli.large import read_cells_of
from vivace.cli.latent import cells_for
from vivace.cli.words import say, several
from vivace.errors import InvalidArgumentError, UnsupportedError


def run_de(
    run: Path,
    data: Path,
    out: Path,
    *,
    groupby: str | None,
    overwrite: bool,
    allow_fractions: bool,
    **how: Any,
) -> None:
    """Load the model, read the cells, compare the groups, write the table."""
    if out.suffix != ".csv":
        raise InvalidArgumentError(f'--out "{out}" should end in .csv')
    check_new_file(out, overwrite=overwrite)
    from vivace.models.table import load
    from vivace.tables.capabilities import that_compares

    model = load(run)
    comparing = that_compares(model)
    if comparing is None:
        msg = f"{type(model).__name__} models do not compare the expression of groups"
        raise UnsupportedError(msg)
    cells = read_cells_of(model, data)
    check_needed({"groupby": groupby}, cells.obs)
    given = {name: value for name, value in how.items() if value is not None}
    with whole_counts(allow_fractions=allow_fractions):
        table = comparing.differential_expression(cells_for(model, cells), groupby=groupby, **given)
    with replacing(out) as beside:
        table.to_csv(beside, index_label="gene")
    say(f"Wrote {several(len(table), 'row')} to {out}{significant(table)}")


def significant(table: pd.DataFrame) -> str:
    """How many genes each comparison found, where the table says so."""
    columns = [c for c in table.columns if str(c).startswith("is_de_fdr")]
    if not columns:
        return ""
    found = table.groupby("comparison", observed=True)[columns[0]].sum()
    return "\n" + "\n".join(f"  {name}: {several(n, 'gene')}" for name, n in found.items())
