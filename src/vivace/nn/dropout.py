"""Dropout that draws its masks cheaply."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

LEVELS = 2**16


class Dropout(nn.Dropout):
    """Zero each unit with probability ``p`` while training, and divide the others by ``1 - p``.

    On the processor torch draws a number for each unit, which takes as long as a layer of a few
    hundred units itself. Here one 64-bit number serves four units: ``p`` is rounded to a multiple of
    1/65,536. torch's seed fixes the masks.

    Examples
    --------
    >>> import torch
    >>> Dropout(0.5).eval()(torch.ones(3))
    tensor([1., 1., 1.])
    >>> Dropout(0.5)(torch.ones(1000)).unique()
    tensor([0., 2.])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape, with some zeros."""
        dropped = round(self.p * LEVELS)
        if not self.training or x.device.type != "cpu" or dropped == LEVELS:
            return F.dropout(x, self.p, self.training)
        numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        levels = numbers.view(torch.int16)[: x.numel()].view(x.shape)
        # written as numbers at once: booleans would take longer to convert than to find
        kept = torch.ge(levels, dropped - LEVELS // 2, out=torch.empty_like(x))
        return x * kept.mul_(1 / (1 - self.p))
