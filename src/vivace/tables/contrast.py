"""What the report says of a background and the conditions against it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from vivace.metrics import knn_balanced_accuracy
from vivace.models.contrastivevi import ContrastiveVI
from vivace.runs.layout import CONDITIONS, KINDS, SALIENT_GENES
from vivace.runs.write import write_table
from vivace.tables.cells import kinds_of, means_of

DRAWS = 2000
GENES = 10


def write_contrast(
    model: ContrastiveVI, folder: Path, spaces: dict[str, pd.DataFrame], labels: str | None
) -> None:
    """Write ``conditions.csv``, ``salient_genes.csv`` and, with ``labels``, ``kinds.csv``.

    They are the model's summary; the genes that the salient state changes most surely, by condition;
    and how well each latent space tells the labels apart.

    Parameters
    ----------
    model
        A trained model.
    folder
        Of the tables.
    spaces
        Name of a latent space to its table, of :func:`vivace.tables.cells.latent_table`.
    labels
        Column of ``obs`` with kinds of cells.
    """
    write_table(folder, CONDITIONS, model.get_condition_summary())
    genes = model.salient_differential_expression(n_samples_overall=DRAWS)
    best = genes.groupby("group1", sort=False).head(GENES)
    write_table(folder, SALIENT_GENES, best[list(SALIENT_GENES.columns)])
    if labels is not None:
        write_table(folder, KINDS, pd.DataFrame({labels: told_apart(spaces, labels)}).T)


def told_apart(spaces: dict[str, pd.DataFrame], labels: str) -> dict[str, float]:
    """Balanced accuracy of 15 neighbours for the labels, in each space with two kinds or more."""
    return {
        name: knn_balanced_accuracy(means_of(table), kinds_of(table, labels).astype(str))
        for name, table in spaces.items()
        if kinds_of(table, labels).nunique() > 1
    }
