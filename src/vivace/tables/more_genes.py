"""Genes that a user names after the run was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vivace.errors import InvalidDataError
from vivace.models.base import BaseModel
from vivace.models.destvi import DestVI
from vivace.runs import Run
from vivace.runs.expression import Expression
from vivace.runs.layout import EXPRESSION, LATENT, PROPORTIONS, TABLES
from vivace.tables.expression import denoised, unit_of
from vivace.tables.spots import OBSERVED, levels_of


def add_genes(model: BaseModel, run: str | Path, genes: Sequence[str]) -> None:
    """Put genes before those that a run holds, for the cells of its map.

    Parameters
    ----------
    model
        The model of the run, with the cells it was made from.
    run
        Run folder.
    genes
        Names of genes of the model that the run does not hold.

    Raises
    ------
    InvalidArgumentError
        A name is no gene of the model.
    InvalidDataError
        A cell of the map is not among the cells of the model.
    """
    folder, names = Run(run), list(genes)
    model._gene_positions(names)
    table = folder.table(PROPORTIONS if isinstance(model, DestVI) else LATENT)
    shown = [] if table is None else table.index.astype(str)
    rows = model.adata.obs_names.get_indexer(shown)
    if (rows < 0).any():
        msg = (
            f'cell "{shown[int(np.argmin(rows))]}" of the run is not among the cells given; give those '
            "that the run was made from"
        )
        raise InvalidDataError(msg)
    if isinstance(model, DestVI):
        new = Expression.of(names, OBSERVED, np.log2(1 + levels_of(model, names)[rows]))
    else:
        new = Expression.of(names, unit_of(model), denoised(model, rows, names))
    held = folder.expression()
    write_whole(folder.folder / TABLES, new if held is None else joined(new, held))


def joined(first: Expression, second: Expression) -> Expression:
    """Genes of both, of the same cells."""
    parts = [
        np.concatenate([getattr(first, part), getattr(second, part)])
        for part in ("low", "top", "values")
    ]
    return Expression([*first.genes, *second.genes], second.unit, *parts)


def write_whole(folder: Path, content: Expression) -> None:
    """Replace the file in one step."""
    with TemporaryDirectory(dir=folder) as beside:
        content.write(Path(beside))
        (Path(beside) / EXPRESSION).replace(folder / EXPRESSION)
