"""Whether a data object still holds what was read from it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from vivace.data.matrices import find_matrix
from vivace.data.schema import Schema
from vivace.data.sources import places

SMALL = 1 << 18
"""So many numbers are all looked at."""
BLOCK, LOOKED_AT = 1024, 16
"""Of a block of so many of others, so many are."""


@dataclass(frozen=True)
class Fingerprint:
    """What a schema reads of a data object, short enough to be compared at every question.

    Attributes
    ----------
    sums
        Place, type and checksum of each array.
    tables
        Names, and columns that are no plain arrays.
    kept
        Columns; those of objects are compared by where these lie.
    """

    sums: tuple[Any, ...]
    tables: tuple[pd.Index | pd.Series, ...]
    kept: tuple[Any, ...] = ()

    @classmethod
    def of(cls, data: Any, schema: Schema, read_anew: Collection[str] = ()) -> Fingerprint:
        """Of one AnnData or MuData, which :class:`vivace.data.Cells` has accepted before.

        Parameters
        ----------
        data, schema
            The object, and what is read of it.
        read_anew
            Keys of matrices whose arrays are read in every minibatch, whatever they hold then: a change
            in place makes no answer wrong, so that of large ones only some values are looked at, for
            the checks of the door.

        Raises
        ------
        KeyError
            If something that was there is gone.
        """
        sums: list[Any] = []
        tables: list[pd.Index | pd.Series] = [data.obs_names]
        kept: list[Any] = []
        for field in schema.fields:
            part = data.mod[field.modality] if field.modality else data
            if field.kind == "matrix":
                matrix = find_matrix(part, *field.columns[:1] or (None,))
                sums.append(_of_matrix(matrix, read_anew=field.key in read_anew))
                tables += [part.var_names, part.obs_names]
            elif field.kind == "obsm":
                sums.append(_checksum(np.asarray(data.obsm[field.columns[0]])))
            else:
                for name in field.columns:
                    _add_column(data.obs[name], sums, tables, kept)
        return cls(tuple(sums), tuple(tables), tuple(kept))

    def holding(self) -> Fingerprint:
        """The same with copies of arrays of objects, so that no others take the places of these."""
        return replace(self, kept=tuple(a.copy() for a in self.kept if a.dtype == object))

    def same(self, other: Fingerprint) -> bool:
        """Whether the two are of the same content."""
        return (
            self.sums == other.sums
            and len(self.tables) == len(other.tables)
            and all(a is b or a.equals(b) for a, b in zip(self.tables, other.tables, strict=True))
        )


def _of_matrix(matrix: Any, *, read_anew: bool) -> tuple[Any, ...]:
    """Of all values; of large ones that are read anew in every minibatch, so that answers hold, of some."""
    files = places(matrix)
    if files:  # which tell by their size and time
        return matrix.shape, *((place.file, place.name, place.stamp()) for place in files)
    if not (sparse.issparse(matrix) and matrix.format in ("csr", "csc")):
        array = np.asarray(matrix)
        values = _some(array) if read_anew else array
        return array.shape, array.ctypes.data, _checksum(values)[1:]
    values = _some(matrix.data) if read_anew else matrix.data
    # places of entries are looked at here and there: who changes them in place changes nearly all
    arrays = (values, _some(matrix.indices), matrix.indptr)
    return matrix.shape, matrix.data.ctypes.data, *(_checksum(a)[1:] for a in arrays)


def _some(array: np.ndarray) -> np.ndarray:
    """The first of each block of a large array, and its rest; a small one as it is."""
    flat = array.ravel(order="K")
    if len(flat) <= SMALL:
        return flat
    whole = len(flat) // BLOCK * BLOCK
    return np.concatenate([flat[:whole].reshape(-1, BLOCK)[:, :LOOKED_AT].ravel(), flat[whole:]])


def _add_column(values: pd.Series, sums: list[Any], tables: list[Any], kept: list[Any]) -> None:
    """A column of obs: its array by a checksum, or itself where pandas holds it in another way."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        sums.append((_checksum(values.cat.codes.to_numpy())[1:], tuple(values.cat.categories)))
    elif isinstance(values.dtype, np.dtype):
        array = values.to_numpy()
        sums.append(_checksum(array)[1:])
        kept.append(array)
    else:
        tables.append(values.copy())


def _checksum(array: np.ndarray) -> tuple[Any, ...]:
    """Where an array lies, its type, and a sum that changes with its values and their order.

    Of objects, what is summed is where each of them lies.
    """
    flat = array.ravel(order="K")
    if array.dtype == object:
        places = (ctypes.c_uint64 * len(flat)).from_address(flat.ctypes.data) if len(flat) else ()
        flat = np.ctypeslib.as_array(places) if len(flat) else np.empty(0, dtype=np.uint64)
    raw = np.ascontiguousarray(flat).view(np.uint8)
    whole = len(raw) // 8 * 8
    words = raw[:whole].view(np.uint64)
    words.flags.writeable = False  # as some are: the loop would be compiled for either
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
