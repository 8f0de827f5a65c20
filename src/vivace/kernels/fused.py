"""What the fused kernels share: arguments as rows, and gradients computed together with the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable


class Wanted(NamedTuple):
    """Which gradients a kernel has to compute."""

    logits: bool  # and library
    log_theta: bool
    zi_logits: bool


class Gradients(NamedTuple):
    """Of the value of each row; those not wanted have no rows."""

    logits: torch.Tensor  # (R, G)
    library: torch.Tensor  # (R,)
    log_theta: torch.Tensor  # (R, G)
    zi_logits: torch.Tensor  # (R, G)

    @classmethod
    def allocate(cls, like: torch.Tensor, wanted: Wanted) -> Gradients:
        """Room for the gradients of rows shaped like the given ones."""
        nothing = like.new_empty(0, 0)
        of_logits, of_theta, of_zi = (torch.empty_like(like) if w else nothing for w in wanted)
        return cls(of_logits, like.new_empty(like.shape[0]), of_theta, of_zi)


class Rows(NamedTuple):
    """Arguments of a kernel; R rows of logits belong to B cells, R a multiple of B."""

    x: torch.Tensor  # (B, G), dense or CSR
    logits: torch.Tensor  # (R, G) float32
    library: torch.Tensor  # (R, 1) float32
    log_theta: torch.Tensor | None  # (K, G) float32
    zi_logits: torch.Tensor | None  # (R, G) float32
    theta_rows: torch.Tensor | None  # (B,) int64; None: row i of the logits has row i of log_theta
    scale: str


class Backend(NamedTuple):
    """A fused kernel: value and gradients of rows, and the weighted sum of rows."""

    run: Callable[[Rows, Wanted], tuple[torch.Tensor, Gradients]]
    weighted_sum: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def log_likelihood(
    backend: Backend,
    x: torch.Tensor,
    logits: torch.Tensor,
    library: torch.Tensor,
    log_theta: torch.Tensor | None,
    zi_logits: torch.Tensor | None,
    scale: str,
    theta_rows: torch.Tensor | None,
) -> torch.Tensor:
    """Bring the arguments of :func:`vivace.kernels.count_log_likelihood` into rows and run a backend."""
    shape = torch.broadcast_shapes(logits.shape, library.shape, x.shape)
    if zi_logits is not None:
        zi_logits = as_rows(zi_logits, shape)
    if log_theta is not None:
        shared = log_theta.shape[:-1].numel() == 1 and log_theta.shape[-1] == shape[-1]
        if theta_rows is None and shared:
            theta_rows = torch.zeros(shape[-2], dtype=torch.int64, device=logits.device)
        if theta_rows is None:
            log_theta = as_rows(log_theta, shape)
        log_theta = log_theta.reshape(-1, shape[-1]).float().contiguous()
    value = RowsLogLikelihood.apply(
        as_rows(logits, shape),
        as_rows(library, (*shape[:-1], 1)),
        log_theta,
        zi_logits,
        x,
        theta_rows,
        scale,
        backend,
        torch.is_grad_enabled(),
    )
    return value.view(shape[:-1])


def as_rows(tensor: torch.Tensor, shape: Any) -> torch.Tensor:
    """(R, G) float32, contiguous, with all leading axes in one."""
    if tensor.shape != shape:
        tensor = tensor.expand(shape)
    return tensor.reshape(-1, shape[-1]).float().contiguous()


class RowsLogLikelihood(torch.autograd.Function):
    """Gradients are computed with the value, and only multiplied on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        library: torch.Tensor,
        log_theta: torch.Tensor | None,
        zi_logits: torch.Tensor | None,
        x: torch.Tensor,
        theta_rows: torch.Tensor | None,
        scale: str,
        backend: Backend,
        grad_enabled: bool,
    ) -> torch.Tensor:
        needs = ctx.needs_input_grad
        wanted = Wanted(
            logits=grad_enabled and (needs[0] or needs[1]),
            log_theta=grad_enabled and needs[2],
            zi_logits=grad_enabled and needs[3],
        )
        rows = Rows(x, logits, library, log_theta, zi_logits, theta_rows, scale)
        value, gradients = backend.run(rows, wanted)
        ctx.save_for_backward(*gradients, theta_rows)
        ctx.n_theta = None if log_theta is None else log_theta.shape[0]
        ctx.backend = backend
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> tuple:
        *gradients, theta_rows = ctx.saved_tensors
        by = Gradients(*gradients)
        needs = ctx.needs_input_grad
        column = weights.unsqueeze(-1)
        by_theta = None
        if needs[2] and ctx.n_theta == 1 and theta_rows is not None:
            by_theta = ctx.backend.weighted_sum(weights.contiguous(), by.log_theta)
        elif needs[2]:
            by_theta = add_up(by.log_theta * column, theta_rows, ctx.n_theta)
        return (
            by.logits * column if needs[0] else None,
            (by.library * weights).unsqueeze(-1) if needs[1] else None,
            by_theta,
            by.zi_logits * column if needs[3] else None,
            *[None] * 5,
        )


def add_up(by_row: torch.Tensor, theta_rows: torch.Tensor | None, n_theta: int) -> torch.Tensor:
    """Sum of the rows that share their dispersion, (K, G)."""
    if theta_rows is None:
        return by_row
    of_row = theta_rows.repeat(by_row.shape[0] // theta_rows.shape[0])
    return by_row.new_zeros(n_theta, by_row.shape[1]).index_add_(0, of_row, by_row)
