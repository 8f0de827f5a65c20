"""Tensors, put together from what a pickle says of them and the bytes beside it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import torch

from vivace.io.rebuild_arrays import sizes, whole

STORAGE_TYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


class Storages:
    """Bytes of the archive as one-dimensional tensors; tensors that shared memory share it again.

    Parameters
    ----------
    read
        From the name of an entry to its bytes.
    byte_order
        Of the machine that wrote them.
    """

    def __init__(self, read: Callable[[str], bytes], byte_order: str):
        self._read = read
        self._byte_order = byte_order
        self._bytes: dict[str, bytearray] = {}

    def storage(self, named: Any) -> torch.Tensor:
        """The entry that a pickle means by ``("storage", type, key, device, number of values)``."""
        word, kind, key, _, n = named
        type_ = STORAGE_TYPES.get(getattr(kind, "name", ""))
        if word != "storage" or type_ is None or not isinstance(key, str):
            msg = "a tensor is stored in a way that is not known"
            raise ValueError(msg)
        if self._byte_order != sys.byteorder:
            msg = f"it was written on a {self._byte_order}-endian machine; save it on one like this"
            raise ValueError(msg)
        if key not in self._bytes:
            self._bytes[key] = bytearray(self._read(f"data/{key}"))
        found = self._bytes[key]
        if len(found) != whole(n) * type_.itemsize:
            msg = f"a tensor of {n} values has {len(found)} bytes"
            raise ValueError(msg)
        if not found:
            return torch.empty(0, dtype=type_)
        if type_ == torch.bool:  # any other byte than 0 and 1 is none
            return torch.frombuffer(found, dtype=torch.uint8) != 0
        return torch.frombuffer(found, dtype=type_)


def tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    facts: Any = None,
) -> torch.Tensor:
    """A view of a storage that stays inside it."""
    if not isinstance(storage, torch.Tensor) or storage.dim() != 1:
        msg = "a tensor has no storage"
        raise TypeError(msg)
    (start,), shape, steps = sizes((offset,)), sizes(size), sizes(stride)
    reach = sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if math.prod(shape) and start + reach >= len(storage):
        msg = f"a tensor reaches beyond its {len(storage)} values"
        raise ValueError(msg)
    return torch.as_strided(storage, shape, steps, start if math.prod(shape) else 0)


def parameter(values: Any, requires_grad: Any, hooks: Any) -> torch.Tensor:
    """The values of a parameter."""
    if not isinstance(values, torch.Tensor):
        msg = "a parameter has no values"
        raise TypeError(msg)
    return values
