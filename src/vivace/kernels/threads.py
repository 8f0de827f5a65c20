"""Compiled functions over parts of the rows, on as many threads as torch uses."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch

ROWS_PER_THREAD = 16
"""Fewer are not worth waking another thread."""


@cache
def thread_pool(n_threads: int) -> ThreadPoolExecutor:
    """Threads of our own: numba's would stop the process when two models train at once."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="vivace-kernels")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=thread_pool.cache_clear)  # threads do not survive a fork


def run_in_threads(function: Callable, n_rows: int, *args: Any) -> None:
    """``function(first, last, *args)`` over consecutive parts of the rows."""
    n_parts = max(1, min(torch.get_num_threads(), n_rows // ROWS_PER_THREAD))
    edges = [n_rows * part // n_parts for part in range(n_parts + 1)]
    waiting = [
        thread_pool(n_parts - 1).submit(function, first, last, *args)
        for first, last in pairwise(edges[1:])
    ]
    function(0, edges[1], *args)
    for part in waiting:
        part.result()
