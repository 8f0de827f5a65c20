"""Whether a data object still holds what was read from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from vivace.data.matrices import find_matrix
from vivace.data.schema import Schema
from vivace.data.sources import places


@dataclass(frozen=True)
class Fingerprint:
    """What a schema reads of a data object, short enough to be compared at every question.

    Attributes
    ----------
    sums
        Place, shape and checksum of each array.
    tables
        Names and columns, copied.
    """

    sums: tuple[Any, ...]
    tables: tuple[pd.Index | pd.Series, ...]

    @classmethod
    def of(cls, data: Any, schema: Schema) -> Fingerprint:
        """Of one AnnData or MuData, which :class:`vivace.data.Cells` has accepted before.

        Raises
        ------
        KeyError
            If something that was there is gone.
        """
        sums: list[Any] = []
        tables: list[pd.Index | pd.Series] = [data.obs_names]
        for field in schema.fields:
            part = data.mod[field.modality] if field.modality else data
            layer = field.columns[0] if field.columns else None
            if field.kind == "matrix":
                sums.append(_sum_of(find_matrix(part, layer)))
                tables += [part.var_names, part.obs_names]
            elif field.kind == "obsm":
                sums.append(_sum_of(np.asarray(data.obsm[field.columns[0]])))
            else:
                tables += [data.obs[name].copy() for name in field.columns]
        return cls(tuple(sums), tuple(tables))

    def same(self, other: Fingerprint) -> bool:
        """Whether the two are of the same content."""
        return (
            self.sums == other.sums
            and len(self.tables) == len(other.tables)
            and all(a is b or a.equals(b) for a, b in zip(self.tables, other.tables, strict=True))
        )


def _sum_of(matrix: Any) -> tuple[Any, ...]:
    files = places(matrix)
    if files:  # which tell by their size and time
        return matrix.shape, *((place.file, place.name, place.stamp()) for place in files)
    if sparse.issparse(matrix) and matrix.format in ("csr", "csc"):
        arrays = (matrix.data, matrix.indices, matrix.indptr)
        return matrix.shape, *(_checksum(a) for a in arrays)
    return getattr(matrix, "shape", ()), _checksum(np.asarray(matrix))


def _checksum(array: np.ndarray) -> tuple[Any, ...]:
    """Where an array lies, its type, and a sum that changes with its values and their order."""
    if array.dtype == object:
        return array.shape, hash(tuple(array.flat))
    flat = array.ravel(order="K")
    raw = np.ascontiguousarray(flat).view(np.uint8)
    whole = len(raw) // 8 * 8
    words = raw[:whole].view(np.uint64)
    return (
        array.ctypes.data,
        array.dtype.str,
        len(raw),
        int(sum_of_words()(words)),
        bytes(raw[whole:]),
    )


@cache
def sum_of_words() -> Callable:
    """The compiled loop; the compiler is imported when the first question is asked."""
    from vivace.kernels.jit import compiled

    @compiled
    def total(words):
        # four lanes, as a product waits for the one before; the factor is odd, so that nothing is lost
        factor = np.uint64(0x9E3779B97F4A7C15)
        a, b, c, d = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
        n = words.shape[0] // 4 * 4
        for i in range(0, n, 4):
            a = (a ^ words[i]) * factor
            b = (b ^ words[i + 1]) * factor
            c = (c ^ words[i + 2]) * factor
            d = (d ^ words[i + 3]) * factor
        for i in range(n, words.shape[0]):
            a = (a ^ words[i]) * factor
        return ((a * factor ^ b) * factor ^ c) * factor ^ d

    return total
