"""Processes that train one model together, each on its part of every minibatch, and what is of all parts.

A loss that is a mean over cells needs nothing from here: the gradients of the parts are averaged. What
is no such mean (a variance over a minibatch, a sum) has to ask for the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed as dist

from vivace.errors import TrainingError


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is.

    Attributes
    ----------
    rank
        From 0; the first one writes files, prints and draws the progress bar.
    size
        Number of processes.
    memory
        What they share to add up in, see :mod:`vivace.train.shared`; None where torch.distributed
        carries everything.
    """

    rank: int = 0
    size: int = 1
    memory: Any = None

    @property
    def writes(self) -> bool:
        return self.rank == 0


ALONE = Ranks()
_at_present = ALONE


def n_parts() -> int:
    """Number of processes that the minibatch at hand is divided among; 1 outside of training.

    Examples
    --------
    >>> n_parts()
    1
    """
    return _at_present.size


def is_first() -> bool:
    """Whether this process writes files for all that train together.

    Examples
    --------
    >>> is_first()
    True
    """
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


@contextmanager
def minibatches_divided(ranks: Ranks) -> Iterator[None]:
    """Inside, a minibatch is a part of one that all processes share."""
    global _at_present  # one thread works at a time, see `own_session`
    before, _at_present = _at_present, ranks
    try:
        yield
    finally:
        _at_present = before


def add_up(x: torch.Tensor) -> torch.Tensor:
    """Sum a contiguous tensor over all processes, in place.

    Raises
    ------
    TrainingError
        If another process is gone.
    """
    if _at_present.memory is not None:
        return _at_present.memory.add_up(x)
    together(dist.all_reduce, x)
    return x


def together(call: Any, *args: Any) -> Any:
    """Call a function of torch.distributed that all processes call.

    Raises
    ------
    TrainingError
        If another process is gone.
    """
    try:
        return call(*args)
    except RuntimeError as error:  # of gloo and of nccl, which have none of their own
        raise lost() from error


def lost() -> TrainingError:
    """Build the error for another process that is gone.

    Examples
    --------
    >>> str(lost())[:47]
    'another process of this run has ended, so that '
    """
    return TrainingError(
        "another process of this run has ended, so that this one cannot go on. What it said is "
        "above, or in its own log; the last checkpoint is whole: start all processes again with "
        "resume= to go on from it"
    )


def of_all(x: torch.Tensor) -> torch.Tensor:
    """(processes, ...) what every process has in place of ``x``; without gradient."""
    ranks = _at_present
    if ranks.memory is not None:
        return ranks.memory.of_all(x)
    table = x.new_zeros(ranks.size, *x.shape)
    table[ranks.rank] = x
    return add_up(table)


class _Sum(torch.autograd.Function):
    """The sum over processes. The loss is the mean of theirs, so that its gradients add up as well."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return add_up(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _Sum.forward(ctx, gradient)


def sum_of_parts(x: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over the parts of the minibatch, through which gradients pass."""
    return x if n_parts() == 1 else _Sum.apply(x)


def mean_of_parts(x: torch.Tensor) -> torch.Tensor:
    """Mean of a tensor over the parts of the minibatch, through which gradients pass.

    Examples
    --------
    >>> mean_of_parts(torch.ones(2))
    tensor([1., 1.])
    """
    return x if n_parts() == 1 else _Sum.apply(x) / n_parts()


def cells_of_all(x: torch.Tensor) -> torch.Tensor:
    """Values of all cells of the whole minibatch, through which gradients pass.

    Parameters
    ----------
    x
        (..., B, n), of this process.

    Returns
    -------
    (..., processes * B, n).
    """
    if n_parts() == 1:
        return x
    table = x.new_zeros(n_parts(), *x.shape)
    table[_at_present.rank] = x
    return torch.cat(sum_of_parts(table).unbind(), dim=-2)


def as_of_all(x: torch.Tensor) -> torch.Tensor:
    """A sum over cells of this part, made as large as that of the whole minibatch is on average."""
    return x if n_parts() == 1 else n_parts() * x


def variance_of_cells(x: torch.Tensor, correction: int = 0) -> torch.Tensor:
    """Variance over the cells (next to last axis) of the whole minibatch, ``(..., 1, n)``.

    Parameters
    ----------
    x
        (..., B, n), of this process.
    correction
        1 divides by one cell less.

    Examples
    --------
    >>> variance_of_cells(torch.tensor([[0.0], [2.0]]))
    tensor([[1.]])
    """
    if n_parts() == 1:
        return x.var(dim=-2, correction=correction, keepdim=True)
    centre = mean_of_parts(x.mean(-2, keepdim=True))
    n = n_parts() * x.shape[-2]
    return mean_of_parts((x - centre).square().mean(-2, keepdim=True)) * (n / (n - correction))
