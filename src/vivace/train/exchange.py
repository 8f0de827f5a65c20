"""What the processes that train one model say to each other in every step, and who updates what."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vivace._ranks import Ranks, add_up
from vivace.train.optimizer import MOMENTS, ready_state, trained_by

LINE = 16
"""Numbers that a line of memory holds at least; every weight starts at one."""


class Exchange(ABC):
    """Puts the gradients of all processes together, and with them what all must know of a step.

    That is the loss, whether somebody wants to stop, and which parameters have a gradient at all.

    Parameters
    ----------
    ranks
        The processes.
    optimizer
        Of whole parameters.

    Attributes
    ----------
    optimizer
        The one whose steps this process takes.
    loss
        Of the whole last minibatch.
    stop, due
        Whether training ends after it, and whether a checkpoint is due, on all processes alike.
    """

    def __init__(self, ranks: Ranks, optimizer: torch.optim.Optimizer):
        self.ranks, self.optimizer = ranks, optimizer
        self.loss, self.stop, self.due = math.nan, False, False
        self._parameters = trained_by(optimizer)
        self._sizes = [p.numel() for p in self._parameters]
        self._n_facts = 3 + len(self._sizes)

    def backward(self, loss: torch.Tensor, stop: bool = False, due: bool = False) -> None:
        """``loss.backward()`` of the whole minibatch, whose part has this loss; a collective call."""
        share = loss / self.ranks.size
        share.backward()
        with torch.no_grad():
            have = [p.grad is not None for p in self._parameters]
            told = [float(fact) for fact in (stop, due, *have)]
            like = self._parameters[0]
            self._put_together(torch.cat([share.reshape(1).to(like), like.new_tensor(told)]))

    @abstractmethod
    def _put_together(self, facts: torch.Tensor) -> None:
        """Give the optimizer's parameters the gradients of the whole minibatch, and learn the facts."""

    def _learn(self, facts: torch.Tensor) -> list[bool]:
        """From the sum of all facts: loss, wishes, and (answered) which parameters have a gradient."""
        self.loss, stop, due, *have = facts.tolist()
        self.stop, self.due = stop > 0, due > 0
        return [n > 0 for n in have]

    @abstractmethod
    def end(self) -> None:
        """End a step: from here on all weights are updated. A collective call."""

    @abstractmethod
    def close(self) -> None:
        """Let the weights be those of this process alone."""


class SentExchange(Exchange):
    """One sum of all gradients by torch.distributed; each process updates all weights."""

    def _put_together(self, facts: torch.Tensor) -> None:
        gradients = [gradient_of(p).to(facts) for p in self._parameters]
        flat = add_up(torch.cat([*gradients, facts]))
        *parts, facts = flat.split([*self._sizes, self._n_facts])
        have = self._learn(facts)
        for parameter, has, part in zip(self._parameters, have, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype) if has else None

    def end(self) -> None:
        """All have done the same."""

    def close(self) -> None:
        """They are."""


class SharedExchange(Exchange):
    """Weights and gradients in memory that all share; each process updates a part of every weight.

    All write their gradients and meet; each adds up those of its parts and updates them; all meet. Nobody
    does the whole update, and no weight is sent. The moments lie there too, so that the state of the
    optimizer of whole parameters, which a checkpoint keeps, is whole in every process.

    Attributes
    ----------
    optimizer
        Of the parts of this process.
    """

    def __init__(self, ranks: Ranks, optimizer: torch.optim.Optimizer):
        super().__init__(ranks, optimizer)
        self._memory = ranks.memory
        n, whole = sum(self._sizes) + self._n_facts, sum(map(_in_lines, self._sizes))
        numbers = self._memory.rest.view(self._parameters[0].dtype)
        *places, gradients, _ = numbers.split(
            [whole] * 3 + [ranks.size * n, len(numbers) - 3 * whole - ranks.size * n]
        )
        self._move(optimizer, places)
        self.optimizer = self._of_parts(optimizer)
        self._cuts = list(map(self._widths, self._sizes))
        widths = [sum(of_rank) for of_rank in zip(*self._cuts, strict=True)]
        self._columns = gradients.view(ranks.size, n).split([*widths, self._n_facts], dim=1)
        self._mine = gradients.view(ranks.size, n)[ranks.rank]
        self._sum = torch.empty_like(self._columns[ranks.rank][0])
        self._parts = trained_by(self.optimizer)
        self._of_part = self._sum.split([p.numel() for p in self._parts])

    @staticmethod
    def bytes_for(ranks: Ranks, optimizer: torch.optim.Optimizer) -> int:
        """Bytes of what is shared: weights, both moments, and the gradients of each process."""
        sizes = [p.numel() for p in trained_by(optimizer)]
        n = 3 * sum(map(_in_lines, sizes)) + ranks.size * (sum(sizes) + 3 + len(sizes))
        return n * trained_by(optimizer)[0].element_size()

    @torch.no_grad()
    def _move(self, optimizer: torch.optim.Optimizer, places: Sequence[torch.Tensor]) -> None:
        """Move weights and moments to memory, as the first process has them."""
        ready_state(optimizer)
        lengths = list(map(_in_lines, self._sizes))
        for parameter, *parts in zip(
            self._parameters, *(p.split(lengths) for p in places), strict=True
        ):
            state = optimizer.state[parameter]
            there = [part[: parameter.numel()].view(parameter.shape) for part in parts]
            if self.ranks.writes:
                for place, value in zip(there, (parameter, *map(state.get, MOMENTS)), strict=True):
                    place.copy_(value)
            parameter.data, *moments = there
            state.update(zip(MOMENTS, moments, strict=True))
        self._memory.meet()

    def _of_parts(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer of what this process updates: a part of every parameter, which may be empty."""
        groups, states = [], {}
        for group in optimizer.param_groups:
            parts = [self._part(p) for p in group["params"]]
            groups.append({**group, "params": parts})
            for parameter, part in zip(group["params"], parts, strict=True):
                state = optimizer.state[parameter]
                states[part] = state | {name: self._part(state[name]) for name in MOMENTS}
        kind: Any = type(optimizer)
        own = kind(groups)
        own.state.update(states)
        return own

    def _part(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach().view(-1).split(self._widths(x.numel()))[self.ranks.rank]

    def _widths(self, n: int) -> list[int]:
        """How many of n numbers each process updates."""
        size = self.ranks.size
        return [n * (rank + 1) // size - n * rank // size for rank in range(size)]

    def _put_together(self, facts: torch.Tensor) -> None:
        cut = (gradient_of(p).split(n) for p, n in zip(self._parameters, self._cuts, strict=True))
        by_process = zip(*cut, strict=True)
        torch.cat([*(part for parts in by_process for part in parts), facts], out=self._mine)
        for parameter in self._parameters:
            parameter.grad = None
        self._memory.meet()
        have = self._learn(self._columns[-1].sum(0))
        first, second, *others = self._columns[self.ranks.rank]
        torch.add(first, second, out=self._sum)  # takes two thirds of the time of a sum over rows
        for one in others:
            self._sum += one
        for part, has, gradient in zip(self._parts, have, self._of_part, strict=True):
            part.grad = gradient if has else None

    def end(self) -> None:
        self._memory.meet()

    def close(self) -> None:
        for parameter in self._parameters:
            parameter.data = parameter.detach().clone()


def gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    """Its gradient as a vector; zeros if it has none."""
    gradient = parameter.grad
    return parameter.new_zeros(parameter.numel()) if gradient is None else gradient.reshape(-1)


def _in_lines(n: int) -> int:
    return -(-n // LINE) * LINE


@contextmanager
def exchanging(ranks: Ranks, optimizer: torch.optim.Optimizer) -> Iterator[Exchange | None]:
    """How the processes exchange what is of a step; None for a single one. A collective call.

    Afterwards the weights are as they are without.
    """
    if ranks.size == 1:
        yield None
        return
    from vivace.train.shared import shared_memory  # only here: it brings the compiler

    kinds = {(p.device.type, p.dtype) for p in trained_by(optimizer)}
    if len(kinds) > 1 or next(iter(kinds))[0] != "cpu":
        yield SentExchange(ranks, optimizer)
        return
    with shared_memory(ranks, SharedExchange.bytes_for(ranks, optimizer)) as memory:
        if memory is None:
            yield SentExchange(ranks, optimizer)
            return
        exchange = SharedExchange(replace(ranks, memory=memory), optimizer)
        try:
            yield exchange
        finally:
            exchange.close()
