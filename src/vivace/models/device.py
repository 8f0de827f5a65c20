"""Which device the words ``accelerator`` and ``devices`` mean on this machine."""

from __future__ import annotations

import torch

from vivace.errors import InvalidArgumentError, check_choice

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def pick_device(accelerator: str = "auto", devices: str | int | list[int] = "auto") -> torch.device:
    """The torch device to use.

    Parameters
    ----------
    accelerator
        "auto" (a CUDA device if there is one, else the CPU), "cpu", "gpu" or "cuda", "mps".
    devices
        "auto" or 1 (the first), or a list with the number of one device.

    Raises
    ------
    InvalidArgumentError
        If the accelerator is not there.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    check_choice("accelerator", accelerator, ACCELERATORS)
    if (isinstance(devices, list) and len(devices) != 1) or (
        isinstance(devices, int) and devices > 1
    ):
        msg = f"devices={devices}: one device is used; pass 1 or the number of a device as [n]"
        raise InvalidArgumentError(msg)
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cpu":
        return torch.device("cpu")
    kind = "cuda" if accelerator == "gpu" else accelerator
    available = torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()
    if not available:
        msg = f'accelerator="{accelerator}": torch finds no such device; use "cpu" or "auto"'
        raise InvalidArgumentError(msg)
    return torch.device(kind, devices[0]) if isinstance(devices, list) else torch.device(kind)
