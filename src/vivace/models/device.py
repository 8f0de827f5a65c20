"""Which device the words ``accelerator`` and ``devices`` mean on this machine."""

from __future__ import annotations

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
        "auto" or 1 (the first), or a list with the number of one device, from 0.

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
    if number is None:
        return torch.device(kind)
    count = torch.cuda.device_count() if kind == "cuda" else 1
    return torch.device(kind, whole_number("devices", number, at_least=0, at_most=count - 1))


def _number(devices: Any) -> Any:
    """Number of the device, if one is named; one device is used, whatever there are."""
    if isinstance(devices, list | tuple) and len(devices) == 1:
        return whole_number("devices", devices[0], at_least=0)
    if str(devices) in ("auto", "1"):
        return None
    msg = (
        f'devices={devices!r}: one device is used; pass "auto", 1 or the number of a device as [n]'
    )
    raise InvalidArgumentError(msg)
