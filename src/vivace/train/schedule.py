"""Learning rate as a function of the step, so that a resumed run needs no state of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vivace.train.options import TrainOptions

RISE = 0.3
"""Share of a one-cycle run that warms up."""
START, END = 1 / 25, 1e-4
"""Learning rate at the start and at the end of a one-cycle run, as shares of the peak."""


def one_cycle(step: int, n_steps: int) -> float:
    """Share of the peak learning rate: up over the first 30 % of the run, then down to nearly zero.

    Smith & Topin 2018, Super-convergence. Both slopes are half cosines.

    Examples
    --------
    >>> round(one_cycle(0, 100), 3), one_cycle(30, 100), round(one_cycle(100, 100), 4)
    (0.04, 1.0, 0.0001)
    """
    peak = RISE * n_steps
    if step < peak:
        return _between(START, 1.0, step / peak)
    return _between(1.0, END, (step - peak) / max(n_steps - peak, 1))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def reduction(options: TrainOptions, epoch: int, values: Iterable[float]) -> float:
    """Share of the learning rate that "plateau" and "step" leave; 1 for other schedules.

    Parameters
    ----------
    options
        ``lr_schedule`` and what belongs to it.
    epoch
        Of this run, from 0.
    values
        What was watched in the epochs before, so that a resumed run finds the same again.

    Examples
    --------
    >>> from vivace.train import TrainOptions
    >>> options = TrainOptions(lr_schedule="step", lr_factor=0.5, lr_step_size=10)
    >>> reduction(options, 9, []), reduction(options, 25, [])
    (1.0, 0.25)
    """
    if options.lr_schedule == "step":
        times = epoch // options.lr_step_size
    elif options.lr_schedule == "plateau":
        times = n_plateaus(values, options.lr_patience, options.lr_threshold)
    else:
        return 1.0
    return max(options.lr_factor**times, min(1.0, options.lr_min / options.lr))


def n_plateaus(values: Iterable[float], patience: int, threshold: float) -> int:
    """How often more than ``patience`` values in turn were not lower than the best, less the threshold.

    Examples
    --------
    >>> n_plateaus([3, 2, 2, 2, 2, 2], patience=1, threshold=0)
    2
    """
    best, waited, times = math.inf, 0, 0
    for value in values:
        if value < best - threshold:
            best, waited = value, 0
        else:
            waited += 1
        if waited > patience:
            times, waited = times + 1, 0
    return times


def _as_it_is(_step: int, _n_steps: int) -> float:
    return 1.0


FACTORS = {
    "constant": _as_it_is,
    "one_cycle": one_cycle,
    "plateau": _as_it_is,
    "step": _as_it_is,
}
"""Schedule name to its factor of the learning rate at (step, number of steps); see also :func:`reduction`."""
