"""``vivace expression``: expression of each cell as a model believes it, without noise of counting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from vivace._files import replacing
from vivace._progress import doing
from vivace.cli.counts import whole_counts
from vivace.cli.files import check_new_file, write_cells
from vivace.cli.large import memory, read_cells_of
from vivace.cli.latent import cells_for
from vivace.cli.tissue import chosen
from vivace.cli.words import flag, say, several
from vivace.data.selection import name_positions
from vivace.errors import InvalidArgumentError, InvalidDataError, MissingKeyError, UnsupportedError

if TYPE_CHECKING:
    from vivace.models.base import BaseModel
    from vivace.models.destvi import DestVI
    from vivace.tables.capabilities import Denoises

ENDINGS = (".h5ad", ".csv")
CELLS_AT_ONCE = 8192
SHARE = 4
"""A table of more than memory divided by this is not held at once."""


def run_expression(
    run: Path,
    data: Path,
    out: Path,
    *,
    cell_type: str | None,
    overwrite: bool,
    allow_fractions: bool,
    **how: Any,
) -> None:
    """Load the model, read the cells, write their expression."""
    if out.suffix not in ENDINGS:
        msg = f'--out "{out}" should end in .h5ad (cells by genes) or .csv (a table)'
        raise InvalidArgumentError(msg)
    check_new_file(out, overwrite=overwrite)
    from vivace.models.table import load

    model = load(run)
    given = {name: value for name, value in how.items() if value not in (None, [], False)}
    genes = given.get("gene_list", list(model.var_names))
    with whole_counts(allow_fractions=allow_fractions), doing("asking the model"):
        cells = read_cells_of(model, data)
        model.adata = cells_for(model, cells)
        parts = expression(model, cell_type, given)
        if out.suffix == ".csv":
            write_parts(parts, out)
        else:
            check_fits(cells.n_obs, len(genes))
            write_cells(as_cells(pd.concat(parts), cells), out)
    say(f"Wrote {several(cells.n_obs, 'row')} x {several(len(genes), 'gene')} to {out}")


def expression(
    model: BaseModel, cell_type: str | None, how: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """Tables of some cells after others, (n, G)."""
    from vivace.models.destvi import DestVI

    if isinstance(model, DestVI):
        return of_type(model, cell_type, how)
    if cell_type is not None:
        msg = f"{type(model).__name__} models do not tell the cell types of a spot apart, DestVI models do"
        raise UnsupportedError(msg)
    denoising = cast("Denoises", model)
    return (
        denoising.get_normalized_expression(indices=rows, **how)
        for rows in ranges(model.adata.n_obs)
    )


def of_type(model: DestVI, cell_type: str | None, how: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """Expression of one type in each spot."""
    if cell_type is None:
        types = ", ".join(model.cell_type_mapping)
        raise MissingKeyError(f"Missing option '--cell-type'; the cell types are {types}")
    (name,) = chosen(model, cell_type)
    genes, counts = how.pop("gene_list", None), how.pop("counts", False)
    if how:
        msg = f"{' and '.join(map(flag, how))}: there is no such choice for spots; leave it out"
        raise UnsupportedError(msg)
    of_rows = model.get_expression_for_ct if counts else model.get_scale_for_ct
    named = name_positions(genes, model.var_names, "gene_list", "gene")
    columns: Any = slice(None) if named is None else named
    return (of_rows(name, rows).iloc[:, columns] for rows in ranges(model.adata.n_obs))


def ranges(n: int) -> Iterator[np.ndarray]:
    """Row numbers, some after others."""
    return (np.arange(start, min(start + CELLS_AT_ONCE, n)) for start in range(0, n, CELLS_AT_ONCE))


def write_parts(parts: Iterator[pd.DataFrame], out: Path) -> None:
    """Write tables one after the other as one."""
    with replacing(out) as beside, beside.open("w", encoding="utf-8") as file:
        for i, part in enumerate(parts):
            part.to_csv(file, index_label="cell", header=i == 0)


def check_fits(n_cells: int, n_genes: int) -> None:
    """Refuse what would take too much of this machine's memory."""
    if n_cells * n_genes * 4 * SHARE > memory():
        msg = (
            f"{n_cells:,} x {n_genes:,} values are too many for this machine's memory: choose genes with "
            "--gene, or write a .csv, which is done some cells after others"
        )
        raise InvalidDataError(msg)


def as_cells(values: pd.DataFrame, cells: Any) -> Any:
    """Expression as cells by genes, with what is known of the cells."""
    import anndata

    var = pd.DataFrame(index=values.columns)
    found = anndata.AnnData(values.to_numpy(), obs=cells.obs.copy(), var=var)
    if not hasattr(cells, "mod"):
        found.obsm.update(cells.obsm)
    return found
