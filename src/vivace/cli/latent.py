"""``vivace latent``: cells with their latent space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vivace._files import replacing
from vivace.cli.counts import counted, whole_counts, with_genes
from vivace.cli.files import check_new_file, write_cells
from vivace.cli.large import kinds_of_answer, read_cells_of, stay_on_disk, write_beside_counts
from vivace.cli.words import say, several
from vivace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from vivace.models.base import BaseModel

KEY = "X_vivace"


def run_latent(run: Path, data: Path, out: Path, *, overwrite: bool, allow_fractions: bool) -> None:
    """Load the model, read the cells, write them with their latent space (or their two)."""
    kind, table_kind = kinds_of_answer(data)
    if out.suffix not in (kind, table_kind):
        msg = f'--out "{out}" should end in {kind} (cells with the latent space) or .csv (a table)'
        raise InvalidArgumentError(msg)
    check_new_file(out, overwrite=overwrite)
    from vivace.models.table import load
    from vivace.tables.capabilities import latent_means

    model = load(run)
    cells = read_cells_of(model, data)
    with whole_counts(allow_fractions=allow_fractions):
        latent = latent_means(model, cells_for(model, cells))
    if out.suffix == ".csv":
        with replacing(out) as beside:
            table(latent, cells.obs_names).to_csv(beside, index_label="cell")
    else:
        named = {key(name): means for name, means in latent.items()}
        if stay_on_disk(cells):
            write_beside_counts(data, out, named)
        else:
            cells.obsm.update(named)
            write_cells(cells, out)
    for name, means in latent.items():
        where = f", {name}_*" if out.suffix == ".csv" else f' in obsm["{key(name)}"]'
        placed = f"{several(len(means), 'cell')} x {several(means.shape[1], 'latent dimension')}"
        say(f"Wrote {placed} to {out}{where}")


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
