"""Learning rate as a function of the step, so that a resumed run needs no state of it."""

from __future__ import annotations

import math

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


FACTORS = {"constant": lambda step, n_steps: 1.0, "one_cycle": one_cycle}
"""Schedule name to its factor of the learning rate at (step, number of steps)."""
