"""From the user's object to minibatches: schema, sources, splits, loader."""

from typing import Any

from vivace.data.cells import Cells
from vivace.data.loader import Loader, ZippedLoader
from vivace.data.schema import Field, Schema
from vivace.data.split import Split, split_cells
from vivace.errors import UnknownAttributeError

__all__ = ["Cells", "Field", "Loader", "Schema", "Split", "ZippedLoader", "split_cells"]

INSTEAD_OF = {
    "poisson_gene_selection": "scanpy.pp.highly_variable_genes(adata, flavor='seurat_v3') selects genes",
    "organize_multiome_anndatas": "mudata.MuData holds the modalities of one set of cells",
    "organize_cite_seq_10x": "mudata.MuData holds the modalities of one set of cells",
    "add_dna_sequence": "no model here reads sequences",
    "reads_to_fragments": "no model here reads fragments",
}
"""Functions of scvi-tools, and what does their work."""


def __getattr__(name: str) -> Any:
    if name in INSTEAD_OF:
        raise UnknownAttributeError(f"vivace.data has no {name}: {INSTEAD_OF[name]}")
    msg = f"module 'vivace.data' has no attribute {name!r}"
    raise AttributeError(msg)
