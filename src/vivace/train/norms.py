"""How fast the running statistics of batch norms follow the minibatches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    own = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = norm.momentum if momentum is None else momentum
    try:
        yield
    finally:
        for norm, before in zip(norms, own, strict=True):
            norm.momentum = before
