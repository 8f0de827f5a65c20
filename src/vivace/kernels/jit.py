"""How functions are compiled: once on each machine, to run without Python's global lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from vivace._hooks import without_counting


def compiled(
    function: Callable | None = None, *, reorder: bool = False, allocates: bool = False
) -> Any:
    """Compile a function of arrays and numbers on its first call and keep the result on disk.

    Parameters
    ----------
    function
        To compile; it may be called from several threads at once.
    reorder
        Let sums be taken in any order, which they need to vectorise.
    allocates
        It makes arrays or returns them, and numba counts who uses them. Without, it may only read and
        write those it is given, whose owners wait for it: to count the users of every view of a row
        takes as long as a hundred of its elements.
    """
    if function is None:
        return lambda f: compiled(f, reorder=reorder, allocates=allocates)
    fastmath = {"contract", "reassoc"} if reorder else {"contract"}
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    if not allocates:
        options |= without_counting()
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in is writable
        return njit(**options)(function)
