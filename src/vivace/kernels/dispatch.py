"""One door to the kernels: the fastest implementation that can take the arguments."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from vivace.errors import VivaceWarning
from vivace.kernels import reference
from vivace.kernels.affine import Affine, dense
from vivace.kernels.csr import csr_tensor

FUSED_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def count_log_likelihood(
    x: torch.Tensor,
    logits: torch.Tensor | Affine,
    library: torch.Tensor,
    log_theta: torch.Tensor | None = None,
    zi_logits: torch.Tensor | Affine | None = None,
    *,
    scale: str = "softmax",
    theta_rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log-likelihood of each cell, summed over genes, with ``mu = exp(library) * scale(logits)``.

    Zero-inflated negative binomial if ``zi_logits`` is given, negative binomial if only ``log_theta``
    is, Poisson (rate at least 1e-8) if neither. Differentiable in all arguments but ``x``.

    Parameters
    ----------
    x
        (B, G) counts >= 0, dense or CSR, whole numbers or not.
    logits
        (..., B, G) decoder output, as it is or as a product of hidden units and weights.
    library
        Natural log of the library size, broadcasts with (..., B, 1); -inf (an empty cell): ``mu = 0``.
    log_theta
        Log inverse dispersion: (G,), (..., B, G), or a table (K, G) with ``theta_rows``.
    zi_logits
        (..., B, G) log-odds of a technical zero, likewise.
    scale
        "softmax" or "softplus" of the logits, or "identity": the logits are the scale, >= 0.
    theta_rows
        (B,) int64, the row of the table for each cell.

    Returns
    -------
    (..., B) nats.

    References
    ----------
    Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics, Nat Methods.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[0.0, 2.0]])
    >>> count_log_likelihood(x, torch.zeros(1, 2), torch.log(torch.tensor([[2.0]])))
    tensor([-2.6931])
    """
    options: dict[str, Any] = {"scale": scale, "theta_rows": theta_rows}
    if logits.dtype in FUSED_TYPES and not x.requires_grad:
        n_parameters = (log_theta is not None) + (zi_logits is not None)
        fused = fused_for(logits.device.type, n_parameters)
        if fused is not None:
            return fused(x, logits, library, log_theta, zi_logits, **options)
    zi_logits = None if zi_logits is None else dense(zi_logits)
    logits = dense(logits)
    return reference.count_log_likelihood(x, logits, library, log_theta, zi_logits, **options)


@cache
def fused_for(device_type: str, n_parameters: int) -> Callable | None:
    """The fused kernel of a kind of device, or None where it has none or it does not compile.

    It compiles anew for each number of parameters besides the mean, and is tried out with that one.
    """
    if device_type == "cpu" and not loops_compile():
        return None
    try:
        if device_type == "cpu":
            from vivace.kernels import cpu

            return try_out(cpu.count_log_likelihood, device_type, n_parameters)
        if device_type == "cuda":
            from vivace.kernels import cuda

            return try_out(cuda.count_log_likelihood, device_type, n_parameters)
    except Exception as error:  # noqa: BLE001 - compilers fail in many ways; slow is better than not at all
        warn_of(error, device_type)
    return None


def try_out(function: Callable, device_type: str, n_parameters: int) -> Callable:
    """Run a kernel on one gene of one cell, so that a failure to compile shows here."""
    one = torch.ones(1, 1, device=device_type)
    ends = torch.tensor([0, 1], dtype=torch.int32, device=device_type)
    x = csr_tensor(
        ends, ends[:1], one[0], (1, 1)
    )  # to read dense counts is compiled when there are some
    function(x, one, one, *[one] * n_parameters)
    return function


@cache
def loops_compile() -> bool:
    """Whether loops on the processor are compiled here, tried out with the smallest that is used."""
    try:
        from vivace.kernels import cpu

        cpu.weighted_sum(torch.ones(1), torch.ones(1, 1))
    except Exception as error:  # noqa: BLE001 - as above
        warn_of(error, "cpu")
        return False
    return True


def warn_of(error: Exception, device_type: str) -> None:
    """Say that numbers come more slowly, and why."""
    warnings.warn(
        f"the fast {device_type} kernels do not work here ({type(error).__name__}: {error}); "
        "using plain torch, which gives the same numbers more slowly",
        VivaceWarning,
        stacklevel=4,
    )
