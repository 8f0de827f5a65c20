"""Batch norms in training: how fast their running statistics follow, and of which cells these are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from vivace._ranks import add_up, n_parts, of_all


@contextmanager
def batch_norm_momentum(module: nn.Module, momentum: float | None) -> Iterator[None]:
    """Inside, every batch norm takes this share of its running statistics from each minibatch.

    Networks have 0.01, as published checkpoints do: after a few hundred steps what is left of the
    initial statistics still shows in evaluation.

    Parameters
    ----------
    module
        Its batch norms have their own momentum again afterwards.
    momentum
        In (0, 1]; None leaves each its own.

    Examples
    --------
    >>> from torch import nn
    >>> norm = nn.BatchNorm1d(3, momentum=0.01)
    >>> with batch_norm_momentum(norm, 0.1):
    ...     norm.momentum
    0.1
    >>> norm.momentum
    0.01
    """
    norms = batch_norms(module)
    own = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = norm.momentum if momentum is None else momentum
    try:
        yield
    finally:
        for norm, before in zip(norms, own, strict=True):
            norm.momentum = before


def batch_norms(module: nn.Module) -> list[Any]:
    """All batch norms of a module."""
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def norms_over_all_parts(module: nn.Module) -> Iterator[None]:
    """Inside, batch norms take the statistics of the whole minibatch where it is divided.

    As torch's ``SyncBatchNorm`` does, which works on cards only.
    """
    norms = batch_norms(module)
    for norm in norms:
        norm.forward = partial(_normalise, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalise(norm: Any, x: torch.Tensor) -> torch.Tensor:
    if n_parts() == 1 or not norm.training:
        return type(norm).forward(norm, x)
    y, mean, variance, n = _Normalise.apply(x.to(norm.weight), norm.weight, norm.bias, norm.eps)
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (n / (n - 1)), norm.momentum)
    return y


class _Normalise(torch.autograd.Function):
    """Batch normalisation of the whole minibatch: one exchange there, and one back."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        mean = x.mean(0)
        variance = (x - mean).square().mean(0)  # var_mean takes seven times as long
        size = x.new_tensor([float(len(x))])
        means, variances, sizes = of_all(torch.cat([mean, variance, size])).split(
            [len(mean), len(mean), 1], dim=1
        )
        n = sizes.sum()
        share = (sizes / n).t()
        mean = (share @ means)[0]
        apart = means - mean
        variance = (share @ torch.addcmul(variances, apart, apart))[0]
        scale = (variance + eps).rsqrt()
        standard = (x - mean) * scale
        ctx.save_for_backward(standard, weight * scale, n)
        ctx.mark_non_differentiable(mean, variance, n)
        return torch.addcmul(bias, standard, weight), mean, variance, n

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        standard, scale, n = ctx.saved_tensors
        gradient = gradients[0]
        of_bias, of_weight = gradient.sum(0), (gradient * standard).sum(0)
        mean_of_bias, mean_of_weight = add_up(torch.stack([of_bias, of_weight])) / n
        of_x = scale * torch.addcmul(gradient - mean_of_bias, standard, mean_of_weight, value=-1)
        return of_x, of_weight, of_bias, None
