"""A saved model is data, not code: safetensors and versioned JSON, written beside and renamed."""

from vivace.io.cells import cells_beside, read_cells
from vivace.io.damage import blamed_on
from vivace.io.limited import limited
from vivace.io.store import SavedModel, load_parts, save_parts

__all__ = [
    "SavedModel",
    "blamed_on",
    "cells_beside",
    "limited",
    "load_parts",
    "read_cells",
    "save_parts",
]
