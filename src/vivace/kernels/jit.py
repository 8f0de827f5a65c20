"""How functions are compiled: once a machine, without holding the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable | None = None, *, reorder: bool = False) -> Any:
    """Compile a function of arrays and numbers on its first call and keep the result on disk.

    Parameters
    ----------
    function
        To compile; it may be called from several threads at once.
    reorder
        Let sums be taken in any order, which they need to vectorise.
    """
    if function is None:
        return lambda f: compiled(f, reorder=reorder)
    fastmath = {"contract", "reassoc"} if reorder else {"contract"}
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in is writable
        return njit(**options)(function)
