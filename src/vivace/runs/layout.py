"""Names of the files of a run folder, and the columns of its tables.

The one place that knows them: :mod:`vivace.tables` writes what is listed here, the report reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL = "model.json"
REFERENCE = "reference"
"""Folder of the model of single cells that spots were read with."""
PAGE = "report.html"
TABLES = "tables"
SUMMARY = "summary.json"
SUMMARY_KEYS = ("n_cells", "n_genes", "counts_per_cell", "genes_per_cell", "zero_fraction")
"""What a summary always holds."""
EXPRESSION = "expression.npz"
"""Denoised expression of the most telling genes in the cells of :data:`LATENT`, see :class:`Genes`."""
TISSUE = "tissue.jpg"
"""Picture of the tissue under the spots; its place is ``tissue`` in the summary."""
KINDS_KEY, MIXING_KEY = "kinds", "mixing"
"""Keys of the headline figures on which kinds of cells are told, and how batches mix."""
DEPTH = "counts per cell, log10"
"""Column of :data:`LATENT`, after :data:`COLOUR`, with the depth of each cell."""


@dataclass(frozen=True)
class Table:
    """A CSV file of a run folder.

    Attributes
    ----------
    name
        Of the file, without its ending.
    index
        Heading of the first column, which names the rows.
    columns
        Columns that the report needs; a table may have more.
    more
        Further columns that are always written.
    digits
        Format of its numbers; None writes them in full.
    """

    name: str
    index: str
    columns: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    digits: str | None = None

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.name}.csv"


DIMENSION = "latent_"
"""Begins the columns of latent means: ``latent_0`` and so on."""
COLOUR = "obs:"
"""Begins the columns that a map may be coloured by; the name of the column of ``obs`` follows."""
ALL_CELLS = "all cells"
"""Row of :data:`INTEGRATION` that holds for all kinds of cells together."""
MOMENTS = ("mean", "variance", "zero_fraction")
"""What is said of each gene, ``observed_`` in the data and as the ``model_`` simulates it."""

HISTORY = Table("history", "epoch")
LATENT = Table("latent", "cell")
SALIENT = Table("salient", "cell")
GENES = Table(
    "genes", "gene", tuple(f"{who}_{m}" for m in MOMENTS for who in ("observed", "model"))
)
DIFFERENTIAL = Table(
    "differential",
    "gene",
    ("group1", "proba_de", "lfc_median", "lfc_std", "found"),
    more=("scale1", "scale2", "raw_mean1", "raw_mean2", "n_cells1"),
    digits="%.5g",
)
INTEGRATION = Table(
    "integration", "kind", ("n_cells", "n_systems", "systems_before", "systems_after")
)
CONDITIONS = Table("conditions", "condition", ("salient_separation", "background_separation"))
FEW_CELLS = 10
"""A group of fewer cells than this says little, whatever is found in it."""
SALIENT_GENES = Table("salient_genes", "gene", ("group1", "lfc_mean", "proba_de"))
KINDS = Table("kinds", "column")
USAGE = Table(
    "splicing_usage",
    "row",
    ("event", "junction", "group", "usage", "observed", "reads"),
    digits="%.4g",
)
BASELINES = Table("splicing_baselines", "prediction", ("mae", "log_likelihood_read"))
CALIBRATION = Table(
    "splicing_calibration", "bin", ("predicted", "observed", "reads", "entries"), digits="%.4g"
)
PROPORTIONS = Table("proportions", "spot", digits="%.5g")
CELL_PROPORTIONS = Table("cell_proportions", "spot", digits="%.5g")
PROPORTION_SPREAD = Table("proportion_spread", "spot", digits="%.5g")
COORDINATES = Table("coordinates", "spot", ("x", "y"))
MARKERS = Table("markers", "type", ("gene", "together"), ("log2_fold", "correlation"), "%.5g")
