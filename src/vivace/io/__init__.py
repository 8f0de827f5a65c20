"""A saved model is data, not code: safetensors and versioned JSON, written beside and renamed."""

from vivace.io.store import SavedModel, load_parts, save_parts

__all__ = ["SavedModel", "load_parts", "save_parts"]
