"""Where cells come from: a source answers "these rows" as CSR or dense."""

from vivace.data.sources.memory import MemorySource, Rows, Source

__all__ = ["MemorySource", "Rows", "Source"]
