"""Run something in a child process that can be killed, starved or stripped of its rights."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import torch


def start(task: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> int:
    """Fork a child that runs ``prepare`` and ``task``; it leaves with 0, or 1 after an exception."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        torch.set_num_threads(1)
        prepare()
        task()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a child must never return into pytest
        os._exit(1)


def wait(child: int) -> int:
    """Exit code of a child, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_after(child: int, seconds: float) -> None:
    """kill -9 after a while."""
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    wait(child)
