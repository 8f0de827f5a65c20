"""What a law of counts says of values that are none."""

from __future__ import annotations

import warnings

import torch
from torch.distributions import Distribution

from vivace.errors import FractionalCountsWarning


def check_counts(law: Distribution, value: torch.Tensor) -> None:
    """Refuse what lies outside the support, and warn of fractions where checks were asked for.

    Torch checks by default; a warning of fractions, which have a density all the same, is for those who
    passed ``validate_args=True``.

    Raises
    ------
    ValueError
        If a value is negative or NaN.
    """
    if not law._validate_args:
        return
    law._validate_sample(value)
    if "_validate_args" in vars(law) and (value != value.round()).any():
        warnings.warn(
            f"{type(law).__name__}: some values are not whole numbers; counts are",
            FractionalCountsWarning,
            stacklevel=3,
        )
