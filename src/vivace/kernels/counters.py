"""Numbers in memory that several processes share: each process writes its own and looks at the others'.

What was written to that memory before a number is there for every process that has read the number:
on some processors that takes more than writing one after the other, so that these are loads and stores
of a kind that arrays do not have.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vivace.kernels.jit import compiled

LINE = 64
"""Bytes between two of them, so that no process waits for a line of memory that another writes to."""


def _place(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.IntType(64).as_pointer())


@intrinsic
def _read(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_place(builder, arguments[0]), "acquire", 8)

    return types.int64(types.int64), code


@intrinsic
def _write(typing: Any, address: Any, number: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], _place(builder, arguments[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@compiled
def count(first: int, process: int, number: int) -> None:
    """Set the number of a process; ``first`` is the address of the first one's."""
    _write(first + LINE * process, number)  # type: ignore[call-arg]


@compiled
def all_count(first: int, n_processes: int, number: int, looks: int) -> bool:
    """Whether all processes have come to a number, looking at each for so often at most."""
    for process in range(n_processes):
        for _ in range(looks):
            if _read(first + LINE * process) >= number:  # type: ignore[call-arg]
                break
        else:
            return False
    return True
