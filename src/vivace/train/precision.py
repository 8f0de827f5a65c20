"""The type that matrix products are taken in."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch

from vivace.errors import VivaceWarning


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Matrix products in bfloat16, if asked for."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def warn_of_slow_precision(precision: str, device: torch.device) -> None:
    """Say so where bfloat16 is emulated: training then takes about twice as long as in float32."""
    if precision == "float32" or device.type != "cpu":
        return
    known = torch.cpu.get_capabilities()
    if known.get("architecture") == "x86_64" and not (known["avx512_bf16"] or known["amx_bf16"]):
        warnings.warn(
            'precision="bf16" is slower than "float32" on this processor, which has no bfloat16 '
            "arithmetic (avx512_bf16 or amx_bf16)",
            VivaceWarning,
            stacklevel=2,
        )
