"""``vivace de``: which genes differ between groups of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from vivace._files import replacing
from vivace._progress import doing
from vivace.cli.columns import check_needed
from vivace.cli.counts import whole_counts
from vivace.cli.files import check_new_file
from vivace.cli.large import read_cells_of
from vivace.cli.latent import cells_for
from vivace.cli.words import say, several
from vivace.errors import InvalidArgumentError, UnsupportedError
from vivace.runs.layout import FEW_CELLS


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
    from vivace.tables.differential import how_compared

    model = load(run)
    comparing = that_compares(model)
    if comparing is None:
        msg = f"{type(model).__name__} models do not compare the expression of groups"
        raise UnsupportedError(msg)
    cells = read_cells_of(model, data)
    check_needed({"groupby": groupby}, cells.obs)
    given = {name: value for name, value in how.items() if value is not None}
    comparison = doing("comparing groups of cells")
    with whole_counts(allow_fractions=allow_fractions), comparison:
        table = comparing.differential_expression(cells_for(model, cells), groupby=groupby, **given)
    for side, position in (("n_cells1", 0), ("n_cells2", 1)):
        sizes = {name: n[position] for name, n in table.attrs["n_cells"].items()}
        table[side] = table["comparison"].map(sizes)
    with replacing(out) as beside:
        table.to_csv(beside, index_label="gene")
    how_said = in_a_sentence(how_compared(model, **given))
    say(f"Wrote {several(len(table), 'row')} to {out}. {how_said}{significant(table)}")


def in_a_sentence(how: dict[str, Any]) -> str:
    """How groups were compared, the same words for the defaults as for what was asked for."""
    corrected = "" if how["batch_correction"] else "out"
    batches = f"with{corrected} --batch-correction"
    if how["mode"] == "vanilla":
        return f"Compared by any difference, {batches}."
    return (
        f"Compared by a log2 fold change of at least {how['delta']:g}, {how['fdr_target']:.0%} of the "
        f"genes marked expected to be wrong, {batches}."
    )


def significant(table: pd.DataFrame) -> str:
    """How many genes each comparison found, where the table says so, and where that says little."""
    columns = [c for c in table.columns if str(c).startswith("is_de_fdr")]
    if not columns or "comparison" not in table:
        return ""
    found = table.groupby("comparison", observed=True, sort=False)[columns[0]].sum()
    return "".join(
        f"\n  {name}: {several(int(n), 'gene')}{too_few(min(table.attrs['n_cells'][name]))}"
        for name, n in found.items()
    )


def too_few(cells: int) -> str:
    """What is said of a side with few cells.

    Examples
    --------
    >>> too_few(7), too_few(10)
    (' (of 7 cells only: too few to rely on)', '')
    """
    return f" (of {several(cells, 'cell')} only: too few to rely on)" if cells < FEW_CELLS else ""
