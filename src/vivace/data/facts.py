"""What is known of all values of a matrix after one look at them, remembered for files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vivace._files import replacing
from vivace.data.sources import DiskSource, Rows, Source
from vivace.data.sources.disk import Part

ROWS_AT_ONCE = 4096
"""Of which a block is made where nobody says how many."""
_known: dict[str, Facts] = {}


@dataclass(frozen=True)
class Facts:
    """Smallest and largest value, zeros that are not stored left out, and whether all are whole.

    Attributes
    ----------
    empty
        Cells without any value; counted on disk alone, where that costs no pass of its own.
    """

    smallest: float
    largest: float
    whole: bool
    empty: int | None = None


class Tally:
    """Facts of values as they come by."""

    def __init__(self) -> None:
        self.lows: list[Any] = []
        self.highs: list[Any] = []
        self.whole, self.n_rows, self.empty = True, 0, 0

    def add(self, values: np.ndarray) -> None:
        """Look at some values."""
        if values.size:
            self.lows.append(values.min())
            self.highs.append(values.max())
            self.whole = self.whole and (
                values.dtype.kind in "iub" or bool((values == np.rint(values)).all())
            )

    def add_rows(self, rows: Rows) -> None:
        """Look at the values of cells, and at which have none."""
        values = rows.data if rows.dense is None else rows.dense
        assert values is not None
        self.add(values)
        self.n_rows += rows.shape[0]
        if rows.dense is not None:
            self.empty += int((~rows.dense.any(axis=1)).sum())
        else:
            assert rows.indptr is not None
            there = np.concatenate([[0], np.cumsum(values != 0)])
            self.empty += int((np.diff(there[rows.indptr]) == 0).sum())

    def facts(self) -> Facts:
        """What has been found."""
        empty = self.empty if self.n_rows else None
        if not self.lows:
            return Facts(0.0, 0.0, True, empty)
        return Facts(float(np.min(self.lows)), float(np.max(self.highs)), self.whole, empty)


def look_at(source: Source) -> Facts:
    """Facts of a matrix; of files, those of all their genes, which are remembered."""
    if isinstance(source, DiskSource):
        return _together([_facts_of(part) for part in source.parts])
    tally = Tally()
    for values in source.values():
        tally.add(values)
    return tally.facts()


class Watched:
    """A source on disk whose facts are found along the way, when all of its rows are read once.

    Parameters
    ----------
    source
        With all columns of its files.
    """

    def __init__(self, source: DiskSource):
        self._source, self.layout, self.shape = source, source.layout, source.shape
        self._tallies = [Tally() for _ in source.parts]
        self._ends = np.cumsum([part.stored.shape[0] for part in source.parts])

    def read(self, rows: np.ndarray) -> Rows:
        """Rows of one file, in rising order."""
        found = self._source.read(rows)
        self._tallies[int(np.searchsorted(self._ends, rows[0], side="right"))].add_rows(found)
        return found

    def values(self) -> Iterator[np.ndarray]:
        """Stored values, not watched."""
        return self._source.values()

    def blocks(self) -> Iterator[np.ndarray]:
        """Numbers of all rows, in blocks that lie in one file each."""
        start = 0
        for end in self._ends.tolist():
            for first in range(start, end, ROWS_AT_ONCE):
                yield np.arange(first, min(first + ROWS_AT_ONCE, end))
            start = end

    def remember(self) -> None:
        """Keep what was found."""
        for part, tally in zip(self._source.parts, self._tallies, strict=True):
            _remember(part, tally.facts())


def are_known(source: DiskSource) -> bool:
    """Whether nothing has to be read to know the facts."""
    return all(_recall(part) is not None for part in source.parts)


def _facts_of(part: Part) -> Facts:
    known = _recall(part)
    if known is not None:
        return known
    tally = Tally()
    whole = Part(part.stored, None, part.stamp)
    for rows in whole.read(np.arange(part.stored.shape[0])):
        tally.add_rows(rows)
    return _remember(part, tally.facts())


def _together(found: Sequence[Facts]) -> Facts:
    return Facts(
        min(facts.smallest for facts in found),
        max(facts.largest for facts in found),
        all(facts.whole for facts in found),
        sum(facts.empty or 0 for facts in found),
    )


# memory -----------------------------------------------------------------------------------------


def _recall(part: Part) -> Facts | None:
    key = _key(part)
    if key not in _known:
        with suppress(OSError, ValueError, TypeError):
            _known[key] = Facts(**json.loads(_kept(key).read_text()))
    return _known.get(key)


def _remember(part: Part, facts: Facts) -> Facts:
    key = _key(part)
    _known[key] = facts
    if part.stamp and np.isfinite([facts.smallest, facts.largest]).all():
        with suppress(OSError), replacing(_kept(key)) as beside:
            beside.write_text(json.dumps(asdict(facts)))
    return facts


def _key(part: Part) -> str:
    """Name of one state of one matrix of one file."""
    words = json.dumps([str(Path(part.place.file).resolve()), part.place.name, part.stamp])
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


def _kept(key: str) -> Path:
    """File in the user's cache; never beside the data."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "vivace" / "facts" / f"{key}.json"
