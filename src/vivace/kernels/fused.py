"""What the fused kernels share: arguments as rows, and gradients computed together with the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from vivace.kernels.affine import Affine


class Wanted(NamedTuple):
    """Which gradients a kernel has to compute."""

    logits: bool  # and library
    log_theta: bool
    zi_logits: bool


class Gradients(NamedTuple):
    """Gradients of the value of each row; one that is not wanted has no rows.

    The compiled loops get the same as numpy arrays.
    """

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


class Arguments(NamedTuple):
    """Arguments of a kernel; R rows of logits belong to B cells, R a multiple of B."""

    x: torch.Tensor  # (B, G), dense or CSR
    logits: torch.Tensor  # (R, G) float32
    library: torch.Tensor  # (R, 1) float32
    log_theta: torch.Tensor | None  # (K, G) float32
    zi_logits: torch.Tensor | None  # (R, G) float32
    theta_rows: torch.Tensor | None  # (B,) int64; None: row i of the logits has row i of log_theta
    scale: str
    bias: torch.Tensor | None  # (G,) still to be added to logits that are products
    zi_bias: torch.Tensor | None  # the same of zi_logits

    @property
    def products(self) -> bool:
        """Whether logits were made for the kernel, which may then write over them."""
        return self.bias is not None and (self.zi_logits is None or self.zi_bias is not None)


class Backend(NamedTuple):
    """A fused kernel: value and gradients of rows, and the weighted sum of rows."""

    run: Callable[[Arguments, Wanted], tuple[torch.Tensor, Gradients]]
    weighted_sum: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def log_likelihood(
    backend: Backend,
    x: torch.Tensor,
    logits: torch.Tensor | Affine,
    library: torch.Tensor,
    log_theta: torch.Tensor | None,
    zi_logits: torch.Tensor | Affine | None,
    scale: str,
    theta_rows: torch.Tensor | None,
) -> torch.Tensor:
    """Bring the arguments of :func:`vivace.kernels.count_log_likelihood` into rows and run a backend."""
    # numpy's function takes a quarter of the time of torch's, which is called at every step
    shape = torch.Size(np.broadcast_shapes(logits.shape, library.shape, x.shape))
    if log_theta is not None:
        shared = log_theta.shape[:-1].numel() == 1 and log_theta.shape[-1] == shape[-1]
        if theta_rows is None and shared:
            theta_rows = torch.zeros(shape[-2], dtype=torch.int64, device=logits.device)
        if theta_rows is None:
            log_theta = as_rows(log_theta, shape)
        log_theta = log_theta.reshape(-1, shape[-1]).float().contiguous()
    value = RowsLogLikelihood.apply(
        *head_rows(logits, shape),
        *head_rows(zi_logits, shape),
        as_rows(library, (*shape[:-1], 1)),
        log_theta,
        x,
        theta_rows,
        scale,
        backend,
        torch.is_grad_enabled(),
    )
    return value.view(shape[:-1])


def head_rows(head: torch.Tensor | Affine | None, shape: Any) -> tuple:
    """Hidden units (R, H), weight and bias; a head that is no product has neither of the latter."""
    if head is None or not isinstance(head, Affine):
        return None if head is None else as_rows(head, shape), None, None
    return as_rows(head.h, (*shape[:-1], head.h.shape[-1])), head.weight, head.bias


def as_rows(tensor: torch.Tensor, shape: Any) -> torch.Tensor:
    """(R, G) float32, contiguous, with all leading axes in one."""
    if tensor.shape != shape:
        tensor = tensor.expand(shape)
    return tensor.reshape(-1, shape[-1]).float().contiguous()


class Head(NamedTuple):
    """Logits of the rows, and what they are a product of."""

    h: torch.Tensor  # (R, H), or the logits (R, G) themselves
    weight: torch.Tensor | None  # (G, H)
    bias: torch.Tensor | None  # (G,)

    def logits(self) -> torch.Tensor:
        """(R, G) without the bias, in the type that products are taken in."""
        return self.h if self.weight is None else self.h @ self.weight.t()

    def gradients(self, by_logits: torch.Tensor, of_rows: torch.Tensor, needs: tuple) -> tuple:
        """By h, weight and bias; the weights of the rows go to the narrow side of each product."""
        column, kind = of_rows.unsqueeze(-1), by_logits.dtype
        if self.weight is None:
            return by_logits * column if needs[0] else None, None, None
        return (
            (by_logits @ self.weight.to(kind)).float() * column if needs[0] else None,
            (by_logits.t() @ (self.h * column).to(kind)).float() if needs[1] else None,
            (of_rows.to(kind) @ by_logits).float() if needs[2] else None,
        )


class RowsLogLikelihood(torch.autograd.Function):
    """Gradients are computed with the value, and only weighted on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        h: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        zi_h: torch.Tensor | None,
        zi_weight: torch.Tensor | None,
        zi_bias: torch.Tensor | None,
        library: torch.Tensor,
        log_theta: torch.Tensor | None,
        x: torch.Tensor,
        theta_rows: torch.Tensor | None,
        scale: str,
        backend: Backend,
        grad_enabled: bool,
    ) -> torch.Tensor:
        needs = ctx.needs_input_grad
        wanted = Wanted(
            logits=grad_enabled and any((*needs[:3], needs[6])),
            log_theta=grad_enabled and needs[7],
            zi_logits=grad_enabled and any(needs[3:6]),
        )
        logits = Head(h, weight, bias).logits()
        zi_logits = None if zi_h is None else Head(zi_h, zi_weight, zi_bias).logits().float()
        rows = Arguments(
            x, logits.float(), library, log_theta, zi_logits, theta_rows, scale, bias, zi_bias
        )
        value, gradients = backend.run(rows, wanted)
        ctx.save_for_backward(*gradients, theta_rows, h, weight, bias, zi_h, zi_weight, zi_bias)
        ctx.n_theta = None if log_theta is None else log_theta.shape[0]
        ctx.backend, ctx.product_type = backend, logits.dtype
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> tuple:
        *gradients, theta_rows, h, weight, bias, zi_h, zi_weight, zi_bias = ctx.saved_tensors
        by, needs, weights = Gradients(*gradients), ctx.needs_input_grad, weights.contiguous()
        kind = ctx.product_type
        head, zi_head = Head(h, weight, bias), Head(zi_h, zi_weight, zi_bias)
        by_head = head.gradients(by.logits.to(kind), weights, needs[:3])
        by_zi = zi_head.gradients(by.zi_logits.to(kind), weights, needs[3:6])
        by_theta = None
        if needs[7] and ctx.n_theta == 1 and theta_rows is not None:
            by_theta = ctx.backend.weighted_sum(weights, by.log_theta)
        elif needs[7]:
            by_theta = add_up(by.log_theta * weights.unsqueeze(-1), theta_rows, ctx.n_theta)
        by_library = (by.library * weights).unsqueeze(-1) if needs[6] else None
        return (*by_head, *by_zi, by_library, by_theta, *[None] * 5)


def add_up(by_row: torch.Tensor, theta_rows: torch.Tensor | None, n_theta: int) -> torch.Tensor:
    """Sum of the rows that share their dispersion, (K, G)."""
    if theta_rows is None:
        return by_row
    of_row = theta_rows.repeat(by_row.shape[0] // theta_rows.shape[0])
    return by_row.new_zeros(n_theta, by_row.shape[1]).index_add_(0, of_row, by_row)
