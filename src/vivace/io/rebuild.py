"""From the graph that a pickle describes to values, within a budget.

A builder of our own stands for each name that a pickle of ``torch.save`` may hold, and accepts only
what such a pickle says: nothing of numpy's, pandas' or torch's own unpickling is reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from vivace.io import rebuild_arrays, rebuild_tensors
from vivace.io.archive import Archive
from vivace.io.rebuild_tensors import STORAGE_TYPES

MOST_LEVELS = 60
"""How deep values may be nested."""
TIMES = 4
"""What is built may take this many times the bytes of the file ..."""
FLOOR = 64 * 2**20
"""... and this much in any case."""
EACH = 64
"""Bytes that any value takes, at about."""

DICTS = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict")
"""What is read as a plain dict, filled item by item."""


@dataclass(frozen=True)
class Name:
    """A name in a pickle that is known."""

    name: str


STORAGE = Name("the bytes of a tensor")
"""What notes that stand for entries of the archive call."""


class Pairs(list):
    """Keys and values of a dict that is not built yet."""


class Call:
    """A note that the pickle asks for a call, and sets the state of the result."""

    __slots__ = ("arguments", "function", "state")

    def __init__(self, function: Name, arguments: tuple):
        self.function = function
        self.arguments = arguments
        self.state: Any = None


def _to_bytes(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        msg = "bytes are written in latin1"
        raise ValueError(msg)
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _to_set(items: list | tuple) -> set:
    return {as_key(item) for item in items}


def _to_slice(start: int | None, stop: int | None, step: int | None) -> slice:
    return slice(*(None if n is None else rebuild_arrays.whole(n) for n in (start, stop, step)))


def _to_complex(real: float, imaginary: float) -> complex:
    return complex(float(real), float(imaginary))


BUILDERS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _to_bytes,
    "builtins.bytes": _no_bytes,
    "builtins.set": _to_set,
    "builtins.frozenset": _to_set,
    "builtins.slice": _to_slice,
    "builtins.complex": _to_complex,
    "numpy.dtype": rebuild_arrays.dtype,
    "numpy.core.multiarray._reconstruct": rebuild_arrays.array,
    "numpy.core.multiarray.scalar": rebuild_arrays.scalar,
    "pandas.core.indexes.base._new_Index": rebuild_arrays.index,
    "pandas._libs.internals._unpickle_block": rebuild_arrays.Block,
    "pandas.core.internals.managers.BlockManager": rebuild_arrays.Blocks,
    "pandas.core.frame.DataFrame": rebuild_arrays.frame,
    "pandas.StringDtype": rebuild_arrays.text_type,
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": rebuild_arrays.texts,
    "torch._utils._rebuild_tensor_v2": rebuild_tensors.tensor,
    "torch._utils._rebuild_parameter": rebuild_tensors.parameter,
    "torch.Size": tuple,
    "torch.device": str,
}
"""What stands for each name that may be called."""

WORDS = {
    *DICTS,
    "builtins.list",
    "numpy.ndarray",
    *rebuild_arrays.INDEX_TYPES,
    rebuild_arrays.TEXTS,
    *STORAGE_TYPES,
}
"""Names that only occur as arguments."""

RENAMED = {
    "__builtin__": "builtins",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "pandas.indexes.base": "pandas.core.indexes.base",
}
"""Modules that other versions call differently."""

SHORT = {
    "pandas.DataFrame": "pandas.core.frame.DataFrame",
    "pandas.Index": "pandas.core.indexes.base.Index",
    "pandas.RangeIndex": "pandas.core.indexes.range.RangeIndex",
}
"""Names by which pandas 3 calls what earlier versions call in full."""


def known_name(module: str, name: str) -> Name | None:
    """The name, if something stands for it."""
    full = f"{RENAMED.get(module, module)}.{name}"
    full = SHORT.get(full, full)
    return Name(full) if full in BUILDERS or full in WORDS else None


def as_key(value: Any) -> Any:
    """A value that may be a key: to hash what is nested or large costs more than it is worth."""
    if isinstance(value, tuple):
        return tuple(map(as_key, value))
    if value is not None and not isinstance(value, bool | int | float | str | bytes | np.generic):
        msg = f"a {type(value).__name__} is no key of a dict"
        raise TypeError(msg)
    return value


class Rebuilder:
    """Builds values, each once, and keeps count of what they take.

    Parameters
    ----------
    archive
        Where the bytes of tensors are.
    """

    def __init__(self, archive: Archive):
        self._budget = max(FLOOR, TIMES * archive.size)
        self._spent = 0
        self._done: dict[int, tuple[Any, int]] = {}
        self._builders: dict[str, Callable[..., Any]] = {
            **BUILDERS,
            STORAGE.name: rebuild_tensors.Storages(archive.read, archive.byte_order).storage,
        }

    def value_of(self, graph: Any) -> Any:
        """The value that a graph describes.

        Raises
        ------
        ValueError
            If it is nested too deeply, holds itself, or takes too much, written out in full.
        """
        return self._value(graph, 0)[0]

    def _value(self, node: Any, level: int) -> tuple[Any, int]:
        """A value, and the bytes it takes with everything in it, what it shares included."""
        if isinstance(node, str | bytes):
            return node, EACH + len(node)
        if type(node) not in (tuple, list, Pairs, Call):
            return node, EACH
        if id(node) not in self._done:
            if level > MOST_LEVELS:
                msg = f"values are nested more than {MOST_LEVELS} deep, or hold themselves"
                raise ValueError(msg)
            built = self._called if type(node) is Call else self._filled
            self._done[id(node)] = built(node, level + 1)
        return self._done[id(node)]

    def _values(self, nodes: Any, level: int) -> tuple[list[Any], int]:
        values, whole = [], EACH
        for node in nodes:
            value, weight = self._value(node, level)
            values.append(value)
            whole += weight
        return values, whole

    def _filled(self, node: Any, level: int) -> tuple[Any, int]:
        is_dict = type(node) is Pairs
        parts = [part for pair in node for part in pair] if is_dict else node
        values, whole = self._values(parts, level)
        self._spend(EACH * len(values), whole)
        if is_dict:
            return dict(zip(map(as_key, values[::2]), values[1::2], strict=True)), whole
        return type(node)(values), whole

    def _called(self, node: Call, level: int) -> tuple[Any, int]:
        (arguments, state), whole = self._values([node.arguments, node.state], level)
        self._spend(0, whole)
        build = self._builders.get(node.function.name)
        if build is None:
            msg = f"{node.function.name} is no function"
            raise ValueError(msg)
        value = build(*arguments) if node.state is None else build(*arguments, state=state)
        own = weight_of(value)
        if isinstance(value, torch.Tensor):  # a view of the archive's bytes, which were counted
            self._spend(0, own)
            return value, own
        self._spend(own, own + whole)
        return value, own + whole

    def _spend(self, own: int, whole: int) -> None:
        self._spent += own
        if max(self._spent, whole) > self._budget:
            msg = f"what it describes takes more than {self._budget >> 20} MiB; do not trust this file"
            raise ValueError(msg)


def weight_of(value: Any) -> int:
    """Bytes of a built value as it would be written out in full."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, pd.RangeIndex):
        return EACH * len(value)
    if isinstance(value, pd.DataFrame):
        return int(value.memory_usage().sum())
    if isinstance(value, set):
        return EACH * len(value)
    if isinstance(value, bytes):
        return len(value)
    return EACH
