"""The rate of a count distribution: library size times normalised expression, computed when asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional as F

from vivace.kernels.affine import Affine, dense

ACTIVATIONS = {
    "softmax": lambda logits: torch.softmax(logits, dim=-1),
    "softplus": F.softplus,
    "identity": lambda logits: logits,
}

MAX_RATE = 1e8
"""Ceiling of the Poisson rate while sampling, where torch.poisson would overflow."""


@dataclass(frozen=True)
class Rate:
    """Decoder logits and log library; ``mu = exp(log_library) * activation(logits)``.

    Attributes
    ----------
    head
        (..., B, G) decoder output, as it is or as a product.
    log_library
        (..., B, 1) natural log of the library size; -inf for an empty cell gives ``mu = 0``.
    activation
        "softmax" (rows of ``scale`` sum to 1), "softplus", or "identity" (logits are the scale).
    """

    head: torch.Tensor | Affine
    log_library: torch.Tensor
    activation: str = "softmax"

    @cached_property
    def logits(self) -> torch.Tensor:
        return dense(self.head)

    @cached_property
    def scale(self) -> torch.Tensor:
        return ACTIVATIONS[self.activation](self.logits)

    @cached_property
    def mu(self) -> torch.Tensor:
        return torch.exp(self.log_library) * self.scale

    @classmethod
    def from_mu(cls, mu: torch.Tensor) -> Rate:
        """A rate given as it is: log library 0 and the mean as the scale."""
        return cls(mu, mu.new_zeros(()), "identity")

    @property
    def shape(self) -> torch.Size:
        return torch.Size(np.broadcast_shapes(self.head.shape, self.log_library.shape))


def normalized(key: str, mu: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """``"mu"`` is the mean parameter, ``"scale"`` the normalised expression; anything else raises."""
    if key == "mu":
        return mu
    if key == "scale":
        return scale
    raise ValueError(f'get_normalized({key!r}): expected "mu" or "scale"')
