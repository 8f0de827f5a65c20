"""What vivace uses of torch and numba that they do not promise to keep, each with a way to do without.

All of it saves time and changes no number. The versions it was checked with are those of
``CHECKED_WITH``; a test fails when ``constraints.txt`` moves on, so that somebody reads this file then.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.distributions import Gamma

try:
    from torch.optim.adam import adam as torch_adam
except ImportError:
    torch_adam = None  # type: ignore[assignment]

CHECKED_WITH = {"torch": "2.13.0", "numba": "0.68.1"}

ADAM_OPTIONS = (
    *("fused", "lr", "beta1", "beta2", "eps", "weight_decay"),
    *("amsgrad", "maximize", "decoupled_weight_decay"),
)
WRAPPED_VERBS = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")


def without_counting() -> dict[str, bool]:
    """Options with which numba compiles a function that does not count who uses an array.

    Without: none, and every view of a row is counted.
    """
    try:
        from numba.core.options import DefaultOptions
    except ImportError:
        return {}
    return {"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}


def changes_in_place(x: torch.Tensor) -> int | None:
    """How often a tensor was changed in place, or None where torch does not count, as in inference mode.

    Without: None, and nothing that was made of a tensor is kept for the next time.
    """
    return None if x.is_inference() else getattr(x, "_version", None)


def accepted(adam: Callable | None) -> Callable | None:
    """The function, if it takes the arguments that vivace's step of the optimizer has for it."""
    try:
        inspect.signature(adam).bind(*[[]] * 6, **dict.fromkeys(ADAM_OPTIONS))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return adam


adam: Callable | None = accepted(torch_adam)
"""Adam's update of lists of tensors. Without: None, and steps are those of ``torch.optim.Adam``."""


def without_compiler(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same optimizer, whose verbs do not import torch's compiler, which takes longer than an epoch.

    torch wraps each verb for ``torch.compile``, which nothing here is asked of an optimizer. Without
    the marks of that: the verbs are torch's own.
    """
    verbs = {name: inspect.unwrap(getattr(kind, name)) for name in WRAPPED_VERBS}
    verbs["step"] = torch.no_grad()(verbs["step"])  # the wrapper's other half
    return type(kind.__name__, (kind,), verbs)


def gamma_of_distribution(concentration: torch.Tensor) -> torch.Tensor:
    """:func:`standard_gamma` by what torch promises; draws below the smallest normal number are that."""
    one = torch.ones((), dtype=concentration.dtype, device=concentration.device)
    return Gamma(concentration, one, validate_args=False).sample()


standard_gamma: Callable[[torch.Tensor], Any] = getattr(
    torch, "_standard_gamma", gamma_of_distribution
)
"""Draws from gamma distributions of rate 1, without making a distribution and two passes over them."""
