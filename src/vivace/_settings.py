"""The one global setting: the seed that models and training take when none is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Settings:
    """Defaults that users may change.

    Attributes
    ----------
    seed
        Seed of initial weights, splits, minibatch orders and training, when none is given.

    Examples
    --------
    >>> import vivace
    >>> vivace.settings.seed
    0
    """

    seed: int = 0


settings = Settings()


@contextmanager
def default_seed(seed: int | None) -> Iterator[None]:
    """Let models and training inside take ``seed`` where none is given; None changes nothing."""
    before = settings.seed
    settings.seed = before if seed is None else seed
    try:
        yield
    finally:
        settings.seed = before


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from ``seed`` inside, and leave the user's generator untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
