"""``vivace latent``: cells with their latent space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vivace._files import replacing
from vivace.cli.files import check_new_file, read_cells
from vivace.cli.words import say
from vivace.errors import InvalidArgumentError

KEY = "X_vivace"


def run_latent(run: Path, data: Path, out: Path, *, overwrite: bool) -> None:
    """Load the model, read the cells, write them with their latent space."""
    if out.suffix not in (".h5ad", ".csv"):
        msg = f'--out "{out}" should end in .h5ad (cells with the latent space) or .csv (a table)'
        raise InvalidArgumentError(msg)
    check_new_file(out, overwrite=overwrite)
    from vivace.models.table import load

    model: Any = load(run)
    cells = read_cells(data)
    latent = model.get_latent_representation(cells_for(model, cells))
    with replacing(out) as beside:
        if out.suffix == ".csv":
            table(latent, cells.obs_names).to_csv(beside, index_label="cell")
        else:
            cells.obsm[KEY] = latent
            cells.write_h5ad(beside, compression="gzip")
    where = "" if out.suffix == ".csv" else f' (in obsm["{KEY}"])'
    say(f"Wrote {len(latent):,} cells x {latent.shape[1]} latent dimensions to {out}{where}")


def cells_for(model: Any, cells: Any) -> Any:
    """The cells with the genes of the model, if there are more."""
    genes = model.var_names
    more = cells.n_vars > len(genes) and genes.isin(cells.var_names).all()
    return cells[:, genes].copy() if more else cells


def table(latent: np.ndarray, names: pd.Index) -> pd.DataFrame:
    """Latent space as a table."""
    return pd.DataFrame(latent, index=names).add_prefix("latent_")
