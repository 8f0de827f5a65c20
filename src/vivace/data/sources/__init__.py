"""Where cells come from: a source answers "these rows" as CSR or dense."""

from vivace.data.sources.memory import MemorySource
from vivace.data.sources.open import open_source
from vivace.data.sources.protocol import Rows, Source

__all__ = ["MemorySource", "Rows", "Source", "open_source"]
