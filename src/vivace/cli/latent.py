"""``vivace latent``: cells with their latent space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vivace._files import replacing
from vivace._progress import doing
from vivace.cli.counts import counted, whole_counts, with_genes
from vivace.cli.files import PAIRED, check_new_file, write_cells
from vivace.cli.large import Means, read_cells_of, stay_on_disk, write_beside_counts
from vivace.cli.words import say, several
from vivace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from vivace.models.base import BaseModel

KEY = "X_vivace"


def run_latent(run: Path, data: Path, out: Path, *, overwrite: bool, allow_fractions: bool) -> None:
    """Load the model, read the cells, write them with their latent space (or their two)."""
    check_ending(data, out)
    check_new_file(out, overwrite=overwrite)
    from vivace.models.table import load
    from vivace.tables.capabilities import latent_ranges

    model = load(run)
    cells = read_cells_of(model, data)
    with whole_counts(allow_fractions=allow_fractions), doing("asking the model"):
        ranges = latent_ranges(model, cells_for(model, cells))
        if out.suffix == ".csv":
            widths = write_table(ranges, cells.obs_names, out)
        elif data.suffix == ".zarr" or stay_on_disk(cells):
            widths = write_beside_counts(data, out, named(ranges), cells.n_obs)
        else:
            found = joined(named(ranges))
            cells.obsm.update(found)
            write_cells(cells, out)
            widths = {name: means.shape[1] for name, means in found.items()}
    for name, width in widths.items():
        where = f", {name}_*" if out.suffix == ".csv" else f' in obsm["{name}"]'
        placed = f"{several(cells.n_obs, 'cell')} x {several(width, 'latent dimension')}"
        say(f"Wrote {placed} to {out}{where}")


def check_ending(data: Path, out: Path) -> None:
    """Refuse a name that says neither cells, of the kind that were read, nor a table."""
    own = data.suffix.lower()
    kind = own if own in (PAIRED, ".zarr") else ".h5ad"
    if out.suffix not in (kind, ".csv"):
        msg = f'--out "{out}" should end in {kind} (cells with the latent space) or .csv (a table)'
        raise InvalidArgumentError(msg)


def write_table(ranges: Iterable[Means], names: pd.Index, out: Path) -> dict[str, int]:
    """Write latent spaces as a table, range by range; returns how wide each is."""
    done, widths = 0, {}
    with replacing(out) as beside, beside.open("w", encoding="utf-8") as file:
        for latent in ranges:
            of_range = names[done : done + len(next(iter(latent.values())))]
            table(latent, of_range).to_csv(file, index_label="cell", header=done == 0)
            done += len(of_range)
            widths = {name: means.shape[1] for name, means in latent.items()}
    return widths


def named(ranges: Iterable[Means]) -> Iterator[Means]:
    """Latent spaces by the keys of ``obsm`` that they get."""
    return ({key(name): means for name, means in latent.items()} for latent in ranges)


def joined(ranges: Iterable[Means]) -> Means:
    """Ranges one after the other."""
    found = list(ranges)
    return {name: np.concatenate([latent[name] for latent in found]) for name in found[0]}


def key(name: str) -> str:
    """Key of ``obsm`` of a latent space."""
    return KEY if name == "latent" else f"{KEY}_{name}"


def cells_for(model: BaseModel, cells: Any) -> Any:
    """The cells with the genes of the model, if there are more; a MuData as it is."""
    if hasattr(cells, "mod"):
        return cells
    layer = model.schema.setup_args.get("layer")
    cells, genes = counted(cells, layer), model.var_names
    more = cells.n_vars > len(genes) and genes.isin(cells.var_names).all()
    return with_genes(cells, genes, layer) if more else cells


def table(latent: dict[str, np.ndarray], names: pd.Index) -> pd.DataFrame:
    """Latent spaces as a table."""
    parts = [pd.DataFrame(m, names).add_prefix(f"{name}_") for name, m in latent.items()]
    return pd.concat(parts, axis=1)
