"""Which columns the history of a run will have, known before it starts."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch

from vivace._settings import seeded
from vivace.errors import InvalidArgumentError, check_choice
from vivace.modules.base import BaseModule, LossOutput, to_device
from vivace.train.history import EpochMetrics
from vivace.train.options import TrainOptions

MODES = ("train", "validation")


def check_needs_none_held_out(options: TrainOptions) -> None:
    """Refuse options that watch held-out cells, where there are none.

    Raises
    ------
    InvalidArgumentError
        With the option.
    """
    if options.early_stopping:
        msg = "early_stopping=True needs held-out cells, but the validation set is empty"
        raise InvalidArgumentError(msg)
    if options.lr_schedule == "plateau" and options.lr_scheduler_metric.endswith(MODES[1]):
        msg = (
            'lr_schedule="plateau" watches held-out cells, but the validation set is empty: pass '
            'lr_scheduler_metric="elbo_train"'
        )
        raise InvalidArgumentError(msg)


def check_monitor(
    argument: str,
    options: TrainOptions,
    module: BaseModule,
    batches: dict[str, Any],
    loss_kwargs: dict[str, Any],
) -> None:
    """Refuse a column to watch that no epoch will have.

    What every loss has is known by name. Only where another name is asked for, a copy of the module
    tries one minibatch out for what its loss has beside.

    Parameters
    ----------
    argument
        The option that names the column.
    options
        All of them.
    module
        Stays as it is.
    batches
        Mode ("train", "validation") to its minibatches, or to None where there are none.
    loss_kwargs
        Passed on to ``module.loss``.

    Raises
    ------
    InvalidArgumentError
        With the known names.
    """
    name = getattr(options, argument)
    known = [column for mode in MODES for column in columns(mode, blank())]
    if name in known:
        return
    for mode, stream in batches.items():
        if stream is not None:
            found = columns(mode, tried(module, stream.epoch(0), mode, loss_kwargs))
            known += [column for column in found if column not in known]
    check_choice(argument, name, known)


def columns(mode: str, losses: LossOutput) -> list[str]:
    """Columns of the history that a loss makes.

    Examples
    --------
    >>> columns("train", blank())[:2]
    ['elbo_train', 'reconstruction_loss_train']
    """
    metrics = EpochMetrics()
    metrics.add(losses)
    return list(metrics.result(mode, n_train=1))


def blank() -> LossOutput:
    """A loss with nothing beside what all have."""
    return LossOutput(loss=torch.zeros(()), reconstruction_loss=torch.zeros(1))


@torch.no_grad()
def tried(
    module: BaseModule, stream: Iterable[Any], mode: str, loss_kwargs: dict[str, Any]
) -> LossOutput:
    """The loss of the first minibatch, by a copy of the module."""
    copy = deepcopy(module).train(mode == "train")
    with seeded(0):
        tensors = to_device(next(iter(stream)), module.device)
        return copy(tensors, loss_kwargs={**loss_kwargs, "kl_weight": 1.0})[-1]
