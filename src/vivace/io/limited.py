"""A saved model may ask for a module about as large as its weights, and for no more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from vivace.errors import ModelFileError

MAKE_TENSORS = (
    torch.empty,
    torch.zeros,
    torch.ones,
    torch.full,
    torch.rand,
    torch.randn,
)
"""What modules make their parameters and buffers with."""

TIMES, FLOOR = 4, 64 * 2**20
"""A module may take this many times the bytes of its weights, and this many bytes in any case."""
A_TENSOR, SOME = 20, 200
"""It may make this many tensors for each saved one, and this many in any case."""


@contextmanager
def limited(weights: dict[str, torch.Tensor], options: dict[str, Any]) -> Iterator[None]:
    """Refuse what takes far more memory or time than the saved weights do, before it gets it.

    Parameters
    ----------
    weights
        State dict that was saved.
    options
        Constructor options that were saved.

    Raises
    ------
    ModelFileError
        If an option is larger than all weights together, or the module built inside is.
    """
    most = SOME + sum(value.numel() for value in weights.values())
    for name, number in _whole_numbers(options):
        if number > most and name != "n_obs":  # cells leave no weights
            msg = f"the saved option {name}={number!r:.40} is larger than the {most - SOME} saved weights"
            raise ModelFileError(msg)
    n_bytes = sum(value.numel() * value.element_size() for value in weights.values())
    with _Limit(max(FLOOR, TIMES * n_bytes), SOME + A_TENSOR * len(weights)):
        yield


def _whole_numbers(options: dict[str, Any]) -> Iterable[tuple[str, int]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _whole_numbers(value)
        elif isinstance(value, int):
            yield name, value


class _Limit(TorchFunctionMode):
    """Counts the tensors that are made inside, and their bytes, before they are."""

    def __init__(self, n_bytes: int, n_tensors: int):
        super().__init__()
        self.n_bytes, self.n_tensors = n_bytes, n_tensors

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in MAKE_TENSORS:
            itemsize = (kwargs.get("dtype") or torch.float32).itemsize
            self.n_bytes -= math.prod(_size(args, kwargs)) * itemsize
            self.n_tensors -= 1
            if self.n_bytes < 0 or self.n_tensors < 0:
                msg = (
                    "the saved options ask for a module far larger than the saved weights; "
                    "the folder was altered: restore it from a copy"
                )
                raise ModelFileError(msg)
        return function(*args, **kwargs)


def _size(args: tuple, kwargs: dict[str, Any]) -> Sequence[int]:
    """The sizes that a tensor is to be made with, given one by one or as one sequence."""
    first = kwargs.get("size", args[0] if args else ())
    return first if isinstance(first, Sequence) else args
