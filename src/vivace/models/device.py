"""Which device, and how many processes, the words ``accelerator`` and ``devices`` mean here."""

from __future__ import annotations

import os
from typing import Any

import torch

from vivace._arguments import whole_number
from vivace.errors import InvalidArgumentError, check_choice

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def pick_device(accelerator: str = "auto", devices: str | int | list[int] = "auto") -> torch.device:
    """The torch device to use.

    Parameters
    ----------
    accelerator
        "auto" (a CUDA device if there is one, else the CPU), "cpu", "gpu" or "cuda", "mps".
    devices
        "auto" or 1 (the first; of several processes of a launcher each takes its own), a list with
        the number of one device, from 0, or how many processes train, each on its own device.

    Raises
    ------
    InvalidArgumentError
        If the accelerator or the device is not there.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    check_choice("accelerator", accelerator, ACCELERATORS)
    number = _number(devices)
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cpu":
        return torch.device("cpu")
    kind = "cuda" if accelerator == "gpu" else accelerator
    available = torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()
    if not available:
        msg = f'accelerator="{accelerator}": torch finds no such device; use "cpu" or "auto"'
        raise InvalidArgumentError(msg)
    count = torch.cuda.device_count() if kind == "cuda" else 1
    wanted = processes_of(devices) or 1
    if wanted > count:
        msg = f"devices={wanted}: there are {count}; each process has one of its own"
        raise InvalidArgumentError(msg)
    if number is None and devices == "auto" and kind == "cuda" and "LOCAL_RANK" in os.environ:
        number = int(os.environ["LOCAL_RANK"]) % count
    if number is None:
        return torch.device(kind)
    return torch.device(kind, whole_number("devices", number, at_least=0, at_most=count - 1))


def processes_of(devices: Any) -> int | None:
    """How many processes train together: None leaves it to a launcher.

    Raises
    ------
    InvalidArgumentError
        If ``devices`` is none of what :func:`pick_device` takes.

    Examples
    --------
    >>> processes_of("auto"), processes_of([0]), processes_of(2)
    (None, 1, 2)
    """
    if devices == "auto":
        return None
    if isinstance(devices, list | tuple):
        _number(devices)
        return 1
    return whole_number("devices", int(devices) if str(devices).isdigit() else devices)


def _number(devices: Any) -> Any:
    """Number of the device, if one is named."""
    if not isinstance(devices, list | tuple):
        processes_of(devices)
        return None
    if len(devices) == 1:
        return whole_number("devices", devices[0], at_least=0)
    msg = (
        f'devices={devices!r}: a process has one device; pass "auto", the number of a device as [n], '
        "or a number of processes"
    )
    raise InvalidArgumentError(msg)
