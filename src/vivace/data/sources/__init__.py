"""Where cells come from: a source answers "these rows" as CSR or dense."""

from vivace.data.sources.disk import DiskSource, hold
from vivace.data.sources.lazy import LazyMatrix
from vivace.data.sources.memory import MemorySource
from vivace.data.sources.open import on_disk, open_source, places
from vivace.data.sources.protocol import Layout, Rows, Source

__all__ = [
    "DiskSource",
    "Layout",
    "LazyMatrix",
    "MemorySource",
    "Rows",
    "Source",
    "hold",
    "on_disk",
    "open_source",
    "places",
]
