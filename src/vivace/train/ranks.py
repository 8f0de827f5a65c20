"""Training by several processes: how they find each other, and agree before the first step.

Somebody else starts them (``torchrun``, a cluster's scheduler) and torch.distributed carries what they
say. All of them have the same cells, options and weights and take the same steps, each on its part of
every minibatch; no process does anything for which the others do not know the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch import nn

from vivace._ranks import ALONE, Ranks, together
from vivace.errors import InvalidArgumentError, MissingDependencyError, TrainingError
from vivace.train.options import TrainOptions

PATIENCE = timedelta(minutes=10)
"""A process that says nothing for so long is taken for dead; one that ends is missed at once."""
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that a launcher sets."""
LEAST_CELLS = 2
"""Of a minibatch for each process: batch normalisation takes a variance."""


def launched() -> int:
    """Number of processes that a launcher says it has started; 1 without one.

    Raises
    ------
    InvalidArgumentError
        If what it says is incomplete.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        return 1
    missing = [name for name in NEEDED if name not in os.environ]
    numbers = {name: os.environ.get(name, "") for name in NEEDED if name != "MASTER_ADDR"}
    wrong = [name for name, value in numbers.items() if not value.isdigit()]
    if missing or wrong:
        name = (missing or wrong)[0]
        msg = (
            f"WORLD_SIZE={size} in the environment says that several processes train one model, but "
            f"{name} is {repr(os.environ[name]) if wrong and not missing else 'not set'}; start them "
            "with torchrun, or unset WORLD_SIZE"
        )
        raise InvalidArgumentError(msg)
    return int(size)


def join(alone: bool = False) -> Ranks:
    """Meet the other processes that a launcher has started.

    Parameters
    ----------
    alone
        Train by oneself, whatever there are.

    Raises
    ------
    InvalidArgumentError
        If they cannot meet: a busy port, an address that nobody answers at.
    MissingDependencyError
        If torch was built without a way to communicate.
    TrainingError
        If they have lost each other before.
    """
    size = 1 if alone else launched()
    if size == 1:
        return ALONE
    if not dist.is_available() or not dist.is_gloo_available():
        msg = (
            f"{size} processes cannot train one model: this torch was built without gloo, by which "
            "they communicate. Install torch from pytorch.org, or train with one process (devices=1)"
        )
        raise MissingDependencyError(msg)
    if not dist.is_initialized():
        _meet()
    return Ranks(dist.get_rank(), dist.get_world_size())


_left = False


def _meet() -> None:
    if _left:
        msg = "the processes of this run have lost each other; start all of them again"
        raise TrainingError(msg)
    try:
        dist.init_process_group(_backend(), timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:  # torch's errors of networks are RuntimeErrors
        at = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        msg = (
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} does not meet the others at "
            f"{at} (MASTER_ADDR, MASTER_PORT): {str(error).splitlines()[0]}. If the port is busy, name "
            "another one with torchrun --master-port, or let it find one with --standalone"
        )
        raise InvalidArgumentError(msg) from error


def _backend() -> str:
    on_cards = torch.cuda.is_available() and dist.is_nccl_available()
    return "cpu:gloo,cuda:nccl" if on_cards else "gloo"


def leave(ranks: Ranks) -> None:
    """Close the connections, so that the others notice at once; there is no way back."""
    global _left
    if ranks.size > 1 and dist.is_initialized():
        _left = True
        dist.destroy_process_group()


def gather(ranks: Ranks, value: Any) -> list[Any]:
    """What every process has in place of ``value``; a collective call."""
    if ranks.size == 1:
        return [value]
    values: list[Any] = [None] * ranks.size
    together(dist.all_gather_object, values, value)
    return values


# before the first step --------------------------------------------------------------------------


def check_same(ranks: Ranks, facts: dict[str, Any]) -> None:
    """Refuse processes that were started differently; a collective call.

    Parameters
    ----------
    ranks
        The processes.
    facts
        Whatever must be the same, by its name in the message.

    Raises
    ------
    InvalidArgumentError
        On all processes, with the first difference.
    """
    first, *others = gather(ranks, facts)
    for rank, found in enumerate(others, start=1):
        differ = [name for name in first if repr(found.get(name)) != repr(first[name])]
        if differ:
            name = differ[0]
            msg = (
                f"the processes of a run must be started alike, but process {rank} has "
                f"{name}={found.get(name)!r} and process 0 has {first[name]!r}. Give all of them the "
                "same data, options and seed; devices=1 lets each train a model of its own"
            )
            raise InvalidArgumentError(msg)


def check_parts(ranks: Ranks, cells: int) -> None:
    """Refuse more processes than a minibatch can be divided among.

    Raises
    ------
    InvalidArgumentError
        If a part would have a single cell.
    """
    if cells < LEAST_CELLS * ranks.size:
        msg = (
            f"{ranks.size} processes cannot share minibatches of {cells} cells: each needs at least "
            f"{LEAST_CELLS}. Start at most {max(1, cells // LEAST_CELLS)}, or pass a larger batch_size"
        )
        raise InvalidArgumentError(msg)


@torch.no_grad()
def take_weights(ranks: Ranks, module: nn.Module) -> None:
    """Start from the weights and buffers of the first process; a collective call."""
    if ranks.size > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            whole = tensor.detach().contiguous()
            together(dist.broadcast, whole, 0)
            tensor.detach().copy_(whole)


def content_of(minibatch: Any) -> list[Any]:
    """What tells one minibatch from another: shape and sum of each of its tensors.

    Examples
    --------
    >>> content_of({"X": torch.tensor([[1.0, 2.0]])})
    [('X', (1, 2), 3.0)]
    """
    facts: list[Any] = []
    for name, value in minibatch.items():
        if isinstance(value, torch.Tensor):
            numbers = value.values() if value.layout == torch.sparse_csr else value
            facts.append((name, tuple(value.shape), float(numbers.double().sum())))
        else:
            facts += [(name, *fact) for fact in content_of(value)]
    return facts


def seed_draws(ranks: Ranks, seed: int, epoch: int, done: int = 0) -> None:
    """Let every process draw by itself: from the seed, its number, the epoch and the steps done of it."""
    if ranks.size > 1:
        key = (seed, ranks.rank, epoch, done)
        words = np.random.SeedSequence(key).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))


def begin(
    ranks: Ranks,
    module: nn.Module,
    train: Any,
    validation: Any,
    options: TrainOptions,
    facts: dict[str, Any],
) -> tuple[Any, Any]:
    """Check that all processes are about to do the same, and give each its share of the minibatches.

    Parameters
    ----------
    ranks
        The processes; a single one gets all.
    module
        All take the weights of the first one's.
    train, validation
        Minibatches; validation may be None.
    options
        Of the run.
    facts
        What else must be the same, by name.

    Returns
    -------
    The shares of ``train`` and ``validation``.

    Raises
    ------
    InvalidArgumentError
        On all processes, if they differ or are too many.
    """
    if ranks.size == 1:
        return train, validation
    check_capturing(options)
    check_parts(ranks, min(options.batch_size, train.n_obs))
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    data = {
        "cells to train on": train.n_obs,
        "cells held out": 0 if validation is None else validation.n_obs,
        "weights of the shapes": shapes,
        "first minibatch": content_of(next(iter(train.epoch(0)))),
    }
    check_same(ranks, {**asdict(options), **facts, **data})
    take_weights(ranks, module)
    part = (ranks.rank, ranks.size)
    return train.share(*part), None if validation is None else validation.share(*part)


def check_capturing(options: TrainOptions) -> None:
    """Refuse a graph, in which no process can speak to another."""
    if options.cuda_graphs:
        msg = "cuda_graphs=True trains with one process; leave it out, or pass devices=1"
        raise InvalidArgumentError(msg)


@contextmanager
def left_on_error(ranks: Ranks) -> Iterator[None]:
    """Close the connections on an error that the others do not have, so that they end too."""
    try:
        yield
    except (TrainingError, InvalidArgumentError):  # which all processes raise alike
        raise
    except BaseException:
        leave(ranks)
        raise
