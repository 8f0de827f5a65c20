"""Training steps taken apart: the parts of SCVI's, and the matrix products that none can do without."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import vivace
from vivace.data import Loader
from vivace.kernels import count_log_likelihood, log1p_counts
from vivace.train.history import EpochMetrics
from vivace.train.loop import Trainer
from vivace.train.optimizer import make_optimizer, take_step
from vivace.train.options import TrainOptions
from vivace.train.stopping import Interrupt

BATCH = 128


def fastest(functions: dict, repeats: int) -> dict[str, float]:
    """Least CPU milliseconds of each, in turn, so that all meet the same machine."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats + 2):
        for name, function in functions.items():
            start = time.thread_time()
            function()
            best[name] = min(best[name], 1e3 * (time.thread_time() - start))
    return best


@contextmanager
def counted_products() -> Iterator[list[int]]:
    """Floating-point operations of the dense products of each step that is trained inside."""
    found: list[int] = []
    update = Trainer.update

    def counting(self, tensors, kl_weight):
        with FlopCounterMode(display=False) as counter:
            losses = update(self, tensors, kl_weight)
        found.append(counter.get_total_flops())
        return losses

    Trainer.update = counting
    try:
        yield found
    finally:
        Trainer.update = update


def product_speed(n_genes: int, n_hidden: int = 128, repeats: int = 40) -> float:
    """Floating-point operations a second of a decoder head's three products, on one thread, at best."""
    torch.set_num_threads(1)
    x, hidden = torch.randn(BATCH, n_genes), torch.randn(BATCH, n_hidden)
    weight = torch.randn(n_genes, n_hidden)
    head = {"head": lambda: (hidden @ weight.t(), x @ weight, x.t() @ hidden)}
    return 3 * 2 * x.numel() * n_hidden / (1e-3 * fastest(head, repeats)["head"])


def bare_products(x: torch.Tensor, n_hidden: int, n_heads: int, dtype: torch.dtype):
    """The products of a step with every wide weight, forward and backward, all dense."""
    n_genes = x.shape[1]
    x, weight = x.to(dtype), torch.randn(n_hidden, n_genes, dtype=dtype)
    hidden, wide = torch.randn(BATCH, n_hidden, dtype=dtype), torch.randn_like(x)

    def products():
        x @ weight.t()
        hidden.t() @ x  # by the first weight; the counts need no gradient
        for _ in range(n_heads):
            hidden @ weight
            wide @ weight.t()
            hidden.t() @ wide

    return products


def step_times(adata, precision: str, repeats: int) -> dict[str, float]:
    """CPU milliseconds on one thread."""
    torch.set_num_threads(1)
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    model = vivace.SCVI(adata)
    module, cells = model.module.train(), model._cells()
    options = TrainOptions(max_epochs=1, precision=precision)
    loader = Loader(cells, np.arange(cells.n_cells), BATCH, shuffle=True)
    optimizer = make_optimizer(module, options)
    trainer = Trainer(module, loader, optimizer, options, {}, Interrupt())
    rows = np.arange(BATCH) * (cells.n_cells // BATCH)
    tensors = cells.minibatch(rows)
    x = tensors["X"]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    logits, zi = (torch.randn(BATCH, x.shape[1], requires_grad=True) for _ in range(2))
    library, log_theta = torch.full((BATCH, 1), 6.0), torch.randn(x.shape[1], requires_grad=True)
    wanted, weights = (logits, zi, log_theta), list(module.z_encoder.parameters())
    encoder, features = module.z_encoder, log1p_counts(x)
    losses, metrics = trainer.step(tensors, 0, 1.0), EpochMetrics()
    return fastest(
        {
            "whole step": lambda: trainer.step(tensors, 0, 1.0),
            "bare matrix products": bare_products(x.to_dense(), 128, 2, dtype),
            "likelihood, forward and backward": lambda: torch.autograd.grad(
                count_log_likelihood(x, logits, library, log_theta, zi).mean(), wanted
            ),
            "encoder, forward and backward": lambda: torch.autograd.grad(
                encoder(features)[1].sum(), weights
            ),
            "optimizer": lambda: take_step(optimizer),
            "gathering a minibatch": lambda: cells.minibatch(rows),
            "metrics": lambda: metrics.add(losses),
        },
        repeats,
    )
