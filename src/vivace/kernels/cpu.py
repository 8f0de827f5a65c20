"""Summed log-likelihood of counts on the processor: value and gradient in one pass over each row."""

from __future__ import annotations

import numpy as np
import torch

from vivace.kernels import rows as kernel
from vivace.kernels.affine import Affine
from vivace.kernels.csr import is_csr
from vivace.kernels.fused import Arguments, Backend, Gradients, Wanted, log_likelihood
from vivace.kernels.threads import run_in_threads

SCALES = {"softmax": kernel.SOFTMAX, "softplus": kernel.SOFTPLUS, "identity": kernel.IDENTITY}


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
    """Log-likelihood of each cell, summed over genes; see :func:`vivace.kernels.count_log_likelihood`.

    Every row is computed by itself, so the result does not depend on the number of threads.

    Examples
    --------
    >>> import torch
    >>> x, mu = torch.tensor([[0.0, 1.0, 5.0]]), torch.tensor([[0.5, 2.0, 3.0]])
    >>> log_theta = torch.tensor([1.0, 2.0, 0.5]).log()
    >>> count_log_likelihood(x, mu, torch.zeros(1, 1), log_theta, scale="identity")
    tensor([-4.9375])
    """
    return log_likelihood(BACKEND, x, logits, library, log_theta, zi_logits, scale, theta_rows)


def run(rows: Arguments, wanted: Wanted) -> tuple[torch.Tensor, Gradients]:
    """Value (R,) and gradients of rows."""
    value = torch.empty(rows.logits.shape[0])
    gradients = room_for_gradients(rows, wanted)
    run_in_threads(
        kernel.log_likelihood_of_rows,
        rows.logits.shape[0],
        counts_of(rows.x),
        rows.logits.numpy(),
        rows.library.numpy()[:, 0],
        dispersion_of(rows),
        None if rows.zi_logits is None else rows.zi_logits.numpy(),
        bias_of(rows.bias),
        bias_of(rows.zi_bias),
        SCALES[rows.scale],
        value.numpy(),
        Gradients._make(gradient.numpy() for gradient in gradients),
    )
    return value, gradients


def bias_of(bias: torch.Tensor | None) -> np.ndarray:
    """(G,), or (0,) where there is none."""
    return np.empty(0, np.float32) if bias is None else bias.detach().float().numpy()


def room_for_gradients(rows: Arguments, wanted: Wanted) -> Gradients:
    """Memory for the gradients: that of the logits, if they were made for this call and so are in cache."""
    if not rows.products:
        return Gradients.allocate(rows.logits.detach(), wanted)
    room = Gradients.allocate(rows.logits, wanted._replace(logits=False, zi_logits=False))
    if wanted.logits:
        room = room._replace(logits=rows.logits)
    if wanted.zi_logits and rows.zi_logits is not None:
        room = room._replace(zi_logits=rows.zi_logits)
    return room


def counts_of(x: torch.Tensor) -> kernel.Counts:
    """The arrays of a CSR or dense tensor."""
    if is_csr(x):  # one integer type: each would be compiled for
        parts = x.values().float(), x.col_indices().int(), x.crow_indices().int()
        return kernel.Counts(*(part.detach().numpy() for part in parts))
    return kernel.Counts(*kernel.dense_to_csr(x.detach().float().contiguous().numpy()))


def dispersion_of(rows: Arguments) -> kernel.Dispersion | None:
    """Inverse dispersion, and the row of each cell."""
    if rows.log_theta is None:
        return None
    theta = rows.log_theta.detach().exp()
    own = rows.theta_rows is None
    of_cell = np.empty(0, np.int64) if own else rows.theta_rows.long().contiguous().numpy()
    return kernel.Dispersion(theta.numpy(), theta.reciprocal().numpy(), of_cell)


def weighted_sum(weights: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Weighted sum of rows, (1, G), added up in their order whatever the number of threads."""
    out = torch.empty(1, rows.shape[1])
    kernel.weighted_sum(weights.numpy(), rows.numpy(), out.numpy()[0])
    return out


BACKEND = Backend(run, weighted_sum)
