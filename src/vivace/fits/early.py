"""Trials that end before their training does: plainly worse than the others, or out of time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

HELD_OUT = "elbo_validation"
"""What trials are watched by; a table of :class:`vivace.train.History` has it."""
PARTS = 10
"""Parts of a trial's schedule, after each of which its held-out loss is looked at. Trials of 10 and of 80
epochs compare by the part: both have a low learning rate in their last one only."""
FIRST_LOOK = 4
"""Parts after which a trial may be ended: the learning rate is past its peak. In recorded searches no
trial of the best quarter was ended from part 3 on, and one from part 2 on (benchmarks/README.md)."""
TRIALS_TO_COMPARE = 5
"""Trials that must have been trained to their end before any is ended early."""


class EndedEarlyError(BaseException):
    """The training of a trial is over before its end.

    Not an ``Exception``: of these, training leaves out the callback that raised one and goes on.

    Parameters
    ----------
    share
        Of its epochs, in [0, 1].
    """

    def __init__(self, share: float):
        super().__init__(share)
        self.share = share


def median_rule() -> Any:
    """Ends a trial whose lowest loss so far is above the median of whole trials at the same part."""
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=TRIALS_TO_COMPARE, n_warmup_steps=FIRST_LOOK)


@dataclass
class Watch:
    """A callback of training that ends a trial which is plainly worse, or cannot be over in time.

    Parameters
    ----------
    ends
        When it must be over, of ``time.monotonic()``, the same in all processes of a machine.
    trial
        Of optuna; None where the held-out loss is not what is asked for.
    """

    ends: float = math.inf
    trial: Any = None
    n_epochs: int = 1
    began: float = 0.0
    part: int = 0

    def start(self, facts: dict[str, Any]) -> None:
        """Learn how long the training is."""
        self.n_epochs = facts["options"]["max_epochs"]
        self.began = time.monotonic()

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Look at the clock, and at the held-out loss once a part."""
        done = epoch + 1
        if done == self.n_epochs:
            return
        share = done / self.n_epochs
        if self.is_too_long(share) or self.is_worse(PARTS * done // self.n_epochs, metrics):
            raise EndedEarlyError(share)

    def is_too_long(self, share: float) -> bool:
        """Whether, going on like this, the training would be over too late."""
        return self.began + (time.monotonic() - self.began) / share > self.ends

    def is_worse(self, part: int, metrics: dict[str, float]) -> bool:
        """Whether the trial is worse than the others were at this part of the schedule."""
        if self.trial is None or part == self.part or HELD_OUT not in metrics:
            return False
        self.part = part
        self.trial.report(metrics[HELD_OUT], part)
        return bool(self.trial.should_prune())
