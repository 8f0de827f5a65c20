"""From the user's object to minibatches: schema, sources, splits, loader."""

from vivace.data.cells import Cells
from vivace.data.loader import Loader, ZippedLoader
from vivace.data.schema import Field, Schema
from vivace.data.split import Split, split_cells

__all__ = ["Cells", "Field", "Loader", "Schema", "Split", "ZippedLoader", "split_cells"]
